"""Packets of 10 to 60 ms: rtpengine understands ours, of every codec that it can read."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from media.coded import open_coded
from media.packetiser import packetiser_for
from media.rtp import build_rtp
from tests.conformance.test_rtpengine_codecs import (
    ENGINE,
    EVERY_S,
    LEAD,
    OURS,
    PCMU,
    RATE_HZ,
    SAID,
    THEIRS,
    WAYS,
    Party,
    Pcm,
    port_of,
    telephone,
)
from tests.support.rtpengine import Rtpengine, running_rtpengine
from tests.support.speech_codecs import SPOKEN, at_rate
from tests.support.speech_score import aligned, recording, snr_db

FORMS = {label: (rtpmap, fmtp, least_db) for label, rtpmap, fmtp, least_db in WAYS}


@pytest.fixture(scope="module")
def rtpengine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rtpengine]:
    with running_rtpengine(ENGINE, tmp_path_factory.mktemp("rtpengine")) as engine:
        yield engine


def say(party: Party, pcm: Pcm, ptime_ms: int) -> int:
    """As our legs send it; how many packets that were."""
    spoken = party.spoken
    config = spoken.stream(ptime_ms=ptime_ms)
    coded = None if spoken.is_g711 else open_coded(config)
    packetiser = packetiser_for(config, coded)
    assert packetiser is not None
    assert packetiser.packet_ms == ptime_ms
    line, timestamp, sequence = at_rate(pcm, RATE_HZ, spoken.rate_hz).astype(np.float32), 0, 1000
    for at in range(0, len(line) - spoken.frame_samples + 1, spoken.frame_samples):
        for piece in packetiser.take(line[at : at + spoken.frame_samples], timestamp):
            if piece.payload is None:
                continue
            packet = build_rtp(
                payload_type=spoken.payload_type,
                marker=sequence == 1000,
                sequence=sequence,
                timestamp=piece.timestamp,
                ssrc=5,
                payload=piece.payload,
            )
            party.socket.sendto(packet, party.target)
            sequence += 1
            time.sleep(EVERY_S)
        timestamp += spoken.frame_timestamps
    return sequence - 1000


@pytest.mark.parametrize(
    ("label", "ptime_ms"),
    [("PCMA", 10), ("PCMA", 30), ("PCMA", 60), ("G722", 10), ("G722", 40), ("G729", 10), ("G729", 30), ("G729", 60),
     ("Opus", 10), ("Opus", 40), ("Opus", 60)],
)  # fmt: skip
def test_rtpengine_hears_what_we_say(rtpengine: Rtpengine, label: str, ptime_ms: int) -> None:
    rtpmap, fmtp, least_db = FORMS[label]
    ours, theirs = Party(OURS, SPOKEN[label]), Party(THEIRS, PCMU)
    try:
        named = {"call_id": f"{label}-{ptime_ms}", "from_tag": "a", "ICE": "remove"}
        codec = {"transcode": ["PCMU"], "mask": [rtpmap.split("/")[0]]}
        offer = ours.sdp(rtpmap, fmtp)
        theirs.target = ENGINE, port_of(rtpengine.command("offer", sdp=offer, codec=codec, **named)["sdp"])
        answer = rtpengine.command("answer", to_tag="b", sdp=theirs.sdp("PCMU/8000", None), **named)["sdp"]
        ours.target = ENGINE, port_of(answer)
        said = np.concatenate([LEAD, recording(SAID), LEAD])
        n_packets = say(ours, said, ptime_ms)
        assert n_packets == pytest.approx(len(said) * 1000 / RATE_HZ / ptime_ms, abs=2)
        assert snr_db(telephone(said), aligned(telephone(said), theirs.hear())) > least_db
        rtpengine.command("delete", **named)
    finally:
        ours.close()
        theirs.close()
