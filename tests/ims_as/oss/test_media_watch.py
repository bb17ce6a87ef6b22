"""Alarms of the media plane."""

from ims_as.oss.alarms import AlarmList
from ims_as.oss.media_watch import CALM_S, MediaWatch


def names(alarms: AlarmList) -> list[tuple[str, str]]:
    return [(each.definition.name, each.object) for each in alarms.active()]


def test_a_lost_worker_is_one_alarm_until_its_place_has_been_filled_for_a_minute():
    alarms = AlarmList()
    watch = MediaWatch(alarms)
    watch.worker_lost("w0", "killed by signal 9", now=10.0, wall=1000.0)
    watch.worker_lost("w0", "killed by signal 9", now=20.0, wall=1010.0)
    assert names(alarms) == [("media-worker-lost", "w0")]
    assert alarms.active()[0].count == 2
    watch.observe({"w1": True}, 0, now=20.0 + CALM_S, wall=1100.0)
    assert names(alarms) == [("media-worker-lost", "w0")]
    watch.observe({"w0": True, "w1": True}, 0, now=21.0 + CALM_S, wall=1101.0)
    assert names(alarms) == [("media-worker-lost", "w0")]
    watch.observe({"w0": True, "w1": True}, 0, now=20.0 + 2 * CALM_S, wall=1160.0)
    assert names(alarms) == []


def test_refusals_for_want_of_room_are_an_alarm_until_there_were_none_for_a_minute():
    alarms = AlarmList()
    watch = MediaWatch(alarms)
    watch.observe({"w0": True}, 0, now=1.0, wall=1.0)
    assert names(alarms) == []
    watch.observe({"w0": True}, 3, now=2.0, wall=2.0)
    assert names(alarms) == [("media-full", "media")]
    assert alarms.active()[0].detail == "3 calls were refused"
    watch.observe({"w0": True}, 3, now=1.9 + CALM_S, wall=3.0)
    assert names(alarms) == [("media-full", "media")]
    watch.observe({"w0": True}, 3, now=2.1 + CALM_S, wall=4.0)
    assert names(alarms) == []
