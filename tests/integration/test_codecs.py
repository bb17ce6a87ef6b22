"""Calls in the codecs of phones: real speech goes to an engine of 16 kHz, comes back, and is still that speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trio
from numpy.typing import NDArray

from ims_as.sip.invite_session import Answered, ReinviteAnswered
from ims_as.sip.sdp import parse_sdp_untrusted
from media.clips import read_file
from media.codecs.registry import find_codec
from media.g711 import decode
from media.rtp import build_rtp, parse_rtp_untrusted
from tests.support.world import RtpSocket, World, until, world

SPEECH = Path(__file__).parents[2] / "conformance" / "lab" / "audio" / "jfk.wav"
ALL_CODECS = "media.codecs=[]"
SECONDS = 2.0

LIKE = 0.5
"""What a busy machine leaves of 0.8 and more; other speech has less than 0.1."""

# (rtpmap, fmtp)
WAYS = [
    ("AMR-WB/16000", ""),
    ("AMR-WB/16000", "octet-align=1; mode-set=0,1,2"),
    ("AMR/8000", ""),
    ("AMR/8000", "octet-align=1"),
    ("opus/48000/2", "minptime=10; useinbandfec=1"),
    ("G722/8000", ""),
    ("G729/8000", "annexb=yes"),
]


def offer(party: RtpSocket, rtpmap: str, fmtp: str, version: int = 1) -> bytes:
    """As VoLTE phones do it: EVS first, which is not ours."""
    clock = rtpmap.split("/")[1]
    lines = [
        "v=0",
        f"o=ue 7 {version} IN IP4 {party.host}",
        "s=-",
        f"c=IN IP4 {party.host}",
        "t=0 0",
        f"m=audio {party.port} RTP/AVP 97 98 101",
        "a=rtpmap:97 EVS/16000/1",
        "a=fmtp:97 br=5.9-24.4; bw=nb-swb",
        f"a=rtpmap:98 {rtpmap}",
        *([f"a=fmtp:98 {fmtp}"] if fmtp else []),
        f"a=rtpmap:101 telephone-event/{clock}",
        "a=ptime:20",
        "a=maxptime:240",
        "a=sendrecv",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


class Phone:
    """Speaks and hears in one codec over a socket."""

    def __init__(self, party: RtpSocket, rtpmap: str, fmtp: str) -> None:
        name, clock = rtpmap.split("/")[:2]
        codec = find_codec(name, int(clock))
        assert codec is not None, f"{name}: its library is not installed"
        parameters = dict(part.strip().split("=") for part in fmtp.split(";") if part)
        self.codec = codec
        self._party = party
        self._encoder, self._decoder = codec.new_encoder(parameters), codec.new_decoder(parameters)
        self._sending, self._receiving = codec.send_format(parameters), codec.receive_format(parameters)
        self.heard: list[NDArray[np.int16]] = []

    async def speak(self, said: NDArray[np.int16], to: tuple[str, int]) -> None:
        """In real time; what is heard meanwhile is kept."""
        size, began = self.codec.frame_samples, trio.current_time()
        for number in range(len(said) // size):
            frame = self._encoder.encode(said[number * size :][:size])
            if frame is not None:
                packet = build_rtp(
                    payload_type=98,
                    marker=number == 0,
                    sequence=number,
                    timestamp=number * self.codec.frame_timestamps,
                    ssrc=5,
                    payload=self._sending.pack([frame]),
                )
                self._party.socket.sendto(packet, to)
            await trio.sleep_until(began + 0.02 * (number + 1))  # a busy machine does not make it slower
            self._hear()

    def _hear(self) -> None:
        while True:
            try:
                packet = parse_rtp_untrusted(memoryview(self._party.socket.recv(2048)))
            except BlockingIOError:
                return
            if packet.payload_type != 98:  # of the codec before
                continue
            self.heard += [
                self._decoder.decode(frame) for frame in self._receiving.unpack_untrusted(packet.payload).frames
            ]


def likeness(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Highest normalised correlation at any delay."""
    size = len(one) + len(other)
    spectrum = np.fft.rfft(one.astype(float), size).conj() * np.fft.rfft(other.astype(float), size)
    scale = np.sqrt(np.sum(one.astype(float) ** 2) * np.sum(other.astype(float) ** 2))
    return float(np.fft.irfft(spectrum, size).max() / scale)


def media_of(body: bytes) -> tuple[str, int]:
    description = parse_sdp_untrusted(body)
    return description.connection_of(description.media[0]), description.media[0].port


async def talk(here: World, body: bytes, rtpmap: str, fmtp: str) -> float:
    phone = Phone(here.caller_rtp, rtpmap, fmtp)
    said = read_file(SPEECH, phone.codec.sample_rate_hz)[: int(SECONDS * phone.codec.sample_rate_hz)]
    pause = np.zeros(phone.codec.sample_rate_hz // 2, np.int16)
    await phone.speak(np.concatenate([said, pause]), media_of(body))
    return likeness(said, np.concatenate(phone.heard))


@pytest.mark.parametrize(("rtpmap", "fmtp"), WAYS)
def test_speech_goes_there_and_back(rtpmap: str, fmtp: str) -> None:
    async def main() -> None:
        async with world(ALL_CODECS) as here:
            leg = here.call(body=offer(here.caller_rtp, rtpmap, fmtp))
            await leg.wait(Answered)
            media = parse_sdp_untrusted(leg.session.remote_body).media[0]
            assert media.formats == ("98", "101")
            assert ("octet-align=1" in (media.fmtp(98) or "")) == ("octet-align=1" in fmtp)
            assert await talk(here, leg.session.remote_body, rtpmap, fmtp) > LIKE
            leg.session.bye()

    trio.run(main)


def test_a_digit_by_the_clock_of_the_codec() -> None:
    async def main() -> None:
        async with world(ALL_CODECS) as here:
            leg = here.call(body=offer(here.caller_rtp, "AMR-WB/16000", ""))
            await leg.wait(Answered)
            for duration, end in ((320, 0), (1600, 0x80), (1600, 0x80), (1600, 0x80)):
                here.caller_rtp.socket.sendto(
                    build_rtp(
                        payload_type=101,
                        marker=duration == 320,
                        sequence=duration + end,
                        timestamp=1000,
                        ssrc=5,
                        payload=bytes([5, end | 10]) + duration.to_bytes(2, "big"),
                    ),
                    media_of(leg.session.remote_body),
                )
            await until(lambda: any(event.get("event") == "dtmf" for event in here.engine.events))
            (digit,) = [event for event in here.engine.events if event.get("event") == "dtmf"]
            assert (digit["digit"], digit["duration_ms"]) == ("5", 100)
            leg.session.bye()

    trio.run(main)


def test_the_codec_changes_from_wide_to_narrow_and_back() -> None:
    async def main() -> None:
        async with world(ALL_CODECS) as here:
            leg = here.call(body=offer(here.caller_rtp, "AMR-WB/16000", ""))
            await leg.wait(Answered)
            leg.session.reinvite(here.caller_rtp.offer(version=2))
            await leg.wait(ReinviteAnswered)
            here.caller_rtp.drain()
            here.caller_rtp.send(*media_of(leg.session.remote_body), packets=5)
            assert len(await here.caller_rtp.receive_type(0)) == 172
            leg.session.reinvite(offer(here.caller_rtp, "AMR-WB/16000", "", version=3))
            await leg.wait(ReinviteAnswered)
            assert await talk(here, leg.session.remote_body, "AMR-WB/16000", "") > LIKE
            leg.session.bye()

    trio.run(main)


def test_a_pause_in_g711_is_heard_as_the_noise_that_the_phone_announces() -> None:
    """The engine echoes, so that what it hears comes back (RFC 3389)."""

    async def main() -> None:
        async with world() as here:
            leg = here.call(body=here.caller_rtp.offer(formats="0 13 101"))
            await leg.wait(Answered)
            assert parse_sdp_untrusted(leg.session.remote_body).media[0].formats == ("0", "13", "101")
            to = media_of(leg.session.remote_body)
            payloads = [(0, b"\xff" * 160)] * 5 + [(13, b"\x28")]  # -40 dBov
            for number, (payload_type, payload) in enumerate(payloads):
                packet = build_rtp(
                    payload_type=payload_type,
                    marker=number == 0,
                    sequence=number,
                    timestamp=160 * number,
                    ssrc=5,
                    payload=payload,
                )
                here.caller_rtp.socket.sendto(packet, to)
            loud = 0
            with trio.fail_after(5):
                while loud < 10:
                    heard = parse_rtp_untrusted(memoryview(await here.caller_rtp.receive()))
                    codes = np.frombuffer(heard.payload, np.uint8)[None]
                    loud += int(np.std(decode(codes, np.zeros(1, np.uint8))) > 200)
            leg.session.bye()

    trio.run(main)
