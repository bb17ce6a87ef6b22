"""When the HSS counts as unreachable."""

import attrs

from ims_as.oss.alarms import AlarmList
from ims_as.oss.hss_watch import HssWatch

A, B = "hss-a", "hss-b"


@attrs.define
class Scene:
    """A watch that holds for 5 s, looked at by the second."""

    alarms: AlarmList = attrs.Factory(AlarmList)
    now: float = 0.0
    answered: int = 0
    unanswered: int = 0
    open: dict[str, bool] = attrs.Factory(lambda: {A: True, B: True})
    not_permitted: int = 0
    watch: HssWatch = attrs.field()

    @watch.default
    def _make(self) -> HssWatch:
        return HssWatch(self.alarms, realm="realm", hold_s=5.0)

    def look(self, seconds: int = 1, *, answered: int = 0, unanswered: int = 0, **peers: bool) -> list[str]:
        """What is raised after so many looks; ``answered`` and ``unanswered`` come before each."""
        self.open |= {{"a": A, "b": B}[name]: value for name, value in peers.items()}
        for _ in range(seconds):
            self.answered += answered
            self.unanswered += unanswered
            counts = {"answered": self.answered, "unanswered": self.unanswered, "not_permitted": self.not_permitted}
            self.watch.observe(self.open, **counts, now=self.now, wall=1000 + self.now)
            self.now += 1.0
        return sorted(f"{each.definition.name} {each.object}" for each in self.alarms.active())


def test_a_peer_that_is_down_for_long_enough():
    scene = Scene()
    assert scene.look() == []
    assert scene.look(5, a=False) == []
    assert scene.look() == [f"hss-peer-down {A}"]
    assert scene.look(10) == [f"hss-peer-down {A}"]
    assert scene.alarms.active()[0].count == 1
    assert scene.look(a=True) == []


def test_a_short_break_is_no_alarm():
    scene = Scene()
    for _ in range(5):
        assert scene.look(4, a=False, b=False) == []
        assert scene.look(1, a=True, b=True) == []


def test_no_peer_at_all_from_the_start():
    scene = Scene()
    assert scene.look(5, a=False, b=False) == []
    assert scene.look() == [f"hss-peer-down {A}", f"hss-peer-down {B}", "hss-unreachable realm"]
    assert scene.alarms.active()[0].detail == "no Diameter peer is open"
    # requests that were lost with the connections do not keep it up
    assert scene.look(3, unanswered=50) == [f"hss-peer-down {A}", f"hss-peer-down {B}", "hss-unreachable realm"]
    assert scene.look(unanswered=50, b=True) == [f"hss-peer-down {A}"]


def test_peers_are_open_and_nobody_answers():
    scene = Scene()
    assert scene.look(answered=10) == []
    assert scene.look(5, unanswered=1) == []
    assert scene.look(unanswered=1) == ["hss-unreachable realm"]
    assert scene.alarms.active()[0].detail == "6 Sh requests in a row were not answered"
    assert scene.look(20) == ["hss-unreachable realm"]  # nobody asks: nothing is known to have changed
    assert scene.look(unanswered=5, answered=1) == []
    assert scene.look(20) == []


def test_two_lost_requests_are_no_outage():
    scene = Scene()
    assert scene.look(unanswered=2) == []
    assert scene.look(20) == []
    assert scene.look(unanswered=1) == ["hss-unreachable realm"]


def test_one_answer_among_many_losses_is_enough():
    scene = Scene()
    for _ in range(5):
        assert scene.look(4, unanswered=10) == []
        assert scene.look(1, unanswered=10, answered=1) == []


def test_the_alarm_says_why_the_peer_is_down() -> None:
    alarms = AlarmList("a-")
    watch = HssWatch(alarms, realm="realm", hold_s=5.0)
    for now in (0.0, 6.0):
        watch.observe(
            {"hss": False},
            answered=0,
            unanswered=0,
            now=now,
            wall=now,
            failures={"hss": "TLS: certificate has expired"},
        )
    details = {alarm.definition.name: alarm.detail for alarm in alarms.active()}
    assert details["hss-peer-down"] == "TLS: certificate has expired"


def test_a_missing_permission_is_told_until_it_is_long_past():
    scene = Scene(not_permitted=1)
    assert scene.look(answered=1) == ["sh-not-permitted realm"]
    scene.not_permitted = 2
    assert scene.look(1800) == ["sh-not-permitted realm"]
    assert scene.alarms.active()[0].count == 2
    assert scene.look(1800) == ["sh-not-permitted realm"]
    assert scene.look(1) == []


def test_a_peer_that_had_connected_to_us_and_is_gone_leaves_no_alarm():
    scene = Scene()
    assert scene.look(10, a=False) == [f"hss-peer-down {A}"]
    del scene.open[A]
    assert scene.look() == []
