"""Sequence numbers of repository data: which notification is newer, and writers that race for one item."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conformance.lab.hss_sh import Notification, ShService
from conformance.lab.subscribers import Subscriber
from diameter.message import Message, Result
from diameter.sh.client import ShClient
from diameter.sh.errors import ShOutOfSyncError
from diameter.sh.messages import ProfileUpdateAnswer, ProfileUpdateRequest, UserIdentity
from diameter.sh.profile import ShProfile, merge_push
from diameter.sh.repository import RepositoryWrite, Step, Verdict, judge_push, next_sequence_number, replace_by
from diameter.sh.userdata import RepositoryData, ShData, write_repository_data
from tests.diameter.sh.fake_hss import BOB, IDENTITY, FakeNode, build_client, build_push, run_clocked

SI = b"ai"
TAKE, LEAVE = (True, False), (False, False)
TAKE_AND_ASK, LEAVE_AND_ASK = (True, True), (False, True)


@pytest.mark.parametrize(
    ("held", "pushed", "has_data", "verdict"),
    [
        (None, 0, True, TAKE),  # created
        (None, 4, True, TAKE_AND_ASK),  # the ones before were lost
        (None, 4, False, LEAVE),
        (3, 4, True, TAKE),
        (3, 4, False, TAKE),  # deleted
        (65535, 1, True, TAKE),  # around
        (65535, 1, False, TAKE),
        (3, 9, True, TAKE_AND_ASK),
        (65530, 4, True, TAKE_AND_ASK),
        (9, 3, True, LEAVE_AND_ASK),  # late
        (4, 65530, True, LEAVE_AND_ASK),
        (3, 0, True, LEAVE_AND_ASK),
        (3, 0, False, TAKE_AND_ASK),  # an HSS without number for deletions
        (3, 3, False, TAKE_AND_ASK),
        (9, 3, False, LEAVE_AND_ASK),
        (3, 9, False, TAKE_AND_ASK),
        (0, 1, True, TAKE),
        (0, 40_000, True, LEAVE_AND_ASK),
    ],
)
def test_verdicts(held: int | None, pushed: int, has_data: bool, verdict: tuple[bool, bool]) -> None:
    data = b"<held/>" if held is not None else None
    found = judge_push(held, data, RepositoryData(SI, pushed, b"<new/>" if has_data else None))
    assert (found.applies, found.is_doubtful) == verdict
    assert found.is_unsettling == (found.is_doubtful or not has_data)


def test_the_same_again() -> None:
    assert judge_push(3, b"<a/>", RepositoryData(SI, 3, b"<a/>")) == Verdict(False)
    assert judge_push(3, b"<a/>", RepositoryData(SI, 3, b"<b/>")) == Verdict(True, True, True)


@given(
    start=st.sampled_from([None, 0, 7, 65533]),
    changes=st.lists(st.booleans(), min_size=1, max_size=8),
    data=st.data(),
)
def test_reordered_and_repeated_notifications_leave_no_stale_item(
    start: int | None, changes: list[bool], data: st.DataObject
) -> None:
    """Each of them comes at least once, in any order: what is held without doubt is what the HSS has."""
    now = RepositoryData(SI, start, b"<v0/>") if start is not None else None
    profile = ShProfile(BOB, now.service_data, now.sequence_number) if now is not None else ShProfile(BOB)
    pushes = []
    for number, is_change in enumerate(changes, 1):
        sequence = next_sequence_number(now.sequence_number if now is not None else None)
        if is_change or now is None:
            now = RepositoryData(SI, sequence, b"<v%d/>" % number)
            pushes.append(now)
        else:
            pushes.append(RepositoryData(SI, sequence, None))
            now = None
    again = data.draw(st.lists(st.sampled_from(pushes), max_size=3))
    is_unsettled = is_doubtful = False
    for push in data.draw(st.permutations(pushes + again)):
        profile, verdict = merge_push(profile, ShData(repository=(push,)), service_indication=SI)
        is_doubtful |= verdict.is_doubtful or is_unsettled
        is_unsettled |= verdict.is_unsettling
        if is_doubtful and data.draw(st.booleans()):
            # the HSS is asked
            profile = ShProfile(BOB, now.service_data, now.sequence_number) if now is not None else ShProfile(BOB)
            is_doubtful = False
    if not is_doubtful:
        assert profile.service_data == (now.service_data if now is not None else None)


def count_up(present: bytes | None) -> bytes:
    """A change that depends on what is there: each one that is lost is missed in the end."""
    number = int(present[3:-4]) if present is not None else 0
    return b"<n>%d</n>" % (number + 1)


@define
class Writer:
    """Steps of one write; what it has read or asked may be old by the time it goes on."""

    write: RepositoryWrite = field(factory=lambda: RepositoryWrite(count_up, is_held=False))
    n_done: int = 0


class RacingWriters(RuleBasedStateMachine):
    """Three writers and an operator change one item; the lab's HSS is the referee."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriber = Subscriber("bob@example.net", (BOB,))
        self.hss = ShService({BOB: self.subscriber}.get, lambda _: None)
        self.writers = [Writer(), Writer(), Writer()]
        self.n_done = 0
        self.n_lost_by_delete = 0

    @initialize(start=st.sampled_from([None, 65533]))
    def provision(self, start: int | None) -> None:
        if start is not None:
            self.subscriber.repository[SI] = b"<n>0</n>"
            self.subscriber.sequences[SI] = start

    @rule(number=st.integers(0, 2))
    def go_on(self, number: int) -> None:
        writer = self.writers[number]
        write = writer.write
        match write.step:
            case Step.PULL:
                data = self.subscriber.repository.get(SI)
                item = RepositoryData(SI, self.subscriber.sequences[SI], data) if data is not None else None
                write.receive_item(item)
            case Step.PUT:
                write.receive_result(self.put(write))
                if write.step is Step.DONE:
                    self.n_done += 1
            case Step.WAIT:
                write.resume()
            case _:
                writer.write = RepositoryWrite(count_up, is_held=False)

    @rule(number=st.integers(0, 2))
    def busy(self, number: int) -> None:
        write = self.writers[number].write
        if write.step is Step.PUT:
            write.receive_result(Result(4101, 10415))

    @precondition(lambda self: SI in self.subscriber.repository)
    @rule()
    def delete(self) -> None:
        del self.subscriber.repository[SI], self.subscriber.sequences[SI]
        self.n_done = 0

    @invariant()
    def no_update_is_lost(self) -> None:
        stored = self.subscriber.repository.get(SI)
        assert (int(stored[3:-4]) if stored is not None else 0) == self.n_done

    def put(self, write: RepositoryWrite) -> Result:
        message = ProfileUpdateRequest(
            session_id="as;1;1",
            origin_host="as",
            origin_realm="r",
            destination_realm="r",
            user_identity=UserIdentity(BOB),
            data_references=(0,),
            user_data=write_repository_data(SI, write.number, write.service_data),
        ).to_message()
        answer = self.hss.answer(message, {"origin_host": "hss", "origin_realm": "r"})
        return ProfileUpdateAnswer.read_untrusted(answer).result


class TestRacingWriters(RacingWriters.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("results", "step"),
    [
        ([Result(2001)], Step.DONE),
        ([Result(4101, 10415)], Step.WAIT),
        ([Result(5105, 10415)], Step.PULL),
        ([Result(5105, 10415)] * 4, Step.FAILED),
        ([Result(5103, 10415)], Step.FAILED),
        ([Result(5012)], Step.FAILED),
    ],
)
def test_steps_after_answers(results: list[Result], step: Step) -> None:
    write = RepositoryWrite(replace_by(b"<a/>"))
    for result in results:
        assert write.step in (Step.PUT, Step.PULL)
        if write.step is Step.PULL:
            write.receive_item(RepositoryData(SI, 3, b"<other/>"))
        write.receive_result(result)
    assert write.step is step
    assert write.result == results[-1]


def test_a_conditional_write_does_not_try_again() -> None:
    held = RepositoryData(SI, 6, b"<a/>")
    write = RepositoryWrite(replace_by(b"<b/>"), held=held, is_conditional=True)
    assert (write.step, write.number) == (Step.PUT, 7)
    write.receive_result(Result(5105, 10415))
    assert write.step is Step.FAILED


def test_a_lost_answer_is_no_second_update() -> None:
    """The HSS has taken it, the answer was lost, the retransmission is refused with 5105: it is in."""
    write = RepositoryWrite(replace_by(b"<b/>"), held=RepositoryData(SI, 6, b"<a/>"))
    write.receive_result(Result(5105, 10415))
    write.receive_item(RepositoryData(SI, 7, b"<b/>"))
    assert (write.step, write.sequence) == (Step.DONE, 7)


@pytest.mark.parametrize("present", [None, RepositoryData(SI, 3, None)])
def test_nothing_to_delete_is_done(present: Any) -> None:
    write = RepositoryWrite(replace_by(None), is_held=False)
    write.receive_item(present)
    assert (write.step, write.sequence) == (Step.DONE, None)


def test_around_after_65535() -> None:
    write = RepositoryWrite(replace_by(b"<b/>"), held=RepositoryData(SI, 65535, b"<a/>"))
    assert write.number == 1


@given(delays=st.lists(st.integers(0, 9), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_two_application_servers_lose_nothing(delays: list[int]) -> None:
    """Both count the same number up, with caches of their own, notifications late by as much as answers."""

    async def scenario(nursery: trio.Nursery) -> None:
        bob = Subscriber("bob@example.net", (BOB,), repository={SI: b"<n>0</n>"}, sequences={SI: 65530})
        pushed: list[Notification] = []
        hss = ShService({BOB: bob}.get, pushed.extend)
        waits = itertools.cycle(delays)
        clients: dict[str, ShClient] = {}
        n_counted = 0

        def answer(message: Message) -> Message | None:
            return hss.answer(message, IDENTITY)

        async def deliver() -> None:
            while True:
                await trio.sleep((1 + next(waits)) / 100)
                while pushed:
                    push = pushed.pop(0)
                    to = clients[push.subscription.origin_host]
                    assert to.receive_push(build_push(BOB, push.user_data)).result() == Result(2001)

        async def count(client: ShClient, node: FakeNode) -> None:
            nonlocal n_counted
            await client.fetch(BOB)
            for _ in range(8):
                node.delay_s = next(waits) / 100
                with contextlib.suppress(ShOutOfSyncError):
                    await client.change_repository(BOB, count_up)
                    n_counted += 1
                await trio.sleep(next(waits) / 10)

        nursery.start_soon(deliver)
        async with trio.open_nursery() as writers:
            for name in ("first", "second"):
                client, node = build_client(answer)
                node.origin_host = name
                clients[name] = client
                await nursery.start(client.run)
                writers.start_soon(count, client, node)
        assert bob.repository[SI] == b"<n>%d</n>" % n_counted
        assert n_counted > 8
        await trio.sleep(10)
        for client in clients.values():
            assert (await client.fetch(BOB)).service_data == bob.repository[SI]

    run_clocked(scenario)
