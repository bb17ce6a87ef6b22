"""SRTP with rtpengine between a plain telephone and the server: its cryptography is its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio

from ims_as.sip.invite_session import Answered, ReinviteAnswered
from ims_as.sip.sdp import parse_sdp_untrusted
from media.rtcp import CNAME, SdesChunk, SenderReport, SourceDescription, build_rtcp, parse_rtcp_untrusted
from media.rtp import build_rtp, parse_rtp_untrusted
from tests.support.media_relay import Rtpengine, rtpengine
from tests.support.world import World, world

SUITES = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"]
OTHERS = [*SUITES, "AEAD_AES_256_GCM", "F8_128_HMAC_SHA1_80", "F8_128_HMAC_SHA1_32", "NULL_HMAC_SHA1_80"]
OTHERS += ["NULL_HMAC_SHA1_32"] + [f"AES_256_CM_HMAC_SHA1_{tag}" for tag in (80, 32)]
OTHERS += [f"AES_192_CM_HMAC_SHA1_{tag}" for tag in (80, 32)]
HOST = "127.0.87.2"
TONE = bytes(range(0x90, 0xF0, 3)) * 5


def narrow(here: World) -> list[str]:
    """An engine of 8 kHz: what it echoes comes back bit by bit."""
    engine = {"type": "websocket", "url": here.engine.url, "rate": 8000}
    return ["agents=" + json.dumps({"default": {"engines": [engine]}})]


async def secured(relay: Rtpengine, offer: bytes, suite: str) -> bytes:
    """A plain offer as rtpengine passes it on: with keys, for one suite."""
    reply = await relay.command(
        "offer",
        call_id="c",
        from_tag="f",
        sdp=offer,
        ICE="remove",
        transport_protocol="RTP/SAVP",
        replace=["origin"],
        SDES=[f"no-{other}" for other in OTHERS if other != suite],
    )
    return bytes(reply["sdp"])


async def converse(here: World, to: tuple[str, int], first: int) -> int:
    """Says something until it comes back; the next sequence number."""
    party = here.caller_rtp
    for number in range(first, first + 150):
        party.socket.sendto(
            build_rtp(payload_type=0, marker=False, sequence=number, timestamp=number * 160, ssrc=7, payload=TONE), to
        )
        with trio.move_on_after(0.02):
            if parse_rtp_untrusted(memoryview(await party.receive())).payload == TONE:
                return number + 1
    raise AssertionError("the engine's echo was not heard")


@pytest.mark.parametrize("suite", SUITES)
def test_a_conversation_through_rtpengine(suite: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with rtpengine(HOST, tmp_path) as relay, world(make=narrow) as here:
            offer = await secured(relay, here.caller_rtp.offer(formats="0 101"), suite)
            crypto = parse_sdp_untrusted(offer).media[0].attribute_values("crypto")
            assert [line.split()[1] for line in crypto] == [suite]
            leg = here.call(body=offer)
            await leg.wait(Answered)
            answer = leg.session.remote_body
            assert parse_sdp_untrusted(answer).media[0].proto == "RTP/SAVP"
            reply = await relay.command("answer", call_id="c", from_tag="f", to_tag="t", sdp=answer, ICE="remove")
            media = parse_sdp_untrusted(reply["sdp"])
            assert media.media[0].proto == "RTP/AVP"
            to = media.connection_of(media.media[0]), media.media[0].port
            number = await converse(here, to, 1)
            # a refresh, by which nothing may be re-keyed
            leg.session.reinvite(await secured(relay, here.caller_rtp.offer(formats="0 101", version=2), suite))
            await leg.wait(ReinviteAnswered)
            again = parse_sdp_untrusted(leg.session.remote_body).media[0].attribute("crypto")
            assert again == parse_sdp_untrusted(answer).media[0].attribute("crypto")
            await converse(here, to, number)
            leg.session.bye()
        # before it has the answer it complains that it has no key yet, of packets never
        complaints = _complaints(tmp_path).lower()
        assert b"authentication" not in complaints
        assert b"discard" not in complaints

    trio.run(main)


@pytest.mark.parametrize("suite", SUITES)
def test_reports_through_rtpengine(suite: str, tmp_path: Path) -> None:
    """SRTCP: our report comes to the telephone, and the telephone's to us."""

    async def main() -> None:
        async with rtpengine(HOST, tmp_path) as relay, world(make=narrow) as here:
            party = here.caller_rtp
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                control.bind((party.host, 0))
                control.setblocking(False)
                port = control.getsockname()[1]
                plain = party.offer(formats="0 101") + f"a=rtcp:{port}\r\n".encode()
                leg = here.call(body=await secured(relay, plain, suite))
                await leg.wait(Answered)
                answer = leg.session.remote_body
                reply = await relay.command("answer", call_id="c", from_tag="f", to_tag="t", sdp=answer, ICE="remove")
                media = parse_sdp_untrusted(reply["sdp"])
                host, to = media.connection_of(media.media[0]), media.media[0].port
                number = await converse(here, (host, to), 1)
                named = SourceDescription((SdesChunk(7, ((CNAME, b"phone"),)),))
                control.sendto(build_rtcp([SenderReport(7, 7 << 32, 160, 5, 800, ()), named]), (host, to + 1))
                with trio.fail_after(15):
                    while (seen := received(control)) is None:
                        number = await converse(here, (host, to), number)
                (report,) = [each for each in seen if isinstance(each, SenderReport)]
                assert report.packets > 0
                (call,) = here.app.context.calls
                stats = (await call.leg.link.command("stats", call.leg.name))["stats"]
                assert stats["rtcp_in"] >= 1
                assert stats["rtcp_invalid"] == 0
                assert stats["srtp_invalid"] == 0
                leg.session.bye()

    trio.run(main)


def received(control: socket.socket) -> list[object] | None:
    """The packets of the next compound."""
    try:
        return list(parse_rtcp_untrusted(control.recv(2000)))
    except BlockingIOError:
        return None


def _complaints(folder: Path) -> bytes:
    lines = (folder / "rtpengine.log").read_bytes().splitlines()
    return b"\n".join(line for line in lines if b"WARN" in line or b"ERR" in line)
