"""REFER in both directions, and what goes on between two parties that were joined."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from ims_as.call import agent_call
from ims_as.call.bypass import BYPASS_HEADER
from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Ended,
    InviteSession,
    ReinviteReceived,
    RequestReceived,
    SessionEvent,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.refer import (
    ReferEvent,
    ReferFinal,
    ReferReceiver,
    ReferSender,
    format_refer_to,
)
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction
from tests.support.world import BOB, Leg, RtpSocket, World, until, world

CAROL = "sip:carol@ims.example.net"
ALLOW = 'agents.default.transfer.allow=["served-user","sip:carol@.*"]'
BY_REFER = 'agents.default.transfer.method="refer"'


def port_of(body: bytes) -> int:
    return parse_sdp_untrusted(body).media[0].port


class Carol:
    """Another telephone behind the core; the served user's is the world's own."""

    def __init__(self, here: World, *, busy: bool = False) -> None:
        self._here = here
        self.rtp = RtpSocket(f"{here.prefix}.43")
        self.invites: list[Request] = []
        self.legs: list[Leg] = []
        self._others = here.phone
        self.busy = busy
        here.phone = self._take

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        if request.uri != CAROL:
            self._others(request, transaction)
            return
        self.invites.append(request)
        if self.busy:
            self._here.core.send_response(transaction, build_response(request, 486))
            return
        leg = Leg(None)  # type: ignore[arg-type]
        leg.session = self._here.agent.accept(request, transaction, on_event=leg.on_event)
        leg.session.provisional(180)
        leg.session.answer(self.rtp.offer())
        self.legs.append(leg)


@contextmanager
def carol_of(here: World, **options: bool) -> Iterator[Carol]:
    carol = Carol(here, **options)
    try:
        yield carol
    finally:
        carol.rtp.close()


async def talking(here: World) -> Leg:
    leg = here.call()
    await leg.wait(Answered)
    await here.engine.wait("start")
    return leg


def refer(leg: Leg, uri: str = CAROL, **options: object) -> list[ReferEvent]:
    """The leg's party sends a REFER; what it is told of it."""
    told: list[ReferEvent] = []
    replaces = options.pop("replaces", None)
    target = format_refer_to(uri, replaces=replaces)  # type: ignore[arg-type]
    ReferSender(leg.session, target, on_event=lambda _, event: told.append(event), **options)  # type: ignore[arg-type]
    return told


def kinds(told: list[ReferEvent]) -> list[str]:
    return [f"{type(event).__name__} {getattr(event, 'status', '')}".strip() for event in told]


async def is_heard(here: World, ours: bytes, party: RtpSocket) -> None:
    description = parse_sdp_untrusted(ours)
    host, port = description.connection_of(description.media[0]), description.media[0].port
    heard = here.engine.audio_bytes
    party.drain()
    party.send(host, port, packets=5)
    await until(lambda: here.engine.audio_bytes > heard)
    await party.receive_type(0)


# ---------------------------------------------------------------- the caller refers the agent


def test_the_agent_goes_on_with_whom_it_was_referred_to():
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                told = refer(leg, referred_by="<sip:alice@ims.example.net>")
                await until(lambda: any(isinstance(event, ReferFinal) for event in told))
                assert kinds(told) == ["ReferAccepted", "ReferProgress 180", "ReferFinal 200"]
                invite = carol.invites[0]
                assert invite.from_.uri_text == BOB
                assert invite.headers.get("P-Asserted-Identity") == f"<{BOB}>"
                assert "alice" in (invite.headers.get("Referred-By") or "")
                assert invite.headers.get(BYPASS_HEADER)
                assert await here.engine.wait("party") == {"event": "party", "uri": CAROL, "cause": "refer"}
                leg.session.bye()
                await is_heard(here, invite.body, carol.rtp)
                # it is a call like any other: hold, digits, hang-up
                other = carol.legs[0]
                other.session.reinvite(carol.rtp.offer(direction="sendonly", version=2))
                await here.engine.wait("hold")
                other.session.bye()
                await here.until_idle()
                record = here.app.call(leg.session.request.call_id)
                assert record is not None
                assert record["transfer"]["state"] == "moved"
                assert record["termination"]["result"] == "answered"

    trio.run(main)


def test_an_attended_transfer_replaces_the_consultation():
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                told = refer(leg, replaces="cid@x;to-tag=1;from-tag=2", wants_outcome=False)
                await until(lambda: carol.legs)
                assert carol.invites[0].headers.get("Replaces") == "cid@x;to-tag=1;from-tag=2"
                assert carol.invites[0].headers.get("Require") == "replaces"
                await here.engine.wait("party")
                assert kinds(told) == ["ReferAccepted"]
                leg.session.bye()
                carol.legs[0].session.bye()

    trio.run(main)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("<sip:premium@elsewhere.example>", 403),
        ("<sip:carol@ims.example.net;method=MESSAGE>", 603),
        ("<<", 400),
    ],
)
def test_a_target_out_of_reach_is_refused(target: str, status: int):
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                answers: list[int] = []

                def on_event(event: ClientEvent) -> None:
                    if isinstance(event, ResponseReceived):
                        answers.append(event.response.status)

                leg.session.send_request("REFER", headers=[("Refer-To", target)], on_event=on_event)
                await until(lambda: answers)
                assert answers == [status]
                assert not carol.invites
                await is_heard(here, leg.session.remote_body, here.caller_rtp)
                leg.session.bye()

    trio.run(main)


def test_a_target_that_is_busy_leaves_the_agent_where_it_is():
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here, busy=True) as carol:
                leg = await talking(here)
                told = refer(leg)
                await until(lambda: len(told) == 2)
                assert kinds(told) == ["ReferAccepted", "ReferFinal 486"]
                await is_heard(here, leg.session.remote_body, here.caller_rtp)
                # the next one may try again
                carol.busy = False
                told = refer(leg)
                await until(lambda: any(isinstance(event, ReferFinal) for event in told))
                assert kinds(told)[-1] == "ReferFinal 200"
                leg.session.bye()
                await until(lambda: carol.legs)
                carol.legs[0].session.bye()

    trio.run(main)


def test_a_referrer_that_does_not_hang_up_is_hung_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agent_call, "FORMER_PARTY_S", 0.05)

    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                refer(leg)
                assert (await leg.wait(Ended)).by == "remote"
                await is_heard(here, carol.invites[0].body, carol.rtp)
                carol.legs[0].session.bye()

    trio.run(main)


def test_a_caller_that_hangs_up_before_the_target_answers_ends_it_all():
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here):
                rang: list[Leg] = []

                def ring(request: Request, transaction: ServerTransaction) -> None:
                    other = Leg(None)  # type: ignore[arg-type]
                    other.session = here.agent.accept(request, transaction, on_event=other.on_event)
                    other.session.provisional(180)
                    rang.append(other)

                here.phone = ring
                leg = await talking(here)
                told = refer(leg)
                await until(lambda: len(told) == 2)
                leg.session.bye()
                await here.until_idle()
                await until(lambda: rang[0].session.is_terminated)
                assert kinds(told)[-1] == "ReferFinal 503"

    trio.run(main)


# ---------------------------------------------------------------- between joined parties


async def joined(here: World) -> tuple[Leg, Leg]:
    phones = here.answer_as_phone()
    leg = await talking(here)
    await here.engine.send(event="transfer", target="served-user")
    await leg.wait(ReinviteReceived)
    leg.session.accept_reinvite(here.caller_rtp.offer())
    await until(lambda: not here.ports_bound())
    return leg, await phones.receive()


@pytest.mark.parametrize("leaves_at_once", [False, True])
def test_the_human_hands_the_caller_on(leaves_at_once: bool):
    async def main() -> None:
        async with world(ALLOW) as here:
            leg, phone = await joined(here)
            with carol_of(here) as carol:
                told = refer(phone, replaces="cid@x;to-tag=1;from-tag=2")
                if leaves_at_once:
                    await until(lambda: told)
                    phone.session.bye()
                reinvite = await leg.wait(ReinviteReceived)
                assert port_of(reinvite.request.body) == carol.rtp.port
                assert port_of(carol.invites[0].body) == here.caller_rtp.port
                assert carol.invites[0].headers.get("Replaces")
                leg.session.accept_reinvite(here.caller_rtp.offer())
                await until(lambda: kinds(told)[-1] == "ReferFinal 200")
                if not leaves_at_once:
                    assert (await phone.wait(Ended)).by == "remote"
                other = carol.legs[0]
                other.session.reinvite(carol.rtp.offer(direction="sendonly", version=2))
                assert b"sendonly" in (await leg.wait(ReinviteReceived)).request.body
                leg.session.accept_reinvite(here.caller_rtp.offer(direction="recvonly", version=3))
                leg.session.bye()
                assert (await other.wait(Ended)).by == "remote"

    trio.run(main)


def test_the_human_keeps_the_caller_when_the_target_is_busy():
    async def main() -> None:
        async with world(ALLOW) as here:
            leg, phone = await joined(here)
            with carol_of(here, busy=True):
                told = refer(phone)
                await until(lambda: told and isinstance(told[-1], ReferFinal))
                assert kinds(told) == ["ReferAccepted", "ReferFinal 486"]
                phone.session.bye()
                assert (await leg.wait(Ended)).by == "remote"

    trio.run(main)


def test_a_caller_that_nobody_is_left_for_is_hung_up():
    async def main() -> None:
        async with world(ALLOW) as here:
            leg, phone = await joined(here)
            with carol_of(here) as carol:
                carol.busy = True
                told = refer(phone)
                await until(lambda: told)
                phone.session.bye()
                await leg.wait(Ended)
                await here.until_idle()

    trio.run(main)


async def relayed(sender: Leg, receiver: Leg, method: str, body: bytes, headers: list[tuple[str, str]]) -> list[int]:
    """A request of one party; how the other's answer comes back."""
    answers: list[int] = []
    original = receiver.session._emit_to

    def on_request(session: InviteSession, event: SessionEvent) -> None:
        if isinstance(event, RequestReceived) and event.request.method == method:
            assert event.request.body == body
            for name, value in headers:
                assert event.request.headers.get(name) == value
            session.respond(event, 469, headers=[("Recv-Info", "other")])
        else:
            original(session, event)

    receiver.session._emit_to = on_request

    def on_event(event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            assert event.response.headers.get("Recv-Info") == "other"
            answers.append(event.response.status)

    sender.session.send_request(method, headers=headers, body=body, content_type="text/plain", on_event=on_event)
    await until(lambda: answers)
    receiver.session._emit_to = original
    return answers


def test_info_and_message_go_through_both_ways():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            assert await relayed(leg, phone, "INFO", b"one", [("Info-Package", "chess")]) == [469]
            assert await relayed(phone, leg, "INFO", b"two", [("Info-Package", "chess")]) == [469]
            assert await relayed(phone, leg, "MESSAGE", b"hello", []) == [469]
            leg.session.bye()
            await phone.wait(Ended)

    trio.run(main)


def test_a_refer_of_the_caller_goes_through_to_the_human_and_its_outcome_comes_back():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            receivers: list[ReferReceiver] = []
            original = phone.session._emit_to

            def on_request(session: InviteSession, event: SessionEvent) -> None:
                if isinstance(event, RequestReceived):
                    receivers.append(ReferReceiver(session, event))
                    receivers[0].accept()
                else:
                    original(session, event)

            phone.session._emit_to = on_request
            told = refer(leg)
            await until(lambda: receivers)
            assert receivers[0].target.uri == CAROL
            receivers[0].notify(183)
            receivers[0].notify(200)
            await until(lambda: len(told) >= 3)
            assert kinds(told) == ["ReferAccepted", "ReferProgress 183", "ReferFinal 200"]
            leg.session.bye()
            await phone.wait(Ended)

    trio.run(main)


# ---------------------------------------------------------------- the agent refers the caller


class Referred:
    """A caller that takes REFERs as told."""

    def __init__(self, leg: Leg, status: int = 202) -> None:
        self.receivers: list[ReferReceiver] = []
        original = leg.session._emit_to

        def on_request(session: InviteSession, event: SessionEvent) -> None:
            if isinstance(event, RequestReceived):
                receiver = ReferReceiver(session, event)
                self.receivers.append(receiver)
                if status < 300:
                    receiver.accept(status)
                else:
                    receiver.reject(status)
            else:
                original(session, event)

        leg.session._emit_to = on_request

    async def wait(self) -> ReferReceiver:
        await until(lambda: self.receivers)
        return self.receivers[0]


async def transfer_to_carol(here: World) -> None:
    await here.engine.send(event="transfer", target=CAROL)


async def states(here: World, last: str) -> list[str]:
    found: list[str] = []
    while not found or found[-1] != last:
        found.append((await here.engine.wait("transfer"))["state"])
    return found


def test_the_caller_is_asked_to_call_the_target():
    async def main() -> None:
        async with world(ALLOW, BY_REFER) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                referred = Referred(leg)
                await transfer_to_carol(here)
                receiver = await referred.wait()
                assert receiver.target.uri == CAROL
                assert receiver.referred_by is not None
                assert receiver.referred_by.uri_text == BOB
                receiver.notify(180)
                assert await states(here, "ringing") == ["trying", "ringing"]
                receiver.notify(200)
                assert await states(here, "answered") == ["answered"]
                assert (await leg.wait(Ended)).by == "remote"
                await here.until_idle()
                assert not carol.invites
                record = here.app.call(leg.session.request.call_id)
                assert record is not None
                assert record["termination"]["result"] == "transferred"
                assert record["transfer"]["method"] == "refer"

    trio.run(main)


def test_a_caller_that_refuses_is_handed_over_by_us():
    async def main() -> None:
        async with world(ALLOW, BY_REFER) as here:
            with carol_of(here) as carol:
                leg = await talking(here)
                Referred(leg, 405)
                await transfer_to_carol(here)
                reinvite = await leg.wait(ReinviteReceived)
                assert port_of(reinvite.request.body) == carol.rtp.port
                leg.session.accept_reinvite(here.caller_rtp.offer())
                await until(lambda: not here.ports_bound())
                leg.session.bye()

    trio.run(main)


def test_a_caller_that_does_not_reach_the_target_stays():
    async def main() -> None:
        async with world(ALLOW, BY_REFER) as here:
            with carol_of(here):
                leg = await talking(here)
                referred = Referred(leg)
                await transfer_to_carol(here)
                (await referred.wait()).notify(486)
                assert await states(here, "failed") == ["trying", "failed"]
                await is_heard(here, leg.session.remote_body, here.caller_rtp)
                leg.session.bye()

    trio.run(main)


def test_a_caller_that_leaves_at_once_counts_as_transferred():
    async def main() -> None:
        async with world(ALLOW, BY_REFER) as here:
            with carol_of(here):
                leg = await talking(here)
                referred = Referred(leg)
                await transfer_to_carol(here)
                await referred.wait()
                await states(here, "trying")
                leg.session.bye()
                await here.until_idle()
                record = here.app.call(leg.session.request.call_id)
                assert record is not None
                assert record["termination"]["result"] == "transferred"
                referred.receivers[0].close()

    trio.run(main)


def test_the_served_user_is_always_called_by_us():
    async def main() -> None:
        async with world(ALLOW, BY_REFER) as here:
            here.answer_as_phone()
            leg = await talking(here)
            referred = Referred(leg)
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            assert not referred.receivers
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            leg.session.bye()

    trio.run(main)


def test_a_target_that_hangs_up_as_soon_as_it_has_answered_ends_the_call():
    async def main() -> None:
        async with world(ALLOW) as here:
            with carol_of(here) as carol:

                def answer_and_leave(request: Request, transaction: ServerTransaction) -> None:
                    def on_event(session: InviteSession, event: SessionEvent) -> None:
                        if isinstance(event, Acked):
                            session.bye()

                    session = here.agent.accept(request, transaction, on_event=on_event)
                    session.answer(carol.rtp.offer())

                leg = await talking(here)
                here.phone = answer_and_leave
                refer(leg)
                await here.until_idle()
                record = here.app.call(leg.session.request.call_id)
                assert record is not None
                assert record["termination"]["reason"] == "bye"

    trio.run(main)
