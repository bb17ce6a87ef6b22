"""What a fuzz target is, and how it is run."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tests.fuzz.mutate import Mutator

__all__ = ["FINDS", "Find", "Target", "run_target"]

FINDS = Path(__file__).parent / "finds"
SLOW_S = 0.25
"""CPU of one input of at most 64 KiB that is called an attack on time; a normal one takes microseconds."""


@attrs.frozen
class Target:
    """One reader.

    Attributes:
        read: reads an input and checks what must hold of the result (AssertionError when it does not).
        allowed: what it may raise.
    """

    name: str
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()

    def try_one(self, data: bytes) -> str:
        """How an input ended: ``read``, the name of an allowed error, or ``!`` and what went wrong."""
        outcome, spent = self._try(data)
        if spent > SLOW_S:  # the collector, perhaps, which has all of the process to look at
            spent = self._try(data)[1]
        return f"!slow: {outcome}" if spent > SLOW_S else outcome

    def _try(self, data: bytes) -> tuple[str, float]:
        began = time.process_time()
        try:
            self.read(data)
            outcome = "read"
        except self.allowed as error:
            outcome = type(error).__name__
        except RecursionError:
            outcome = "!RecursionError"
        except Exception as error:
            outcome = f"!{type(error).__name__} {_place(error)}: {error}"[:200]
        return outcome, time.process_time() - began


@attrs.frozen
class Find:
    data: bytes
    problem: str

    @property
    def file_name(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:16]


def _place(error: Exception) -> str:
    """Where it was raised: one find for each place, whatever the message says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def run_target(
    target: Target, *, inputs: int, seed: int, on_progress: Callable[[int], None] | None = None, max_finds: int = 20
) -> tuple[Counter[str], list[Find]]:
    """Feed it; stops early when there are enough different problems."""
    mutator = Mutator(target.seeds, target.tokens, seed=seed)
    outcomes: Counter[str] = Counter()
    finds: dict[str, Find] = {}
    for number in range(inputs):
        data = mutator.next()
        outcome = target.try_one(data)
        if outcome.startswith("!"):
            problem = outcome.split(": ", 1)[0]
            finds.setdefault(problem, Find(data, outcome))
            outcome = problem
            if len(finds) >= max_finds:
                break
        outcomes[outcome] += 1
        if on_progress is not None and number % 100_000 == 99_999:
            on_progress(number + 1)
    return outcomes, list(finds.values())
