"""Sixty calls on two workers, one of which is killed: how long its calls are without audio, and that others are not."""

import os
import signal
import socket
from functools import partial
from itertools import pairwise

import attrs
import trio
from websockets.protocol import State

from ims_as.sip.invite_session import Answered, Ended, ReinviteReceived
from tests.integration.test_worker_lost import pids_of
from tests.support.world import Leg, World, until, world

CALLS = 60
PACKET_S = 0.02
GAP_LIMIT_S = 1.0


@attrs.define(eq=False)
class Phone:
    """Talks and listens in real time."""

    leg: Leg
    sock: socket.socket
    port: int = 0
    slot: str = ""
    heard: list[float] = attrs.Factory(list)
    """When a packet came."""
    reinvites: int = 0

    def offer(self, version: int = 1) -> bytes:
        host, port = self.sock.getsockname()
        lines = ["v=0", f"o=ue 7 {version} IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0"]
        lines += [f"m=audio {port} RTP/AVP 0", "a=sendrecv"]
        return ("\r\n".join(lines) + "\r\n").encode()

    def listen(self, now: float) -> None:
        while True:
            try:
                self.sock.recv(2048)
            except BlockingIOError:
                return
            self.heard.append(now)

    def speak(self, host: str, number: int) -> None:
        header = bytes([0x80, 0]) + (number & 0xFFFF).to_bytes(2, "big") + (number * 160).to_bytes(4, "big")
        self.sock.sendto(header + b"LOAD" + b"\x7e" * 160, (host, self.port))

    def longest_gap_s(self, since: float) -> float:
        times = [at for at in self.heard if at >= since]
        return max((b - a for a, b in pairwise(times)), default=float("inf"))


async def talk(here: World, phones: list[Phone]) -> None:
    number = 0
    began = trio.current_time()
    while True:
        for phone in phones:
            if phone.port:
                phone.listen(trio.current_time())
                phone.speak(here.as_address, number)
        number += 1
        await trio.sleep_until(began + number * PACKET_S)


def answer_offers(phone: Phone) -> None:
    session = phone.leg.session
    inner = phone.leg.on_event

    def on_event(each: object, event: object) -> None:
        inner(each, event)  # type: ignore[arg-type]
        if isinstance(event, ReinviteReceived):
            phone.reinvites += 1
            phone.port = int(event.body.split(b"m=audio ")[1].split(b" ")[0])
            session.accept_reinvite(phone.offer(version=2))

    session._emit_to = on_event


async def set_up(here: World) -> list[Phone]:
    phones = []
    for _ in range(CALLS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"{here.prefix}.41", 0))
        sock.setblocking(False)
        phone = Phone(None, sock)  # type: ignore[arg-type]
        phone.leg = here.call(body=phone.offer())
        answered = await phone.leg.wait(Answered)
        answer_offers(phone)
        phone.port = int(answered.body.split(b"m=audio ")[1].split(b" ")[0])
        phones.append(phone)
    slots = {call.record.sip_call_id: call.leg.link.name for call in here.app.context.calls}
    for phone in phones:
        phone.slot = slots[phone.leg.session.request.call_id]
    return phones


async def one_run(*, keeps_ports: bool) -> None:
    async with world("media.workers=2", f"limits.calls={CALLS * 2}") as here:
        here.app.media.keeps_ports = keeps_ports
        phones = await set_up(here)
        here.tasks.start_soon(talk, here, phones)
        await trio.sleep(1.0)
        killed_at = trio.current_time()
        os.kill(pids_of(here.app.media)["w0"], signal.SIGKILL)
        await until(lambda: here.app.context.media.legs == CALLS)
        await trio.sleep(1.5)
        hit = sorted(phone.longest_gap_s(killed_at - 0.1) for phone in phones if phone.slot == "w0")
        others = sorted(phone.longest_gap_s(killed_at - 0.1) for phone in phones if phone.slot != "w0")
        how = "same port" if keeps_ports else "re-INVITE"
        print(
            f"{how}: {len(hit)} calls of the killed worker: gap p50 {hit[len(hit) // 2] * 1000:.0f} ms,"
            f" p100 {hit[-1] * 1000:.0f} ms; {len(others)} others: p50 {others[len(others) // 2] * 1000:.0f} ms,"
            f" p100 {others[-1] * 1000:.0f} ms"
        )
        assert len(hit) > CALLS // 4
        assert hit[-1] <= GAP_LIMIT_S
        # and they hear and are heard now
        now = trio.current_time()
        assert all(phone.heard[-1] > now - 0.3 for phone in phones)
        assert {phone.reinvites for phone in phones if phone.slot == "w0"} == {0 if keeps_ports else 1}
        assert {phone.reinvites for phone in phones if phone.slot != "w0"} == {0}
        assert not any(isinstance(event, Ended) for phone in phones for event in phone.leg.events)
        assert here.app.media.restarts == 1
        for phone in phones:
            phone.leg.session.bye()
        # the engine's library does not get over some of the connections that were cut
        await until(lambda: here.app.context.media.legs == 0)
        here.engine.connections[:] = [each for each in here.engine.connections if each.state is State.OPEN]
        await here.until_idle()
        for phone in phones:
            record = here.app.call(phone.leg.session.request.call_id)
            assert record is not None
            assert record["media_moves"] == (1 if phone.slot == "w0" else 0)
            assert record["termination"]["reason"] == "bye"
            phone.sock.close()


def test_its_calls_are_heard_again_within_a_second_at_their_ports():
    trio.run(partial(one_run, keeps_ports=True))


def test_its_calls_are_heard_again_within_a_second_by_reinvite():
    trio.run(partial(one_run, keeps_ports=False))
