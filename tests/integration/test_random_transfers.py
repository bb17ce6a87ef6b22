"""Callers, phones and an engine that do whatever comes to their mind: no error of ours, and nothing is left."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.invite_session import (
    Answered,
    InviteSession,
    ReinviteAnswered,
    ReinviteReceived,
    RequestReceived,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.refer import ReferReceiver, ReferSender
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from tests.support.world import BOB, RtpSocket, World, until, world

CAROL = "sip:carol@ims.example.net"
CONFIG = 'agents.default.transfer.allow=["served-user","sip:carol@.*"]'
FAST = TimerConfig(t1=0.02, t2=0.08, t4=0.1, timer_d=0.3)


class Player:
    """One party with a mind of its own."""

    def __init__(self, here: World, rng: random.Random, rtp: RtpSocket) -> None:
        self.here, self.rng, self.rtp = here, rng, rtp
        self.session: InviteSession | None = None
        self.version = 1

    def offer(self) -> bytes:
        self.version += 1
        rng = self.rng
        return self.rtp.offer(
            version=self.version,
            direction=rng.choice(["sendrecv", "sendrecv", "sendonly", "inactive", "recvonly"]),
            formats=rng.choice(["0 8 101", "0 8 101", "8 101", "0", "8 0 101", "97"]),
        )

    def on_event(self, session: InviteSession, event: SessionEvent) -> None:
        rng = self.rng
        self.session = session
        match event:
            case ReinviteReceived() | UpdateReceived():
                self.here.tasks.start_soon(self.answer, session, isinstance(event, UpdateReceived))
            case Answered(needs_ack=True):
                session.ack(self.rtp.offer())
            case ReinviteAnswered(needs_ack=True):
                session.ack(rng.choice([self.offer(), self.offer(), b""]))
            case RequestReceived(request=request) if request.method == "REFER":
                with contextlib.suppress(SipParseError):
                    receiver = ReferReceiver(session, event)
                    if rng.random() < 0.6 and receiver.accept():
                        receiver.notify(rng.choice([180, 200, 486]))
            case _:
                pass

    async def answer(self, session: InviteSession, is_update: bool) -> None:
        rng = self.rng
        await trio.sleep(rng.choice([0, 0, 0.01, 0.05]))
        choice = rng.random()
        accept = session.accept_update if is_update else session.accept_reinvite
        reject = session.reject_update if is_update else session.reject_reinvite
        if choice < 0.7:
            accept(self.offer())
        elif choice < 0.9:
            reject(rng.choice([488, 491, 500, 603]))
        else:
            session.bye()
            reject(500)

    def act(self) -> None:
        session, rng = self.session, self.rng
        if session is None or session.is_terminated:
            return
        with contextlib.suppress(LocalProtocolError):
            match rng.randrange(9):
                case 0 | 1:
                    session.reinvite(rng.choice([self.offer(), self.offer(), b""]))
                case 2 | 3:
                    session.update(self.offer())
                case 4:
                    session.send_request("INFO", body=b"5", content_type="application/dtmf")
                case 5:
                    uri = rng.choice([CAROL, CAROL, "sip:nobody@elsewhere"])
                    ReferSender(session, f"<{uri}>", on_event=lambda *_: None, wants_outcome=rng.random() < 0.7)
                case 6 if session.dialog is not None:
                    self.take_over(session)
                case 7:
                    session.send_request("MESSAGE", body=b"hello", content_type="text/plain")
                case 8 if rng.random() < 0.2:
                    session.bye()

    def take_over(self, session: InviteSession) -> None:
        """Somebody else takes this party's place."""
        other = Player(self.here, self.rng, self.rtp)
        replaces = session.replaces()
        leg = self.here.call(
            body=self.rng.choice([self.offer(), b""]), headers=[("Replaces", replaces)], on_event=other.on_event
        )
        other.session = leg.session
        players.append(other)


players: list[Player] = []


@pytest.mark.parametrize("seed", range(3))
def test_whatever_they_do_nothing_is_left(seed: int):
    rng = random.Random(seed)
    players.clear()

    def phone(here: World, rtp: RtpSocket) -> object:
        def take(request: Request, transaction: ServerTransaction) -> None:
            choice = rng.random()
            if choice < 0.2:
                here.core.send_response(transaction, build_response(request, rng.choice([486, 480, 503, 603])))
                return
            player = Player(here, rng, rtp)
            session = here.agent.accept(request, transaction, on_event=player.on_event)
            player.session = session
            players.append(player)
            if choice < 0.7:
                session.provisional(rng.choice([180, 183]), body=rng.choice([b"", player.offer()]))
            here.tasks.start_soon(answer, session, player)

        return take

    async def answer(session: InviteSession, player: Player) -> None:
        await trio.sleep(rng.choice([0, 0.01, 0.05]))
        if rng.random() < 0.85:
            session.answer(player.offer())
        else:
            session.reject(486)

    async def engine_acts(here: World) -> None:
        if not here.engine.connections:
            return
        with contextlib.suppress(ConnectionClosed):
            match rng.randrange(6):
                case 0 | 1 | 2:
                    target = rng.choice(["served-user", "served-user", CAROL, CAROL, "sip:x@y"])
                    await here.engine.send(event="transfer", target=target)
                case 3:
                    await here.engine.send(event="dtmf", digits="12#")
                case 4 if rng.random() < 0.3:
                    await here.engine.connections[-1].aclose()
                case 5 if rng.random() < 0.2:
                    await here.engine.send(event="hangup")

    async def one_call(here: World) -> None:
        caller = Player(here, rng, here.caller_rtp)
        players.append(caller)
        leg = here.call(body=rng.choice([caller.rtp.offer(), b""]), to=BOB, on_event=caller.on_event)
        caller.session = leg.session
        for _ in range(rng.randrange(4, 20)):
            await trio.sleep(rng.random() * 0.04)
            if rng.random() < 0.3:
                await engine_acts(here)
            else:
                rng.choice(players).act()
        for player in [*players]:
            if player.session is not None:
                player.session.bye()
        players.clear()
        if rng.random() < 0.5:
            await trio.sleep(0.05)

    async def main() -> None:
        method = "refer" if seed % 2 else "3pcc"
        early = "relay" if seed % 3 == 0 else "ignore"
        overrides = [f'agents.default.transfer.method="{method}"', f'agents.default.transfer.early_media="{early}"']
        async with world(CONFIG, *overrides, timers=FAST) as here:
            here.phone = phone(here, here.phone_rtp)  # type: ignore[assignment]
            for _ in range(10):
                await one_call(here)
            for player in [*players]:
                if player.session is not None:
                    player.session.bye()
            await here.until_idle()
            await until(lambda: here.app.endpoint.stats.is_idle)
            assert not here.app.endpoint.counters.guard_errors
            bad = [call for call in here.app.calls() if call["termination"]["reason"] == "internal-error"]
            assert not bad

    trio.run(main)
