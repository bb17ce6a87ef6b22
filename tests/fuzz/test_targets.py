"""Each fuzz target for a moment, and everything that once broke it."""

import pytest

from tests.fuzz.mutate import MAX_SIZE, Mutator
from tests.fuzz.target import FINDS, Find, Target, run_target
from tests.fuzz.targets import TARGETS

INPUTS = 1500


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_stands_mutated_messages(name: str) -> None:
    outcomes, finds = run_target(TARGETS[name], inputs=INPUTS, seed=1)
    assert finds == []
    assert sum(outcomes.values()) == INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_stands_its_seeds_and_what_broke_it_once(name: str) -> None:
    target = TARGETS[name]
    folder = FINDS / name
    inputs = [*target.seeds, *(path.read_bytes() for path in sorted(folder.glob("*")) if folder.is_dir())]
    assert [outcome for data in inputs if (outcome := target.try_one(data)).startswith("!")] == []


def test_seeds_are_mostly_understood() -> None:
    """A target that refuses its own seeds tests nothing."""
    for target in TARGETS.values():
        read = [target.try_one(seed) == "read" for seed in target.seeds]
        assert sum(read) > len(read) // 2, target.name


def test_an_error_that_is_not_allowed_is_found() -> None:
    def read(data: bytes) -> None:
        if b"<<" in data:
            raise IndexError("list index out of range")
        if b"\0" in data:
            raise ValueError("expected")

    target = Target("t", read, (ValueError,), (b"abc <d> e",))
    outcomes, finds = run_target(target, inputs=3000, seed=1)
    assert len(finds) == 1
    assert finds[0].problem.startswith("!IndexError test_targets.py:")
    assert outcomes["ValueError"] > 0
    assert b"<<" in finds[0].data
    assert Find(finds[0].data, "").file_name == finds[0].file_name


def test_a_broken_promise_is_found() -> None:
    def read(data: bytes) -> None:
        assert data.count(b"x") < 3

    _, finds = run_target(Target("t", read, (), (b"ax",)), inputs=3000, seed=1)
    assert len(finds) == 1


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, two, other = (Mutator((b"a b\r\nc",), seed=seed) for seed in (7, 7, 8))
    first = [one.next() for _ in range(50)]
    assert first == [two.next() for _ in range(50)]
    assert first != [other.next() for _ in range(50)]
    assert all(len(data) <= MAX_SIZE for data in first)
