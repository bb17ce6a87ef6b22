"""Legs with a codec of their own: wide lines, gaps by timestamp, redundancy, pauses, changes of codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media.codecs.registry import find_codec
from media.control import ControlError, StreamConfig
from media.rtp import build_rtp
from media.table import FRAME_TICKS
from media.uplink import FILL_AFTER_TICKS, PAUSE_TICKS
from tests.media.plane_support import Stage
from tests.media.support import sine

L16 = {"codec": "L16", "clock_rate": 16000, "payload_type": 97}
AMR_WB = {"codec": "AMR-WB", "clock_rate": 16000, "payload_type": 98}
SIZE = 320


def l16_packet(samples: NDArray[Any], number: int, timestamp: int | None = None, payload_type: int = 97) -> bytes:
    return build_rtp(
        payload_type=payload_type,
        marker=False,
        sequence=100 + number,
        timestamp=5000 + SIZE * number if timestamp is None else timestamp,
        ssrc=7,
        payload=samples.astype(">i2").tobytes(),
    )


def ramp(number: int) -> NDArray[np.int16]:
    return (np.arange(SIZE) + SIZE * number).astype(np.int16)


def test_wideband_reaches_a_wideband_engine_untouched() -> None:
    stage = Stage(**L16)
    for number in range(5):
        stage.advance(FRAME_TICKS)
        stage.receive(l16_packet(ramp(number), number))
    assert (stage.audio_up() == np.arange(5 * SIZE)).all()


@pytest.mark.parametrize("rate_hz", [8000, 24000, 48000])
def test_an_engine_of_another_rate_hears_the_same_tone(rate_hz: int) -> None:
    stage = Stage(rate_hz=rate_hz, **L16)
    tone = sine(3000, 50 * SIZE, 16000)
    for number in range(50):
        stage.advance(FRAME_TICKS)
        stage.receive(l16_packet(tone[number * SIZE :][:SIZE], number))
    heard = stage.audio_up().astype(float)[rate_hz // 10 :]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(np.argmax(spectrum) * rate_hz / len(heard) - 3000) < 5
    assert np.abs(heard).max() == pytest.approx(8000, rel=0.02)


@pytest.mark.parametrize("rate_hz", [16000, 24000])
def test_what_the_engine_says_is_sent_wide(rate_hz: int) -> None:
    """A tone of 6 kHz, which no line of 8 kHz could carry."""
    stage = Stage(rate_hz=rate_hz, **L16)
    stage.downlink.start(0, 0)
    stage.say(sine(6000, rate_hz // 2, rate_hz))
    stage.advance(100)
    packets = [packet for _, _, packet in stage.sent]
    steps = np.diff([packet.timestamp for packet in packets])
    assert set(steps.tolist()) == {SIZE}
    heard = np.concatenate([np.frombuffer(packet.payload, ">i2") for packet in packets[4:20]]).astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(np.argmax(spectrum) * 16000 / len(heard) - 6000) < 10
    assert np.sqrt(2 * np.mean(heard**2)) == pytest.approx(8000, rel=0.03)


def test_a_lost_packet_is_made_up_and_a_redundant_one_is_not() -> None:
    stage = Stage(**L16)
    stage.receive(l16_packet(ramp(0), 0))
    stage.advance(FRAME_TICKS)
    # packet 1 is lost; packet 2 brings frame 1 once more (RFC 4867 §3.7.1), packet 3 is plain
    both = np.concatenate([ramp(1), ramp(2)])
    stage.receive(l16_packet(both, 2, timestamp=5000 + SIZE))
    stage.advance(6)
    stage.receive(l16_packet(np.concatenate([ramp(2), ramp(3)]), 3, timestamp=5000 + 2 * SIZE))
    assert (stage.audio_up()[: 4 * SIZE] == np.arange(4 * SIZE)).all()
    assert stage.leg.counters.lost == 1
    assert stage.leg.counters.concealed_frames == 0
    stage.receive(l16_packet(ramp(6), 6))
    stage.advance(14)
    assert stage.leg.counters.lost == 3
    assert stage.leg.counters.concealed_frames == 2
    assert len(stage.up) == 7


def test_a_packet_sent_twice_is_heard_once() -> None:
    stage = Stage(**L16)
    stage.receive(l16_packet(ramp(0), 0))
    stage.receive(l16_packet(ramp(0), 1, timestamp=5000))
    stage.receive(l16_packet(ramp(1), 2, timestamp=5000 + SIZE))
    assert (stage.audio_up() == np.arange(2 * SIZE)).all()


def test_a_payload_that_cannot_be_read_costs_itself() -> None:
    stage = Stage(**L16)
    stage.receive(l16_packet(ramp(0), 0))
    stage.receive(l16_packet(ramp(1)[:7], 1))
    stage.receive(l16_packet(ramp(2), 2))
    assert stage.leg.counters.invalid == 1
    heard = stage.audio_up().reshape(3, SIZE)  # its time passes
    assert (heard[[0, 2]] == [ramp(0), ramp(2)]).all()


def test_jitter_is_measured_by_the_codecs_clock() -> None:
    stage = Stage(**L16)
    for number in range(200):
        stage.receive(l16_packet(ramp(number), number), tick=4 * number + 2 * (number % 2))
    assert float(stage.table.jitter[0]) == pytest.approx(10, abs=1)


class AmrPhone:
    """Speaks and pauses in AMR-WB."""

    def __init__(self, **parameters: str) -> None:
        codec = find_codec("AMR-WB", 16000)
        assert codec is not None
        self.encoder, self.format = codec.new_encoder(parameters), codec.send_format(parameters)
        self.sequence = self.timestamp = 0

    def packet(self, samples: NDArray[Any]) -> bytes | None:
        frame = self.encoder.encode(samples.astype(np.int16))
        self.timestamp += SIZE
        if frame is None:
            return None
        self.sequence += 1
        return build_rtp(
            payload_type=98,
            marker=False,
            sequence=self.sequence,
            timestamp=self.timestamp,
            ssrc=9,
            payload=self.format.pack([frame]),
        )


def voice(n_frames: int) -> NDArray[np.float64]:
    """Something with the spectrum of a vowel, so that a speech coder keeps it."""
    t = np.arange(n_frames * SIZE) / 16000
    return sum((np.sin(2 * np.pi * 150 * k * t) * 4000 / k for k in range(1, 20)), np.zeros(len(t)))


def test_amr_wb_is_heard_and_its_pauses_are_filled_in_time() -> None:
    stage, phone = Stage(**AMR_WB), AmrPhone()
    for line in voice(25).reshape(25, SIZE):
        packet = phone.packet(line)
        assert packet is not None
        stage.receive(packet)
        stage.advance(FRAME_TICKS)
    assert len(stage.up) == 25
    assert np.abs(stage.audio_up()[5 * SIZE :].astype(int)).max() > 3000
    quiet = 0
    for _ in range(100):
        packet = phone.packet(np.zeros(SIZE))
        if packet is not None:
            stage.receive(packet)
            quiet += 1
        stage.advance(FRAME_TICKS)
    assert quiet < 30  # the phone pauses …
    assert len(stage.up) > 25 + 100 - 20  # … and the engine hears the pause nearly in real time
    assert stage.leg.counters.lost == stage.leg.counters.concealed_frames - (len(stage.up) - 25 - quiet) == 0
    assert np.abs(stage.audio_up()[-20 * SIZE :].astype(int)).max() < 200
    assert PAUSE_TICKS < FILL_AFTER_TICKS


def test_silence_towards_the_phone_is_a_pause_too() -> None:
    stage = Stage(**AMR_WB)
    stage.downlink.start(0, 0)
    stage.advance(4 * 50)
    packets = [packet for _, _, packet in stage.sent]
    assert 5 < len(packets) < 25
    assert {(packet.timestamp - packets[0].timestamp) % SIZE for packet in packets} == {0}
    assert np.diff([packet.sequence for packet in packets]).tolist() == [1] * (len(packets) - 1)
    stage.say(voice(20).clip(-9000, 9000))
    stage.advance(4 * 25)
    spoken = stage.sent[len(packets) :]
    assert len(spoken) >= 20
    assert spoken[0][2].marker or spoken[1][2].marker


def test_the_phones_wish_for_a_mode_is_obeyed() -> None:
    stage, phone = Stage(**AMR_WB), AmrPhone()
    stage.downlink.start(0, 0)
    stage.say(voice(60))
    stage.advance(80)
    phone.format.mode_request = 0  # type: ignore[attr-defined]
    packet = phone.packet(voice(1))
    assert packet is not None
    stage.receive(packet)
    before = len(stage.sent)
    stage.advance(80)
    sizes = [len(packet.payload) for _, _, packet in stage.sent]
    assert max(sizes[:before]) == 33
    assert max(sizes[before + 2 :]) == 18


def test_a_change_of_codec_in_the_call() -> None:
    stage = Stage(**L16)
    stage.downlink.start(0, 0)
    stage.say(np.full(16000, 1000, np.int16))
    stage.advance(20)
    stage.leg.receiver.configure(StreamConfig(codec="PCMU", payload_type=0))
    stage.advance(20)
    stage.leg.receiver.configure(StreamConfig(**AMR_WB))
    stage.advance(20)
    seen = [packet.payload_type for _, _, packet in stage.sent]
    assert sorted(set(seen)) == [0, 97, 98]
    assert seen == sorted(seen, key=[97, 0, 98].index)
    assert stage.leg.receiver.coded is not None
    stage.leg.receiver.close()


def test_the_same_configuration_keeps_the_coder() -> None:
    stage = Stage(**AMR_WB)
    coded = stage.leg.receiver.coded
    stage.leg.receiver.configure(StreamConfig(**AMR_WB, remote_host="127.0.0.9", remote_port=4))
    assert stage.leg.receiver.coded is coded
    stage.leg.receiver.configure(StreamConfig(**AMR_WB, send_parameters={"octet-align": "1"}))
    assert stage.leg.receiver.coded is not coded


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "EVS", "clock_rate": 16000},
        {"codec": "PCMU", "clock_rate": 16000},
        {"codec": "AMR-WB", "clock_rate": 8000},
        {"codec": "AMR-WB", "clock_rate": 16000, "receive_parameters": {"crc": "1"}},
        {"codec": "AMR-WB", "clock_rate": 16000, "send_parameters": {"mode-set": "x"}},
    ],
)
def test_what_we_do_not_have_is_refused(wrong: dict[str, Any]) -> None:
    stage = Stage()
    with pytest.raises(ControlError):
        stage.leg.receiver.configure(StreamConfig(**{"payload_type": 98, **wrong}))


def test_digits_by_the_codecs_clock() -> None:
    stage = Stage(**L16, dtmf_payload_type=101)
    stage.downlink.start(0, 0)
    stage.leg.dtmf.send("5")
    stage.table.event[0] = True
    stage.advance(60)
    events = [packet for _, _, packet in stage.sent if packet.payload_type == 101]
    assert {packet.timestamp for packet in events} == {events[0].timestamp}
    assert int.from_bytes(events[-1].payload[2:], "big") == 1600  # 100 ms at 16 kHz
    for packet in events:
        stage.receive(
            build_rtp(
                payload_type=101,
                marker=packet.marker,
                sequence=packet.sequence,
                timestamp=packet.timestamp,
                ssrc=7,
                payload=packet.payload,
            )
        )
    assert stage.notes[-1] == ("digit", 0, "5")


def test_two_lines_of_different_width_hear_each_other() -> None:
    stage = Stage(n_legs=2, **L16)
    narrow = stage.legs[1]
    narrow.receiver.configure(StreamConfig(codec="PCMU", payload_type=0))
    for row, bank in ((0, 1), (1, 0)):
        stage.table.bank[row] = -1
        stage.table.peer[row] = 1 - row
        stage.table.play_bank[row] = bank
        stage.downlink.start(row, 0)
    tone = sine(1010, 50 * SIZE, 16000)
    for number in range(50):
        stage.receive(l16_packet(tone[number * SIZE :][:SIZE], number))
        stage.advance(FRAME_TICKS)
    heard = [packet for _, row, packet in stage.sent if row == 1]
    assert len(heard) > 45
    assert {len(packet.payload) for packet in heard} == {160}
    assert len({packet.payload for packet in heard}) > 3


class Talker:
    """Packets of any length in a codec whose coder makes 20 ms."""

    def __init__(self, codec: str, clock_rate: int) -> None:
        found = find_codec(codec, clock_rate)
        assert found is not None
        self._codec = found
        self._encoder = found.new_encoder({"useinbandfec": "1"})
        said = voice(40) if found.sample_rate_hz == 16000 else voice(40)[::2]
        self.said = said.astype(np.int16)
        size = found.frame_samples
        self.coded = [self._encoder.encode(self.said[at : at + size]) or b"" for at in range(0, len(self.said), size)]

    def packet(self, number: int, payload: bytes, timestamp: int) -> bytes:
        return build_rtp(payload_type=98, marker=False, sequence=number, timestamp=timestamp, ssrc=9, payload=payload)


@pytest.mark.parametrize(("codec", "per_ms"), [("G722", 8), ("G729", 1)])
@pytest.mark.parametrize("ms", [10, 20, 30, 40, 60])
def test_packets_need_not_be_20_ms(codec: str, per_ms: int, ms: int) -> None:
    stage, talker = Stage(codec=codec, clock_rate=8000, payload_type=98), Talker(codec, 8000)
    stream = b"".join(talker.coded)
    size = ms * per_ms
    n_packets = len(stream) // size
    for number in range(n_packets):
        stage.advance(ms // 5)
        stage.receive(talker.packet(number, stream[number * size :][:size], number * ms * 8))
    assert len(stage.up) == n_packets * ms // 20
    assert stage.leg.counters.concealed_frames == stage.leg.counters.filled_frames == 0
    assert np.abs(stage.audio_up()[SIZE * 5 :].astype(int)).max() > 3000


@pytest.mark.parametrize(("codec", "per_ms"), [("G722", 8), ("G729", 1)])
def test_a_loss_among_packets_of_10_ms_takes_its_time(codec: str, per_ms: int) -> None:
    stage, talker = Stage(codec=codec, clock_rate=8000, payload_type=98), Talker(codec, 8000)
    stream, size = b"".join(talker.coded), 10 * per_ms
    lost = {11, 12, 13, 30, 50}
    for number in range(80):
        stage.advance(2)
        if number not in lost:
            stage.receive(talker.packet(number, stream[number * size :][:size], number * 80))
    stage.advance(20)
    assert stage.leg.counters.lost == 5
    assert stage.leg.counters.concealed_frames - stage.leg.counters.filled_frames == 2
    assert abs(len(stage.up) - stage.leg.counters.filled_frames - 40) <= 1


def test_opus_brings_a_lost_packet_back() -> None:
    stage, talker = Stage(codec="opus", clock_rate=48000, payload_type=98), Talker("opus", 48000)
    for number, frame in enumerate(talker.coded):
        stage.advance(FRAME_TICKS)
        if number != 20:
            stage.receive(talker.packet(number, frame, 960 * number))
    assert stage.leg.counters.lost == 1
    assert stage.leg.counters.concealed_frames == 0
    assert len(stage.up) == 40
    heard = stage.audio_up().astype(float)
    around = [float(np.sqrt(np.mean(heard[at * SIZE : (at + 1) * SIZE] ** 2))) for at in (18, 20, 22)]
    assert around[1] > 0.7 * min(around[0], around[2])
