"""Calls of the media plane without sockets or real time: through a bad network to an engine of 16 kHz, and back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from media.leg import LegCounters
from media.rtp import build_rtp
from tests.media.plane_support import Stage
from tests.support.impairment import Impairment
from tests.support.speech_codecs import Packet, Spoken, decode_alone

__all__ = ["hear", "say"]

Pcm = NDArray[np.int16]
TICK_S = 0.005


def hear(spoken: Spoken, packets: Sequence[Packet], impairment: Impairment) -> tuple[Pcm, LegCounters]:
    """What the engine hears of a phone's packets."""
    stage = Stage(**_fields(spoken))
    arrivals: list[tuple[float, int, bytes]] = []
    for number, packet in enumerate(packets):
        datagram = build_rtp(
            payload_type=spoken.payload_type,
            marker=number == 0,
            sequence=(65500 + number) & 0xFFFF,
            timestamp=(4294900000 + packet.frame * spoken.frame_timestamps) & 0xFFFFFFFF,
            ssrc=7,
            payload=packet.payload,
        )
        for delay_s in impairment.delays_s(number):
            heapq.heappush(arrivals, (packet.frame * 0.02 + delay_s, number, datagram))
    end = arrivals[-1][0] + 0.3
    while arrivals and stage.tick * TICK_S < end:
        while arrivals and arrivals[0][0] <= stage.tick * TICK_S:
            stage.receive(heapq.heappop(arrivals)[2])
        stage.advance(1)
    for _ in range(40):
        stage.advance(1)
    stage.leg.receiver.close()
    return stage.audio_up(), stage.leg.counters


def say(spoken: Spoken, pcm: Pcm) -> Pcm:
    """What the phone hears of an engine's speech at 16 kHz, at the codec's rate."""
    stage = Stage(**_fields(spoken))
    stage.downlink.start(stage.leg.row, 0)
    for at in range(0, len(pcm), 320):
        stage.say(np.pad(pcm[at : at + 320], (0, max(0, at + 320 - len(pcm)))))
        stage.advance(4)
    for _ in range(10):
        stage.advance(4)
    stage.leg.receiver.close()
    first = stage.sent[0][2].timestamp
    packets = [
        Packet(((packet.timestamp - first) & 0xFFFFFFFF) // spoken.frame_timestamps, packet.payload)
        for _, _, packet in stage.sent
    ]
    return decode_alone(spoken, packets, lambda _: False)


def _fields(spoken: Spoken) -> dict[str, object]:
    return {
        "codec": spoken.name,
        "payload_type": spoken.payload_type,
        "clock_rate": spoken.clock_hz,
        "send_parameters": spoken.parameters,
        "receive_parameters": spoken.parameters,
    }
