"""The garbage collector of a process whose calls must not wait for it.

Nearly all that a call makes is freed by its last reference. What is left are circles: exceptions with their frames, the
parts of a call that know each other. By default the collector walks everything that lives each time a quarter has been
added, which with some thousand calls up takes 100 ms and more, several times a minute, and nobody is answered
meanwhile (measured: 10,000 held dialogs, 125 ms). So the young generation alone is collected by itself, little at a
time, and the rest by `keep_collecting`: seldom, and in a quiet moment if there is one.
"""

from __future__ import annotations

import gc
from typing import Final

import trio

__all__ = ["keep_collecting"]

YOUNG_OBJECTS: Final = 2_000
"""Between collections of the young: they take 1 ms at most."""
NEVER: Final = 1_000_000_000
LOOK_EVERY_S: Final = 1.0
QUIET_COLLECTIONS: Final = 5
"""So many collections of the young in `LOOK_EVERY_S` are few: 10,000 objects, some 100 calls."""
WORTH_COLLECTIONS: Final = 50
"""After so many since the last whole collection another is worth its time, if all is quiet."""
URGENT_COLLECTIONS: Final = 5_000
"""After so many it cannot wait any longer: ten million objects more than then.  Load alone does not come near: 3,000
calls/s keep 1.5 million for the 32 s of their transactions."""


def is_due(count: int, lately: int) -> bool:
    """Whether to collect all now, after so many collections of the young, of which some were in the last second."""
    return count >= URGENT_COLLECTIONS or (count >= WORTH_COLLECTIONS and lately <= QUIET_COLLECTIONS)


async def keep_collecting() -> None:
    """Runs until cancelled; then all is as before. What there is when it begins is taken to stay, and never walked."""
    gc.collect()
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)
    seen = 0
    try:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            count = gc.get_count()[1]  # collections of the young since the last whole one
            if is_due(count, count - seen):
                gc.collect()
                count = 0
            seen = count
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
