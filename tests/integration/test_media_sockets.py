"""A call's sockets through a running server: no port left, marked packets, and legs of IPv6."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
import trio

from ims_as.sip.invite_session import Answered, Rejected
from ims_as.sip.sdp import parse_sdp_untrusted
from media.rtp import build_rtp, parse_rtp_untrusted
from tests.support.world import World, until, world

IP_RECVTOS = 13


def test_without_a_port_left_the_call_goes_back_to_the_core() -> None:
    async def main() -> None:
        async with world("media.ports=20000-20001", "media.port_rest_s=0") as here:
            first = here.call()
            await first.wait(Answered)
            second = here.call(odi=False)
            rejected = await second.wait(Rejected)
            assert rejected.status == 503
            async with httpx.AsyncClient(base_url=f"http://{here.as_address}:8080") as client:
                with trio.fail_after(5):  # the worker tells its figures once a second
                    while 'ims_as_media_no_port_total{worker="w0"} 1.0' not in (await client.get("/metrics")).text:
                        await trio.sleep(0.1)
            first.session.bye()
            await until(lambda: not here.ports_bound())
            third = here.call()
            await third.wait(Answered)
            third.session.bye()

    trio.run(main)


def test_audio_is_marked_as_the_configuration_says() -> None:
    async def main() -> None:
        for overrides, expected in (((), 46), (("media.dscp=10",), 10)):
            async with world(*overrides) as here:
                here.caller_rtp.socket.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
                leg = here.call()
                await leg.wait(Answered)
                port = parse_sdp_untrusted(leg.session.remote_body).media[0].port
                here.caller_rtp.send(here.as_address, port, 3)
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(here.caller_rtp.socket)
                _, ancillary, _, _ = here.caller_rtp.socket.recvmsg(2000, 100)
                (marks,) = [data for _, kind, data in ancillary if kind == socket.IP_TOS]
                assert marks[0] >> 2 == expected
                leg.session.bye()

    trio.run(main)


TONE = bytes(range(0x90, 0xF0, 3)) * 5
"""160 codes of PCMU that are not silence."""


def ipv6(here: World) -> list[str]:
    """Media on ::1, and an engine of 8 kHz, whose echo comes back bit by bit."""
    engine = {"type": "websocket", "url": here.engine.url, "rate": 8000}
    return ["media.address=::1", "agents=" + json.dumps({"default": {"engines": [engine]}})]


@pytest.fixture
def phone() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        yield sock


def line(port: int, connection: str) -> list[str]:
    return [f"m=audio {port} RTP/AVP 0 101", f"c=IN {connection}", "a=rtpmap:101 telephone-event/8000"]


def offer(*lines: str) -> bytes:
    head = ["v=0", "o=ue 7 1 IN IP6 ::1", "s=-", "t=0 0"]
    return ("\r\n".join([*head, *lines]) + "\r\n").encode()


async def converse(phone: socket.socket, port: int) -> int:
    """Until what we say comes back; the traffic class of what came."""
    for number in range(60):
        packet = build_rtp(payload_type=0, marker=False, sequence=number, timestamp=160 * number, ssrc=9, payload=TONE)
        phone.sendto(packet, ("::1", port))
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(phone)
        datagram, ancillary, _, source = phone.recvmsg(2000, 100)
        assert source[:2] == ("::1", port)
        if parse_rtp_untrusted(datagram).payload == TONE:
            (mark,) = [data for _, kind, data in ancillary if kind == socket.IPV6_TCLASS]
            return mark[0]
    raise AssertionError("the engine's echo was not heard")


@pytest.mark.parametrize("address", ["::1", "0:0:0:0:0:0:0:1", "0000::0001"])
def test_a_conversation_over_ipv6(phone: socket.socket, address: str) -> None:
    async def main() -> None:
        async with world(make=ipv6) as here:
            leg = here.call(body=offer(*line(phone.getsockname()[1], f"IP6 {address}")))
            await leg.wait(Answered)
            answer = parse_sdp_untrusted(leg.session.remote_body)
            assert (answer.origin.address_type, answer.origin.address) == ("IP6", "::1")
            assert answer.connection == "IN IP6 ::1"
            assert await converse(phone, answer.media[0].port) == 46 << 2
            leg.session.bye()

    trio.run(main)


def test_of_an_offer_with_both_the_line_of_our_version_is_taken(phone: socket.socket) -> None:
    async def main() -> None:
        port = phone.getsockname()[1]
        async with world(make=ipv6) as here:
            leg = here.call(body=offer(*line(here.caller_rtp.port, "IP4 192.0.2.1"), *line(port, "IP6 ::1")))
            await leg.wait(Answered)
            media = parse_sdp_untrusted(leg.session.remote_body).media
            assert [bool(each.port) for each in media] == [False, True]
            await converse(phone, media[1].port)
            leg.session.bye()
        async with world() as here:
            caller = here.caller_rtp
            leg = here.call(body=offer(*line(port, "IP6 ::1"), *line(caller.port, f"IP4 {caller.host}")))
            await leg.wait(Answered)
            media = parse_sdp_untrusted(leg.session.remote_body).media
            assert [bool(each.port) for each in media] == [False, True]
            caller.send(here.as_address, media[1].port, 3)
            assert len(await caller.receive()) == 172
            leg.session.bye()

    trio.run(main)


def test_the_other_version_alone_is_an_inability_of_ours() -> None:
    async def main() -> None:
        async with world(make=ipv6) as here:
            leg = here.call(odi=False)
            assert (await leg.wait(Rejected)).status >= 500

    trio.run(main)
