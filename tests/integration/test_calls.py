"""Whole calls through a real server and its media worker: set-up, conversation, failures before the answer."""

import attrs
import pytest
import trio

from ims_as.config import AgentConfig, EngineConfig
from ims_as.sip.invite_session import Answered, Ended, ReinviteAnswered, ReinviteRejected, Rejected
from ims_as.sip.sdp import Direction, parse_sdp_untrusted
from tests.support.world import ALICE, BOB, Leg, World, until, world

EVS_ONLY = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
EVS_ONLY += b"m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 EVS/16000\r\n"


def media_of(leg: Leg) -> tuple[str, int]:
    description = parse_sdp_untrusted(leg.session.remote_body)
    return description.connection_of(description.media[0]), description.media[0].port


async def answered(here: World, **options: object) -> Leg:
    leg = here.call(**options)  # type: ignore[arg-type]
    await leg.wait(Answered)
    return leg


def test_the_agent_answers_hears_and_is_heard():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            response = (await leg.wait(Answered)).response
            assert response.headers.get("Content-Type") == "application/sdp"
            start = await here.engine.wait("start")
            assert start["from"] == ALICE
            assert start["served_user"] == BOB
            assert (start["rate"], start["frame_ms"], start["session_case"]) == (16000, 20, "terminating_registered")
            host, port = media_of(leg)
            assert here.ports_bound() == [port, port + 1]
            for _ in range(10):
                here.caller_rtp.send(host, port)
                await trio.sleep(0.02)
            packet = await here.caller_rtp.receive()
            assert len(packet) == 172
            assert packet[1] & 0x7F == 0
            leg.session.bye()
            await here.until_idle()
            assert (await here.engine.wait("stop"))["reason"]
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"] == {"result": "answered", "by": "caller", "reason": "bye", "cause": None}
            assert record["icid"] == "icid-1"
            labels = [event["label"] for event in record["trace"]]
            assert any(label.startswith("INVITE") for label in labels)
            assert any(label.startswith("BYE") for label in labels)

    trio.run(main)


def test_nothing_between_100_and_200_is_sent():
    """An 18x would end the S-CSCF's default handling; a 100 earlier than 200 ms would silence its guard."""

    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            assert set(here.app.endpoint.counters.responses_out) == {200}
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_transports(transport: str):
    async def main() -> None:
        async with world() as here:
            leg = await answered(here, transport=transport)
            leg.session.bye()

    trio.run(main)


def test_the_agent_hangs_up_after_what_it_said():
    async def main() -> None:
        async with world() as here:
            here.engine.echo = False
            leg = await answered(here)
            await here.engine.wait("start")
            await here.engine.connections[0].send(b"\x00\x01" * 320 * 10)  # 200 ms
            asked = trio.current_time()
            await here.engine.send(event="hangup", reason="done")
            await leg.wait(Ended)
            assert trio.current_time() - asked >= 0.15

    trio.run(main)


def test_engine_refused_is_503_at_once():
    async def main() -> None:
        async with world(engine=False) as here:
            leg = here.call()
            sent = trio.current_time()
            rejected = await leg.wait(Rejected)
            assert rejected.status == 503
            assert trio.current_time() - sent < 0.5
            assert rejected.response is not None
            assert (rejected.response.headers.get("Reason") or "").startswith("Q.850;cause=")
            assert "Retry-After" not in rejected.response.headers

    trio.run(main)


def test_a_hanging_engine_is_503_within_the_budget():
    async def main() -> None:
        async with world("sip.answer_budget_ms=400", engine=False) as here:
            listeners = await trio.open_tcp_listeners(9000, host=here.engine.host)
            leg = here.call()
            sent = trio.current_time()
            assert (await leg.wait(Rejected)).status == 503
            assert 0.3 < trio.current_time() - sent < 0.6
            await listeners[0].aclose()

    trio.run(main)


def test_on_failure_pass_on_uses_the_route():
    async def main() -> None:
        async with world("sip.on_failure=pass-on", engine=False) as here:
            phones = here.answer_as_phone()
            leg = here.call(headers=[("X-Unknown", "kept")])
            await leg.wait(Answered)
            await phones.receive()
            invite = here.arrived[0]
            assert invite.routes == [here.odi]
            assert invite.uri == BOB
            assert invite.headers.get("X-Unknown") == "kept"
            assert invite.max_forwards == 69
            assert invite.body == leg.session.request.body
            assert not here.ports_bound()
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize(
    ("to", "headers"),
    [
        ("urn:service:sos", []),
        (BOB, [("Priority", "psap-callback")]),
        (BOB, [("Resource-Priority", "ets.0")]),
    ],
)
def test_emergency_and_priority_calls_are_passed_on_untouched(to: str, headers: list[tuple[str, str]]):
    async def main() -> None:
        async with world() as here:
            here.answer_as_phone()
            leg = here.call(to=to, headers=headers)
            await leg.wait(Answered)
            assert here.arrived[0].routes == [here.odi]
            assert not here.engine.connections
            assert [call["state"] for call in here.app.calls()] == ["ended"]
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize(
    "body",
    [b"garbage", EVS_ONLY],
)
def test_an_offer_we_cannot_use_is_our_inability_not_the_callers_fault(body: bytes):
    async def main() -> None:
        async with world() as here:
            leg = here.call(body=body)
            assert (await leg.wait(Rejected)).status == 500
            assert not here.engine.connections

    trio.run(main)


def test_cancel_while_the_engine_is_awaited():
    async def main() -> None:
        async with world("sip.answer_budget_ms=3000", engine=False) as here:
            listeners = await trio.open_tcp_listeners(9000, host=here.engine.host)
            leg = here.call()
            await until(here.ports_bound)
            leg.session.cancel()  # held until the 100 that comes after 200 ms
            assert (await leg.wait(Rejected)).status == 487
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["result"] == "cancelled"
            await listeners[0].aclose()

    trio.run(main)


def test_hold_resume_and_a_moved_address():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            leg.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
            await leg.wait(ReinviteAnswered)
            answer = parse_sdp_untrusted(leg.session.remote_body)
            assert answer.direction_of(answer.media[0]) is Direction.RECVONLY
            await here.engine.wait("hold")
            leg.session.reinvite(here.caller_rtp.offer(version=3))
            await leg.wait(ReinviteAnswered)
            await here.engine.wait("resume")
            # the caller moves: audio comes to the new address
            leg.session.reinvite(here.phone_rtp.offer(version=4))
            await leg.wait(ReinviteAnswered)
            here.phone_rtp.send(*media_of(leg), packets=3)
            await here.phone_rtp.receive()
            leg.session.bye()

    trio.run(main)


def test_a_reinvite_we_cannot_use_is_refused_and_the_call_goes_on():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            leg.session.reinvite(here.caller_rtp.offer(formats="97", version=2))
            assert (await leg.wait(ReinviteRejected)).status == 488
            here.caller_rtp.send(*media_of(leg), packets=3)
            await here.caller_rtp.receive()
            leg.session.bye()

    trio.run(main)


def test_overload_is_refused_with_retry_after():
    async def main() -> None:
        async with world("limits.calls=1") as here:
            first = await answered(here)
            second = here.call()
            rejected = await second.wait(Rejected)
            assert rejected.status == 503
            assert rejected.response is not None
            assert rejected.response.headers.get("Retry-After")
            options = await here.request("OPTIONS")
            assert options.status == 503
            first.session.bye()
            await here.until_idle()
            assert (await here.request("OPTIONS")).status == 200

    trio.run(main)


def test_options_tells_that_no_engine_is_there():
    async def main() -> None:
        async with world(engine=False) as here:
            assert (await here.request("OPTIONS")).status == 503
            assert here.app.is_ready() == (False, ["no engine"])

    trio.run(main)


def test_third_party_register_and_what_we_do_not_serve():
    async def main() -> None:
        async with world() as here:
            response = await here.request("REGISTER", [("Expires", "600"), ("Event", "registration")])
            assert response.status == 200
            assert response.headers.get("Expires") == "600"
            assert (await here.request("PUBLISH")).status == 489

    trio.run(main)


def test_a_call_in_progress_survives_drain_and_new_ones_are_refused():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            await here.app.drain()
            second = here.call()
            assert (await second.wait(Rejected)).status == 503
            leg.session.bye()

    trio.run(main)


def test_the_caller_gets_no_rtp_before_the_answer():
    async def main() -> None:
        async with world("sip.answer_budget_ms=400", engine=False) as here:
            listeners = await trio.open_tcp_listeners(9000, host=here.engine.host)
            leg = here.call()
            assert (await leg.wait(Rejected)).status == 503
            with trio.move_on_after(0.05):
                await trio.lowlevel.wait_readable(here.caller_rtp.socket)
                raise AssertionError("RTP before the answer")
            await listeners[0].aclose()

    trio.run(main)


def test_a_hanging_first_engine_leaves_time_for_the_second():
    async def main() -> None:
        async with world() as here:
            hanging = await trio.open_tcp_listeners(9001, host=here.engine.host)
            engines = [
                {"type": "websocket", "url": f"ws://{here.engine.host}:9001/", "connect_timeout_ms": 200},
                {"type": "websocket", "url": here.engine.url},
            ]
            agents = {"default": AgentConfig(engines=tuple(EngineConfig(**engine) for engine in engines))}
            here.app.context.config = attrs.evolve(here.app.context.config, agents=agents)
            leg = here.call()
            sent = trio.current_time()
            await leg.wait(Answered)
            assert 0.15 < trio.current_time() - sent < 0.7
            assert len(here.engine.connections) == 1
            leg.session.bye()
            await hanging[0].aclose()

    trio.run(main)
