"""Lower modes are asked for while much is lost, and higher ones when nothing is."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.codecs.amr_adaptation import MIN_CLEAN_WINDOWS, WINDOW_FRAMES, ModeAdaptation
from media.codecs.amr_modes import ModeControl
from media.codecs.amr_payload import AMR, AMR_WB, NO_REQUEST, AmrFormat, AmrKind
from media.rtp import build_rtp
from media.table import FRAME_TICKS
from tests.media.codecs.speech import codec_of, speech
from tests.media.plane_support import Stage

CLEAN_S = MIN_CLEAN_WINDOWS * WINDOW_FRAMES / 50


class Link:
    """A peer that obeys our wishes by its rules, and a network that loses some of its packets."""

    def __init__(self, kind: AmrKind = AMR_WB, *, first: int = 2, obeys: bool = True, **parameters: str) -> None:
        self.packing = AmrFormat(kind, octet_aligned=False)
        self.adaptation = ModeAdaptation(kind, parameters, self.packing)
        self.control = ModeControl(parameters, kind, first=first)
        self.obeys = obeys
        self.random = random.Random(1)
        self.modes: list[int] = []
        self.wishes: list[int] = []
        self._missing = 0

    def run(self, seconds: float, loss: float, *, per_packet: int = 1) -> None:
        for _ in range(round(seconds * 50 / per_packet)):
            if self.obeys and self.packing.mode_request != NO_REQUEST:
                self.control.request(self.packing.mode_request)
            frames = [bytes([self.control.next_mode() << 3 | 4]) for _ in range(per_packet)]
            self.modes += [frame[0] >> 3 for frame in frames]
            if self.random.random() < loss:
                self._missing += 1
                continue
            self.adaptation.note(frames, self._missing)
            self._missing = 0
            self.wishes.append(self.packing.mode_request)


def test_a_good_network_is_asked_nothing() -> None:
    link = Link()
    link.run(300, 0.005)
    assert set(link.wishes) == {NO_REQUEST}


@pytest.mark.parametrize("per_packet", [1, 2, 3])
@pytest.mark.parametrize(("kind", "first"), [(AMR, 7), (AMR_WB, 8)])
def test_loss_takes_the_mode_down_step_by_step(kind: AmrKind, first: int, per_packet: int) -> None:
    link = Link(kind, first=first)
    link.run(60, 0.15, per_packet=per_packet)
    assert link.modes[0] == first
    assert link.modes[-1] == 0
    steps = [b - a for a, b in pairwise(link.modes) if a != b]
    assert set(steps) == {-1}


def test_it_goes_up_slowly_and_never_beyond_where_it_was() -> None:
    link = Link(first=4)
    link.run(6, 0.2)
    link.run(2, 0.0)  # the window that has begun
    low = link.modes[-1]
    assert low < 4
    link.run(0.7 * CLEAN_S, 0.0)
    assert link.modes[-1] == low
    link.run(6 * CLEAN_S, 0.0)
    assert link.modes[-1] == max(link.modes) == 4
    assert link.wishes[-1] == 4


def test_little_loss_changes_nothing_either_way() -> None:
    """Between the two limits: hysteresis."""
    link = Link(first=8)
    link.run(6, 0.2)
    link.run(2, 0.0)
    low = link.modes[-1]
    for _ in range(60):
        # 3 of each 100, evenly
        for _ in range(32):
            link.run(0.02, 0.0)
        link.run(0.02, 1.0)
    assert link.modes[-1] == low


def test_a_mode_that_brings_loss_back_is_tried_ever_less() -> None:
    link = Link(first=8)
    link.run(4, 0.2)
    low = link.modes[-1]
    ups = []
    for frame in range(50 * 400):
        before = link.wishes[-1]
        link.run(0.02, 0.2 if link.modes[-1] > low else 0.0)
        if link.wishes[-1] > before:
            ups.append(frame)
    gaps = [b - a for a, b in pairwise(ups)]
    assert len(gaps) >= 2
    assert gaps[1] > 1.6 * gaps[0]


def test_a_peer_that_does_not_follow_is_asked_once() -> None:
    link = Link(first=8, obeys=False)
    link.run(60, 0.2)
    assert set(link.wishes) == {NO_REQUEST, 7}


def test_only_modes_of_the_set_are_asked_for() -> None:
    link = Link(AMR, first=7, **{"mode-set": "0,2,5,7"})
    link.run(60, 0.2)
    link.run(10 * CLEAN_S, 0.0)
    assert list(dict.fromkeys(link.wishes)) == [NO_REQUEST, 5, 2, 0] or set(link.wishes) <= {NO_REQUEST, 0, 2, 5, 7}
    assert link.modes[-1] == 7
    single = Link(AMR, first=7, **{"mode-set": "7"})
    single.run(60, 0.2)
    assert set(single.wishes) == {NO_REQUEST}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 10)), max_size=8), st.sampled_from(["1", "2"]))
def test_wishes_are_neighbours_two_seconds_apart_whatever_is_lost(spells: list[tuple[float, int]], period: str) -> None:
    parameters = {"mode-set": "0,1,2,4,8", "mode-change-period": period, "mode-change-neighbor": "1"}
    link = Link(first=8, **parameters)
    for loss, seconds in spells:
        link.run(seconds, loss)
    modes = [0, 1, 2, 4, 8]
    changes = [i for i, (a, b) in enumerate(pairwise(link.wishes)) if a != b]
    for i in changes:
        before, after = link.wishes[i], link.wishes[i + 1]
        assert before == NO_REQUEST or abs(modes.index(after) - modes.index(before)) == 1
    # received ones alone: with half lost there are fewer in the time
    assert all(b - a >= WINDOW_FRAMES * 0.3 for a, b in pairwise(changes))
    assert set(link.wishes) <= {NO_REQUEST, *modes}


@pytest.mark.parametrize("aligned", ["0", "1"])
def test_our_packets_carry_the_wish(aligned: str) -> None:
    """A leg that receives AMR-WB and loses every fifth packet, and what it sends meanwhile."""
    parameters = {"octet-align": aligned}
    config = {"codec": "AMR-WB", "clock_rate": 16000, "payload_type": 98}
    stage = Stage(**config, send_parameters=parameters, receive_parameters=parameters)
    stage.downlink.start(0, 0)
    codec = codec_of("AMR-WB", 16000)
    encoder, form = codec.new_encoder({"mode-set": "0,1,2"}), codec.send_format(parameters)
    samples = np.resize(speech(16000, 4.0), 320 * 400).reshape(-1, 320)
    stage.say(np.tile(speech(16000, 4.0), 2))
    sequence = 0
    for number, frame in enumerate(samples):
        coded = encoder.encode(frame)
        stage.advance(FRAME_TICKS)
        if coded is None:
            continue
        sequence += 1
        if sequence % 5:
            payload = form.pack([coded])
            stage.receive(
                build_rtp(
                    payload_type=98, marker=False, sequence=sequence, timestamp=320 * number, ssrc=3, payload=payload
                )
            )
    requests = [form.unpack_untrusted(packet.payload).mode_request for _, _, packet in stage.sent]
    assert requests[0] is None
    assert list(dict.fromkeys(requests))[1:] == [1]  # the coder does not obey
