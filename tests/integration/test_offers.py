"""Offers in every form and at every time, checked by the RTP that flows afterwards."""

import pytest
import trio

from ims_as.sip.invite_session import (
    Answered,
    Ended,
    ReinviteAnswered,
    ReinviteRejected,
    UpdateAnswered,
    UpdateRejected,
)
from ims_as.sip.message import Response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.timers import TimerConfig
from tests.support.raw_caller import RawCaller
from tests.support.world import WAIT_S, Leg, RtpSocket, World, world

PCMU, PCMA = 0, 8


def media_of(body: bytes) -> tuple[str, int]:
    description = parse_sdp_untrusted(body)
    media = next(line for line in description.media if line.port)
    return description.connection_of(media), media.port


def version_of(body: bytes) -> int:
    return int(parse_sdp_untrusted(body).origin.version)


async def answered(here: World, body: bytes | None = None) -> Leg:
    leg = here.call(body=body)
    await leg.wait(Answered)
    return leg


async def is_heard(here: World, body: bytes, party: RtpSocket, payload_type: int = PCMU) -> None:
    """The engine hears the party, and the party its echo, with that payload type."""
    heard = here.engine.audio_bytes
    party.drain()
    with trio.fail_after(WAIT_S):
        while here.engine.audio_bytes <= heard:  # the media plane may not have heard of the change yet
            party.send(*media_of(body), payload_type=payload_type)
            await trio.sleep(0.02)
    await party.receive_type(payload_type)


async def change(leg: Leg, offer: bytes) -> bytes:
    leg.session.reinvite(offer)
    await leg.wait(ReinviteAnswered)
    return leg.session.remote_body


# ---------------------------------------------------------------- changes by the caller


def test_the_codec_changes():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here, here.caller_rtp.offer(formats="0 101"))
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            answer = await change(leg, here.caller_rtp.offer(formats="8 101", version=2))
            assert parse_sdp_untrusted(answer).media[0].formats == ("8", "101")
            await is_heard(here, answer, here.caller_rtp, PCMA)
            leg.session.bye()

    trio.run(main)


def test_address_and_port_change():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            answer = await change(leg, here.phone_rtp.offer(version=2))
            await is_heard(here, answer, here.phone_rtp)
            here.caller_rtp.drain()
            await is_heard(here, answer, here.phone_rtp)
            assert here.caller_rtp.drain() == 0
            leg.session.bye()

    trio.run(main)


def test_the_number_of_telephone_event_changes():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            here.caller_rtp.send_digit(*media_of(leg.session.remote_body), 5)
            assert (await here.engine.wait("dtmf"))["digit"] == "5"
            answer = await change(leg, here.caller_rtp.offer(formats="0 96", event_type=96, version=2))
            here.caller_rtp.send_digit(*media_of(answer), 6, payload_type=101)
            here.caller_rtp.send_digit(*media_of(answer), 7, payload_type=96)
            assert (await here.engine.wait("dtmf"))["digit"] == "7"
            await here.engine.send(event="dtmf", digits="1")
            assert (await here.caller_rtp.receive_type(96))[12] == 1
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize(
    ("options", "answer_direction"),
    [
        ({"direction": "sendonly"}, "recvonly"),
        ({"direction": "inactive"}, "inactive"),
        ({"connection": "0.0.0.0"}, "recvonly"),
    ],
)
def test_hold_and_resume(options: dict[str, str], answer_direction: str):
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            answer = await change(leg, here.caller_rtp.offer(version=2, **options))  # type: ignore[arg-type]
            assert f"a={answer_direction}".encode() in answer
            await here.engine.wait("hold")
            await trio.sleep(0.05)
            here.caller_rtp.drain()
            await here.engine.connections[0].send(b"\x10\x10" * 1600)
            await trio.sleep(0.1)
            assert here.caller_rtp.drain() == 0
            answer = await change(leg, here.caller_rtp.offer(version=3))
            await here.engine.wait("resume")
            await is_heard(here, answer, here.caller_rtp)
            leg.session.bye()

    trio.run(main)


def test_an_update_changes_what_a_reinvite_does():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            leg.session.update(here.phone_rtp.offer(formats="8 101", version=2))
            body = (await leg.wait(UpdateAnswered)).body
            await is_heard(here, body, here.phone_rtp, PCMA)
            leg.session.update(here.phone_rtp.offer(formats="8 101", direction="inactive", version=3))
            await leg.wait(UpdateAnswered)
            await here.engine.wait("hold")
            leg.session.update(here.phone_rtp.offer(formats="97", version=4))
            assert (await leg.wait(UpdateRejected)).status == 488
            leg.session.update(b"")
            assert (await leg.wait(UpdateAnswered)).body == b""
            leg.session.update(here.phone_rtp.offer(formats="8 101", version=5))
            body = (await leg.wait(UpdateAnswered)).body
            await here.engine.wait("resume")
            await is_heard(here, body, here.phone_rtp, PCMA)
            leg.session.bye()

    trio.run(main)


def test_a_description_among_other_parts():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                parts = [(b"application/sdp", here.caller_rtp.offer()), (b"application/pidf+xml", b"<presence/>")]
                body = b"".join(b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + part + b"\r\n" for kind, part in parts)
                caller.send("INVITE", body=body + b"--b--\r\n", content_type="multipart/mixed;boundary=b")
                response = await caller.response()
                assert response.status == 200
                caller.ack(response)
                await is_heard(here, response.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_a_call_that_begins_on_hold():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here, here.caller_rtp.offer(direction="inactive"))
            await here.engine.wait("hold")
            answer = await change(leg, here.caller_rtp.offer(version=2))
            await here.engine.wait("resume")
            await is_heard(here, answer, here.caller_rtp)
            leg.session.bye()

    trio.run(main)


def test_other_media_lines_are_refused_in_place():
    async def main() -> None:
        async with world() as here:
            audio = here.caller_rtp.offer()
            head, line = audio.split(b"m=audio", 1)
            offer = head + b"m=video 5000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio" + line
            offer += b"m=audio 5004 RTP/AVP 0\r\nm=text 5006 RTP/AVP 98\r\na=rtpmap:98 t140/1000\r\n"
            leg = await answered(here, offer)
            answer = parse_sdp_untrusted(leg.session.remote_body)
            assert [(each.media, bool(each.port)) for each in answer.media] == [
                ("video", False),
                ("audio", True),
                ("audio", False),
                ("text", False),
            ]
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize("formats", ["97", "0"])
def test_what_cannot_be_used_is_refused_and_nothing_changes(formats: str):
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            before = leg.session.remote_body
            bad = here.phone_rtp.offer(formats=formats, version=2)
            if formats == "0":
                bad = bad.replace(b"c=IN IP4 " + here.phone_rtp.host.encode(), b"c=IN IP6 2001:db8::1")
            leg.session.reinvite(bad)
            assert (await leg.wait(ReinviteRejected)).status == 488
            await is_heard(here, before, here.caller_rtp)
            answer = await change(leg, here.caller_rtp.offer(version=2))
            assert version_of(answer) == version_of(before)
            leg.session.bye()

    trio.run(main)


# ---------------------------------------------------------------- ours comes first


async def offered(caller: RawCaller) -> Response:
    caller.invite()
    response = await caller.response()
    assert response.status == 200
    return response


def test_an_invite_without_an_offer_gets_ours_and_the_ack_answers_it():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                response = await offered(caller)
                offer = parse_sdp_untrusted(response.body)
                assert offer.media[0].formats == ("8", "0", "101")
                caller.ack(response, body=here.caller_rtp.offer(formats="0 101"))
                await is_heard(here, response.body, here.caller_rtp)
                here.caller_rtp.send_digit(*media_of(response.body), 4)
                assert (await here.engine.wait("dtmf"))["digit"] == "4"
                await caller.hang_up()

    trio.run(main)


def test_the_answer_may_number_telephone_event_as_it_likes():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                response = await offered(caller)
                caller.ack(response, body=here.caller_rtp.offer(formats="8 96", event_type=96))
                await is_heard(here, response.body, here.caller_rtp, PCMA)
                # it sends with the number that we gave, and receives with its own
                here.caller_rtp.send_digit(*media_of(response.body), 3, payload_type=101)
                assert (await here.engine.wait("dtmf"))["digit"] == "3"
                await here.engine.send(event="dtmf", digits="9")
                assert (await here.caller_rtp.receive_type(96))[12] == 9
                await caller.hang_up()

    trio.run(main)


@pytest.mark.parametrize("answer", [b"", b"garbage", b"codec"])
def test_an_answer_that_cannot_be_used_ends_the_call_and_is_recorded(answer: bytes):
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                response = await offered(caller)
                caller.ack(response, body=here.caller_rtp.offer(formats="97") if answer == b"codec" else answer)
                bye = await caller.incoming("BYE")
                assert (bye.headers.get("Reason") or "").startswith("SIP;cause=488")
                caller.respond(bye, 200)
                await here.until_idle()
                record = here.app.call(caller.call_id)
                assert record is not None
                assert record["termination"]["reason"] == "answer-unusable"
                assert record["termination"]["cause"] == 488

    trio.run(main)


def test_a_reinvite_without_an_offer_gets_a_fresh_full_one():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                # 101 has another meaning for this caller, so our offer must use another number
                first = here.caller_rtp.offer(formats="0 100 101", event_type=100)
                first += b"a=rtpmap:101 AMR/8000\r\nm=video 5000 RTP/AVP 96\r\n"
                caller.invite(body=first)
                response = await caller.response()
                caller.ack(response)
                caller.invite()
                fresh = await caller.response(cseq=2)
                offer = parse_sdp_untrusted(fresh.body)
                assert offer.media[0].formats == ("8", "0", "100")
                assert (offer.media[1].media, offer.media[1].port) == ("video", 0)
                assert media_of(fresh.body) == media_of(response.body)
                assert version_of(fresh.body) == version_of(response.body) + 1
                answer = here.phone_rtp.offer(formats="8 100", event_type=100, version=2) + b"m=video 0 RTP/AVP 96\r\n"
                caller.ack(fresh, body=answer)
                await is_heard(here, fresh.body, here.phone_rtp, PCMA)
                await caller.hang_up()

    trio.run(main)


def test_a_held_call_is_taken_back_by_a_reinvite_without_an_offer():
    """RFC 6337 §5.3: our offer says what we want, not what the caller last allowed."""

    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(direction="sendonly"))
                caller.ack(await caller.response())
                await here.engine.wait("hold")
                caller.invite()
                fresh = await caller.response(cseq=2)
                assert b"a=sendrecv" in fresh.body
                caller.ack(fresh, body=here.caller_rtp.offer(version=2))
                await here.engine.wait("resume")
                await is_heard(here, fresh.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_an_ack_that_owes_the_answer_leaves_the_call_as_it_was():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(formats="0"))
                response = await caller.response()
                caller.ack(response)
                caller.invite()
                caller.ack(await caller.response(cseq=2))
                await is_heard(here, response.body, here.caller_rtp)
                caller.invite(body=here.caller_rtp.offer(formats="8", version=2))
                caller.ack(await caller.response(cseq=3, status=200))
                await is_heard(here, response.body, here.caller_rtp, PCMA)
                await caller.hang_up()

    trio.run(main)


def test_a_delayed_offer_that_nobody_acknowledges_is_hung_up():
    async def main() -> None:
        async with world(timers=TimerConfig(t1=0.005, t2=0.02)) as here:
            with RawCaller(here) as caller:
                await offered(caller)
                bye = await caller.incoming("BYE")
                caller.respond(bye, 200)
                await here.until_idle()

    trio.run(main)


def test_a_caller_that_hangs_up_on_hold_leaves_nothing():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            await change(leg, here.caller_rtp.offer(direction="inactive", version=2))
            leg.session.bye()
            await here.until_idle()
            assert isinstance(leg.events[-1], Ended)

    trio.run(main)
