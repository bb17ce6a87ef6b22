"""Reads the configuration again while calls are up (SIGHUP, ``POST /reload``).

All or nothing: what cannot be used is told and changes nothing. What can be used applies to calls from then on; calls
that are up keep the agent, engines and limits that they began with. Keys that only a restart can change keep their
value and are named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from ims_as.config import Config, ConfigError, Problem
from ims_as.config_reload import ReloadOutcome, merge_configs
from ims_as.settings import apply_settings
from ims_as.transport.tls import TlsSetupError

if TYPE_CHECKING:
    from ims_as.app import Application

__all__ = ["ConfigSource", "Reloader"]

ConfigSource = Callable[[], tuple[Config, Sequence[Problem]]]
"""Reads the configuration as at the start; raises ConfigError."""

MAX_TOLD: Final = 20
"""Problems and keys that one log entry names."""


class Reloader:
    """One at a time, for one application."""

    def __init__(self, application: Application, source: ConfigSource | None) -> None:
        self._application = application
        self._source = source
        self._lock = trio.Lock()

    async def reload(self) -> ReloadOutcome:
        """Reads the file and applies what it says; never raises for what is in it."""
        async with self._lock:
            outcome = await self._reload()
        self._tell(outcome)
        return outcome

    async def _reload(self) -> ReloadOutcome:
        application = self._application
        if self._source is None:
            return ReloadOutcome("rejected", problems=("the server was started without a configuration file",))
        try:
            # in a thread: reading a long file takes longer than a call may wait
            new, warnings = await trio.to_thread.run_sync(self._source)
        except ConfigError as error:
            return ReloadOutcome("rejected", problems=tuple(map(str, error.problems)))
        for name, renew in (("sip", application.endpoint.reload_tls), ("diameter", application.reload_diameter_tls)):
            try:
                renew()
            except TlsSetupError as error:
                return ReloadOutcome("rejected", problems=(f"{name}.tls: {error}",))
        change = merge_configs(application.config, new)
        apply_settings(application, change.config)
        name = "applied" if change.applied else "unchanged"
        return ReloadOutcome(name, change.applied, change.needs_restart, warnings=tuple(map(str, warnings)))

    def _tell(self, outcome: ReloadOutcome) -> None:
        application = self._application
        application.metrics.config_reloads.labels(outcome.outcome).inc()
        log = application.log
        if outcome.outcome == "rejected":
            log.event("CONFIG_REJECTED", problems=list(outcome.problems[:MAX_TOLD]), count=len(outcome.problems))
            return
        for warning in outcome.warnings[:MAX_TOLD]:
            log.event("CONFIG_WARNING", problem=warning)
        log.event("CONFIG_RELOADED", outcome=outcome.outcome, applied=list(outcome.applied[:MAX_TOLD]))
        if outcome.needs_restart:
            log.event("CONFIG_NEEDS_RESTART", keys=list(outcome.needs_restart[:MAX_TOLD]))
