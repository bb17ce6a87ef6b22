"""Commands and engines in any order: each open is answered once and released once, each mark comes back once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import engine_calls
from media.call import CommandError
from media.control import EngineTarget, StreamConfig
from media.director import Director
from media.dtmf import Digit
from media.engines.base import Audio, Clear, EngineEvent, Forward, Hangup, MarkRequest
from media.engines.ims_as_v1 import ImsAsV1
from media.engines.session import EngineFailure
from media.io import PortPool, UrgentPoll
from media.leg import Leg
from media.plane import MediaPlane
from media.table import FRAME_TICKS
from tests.media.support import sine

HOST = "127.0.77.22"
TARGET = EngineTarget("websocket", "ws://127.0.77.23:9/")
STREAM = StreamConfig("PCMU", 0, "127.0.77.24", 4000, dtmf_payload_type=101)
SPEECH = sine(500, 320, 16000).astype("<i2").tobytes()


class Socket:
    """Of an engine that never sends by itself; takes everything."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return 100000 + self._number

    def send(self, view: memoryview) -> int:
        return len(view)

    def recv_into(self, _view: memoryview, _size: int) -> int:
        raise BlockingIOError


class Session:
    """An engine's connection without the connection: the test opens it, fails it and speaks for it."""

    made: list[Session]

    def __init__(self, target: EngineTarget, user: engine_calls.Engines, *_: object) -> None:
        self.target, self.user = target, user
        self.protocol = ImsAsV1({}, target.rate)
        self.owner: object = None
        self.sock: Socket | None = None
        self.is_clean = self.is_columnar = True
        self.started_at = self.opened_at = 0.0
        self.texts: list[dict[str, Any]] = []
        self.ends: list[str] = []
        self.made.append(self)

    def start(self, _resolver: object) -> None:
        """The test decides when it is open."""

    def send_text(self, text: str) -> None:
        assert not self.ends, "a message for a closed connection"
        if self.sock is not None:
            self.texts.append(json.loads(text))

    def close(self, reason: str) -> None:
        self.ends.append(reason)

    def handle_timer(self, now: float) -> None:
        assert not self.ends

    def stats(self) -> dict[str, Any]:
        return {"engine_malformed": 0}

    # ---- what the engine does
    def open(self) -> None:
        if not self.ends and self.sock is None:
            self.sock = Socket(len(self.made))
            self.user.engine_open(self)  # type: ignore[arg-type]

    def fail(self) -> None:
        if not self.ends:
            was_open = self.sock is not None
            self.ends.append("failed")
            failure = EngineFailure("closed" if was_open else "engine_refused", "as told")
            self.user.engine_failed(self, failure, was_open)  # type: ignore[arg-type]

    def say(self, event: EngineEvent) -> bool:
        if self.ends or self.sock is None:
            return False
        self.user.engine_event(self, event)  # type: ignore[arg-type]
        return True

    def marks(self) -> list[dict[str, Any]]:
        return [t for t in self.texts if t["event"] == "mark"]


@attrs.define
class Rig:
    """A director with its plane; ticks are moved by the test."""

    plane: MediaPlane
    director: Director
    urgent: UrgentPoll
    events: list[dict[str, Any]]
    replies: Counter[str] = attrs.Factory(Counter)
    answers: list[tuple[str, dict[str, Any] | CommandError]] = attrs.Factory(list)
    tick: int = 0

    @classmethod
    def build(cls, n_legs: int = 4) -> Rig:
        plane, urgent, events = MediaPlane(n_legs), UrgentPoll(), []  # type: ignore[var-annotated]
        Session.made = []
        return cls(plane, Director(plane, PortPool(HOST, 44000, 44399), urgent, events.append), urgent, events)

    def open(self, name: str, *, engine: bool = True, keep: bool = False) -> None:
        def done(reply: dict[str, Any] | CommandError) -> None:
            self.replies[name] += 1
            self.answers.append((name, reply))

        self.director.open(name, STREAM, TARGET if engine else None, keep, done)

    def attach(self, name: str) -> None:
        self.director.attach(name, TARGET, lambda reply: self.answers.append((f"attach {name}", reply)))

    def run(self, n_ticks: int) -> None:
        for _ in range(n_ticks):
            self.tick += 1
            self.plane.run(self.tick, 0)
            self.director.handle_timers(self.tick, self.tick * 0.005)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["ev"] == name]

    def close(self) -> None:
        self.director.release_all("end")
        self.plane.close()
        self.urgent.close()


@pytest.fixture(autouse=True)
def _no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "EngineSession", Session)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig.build()
    yield made
    made.close()


def connected(rig: Rig, name: str = "a") -> Session:
    rig.open(name)
    session = Session.made[-1]
    session.open()
    return session


def test_open_is_answered_when_the_engine_is_there(rig: Rig) -> None:
    rig.open("a")
    assert not rig.answers
    Session.made[0].open()
    ((_, reply),) = rig.answers
    assert isinstance(reply, dict)
    assert reply["host"] == HOST
    assert "engine_ms" in reply


@pytest.mark.parametrize("keep", [False, True])
def test_a_failed_engine_leaves_the_leg_only_if_asked_to(rig: Rig, keep: bool) -> None:
    rig.open("a", keep=keep)
    Session.made[0].fail()
    ((_, reply),) = rig.answers
    assert isinstance(reply, CommandError)
    assert reply.code == "engine_refused"
    assert ("port" in reply.more) == keep
    assert rig.director.legs == rig.plane.table.in_use == int(keep)


def test_release_while_the_engine_is_being_connected(rig: Rig) -> None:
    rig.open("a")
    stats = rig.director.release("a", "caller gone")
    assert stats["packets_in"] == 0
    ((_, reply),) = rig.answers
    assert isinstance(reply, CommandError)
    assert Session.made[0].ends == ["caller gone"]
    assert rig.plane.table.in_use == 0


def test_detach_while_the_engine_is_being_connected(rig: Rig) -> None:
    rig.open("a")
    rig.director.detach("a", "changed my mind")
    assert rig.replies["a"] == 1
    assert rig.director.legs == 0, "the open failed, and nothing was to be kept"


def test_one_attempt_at_a_time(rig: Rig) -> None:
    rig.open("a")
    with pytest.raises(CommandError, match="being connected"):
        rig.attach("a")
    with pytest.raises(CommandError, match="exists"):
        rig.open("a")


def test_a_new_engine_replaces_the_old_one(rig: Rig) -> None:
    first = connected(rig)
    first.say(Audio(SPEECH * 10))
    rig.attach("a")
    assert first.ends == ["replaced"]
    Session.made[1].open()
    rig.run(2 * FRAME_TICKS)
    assert rig.director.stats("a")["engine_frames"] == 0
    leg = rig.plane.leg_of(0)
    assert leg.playout is not None
    assert leg.playout.queued_ms == 0, "what the old engine had queued was kept"


def test_clear_reports_the_position_and_the_marks(rig: Rig) -> None:
    session = connected(rig)
    session.say(Audio(SPEECH * 10))
    session.say(MarkRequest("end"))
    rig.run(3 * FRAME_TICKS)
    session.say(Clear())
    assert session.marks() == [{"event": "mark", "name": "end", "played": False}]
    (cleared,) = [t for t in session.texts if t["event"] == "cleared"]
    assert 40 <= cleared["played_ms"] <= 80
    assert rig.named("barge_in")[0]["played_ms"] == cleared["played_ms"]


def test_a_hangup_is_reported_when_it_was_heard(rig: Rig) -> None:
    session = connected(rig)
    session.say(Audio(SPEECH * 3))
    session.say(Hangup("bye"))
    assert not rig.named("drained")
    session.fail()
    rig.run(4 * FRAME_TICKS)
    assert [e["reason"] for e in rig.named("drained")] == ["bye"]
    assert not rig.named("engine_lost")


def test_a_lost_engine_gives_way_to_filler(rig: Rig) -> None:
    session = connected(rig)
    session.say(Audio(SPEECH * 30))
    session.fail()
    assert [e["cause"] for e in rig.named("engine_lost")] == ["closed"]
    assert [e["on"] for e in rig.named("filler")] == [True]
    rig.attach("a")
    Session.made[-1].open()
    Session.made[-1].say(Audio(SPEECH))
    rig.run(FRAME_TICKS)
    assert [e["on"] for e in rig.named("filler")] == [True, False]


@pytest.mark.parametrize("digits", [True, False])
def test_who_tells_the_engine_of_a_digit(rig: Rig, digits: bool) -> None:
    rig.director.open("a", STREAM, attrs.evolve(TARGET, digits=digits), False, lambda _: None)
    session = Session.made[-1]
    session.open()
    rig.director.digit_received(rig.plane.leg_of(0), Digit("5", 100))
    assert [text["digit"] for text in session.texts if text["event"] == "dtmf"] == ["5"] * digits
    assert [event["digit"] for event in rig.named("dtmf")] == ["5"]


def test_what_is_not_ours_is_forwarded(rig: Rig) -> None:
    session = connected(rig)
    session.say(Forward({"event": "transfer", "target": "tel:1"}))
    assert rig.named("engine_event")[0]["event"] == {"event": "transfer", "target": "tel:1"}


def test_a_full_table_and_a_bad_stream_leave_nothing(rig: Rig) -> None:
    for name in "abcd":
        rig.open(name, engine=False)
    with pytest.raises(CommandError) as full:
        rig.open("e", engine=False)
    assert full.value.code == "full"
    rig.director.release("a", "room")
    with pytest.raises(CommandError) as bad:
        rig.director.open("e", attrs.evolve(STREAM, codec="OPUS"), None, False, lambda _: None)
    assert bad.value.code == "bad_command"
    assert rig.director.legs == rig.plane.table.in_use == 3
    assert rig.plane.sockets == 3


def test_a_party_that_says_nothing_is_reported_once(rig: Rig) -> None:
    rig.director.open("a", attrs.evolve(STREAM, timeout_ms=200), None, False, lambda _: None)
    rig.run(100)
    assert [e["leg"] for e in rig.named("rtp_timeout")] == ["a"]


def test_silence_on_hold_does_not_count_afterwards(rig: Rig) -> None:
    stream = attrs.evolve(STREAM, timeout_ms=200)
    rig.director.open("a", stream, None, False, lambda _: None)
    rig.director.modify("a", attrs.evolve(stream, receive=False))
    rig.run(100)
    rig.director.modify("a", stream)
    rig.run(30)
    assert not rig.named("rtp_timeout")
    rig.run(20)
    assert len(rig.named("rtp_timeout")) == 1


def test_release_of_one_leg_ends_its_bridge(rig: Rig) -> None:
    rig.open("a", engine=False)
    rig.open("b", engine=False)
    rig.director.bridge("a", "b")
    rig.director.release("a", "gone")
    assert (rig.plane.table.peer[:2] == -1).all()
    with pytest.raises(CommandError):
        rig.director.bridge("b", "b")


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), NAMES),
        st.tuples(st.just("open"), NAMES),
        st.tuples(st.sampled_from(["attach", "detach", "release", "bridge", "play"]), NAMES),
        st.tuples(st.sampled_from(["up", "up", "up", "fail"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["audio", "mark", "mark", "clear", "hangup"]), st.integers(0, 5)),
        st.tuples(st.just("run"), st.integers(1, 60)),
    ),
    max_size=50,
)


@settings(deadline=None, max_examples=80)
@given(STEPS)
def test_whatever_happens_everything_is_answered_once(steps: list[tuple[str, Any]]) -> None:
    rig = Rig.build()
    opened: Counter[str] = Counter()
    refusals: list[str] = []
    requested: dict[Session, Counter[str]] = {}
    try:
        for number, (step, which) in enumerate(steps):
            session = Session.made[which % len(Session.made)] if isinstance(which, int) and Session.made else None
            try:
                match step, session:
                    case "open", _:
                        rig.open(which)
                        opened[which] += 1
                    case "attach", _:
                        rig.attach(which)
                    case "detach", _:
                        rig.director.detach(which, "as told")
                    case "release", _:
                        rig.director.release(which, "as told")
                    case "bridge", _:
                        rig.director.bridge(which, "a")
                    case "play", _:
                        rig.director.play(which, "builtin:filler", True)
                    case "run", _:
                        rig.run(which)
                    case "up", Session():
                        session.open()
                    case "fail", Session():
                        session.fail()
                    case "audio", Session():
                        session.say(Audio(SPEECH * (1 + number % 7)))
                    case "mark", Session():
                        if session.say(MarkRequest(f"m{number}")):
                            requested.setdefault(session, Counter())[f"m{number}"] += 1
                    case "clear", Session():
                        session.say(Clear())
                    case "hangup", Session():
                        session.say(Hangup("bye"))
            except CommandError as error:
                refusals.append(error.code)
        while (rig.plane.table.queued > rig.plane.table.played).any():
            rig.run(FRAME_TICKS)
        for session, wanted in requested.items():
            answered = Counter(m["name"] for m in session.marks())
            assert answered <= wanted, "a mark came back twice"
            if not session.ends:
                assert answered == wanted, "a mark was forgotten"
    finally:
        rig.director.release_all("end")
        rig.plane.close()
        rig.urgent.close()
    assert set(refusals) <= {"bad_command"}
    assert rig.replies == opened, "each open is answered exactly once"
    assert all(len(s.ends) == 1 for s in Session.made), "each connection ends exactly once"
    assert rig.director.legs == rig.plane.table.in_use == rig.plane.sockets == 0
    assert (rig.plane.table.due == np.iinfo(np.int64).max // 2).all()


# ---- barge-in


def talking(rig: Rig, barge_in: str) -> tuple[Session, Leg]:
    """An engine that has sent two seconds ahead, of which the party has heard some."""
    rig.director.open("a", STREAM, attrs.evolve(TARGET, barge_in=barge_in), False, lambda _: None)
    session = Session.made[-1]
    session.open()
    session.say(Audio(SPEECH * 100))
    rig.run(20 * FRAME_TICKS)
    return session, rig.plane.leg_of(0)


def cleared(session: Session) -> list[dict[str, Any]]:
    return [t for t in session.texts if t["event"] == "cleared"]


def test_speech_silences_the_agent_where_it_is_set_so(rig: Rig) -> None:
    session, leg = talking(rig, "local")
    rig.plane.speech_changed(leg, True, rig.tick - 4)
    assert leg.playout is not None
    assert leg.playout.queued_ms == 0
    (told,) = cleared(session)
    assert told["by"] == "speech"
    assert 380 <= told["played_ms"] <= 420
    rig.run(FRAME_TICKS)
    (silenced,) = rig.named("silenced")
    assert (silenced["by"], silenced["speech_ms"] - silenced["clear_ms"]) == ("local", 20)
    assert silenced["clear_ms"] <= 25
    assert [e["by"] for e in rig.named("barge_in")] == ["local"]
    talk = rig.director.stats("a")["talk"]
    assert (talk["overlaps"], talk["barge_ins"], talk["barge_in_ms"]) == (1, 1, silenced["speech_ms"])


def test_what_a_silenced_engine_goes_on_saying_is_dropped_until_it_says_clear(rig: Rig) -> None:
    session, leg = talking(rig, "local")
    rig.plane.speech_changed(leg, True, rig.tick)
    for _ in range(30):
        session.say(Audio(SPEECH))
        rig.run(FRAME_TICKS)
    assert leg.playout is not None
    assert leg.playout.queued_ms == 0
    assert not rig.plane.table.clean[0], "its audio must not go past the session"
    session.say(Clear())
    session.say(Audio(SPEECH * 3))
    assert leg.playout.queued_ms == 60
    assert len(cleared(session)) == 2


def test_after_a_pause_a_silenced_engine_is_heard(rig: Rig) -> None:
    session, leg = talking(rig, "local")
    rig.plane.speech_changed(leg, True, rig.tick)
    session.say(Audio(SPEECH))
    rig.run(70)
    session.say(Audio(SPEECH * 3))
    assert leg.playout is not None
    assert leg.playout.queued_ms == 60
    assert rig.plane.table.clean[0]


def test_an_engine_that_decides_itself_is_told_and_left_alone(rig: Rig) -> None:
    session, leg = talking(rig, "engine")
    rig.plane.speech_changed(leg, True, rig.tick - 4)
    assert leg.playout is not None
    assert leg.playout.queued_ms > 1000
    assert not cleared(session)
    rig.run(10)
    session.say(Clear())
    rig.run(FRAME_TICKS)
    (silenced,) = rig.named("silenced")
    assert (silenced["by"], silenced["speech_ms"] - silenced["clear_ms"]) == ("engine", 70)


def test_speech_between_the_agents_turns_interrupts_nobody(rig: Rig) -> None:
    session, leg = talking(rig, "local")
    rig.run(100 * FRAME_TICKS)
    rig.plane.speech_changed(leg, True, rig.tick)
    assert not cleared(session)
    assert rig.director.stats("a")["talk"]["overlaps"] == 0


def test_a_good_bye_is_not_interrupted(rig: Rig) -> None:
    session, leg = talking(rig, "local")
    session.say(Hangup("bye"))
    rig.plane.speech_changed(leg, True, rig.tick)
    assert not cleared(session)
    assert not rig.named("drained")


def test_the_answer_is_timed_to_its_first_audible_frame(rig: Rig) -> None:
    session, leg = talking(rig, "engine")
    rig.run(100 * FRAME_TICKS)
    assert len(rig.named("first_audio")) == 1, "the greeting"
    rig.plane.speech_changed(leg, True, rig.tick)
    rig.run(100)
    rig.plane.speech_changed(leg, False, rig.tick)
    ended = rig.tick
    silence = bytes(len(SPEECH))
    for _ in range(10):  # an engine that sends all the time
        session.say(Audio(silence))
        rig.run(FRAME_TICKS)
    assert len(rig.named("first_audio")) == 1
    session.say(Audio(SPEECH))
    rig.run(2 * FRAME_TICKS)
    answer = rig.named("first_audio")[1]
    assert 200 <= answer["ttfb_ms"] <= (rig.tick - ended) * 5


def test_a_leg_that_ends_while_its_answer_is_awaited_leaves_nothing(rig: Rig) -> None:
    _, leg = talking(rig, "engine")
    rig.run(100 * FRAME_TICKS)
    rig.plane.speech_changed(leg, False, rig.tick)
    rig.director.release("a", "end")
    assert rig.plane.downlink._n_awaited == 0
    connected(rig, "b")
    rig.director.release("b", "end")
    assert rig.plane.downlink._n_awaited == 0
