from __future__ import annotations

import numpy as np
import pytest

from media.figures import PeerView, figures_of, mode_of
from media.quality import best_rating, rating
from media.rtp import build_rtp
from media.table import FRAME_TICKS
from tests.media.plane_support import Stage
from tests.media.support import sine, ulaw


def packet(number: int, payload: bytes) -> bytes:
    return build_rtp(payload_type=0, marker=False, sequence=number, timestamp=160 * number, ssrc=9, payload=payload)


def speak(stage: Stage, numbers: list[int], amplitude: float = 3000) -> None:
    for number in range(max(numbers) + 1):
        stage.tick += FRAME_TICKS
        if number in numbers:
            frame = sine(450, 160, start=160 * number, amplitude=amplitude)
            stage.receive(packet(number, ulaw(frame)))
        stage.uplink.handle_timers(stage.tick)


def test_a_leg_that_got_nothing_has_no_rating() -> None:
    stage = Stage()
    figures = figures_of(stage.leg, stage.table, stage.tick)
    assert figures["quality"] == {"receive": None, "send": None}
    assert figures["levels"]["receive"]["speech_dbov"] is None


def test_a_clean_stream_is_as_good_as_its_codec() -> None:
    stage = Stage()
    speak(stage, list(range(200)))
    quality = figures_of(stage.leg, stage.table, stage.tick)["quality"]["receive"]
    best = best_rating("PCMU")
    assert (quality["mos_lq"], quality["mos_cq"], quality["r"]) == (best.mos_lq, best.mos_cq, best.r)
    assert quality["worst_10s"] == {"loss_percent": 0.0, "burst_ratio": 1.0, "mos_lq": best.mos_lq}
    assert quality["round_trip_ms"] is None


def test_losses_and_their_runs_are_in_the_rating() -> None:
    single, bunched = Stage(), Stage()
    speak(single, [n for n in range(410) if n % 20 != 10])
    speak(bunched, [n for n in range(410) if n % 100 < 95])
    quality = [figures_of(stage.leg, stage.table, stage.tick)["quality"]["receive"] for stage in (single, bunched)]
    assert quality[0]["loss_percent"] == pytest.approx(5, abs=0.15)
    assert quality[1]["loss_percent"] == pytest.approx(5, abs=0.15)
    assert quality[0]["burst_ratio"] == pytest.approx(1, abs=0.05)
    assert quality[1]["burst_ratio"] == pytest.approx(4.75, abs=0.1)
    assert quality[1]["mos_lq"] < quality[0]["mos_lq"] < best_rating("PCMU").mos_lq


def test_what_a_stall_of_ours_threw_away_counts_as_lost() -> None:
    stage = Stage()
    speak(stage, list(range(100)))
    stage.table.stale[0] = 5
    quality = figures_of(stage.leg, stage.table, stage.tick)["quality"]["receive"]
    assert quality["loss_percent"] == 5
    assert quality["mos_lq"] < best_rating("PCMU").mos_lq


def test_delay_is_half_of_the_round_trip_and_what_ends_add() -> None:
    stage = Stage()
    speak(stage, list(range(50)))
    view = PeerView(round_trip_ms=600, loss_percent=2.0, jitter_ms=4)
    quality = figures_of(stage.leg, stage.table, stage.tick, view)["quality"]
    assert quality["receive"]["delay_ms"] == 330
    assert quality["receive"]["mos_cq"] < quality["receive"]["mos_lq"] == best_rating("PCMU").mos_lq
    assert quality["send"]["delay_ms"] == 370
    assert quality["send"]["loss_percent"] == 2
    assert quality["send"]["mos_lq"] < best_rating("PCMU").mos_lq


def test_levels_of_both_directions() -> None:
    stage = Stage()
    stage.downlink.start(0, 0)
    speak(stage, list(range(100)))
    stage.say(sine(450, 32000, 16000, amplitude=10000))
    stage.advance(400)
    levels = figures_of(stage.leg, stage.table, stage.tick)["levels"]
    assert levels["receive"]["speech_dbov"] == pytest.approx(-23.8, abs=2)
    assert levels["send"]["speech_dbov"] == pytest.approx(-13.3, abs=2)
    assert levels["send"]["speech_s"] == pytest.approx(2, abs=0.3)
    assert stage.table.spoke[0] == pytest.approx(400 + 400, abs=4 * FRAME_TICKS)


def test_figures_of_a_row_do_not_outlive_its_leg() -> None:
    stage = Stage()
    speak(stage, list(range(50)))
    stage.table.free(0)
    assert not stage.table.levels_in[0].any()
    assert int(np.int64(stage.table.spoke[0])) < 0


@pytest.mark.parametrize(
    ("codec", "first_octet", "mode"),
    [("AMR-WB", 0x14, 2), ("AMR-WB", 0x44, 8), ("AMR-WB", 0x4C, None), ("AMR", 0x3C, 7), ("AMR", 0x44, None)],
)
def test_mode_of_a_frame(codec: str, first_octet: int, mode: int | None) -> None:
    """2, 8 and SID of AMR-WB; 7 and SID of AMR."""
    assert mode_of(codec, bytes([first_octet, 0])) == mode


def test_other_codecs_have_no_mode() -> None:
    assert mode_of("OPUS", b"\x14") is None
    assert mode_of("AMR", None) is None
    assert mode_of("AMR", b"") is None


def test_amr_is_rated_at_the_mode_that_came() -> None:
    stage = Stage(codec="AMR-WB", clock_rate=16000, payload_type=98)
    coded = stage.leg.receiver.coded
    assert coded is not None
    payload = coded.encode(sine(450, 320, 16000))
    assert payload is not None
    stage.receive(build_rtp(payload_type=98, marker=False, sequence=1, timestamp=320, ssrc=9, payload=payload))
    assert coded.said is not None
    assert coded.heard is not None
    quality = figures_of(stage.leg, stage.table, stage.tick)["quality"]["receive"]
    assert quality["mode"] == 2
    low = rating("AMR-WB", 0, mode=0).mos_lq
    coded.heard = bytes([0x04]) + coded.heard[1:]
    quality = figures_of(stage.leg, stage.table, stage.tick)["quality"]["receive"]
    assert (quality["mode"], quality["mos_lq"]) == (0, low)
    assert low < best_rating("AMR-WB").mos_lq
