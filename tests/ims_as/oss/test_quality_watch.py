"""When one-way audio is the network's fault."""

from __future__ import annotations

import random

from ims_as.oss.alarms import AlarmList
from ims_as.oss.quality_watch import MIN_PARTIES, WINDOW_S, QualityWatch


class Scene:
    def __init__(self) -> None:
        self.alarms = AlarmList()
        self.watch = QualityWatch(self.alarms, object_="192.0.2.1")
        self.now = 0.0

    def calls(self, n: int, *one_way: str) -> None:
        for _ in range(n):
            self.watch.call_talks(self.now)
        for party in one_way:
            self.watch.one_way(party, self.now)

    def is_raised_after(self, seconds: float) -> bool:
        self.now += seconds
        self.watch.observe(now=self.now, wall=1000 + self.now)
        return self.alarms.is_active("one-way-audio", "192.0.2.1")


def parties(n: int) -> list[str]:
    return [f"sip:{i}@example.com" for i in range(n)]


def test_several_parties_are_an_alarm() -> None:
    scene = Scene()
    scene.calls(20, *parties(MIN_PARTIES - 1))
    assert not scene.is_raised_after(1)
    scene.calls(20, "sip:other@example.com")
    assert scene.is_raised_after(1)
    (alarm,) = scene.alarms.active()
    assert alarm.detail == "5 parties in 40 calls within 300 s"


def test_one_telephone_is_none_however_often_it_calls() -> None:
    scene = Scene()
    for _ in range(50):
        scene.calls(1, "sip:broken@example.com")
        assert not scene.is_raised_after(5)


def test_a_small_share_is_none() -> None:
    scene = Scene()
    scene.calls(1000, *parties(40))
    assert not scene.is_raised_after(1)


def test_it_is_over_when_it_has_become_rare() -> None:
    scene = Scene()
    scene.calls(20, *parties(10))
    assert scene.is_raised_after(1)
    scene.now += WINDOW_S / 2
    scene.calls(200, *parties(3))
    assert scene.is_raised_after(1), "ten of 220 within the window"
    assert not scene.is_raised_after(WINDOW_S / 2), "three parties of 200"


def test_it_is_over_when_nobody_calls() -> None:
    scene = Scene()
    scene.calls(20, *parties(10))
    assert scene.is_raised_after(1)
    assert not scene.is_raised_after(WINDOW_S)


def test_memory_is_bounded() -> None:
    scene, source = Scene(), random.Random(2)
    for _ in range(200):
        scene.calls(1, *(str(source.random()) for _ in range(500)))
        scene.now += 7
    assert len(scene.watch._buckets) <= 31
    assert max(len(bucket.parties) for bucket in scene.watch._buckets) <= 1000
