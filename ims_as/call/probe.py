"""Keeps the belief about engines fresh while no call tells.

Readiness and OPTIONS must say whether a call could be served *now*.  A call's own connection tells for free; an engine
that is not known to be up is tried with a bare TCP connection, which costs no session at a paid engine.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import trio

from ims_as.call.engine_health import EngineHealth, EngineState

__all__ = ["keep_probing", "probe"]

PROBE_EVERY_S = 1.0
PROBE_UP_EVERY = 5
"""Rounds between probes of an engine that is believed to be up."""
PROBE_DEADLINE_S = 0.5


async def probe(url: str) -> str | None:
    """None when something listens there, else the cause (``engine_refused``, ``engine_timeout``)."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        with trio.fail_after(PROBE_DEADLINE_S):
            stream = await trio.open_tcp_stream(parts.hostname or "", port)
    except trio.TooSlowError:
        return "engine_timeout"
    except OSError:
        return "engine_refused"
    await trio.aclose_forcefully(stream)
    return None


async def keep_probing(
    health: EngineHealth,
    urls: Callable[[], frozenset[str]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Probes each engine at start, then those that are down each round and the others now and then.

    An engine that accepts and then hangs is left to the trials of calls (``EngineHealth.may_try``)."""
    round_number = 0
    while True:
        for url in sorted(urls()):
            state = health.state(url)
            if state is EngineState.OPEN or (state is EngineState.UP and round_number % PROBE_UP_EVERY):
                continue
            cause = await probe(url)
            if cause is None:
                health.note_success(url, now=trio.current_time())
            else:
                health.note_failure(url, cause, now=trio.current_time())
        if round_number == 0:
            task_status.started()
        round_number += 1
        await trio.sleep(PROBE_EVERY_S)
