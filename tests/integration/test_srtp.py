"""SRTP through a running server: a phone with each suite, new keys in mid-call, our offers, and no key in a trace."""

from __future__ import annotations

import json
from base64 import b64encode

import httpx
import pytest
import trio

from ims_as.sip.invite_session import Acked, Answered, Ended, ReinviteAnswered, ReinviteReceived, Rejected
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from media.rtp import RtpPacket, build_rtp, parse_rtp_untrusted
from media.srtp import SrtpKeys, SrtpLeg
from tests.integration.test_handover_legs import transfer
from tests.integration.test_outbound import Outbound
from tests.integration.test_worker_lost import kill_worker_of
from tests.support.world import Leg, RtpSocket, World, until, world

SUITES = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30, "AEAD_AES_128_GCM": 28}
CM = "AES_CM_128_HMAC_SHA1_80"
TONE = bytes(range(0x90, 0xF0, 3)) * 5
"""160 codes of PCMU that are not silence."""


def key(suite: str, number: int) -> str:
    return b64encode(bytes([number] * SUITES[suite])).decode()


class Phone:
    """A G.711 party with keys."""

    def __init__(self, party: RtpSocket, suite: str) -> None:
        self.party = party
        self.suite = suite
        self.number = 0
        self.heard: list[RtpPacket] = []
        self.refused = 0
        self.sequence = 0
        self.srtp: SrtpLeg | None = None
        self.to = ("", 0)

    def offer(self, *, version: int = 1, number: int = 1, more: str = "") -> bytes:
        self.number = number
        plain = self.party.offer(version=version, formats="0 101").replace(b"RTP/AVP", b"RTP/SAVP")
        return plain + f"a=crypto:1 {self.suite} inline:{key(self.suite, number)}{more}\r\n".encode()

    def take(self, body: bytes) -> str:
        """The server's description; its key."""
        description = parse_sdp_untrusted(body)
        (media,) = description.media
        assert media.proto == "RTP/SAVP"
        (line,) = media.attribute_values("crypto")
        tag, suite, text = line.split(" ")
        assert (tag, suite) == ("1", self.suite)
        theirs = text.removeprefix("inline:")
        self.to = description.connection_of(media), media.port
        mine, other = SrtpKeys(suite, key(suite, self.number)), SrtpKeys(suite, theirs)
        if self.srtp is None:
            self.srtp = SrtpLeg(mine, other)
        else:
            self.srtp.configure(mine, other, 0)
        return theirs

    def send(self, packets: int = 1) -> None:
        assert self.srtp is not None
        for _ in range(packets):
            self.sequence += 1
            packet = build_rtp(
                payload_type=0,
                marker=False,
                sequence=self.sequence,
                timestamp=160 * self.sequence,
                ssrc=77,
                payload=TONE,
            )
            self.party.socket.sendto(self.srtp.protect(memoryview(packet)), self.to)

    def skip(self, packets: int) -> None:
        """As if so many had been lost on their way."""
        assert self.srtp is not None
        self.sequence += packets

    async def hear(self, packets: int) -> list[RtpPacket]:
        """So many more that can be decrypted."""
        assert self.srtp is not None
        heard: list[RtpPacket] = []
        with trio.fail_after(5):
            while len(heard) < packets:
                datagram = memoryview(bytearray(await self.party.receive()))
                size = self.srtp.unprotect_untrusted(datagram, 0)
                if size:
                    heard.append(parse_rtp_untrusted(datagram[:size]))
                else:
                    self.refused += 1
        return heard

    async def converse(self) -> None:
        """What we say comes back from the engine."""
        for _ in range(40):
            self.send()
            if any(packet.payload == TONE for packet in await self.hear(1)):
                return
        raise AssertionError("the engine's echo was not heard")


def narrow(here: World) -> list[str]:
    """An engine of 8 kHz: what it echoes comes back bit by bit."""
    engine = {"type": "websocket", "url": here.engine.url, "rate": 8000}
    return ["agents=" + json.dumps({"default": {"engines": [engine]}})]


async def details(here: World) -> str:
    """All that the API says of the calls."""
    async with httpx.AsyncClient(base_url=f"http://{here.as_address}:8080") as client:
        calls = (await client.get("/calls")).json()["calls"]
        texts = [json.dumps(calls)]
        for call in calls:
            texts.append(json.dumps((await client.get(f"/calls/{call['id']}")).json(), ensure_ascii=False))
    return "\n".join(texts)


@pytest.mark.parametrize("suite", SUITES)
def test_a_conversation(suite: str) -> None:
    async def main() -> None:
        async with world(make=narrow) as here:
            phone = Phone(here.caller_rtp, suite)
            leg = here.call(body=phone.offer(more="|2^20"))
            await leg.wait(Answered)
            ours = phone.take(leg.session.remote_body)
            here.caller_rtp.socket.sendto(bytes(172), phone.to)  # counted, and nothing else
            await phone.converse()
            assert phone.refused == 0
            shown = await details(here)
            assert ours not in shown
            assert key(suite, 1) not in shown
            assert "inline:***" in shown
            leg.session.bye()

    trio.run(main)


def test_refresh_and_new_keys() -> None:
    async def main() -> None:
        async with world(make=narrow) as here:
            phone = Phone(here.caller_rtp, CM)
            leg = here.call(body=phone.offer())
            await leg.wait(Answered)
            first = phone.take(leg.session.remote_body)
            await phone.converse()
            (before,) = {packet.ssrc for packet in await phone.hear(3)}
            leg.session.reinvite(phone.offer(version=2))
            await leg.wait(ReinviteAnswered)
            assert phone.take(leg.session.remote_body) == first, "re-keyed by a refresh"
            await phone.converse()
            assert {packet.ssrc for packet in await phone.hear(3)} == {before}
            leg.session.reinvite(phone.offer(version=3, number=2))
            await leg.wait(ReinviteAnswered)
            assert phone.take(leg.session.remote_body) != first
            await phone.converse()
            assert before not in {packet.ssrc for packet in await phone.hear(3)}
            leg.session.bye()

    trio.run(main)


def test_our_offer_where_the_caller_has_none() -> None:
    async def main() -> None:
        async with world("media.srtp=require") as here:
            leg = here.call(body=b"")
            await leg.wait(Answered)
            offer = parse_sdp_untrusted(leg.session.remote_body).media[0]
            assert offer.proto == "RTP/SAVP"
            assert [line.split(" ")[:2] for line in offer.attribute_values("crypto")] == [
                ["1", CM],
                ["2", "AEAD_AES_128_GCM"],
            ]
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize(
    ("mode", "body"),
    [
        ("require", "plain"),
        ("never", "secure"),
        ("accept", "MKI"),
    ],
)
def test_what_we_cannot_do_stays_an_inability_of_ours(mode: str, body: str) -> None:
    """F2: never a 4xx, so that the core can go on without us."""

    async def main() -> None:
        async with world(f"media.srtp={mode}") as here:
            phone = Phone(here.caller_rtp, CM)
            offer = here.caller_rtp.offer() if body == "plain" else phone.offer(more="|1:4" if body == "MKI" else "")
            leg = here.call(body=offer, odi=False)
            assert (await leg.wait(Rejected)).status >= 500
            assert here.engine.connections == []

    trio.run(main)


def test_plain_peers_stay_as_they_are() -> None:
    async def main() -> None:
        async with world("media.srtp=offer") as here:
            leg = here.call()
            await leg.wait(Answered)
            answer = parse_sdp_untrusted(leg.session.remote_body).media[0]
            assert (answer.proto, answer.attribute("crypto")) == ("RTP/AVP", None)
            here.caller_rtp.send(here.as_address, answer.port, 3)
            assert len(await here.caller_rtp.receive()) == 172
            leg.session.bye()
            await until(lambda: not here.engine.connections)

    trio.run(main)


def test_a_call_that_has_lasted_long_goes_on_in_another_worker() -> None:
    """Its sequence numbers have rolled over twice; nobody tells the new worker, and nothing is signalled."""

    async def main() -> None:
        async with world("media.workers=2", make=narrow) as here:
            phone = Phone(here.caller_rtp, CM)
            leg = here.call(body=phone.offer())
            await leg.wait(Answered)
            phone.take(leg.session.remote_body)
            for _ in range(10):
                phone.skip(0x3800)
                await phone.converse()
            (before,) = {packet.ssrc for packet in await phone.hear(3)}
            await here.engine.wait("start")
            kill_worker_of(here, leg)
            assert (await here.engine.wait("start"))["resume"] is True
            await phone.converse()
            assert before not in {packet.ssrc for packet in await phone.hear(3)}, "a key counts once for each source"
            assert not any(isinstance(event, ReinviteReceived) for event in leg.events)
            leg.session.bye()

    trio.run(main)


def test_a_caller_is_handed_to_a_telephone_without_srtp() -> None:
    """It refuses RTP/SAVP; each talks to our worker as it can."""

    async def main() -> None:
        async with world(make=narrow) as here:
            legs: list[Leg] = []

            def answer(request: Request, transaction: ServerTransaction) -> None:
                if b"SAVP" in request.body:
                    here.core.send_response(transaction, build_response(request, 488))
                    return
                leg = Leg(None)  # type: ignore[arg-type]
                leg.session = here.agent.accept(request, transaction, on_event=leg.on_event)
                leg.session.answer(here.phone_rtp.offer(formats="0 101"))
                legs.append(leg)

            here.phone = answer
            phone = Phone(here.caller_rtp, CM)
            caller = here.call(body=phone.offer())
            await caller.wait(Answered)
            phone.take(caller.session.remote_body)
            await phone.converse()
            await transfer(here)
            await until(lambda: legs)
            await legs[0].wait(Acked)
            theirs = parse_sdp_untrusted(legs[0].session.remote_body)
            assert theirs.media[0].proto == "RTP/AVP"
            human, port = here.phone_rtp, theirs.media[0].port
            with trio.fail_after(5):
                said = heard = False
                while not (said and heard):
                    phone.send()
                    human.send(here.as_address, port, sample=b"\x90")
                    said |= (await human.receive())[12:] == TONE
                    heard |= (await phone.hear(1))[0].payload == b"\x90" * 160
            caller.session.bye()
            await legs[0].wait(Ended)

    trio.run(main)


def calling(here: World) -> list[str]:
    """As `narrow`, and the agent may call."""
    engine = {"type": "websocket", "url": here.engine.url, "rate": 8000}
    allowed = {"allow": ["sip:.*@ims.example.net"], "identities": ["sip:.*@ims.example.net"]}
    return [
        f"sip.core=sip:{here.core_address}:5060",
        "agents=" + json.dumps({"default": {"engines": [engine], "outbound": allowed}}),
    ]


@pytest.mark.parametrize(("mode", "proto"), [("require", "RTP/SAVP"), ("offer", "RTP/AVP")])
@pytest.mark.parametrize("suite", [CM, "AEAD_AES_128_GCM"])
def test_a_call_of_ours(mode: str, proto: str, suite: str) -> None:
    async def main() -> None:
        async with world(f"media.srtp={mode}", make=calling) as here:
            out = Outbound(here)
            out.order()
            leg = await out.phone()
            offered = parse_sdp_untrusted(leg.session.remote_body).media[0]
            assert offered.proto == proto
            line = next(each for each in offered.attribute_values("crypto") if each.split(" ")[1] == suite)
            tag, _, theirs = line.split(" ")
            phone = Phone(here.phone_rtp, suite)
            phone.to = here.as_address, offered.port
            phone.srtp = SrtpLeg(SrtpKeys(suite, key(suite, 1)), SrtpKeys(suite, theirs.removeprefix("inline:")))
            answer = here.phone_rtp.offer(formats="0 101").replace(b"RTP/AVP", proto.encode())
            leg.session.answer(answer + f"a=crypto:{tag} {suite} inline:{key(suite, 1)}\r\n".encode())
            await leg.wait(Acked)
            await phone.converse()
            leg.session.bye()

    trio.run(main)


def test_a_call_of_ours_to_a_telephone_that_knows_no_keys() -> None:
    async def main() -> None:
        async with world("media.srtp=offer", make=calling) as here:
            out = Outbound(here)
            out.order()
            leg = await out.phone()
            leg.session.answer(here.phone_rtp.offer(formats="0 101"))
            await leg.wait(Acked)
            port = parse_sdp_untrusted(leg.session.remote_body).media[0].port
            with trio.fail_after(5):
                while (await here.phone_rtp.receive())[12:] != TONE:
                    here.phone_rtp._send(here.as_address, port, 0, TONE, (here.phone_rtp._sequence + 1) * 160)
            leg.session.bye()

    trio.run(main)
