"""How long work waits in this process: the lateness of its loop, and the age of the oldest datagram not yet read.

Both are sampled on a tick, so the path of a message pays nothing. A loop that is late shows in the tick itself; a loop
that keeps its times but no longer gets through its sockets shows in the kernel's time stamp of what lies there first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

__all__ = ["INTERVAL_S", "watch_load"]

INTERVAL_S: Final = 0.05


async def watch_load(
    oldest_wait_s: Callable[[], float], on_sample: Callable[[float, float], object], *, interval_s: float = INTERVAL_S
) -> None:
    """Until cancelled, ``on_sample(wait in seconds, now)`` at each tick.

    Args:
        oldest_wait_s: how long the oldest unread input has waited, 0.0 when there is none.
    """
    while True:
        due = trio.current_time() + interval_s
        await trio.sleep_until(due)
        now = trio.current_time()
        on_sample(max(now - due, oldest_wait_s()), now)
