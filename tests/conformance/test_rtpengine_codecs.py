"""Our codecs against rtpengine's, over the wire: what we code it understands, what it codes we understand.

rtpengine transcodes to and from PCMU. Debian's build decodes AMR and AMR-WB but cannot encode them, and so passes them
on as they are: they have ffmpeg and baresip as peers.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.lab.speech import CardRecogniser, hear_all
from conformance.lab.words import word_accuracy
from media.rtp import RtpPacket, build_rtp, parse_rtp_untrusted
from media.unwrap import sequence_distance
from tests.support.rtpengine import Rtpengine, bdecode, bencode, running_rtpengine, supported_codecs
from tests.support.speech_codecs import SPOKEN, Packet, Spoken, at_rate, decode_alone, encode_all
from tests.support.speech_score import RATE_HZ, RECORDINGS, aligned, recording, snr_db

Pcm = NDArray[np.int16]
ENGINE, OURS, THEIRS = "127.0.96.1", "127.0.96.2", "127.0.96.3"
SAID = "cards-005.wav"
LEAD = np.zeros(RATE_HZ // 5, np.int16)
PCMU = SPOKEN["PCMU"]
EVERY_S = 0.002
"""Faster than real time, which rtpengine does not mind."""
QUIET_S = 0.3
UNDERSTOOD = 0.8
"""Of the words: all but one. Other speech has none of them right."""

# label, (rtpmap, fmtp), signal to noise of both codecs in a row against the recording at 8 kHz, dB
WAYS = [
    ("PCMA", "PCMA/8000", None, 20.0),
    ("G722", "G722/8000", None, 12.0),
    ("G729", "G729/8000", "annexb=no", 1.5),
    ("Opus", "opus/48000/2", "useinbandfec=1", 3.0),
]


@pytest.fixture(scope="module")
def rtpengine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rtpengine]:
    with running_rtpengine(ENGINE, tmp_path_factory.mktemp("rtpengine")) as engine:
        yield engine


class Party:
    """A socket with one codec behind it."""

    def __init__(self, host: str, spoken: Spoken) -> None:
        self.spoken = spoken
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(QUIET_S)
        self.host, self.port = self.socket.getsockname()
        self.target = ("", 0)

    def sdp(self, rtpmap: str, fmtp: str | None) -> str:
        number = self.spoken.payload_type
        lines = ["v=0", f"o=x 1 1 IN IP4 {self.host}", "s=-", f"c=IN IP4 {self.host}", "t=0 0"]
        lines += [f"m=audio {self.port} RTP/AVP {number}", f"a=rtpmap:{number} {rtpmap}"]
        lines += [f"a=fmtp:{number} {fmtp}"] if fmtp else []
        return "".join(f"{line}\r\n" for line in [*lines, "a=ptime:20", "a=sendrecv"])

    def say(self, pcm: Pcm) -> None:
        for number, packet in enumerate(encode_all(self.spoken, at_rate(pcm, RATE_HZ, self.spoken.rate_hz))):
            datagram = build_rtp(
                payload_type=self.spoken.payload_type,
                marker=number == 0,
                sequence=1000 + number,
                timestamp=packet.frame * self.spoken.frame_timestamps,
                ssrc=5,
                payload=packet.payload,
            )
            self.socket.sendto(datagram, self.target)
            time.sleep(EVERY_S)

    def hear(self) -> Pcm:
        """All that came, in order, at 16 kHz, until nothing comes any more."""
        packets: list[RtpPacket] = []
        try:
            while True:
                packets.append(parse_rtp_untrusted(memoryview(self.socket.recv(2048))))
        except TimeoutError:
            assert {packet.payload_type for packet in packets} == {self.spoken.payload_type}
        first = packets[0].sequence
        packets.sort(key=lambda packet: sequence_distance(first, packet.sequence))
        heard = [Packet(number, packet.payload) for number, packet in enumerate(packets)]
        return at_rate(decode_alone(self.spoken, heard, lambda _: False), self.spoken.rate_hz, RATE_HZ)

    def close(self) -> None:
        self.socket.close()


def port_of(sdp: str) -> int:
    return int(next(line for line in sdp.split("\r\n") if line.startswith("m=audio")).split()[1])


def telephone(pcm: Pcm) -> Pcm:
    return at_rate(at_rate(pcm, RATE_HZ, 8000), 8000, RATE_HZ)


@pytest.mark.parametrize(("label", "rtpmap", "fmtp", "least_db"), WAYS)
def test_speech_is_understood_both_ways(
    rtpengine: Rtpengine, label: str, rtpmap: str, fmtp: str | None, least_db: float
) -> None:
    assert supported_codecs()[rtpmap.split("/")[0]] == "fully supported"
    ours, theirs = Party(OURS, SPOKEN[label]), Party(THEIRS, PCMU)
    codec = {"transcode": ["PCMU"], "mask": [rtpmap.split("/")[0]]}
    try:
        offer = ours.sdp(rtpmap, fmtp)
        named = {"call_id": label, "from_tag": "a", "ICE": "remove"}
        theirs.target = ENGINE, port_of(rtpengine.command("offer", sdp=offer, codec=codec, **named)["sdp"])
        answer = rtpengine.command("answer", to_tag="b", sdp=theirs.sdp("PCMU/8000", None), **named)["sdp"]
        assert f"a=rtpmap:{ours.spoken.payload_type} {rtpmap}" in answer
        ours.target = ENGINE, port_of(answer)
        said = np.concatenate([LEAD, recording(SAID), LEAD])
        for speaker, listener in ((ours, theirs), (theirs, ours)):
            speaker.say(said)
            heard = aligned(telephone(said), listener.hear())
            assert snr_db(telephone(said), heard) > least_db
            assert word_accuracy(RECORDINGS[SAID], hear_all(CardRecogniser(), heard)) >= UNDERSTOOD
        rtpengine.command("delete", **named)
    finally:
        ours.close()
        theirs.close()


def test_bencode_there_and_back() -> None:
    value = {"command": "offer", "codec": {"mask": ["opus"]}, "n": -3}
    assert bencode(value) == b"d5:codecd4:maskl4:opusee7:command5:offer1:ni-3ee"
    assert bdecode(bencode(value)) == value
