"""DTMF by INFO, in and out, through a real server."""

import numpy as np
import pytest
import trio

from ims_as.sip.invite_session import Answered, InviteSession, RequestReceived, SessionEvent
from ims_as.sip.sdp import parse_sdp_untrusted
from media import g711
from media.dtmf import ToneSlot
from media.tone_sender import tone_frame
from media.tones import ToneDetector
from tests.support.raw_caller import RawCaller
from tests.support.world import Leg, World, until, world

RELAY = "application/dtmf-relay"


async def answered(caller: RawCaller, here: World, **options: str) -> tuple[str, int]:
    """A call that is up; where our RTP is."""
    caller.invite(body=here.caller_rtp.offer(**options), headers=[("Recv-Info", "")])  # type: ignore[arg-type]
    response = await caller.response()
    assert response.headers.get("Recv-Info") == "infoDtmf"
    caller.ack(response)
    await here.engine.wait("start")
    description = parse_sdp_untrusted(response.body)
    return description.connection_of(description.media[0]), description.media[0].port


def digits(here: World) -> list[str]:
    return [event["digit"] for event in here.engine.events if event["event"] == "dtmf"]


def test_each_digit_comes_once_however_it_is_sent():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                host, port = await answered(caller, here)
                caller.request("INFO", body=b"Signal=5\r\nDuration=100\r\n", content_type=RELAY)
                assert (await caller.response("INFO")).status == 200
                await here.engine.wait("dtmf")
                # both ways, INFO first; then RTP first
                caller.request("INFO", body=b"Signal=1\r\nDuration=100\r\n", content_type=RELAY)
                here.caller_rtp.send_digit(host, port, 1)
                await until(lambda: digits(here) == ["1"])
                here.caller_rtp.send_digit(host, port, 2)
                await until(lambda: digits(here) == ["1", "2"])
                caller.request("INFO", body=b"2", content_type="application/dtmf")
                here.caller_rtp.send_digit(host, port, 3)
                await until(lambda: digits(here)[-1] == "3")
                assert digits(here) == ["1", "2", "3"]
                await caller.hang_up()

    trio.run(main)


def test_a_retransmitted_info_is_one_digit():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                await answered(caller, here)
                caller.cseq += 1
                for _ in range(2):
                    caller.send("INFO", branch="z9hG4bK-same", body=b"4", content_type="application/dtmf")
                    assert (await caller.response("INFO")).status == 200
                caller.request("INFO", body=b"5", content_type="application/dtmf")
                await until(lambda: digits(here)[-1:] == ["5"])
                assert digits(here) == ["4", "5"]
                await caller.hang_up()

    trio.run(main)


@pytest.mark.parametrize(
    ("headers", "content_type", "status", "answer"),
    [
        ([("Info-Package", "chess")], RELAY, 469, ("Recv-Info", "infoDtmf")),
        ([], "text/plain", 415, ("Accept", "application/dtmf-relay, application/dtmf")),
    ],
)
def test_what_we_do_not_know_is_refused(
    headers: list[tuple[str, str]], content_type: str, status: int, answer: tuple[str, str]
):
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                await answered(caller, here)
                caller.request("INFO", headers=headers, body=b"Signal=1", content_type=content_type)
                response = await caller.response("INFO")
                assert response.status == status
                assert response.headers.get(answer[0]) == answer[1]
                assert not digits(here)
                await caller.hang_up()

    trio.run(main)


async def without_events(here: World) -> tuple[Leg, list[bytes]]:
    """A call without telephone-event; the INFO bodies that reach the caller."""
    bodies: list[bytes] = []
    leg = here.call(body=here.caller_rtp.offer(formats="0"))
    original = leg.on_event

    def on_event(session: InviteSession, event: SessionEvent) -> None:
        if isinstance(event, RequestReceived):
            bodies.append(event.request.body)
        original(session, event)

    leg.session._emit_to = on_event
    await leg.wait(Answered)
    await here.engine.wait("start")
    return leg, bodies


def test_the_agent_dials_by_info_where_there_is_no_telephone_event():
    async def main() -> None:
        async with world() as here:
            leg, bodies = await without_events(here)
            await here.engine.send(event="dtmf", digits="1x#")
            await until(lambda: len(bodies) == 2)
            assert bodies == [b"Signal=1\r\nDuration=160\r\n", b"Signal=#\r\nDuration=160\r\n"]
            leg.session.bye()

    trio.run(main)


async def heard_tones(here: World, digits: str) -> None:
    """Waits until the caller has heard the tones of these digits in its audio."""
    detector, heard, codec = ToneDetector(1), "", np.zeros(1, np.uint8)
    while heard != digits:
        packet = await here.caller_rtp.receive()
        line = g711.decode(np.frombuffer(packet[12:], np.uint8)[None, :], codec)
        heard += "".join(digit.digit for _, digit in detector.take(np.array([0]), line).digits)
        assert digits.startswith(heard)


def test_a_caller_that_refuses_info_hears_tones():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                await answered(caller, here, formats="0")
                await here.engine.send(event="dtmf", digits="123")
                caller.respond(await caller.incoming("INFO"), 415)
                await heard_tones(here, "123")
                await here.engine.send(event="dtmf", digits="4")
                await heard_tones(here, "4")
                await caller.hang_up()


async def dial_by_tones(here: World, host: str, port: int, keys: str) -> None:
    """100 ms of each, 60 ms of silence behind it, in real time."""
    for key in keys:
        for at in range(8):
            line = tone_frame(ToneSlot(key, at) if at < 5 else None, 160)[None, :]
            codes = g711.encode(line, np.zeros(1, np.uint8))[0].tobytes()
            here.caller_rtp._send(host, port, 0, codes, (here.caller_rtp._sequence + 1) * 160)
            await trio.sleep(0.02)


@pytest.mark.parametrize("overrides", [(), ("agents.default.digits.mute=true",)])
def test_a_caller_that_dials_by_tones_alone(overrides: tuple[str, ...]):
    """The engine of the tests echoes: what it does not hear the caller does not hear either."""

    async def main() -> None:
        async with world(*overrides) as here:
            with RawCaller(here) as caller:
                host, port = await answered(caller, here, formats="0")
                await dial_by_tones(here, host, port, "5#")
                await until(lambda: digits(here) == ["5", "#"])
                detector, heard, codec = ToneDetector(1), "", np.zeros(1, np.uint8)
                for _ in range(30):
                    packet = await here.caller_rtp.receive()
                    line = g711.decode(np.frombuffer(packet[12:], np.uint8)[None, :], codec)
                    heard += "".join(digit.digit for _, digit in detector.take(np.array([0]), line).digits)
                assert bool(heard) == (not overrides)
                await caller.hang_up()

    trio.run(main)
