"""SIPp through pysipp: a scenario file, a target, a bounded run and its verdict.

pysipp renders the command line; it was written for pluggy before 1.0 (whose PluginManager
took ``implprefix``), and its own runner leaves files and processes open, so both are replaced here.
"""

from __future__ import annotations

import functools
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pluggy
import trio

from conformance.case import DEFAULT_KEYS

__all__ = ["Sipp", "SippResult", "load_pysipp", "run_client"]

STOP_GRACE_S = 2.0
RECEIVE_LIMIT_MS = 4000
"""A message of the scenario that does not come within this fails the call, unless the scenario says otherwise."""
MAX_LOG_CHARS = 262_144
"""Of each log: the first errors tell, a failing load test writes megabytes."""

Address = tuple[str, int]


@attrs.frozen
class SippResult:
    """ok: SIPp's exit status was 0 (all calls as the scenario says) and it ended in time."""

    ok: bool
    returncode: int | None
    """None: stopped, at the time limit or because nobody waited for it any more."""
    errors: str
    command: str
    messages: str = ""
    """Its message log."""


class _PrefixPluginManager(pluggy.PluginManager):
    """pluggy before 1.0: an unmarked function is a hook when its name begins with the prefix."""

    def __init__(self, project_name: str, implprefix: str | None = None) -> None:
        super().__init__(project_name)
        self._prefix = implprefix

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and self._prefix and name.startswith(self._prefix) and callable(getattr(plugin, name)):
            return {}
        return options


@functools.cache
def load_pysipp() -> ModuleType:
    """Imports pysipp under the pluggy of today."""
    modern = pluggy.PluginManager
    pluggy.PluginManager = _PrefixPluginManager  # type: ignore[misc]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it imports imp and distutils
            import pysipp
    finally:
        pluggy.PluginManager = modern  # type: ignore[misc]
    module: ModuleType = pysipp
    return module


@attrs.frozen
class Sipp:
    """One run of SIPp: what it plays, where, and against whom."""

    scenario: Path
    local: Address
    directory: Path
    """Where its logs go."""
    target: Address | None = None
    """None: it waits for the first request, as the next hop does."""
    send_to: Address | None = None
    """Where its packets go when that is not the target itself."""
    transport: str = "u1"
    """SIPp's ``-t``: ``u1`` UDP, ``t1`` TCP."""
    keys: Mapping[str, str] = DEFAULT_KEYS
    """Keywords of the scenario."""
    media_port: int = 6000
    calls: int = 1
    rate: int = 10
    retransmit: bool = True
    """False: it sends nothing twice by itself, and each copy that comes is a message of the scenario."""

    @property
    def _log(self) -> Path:
        return self.directory / f"{self.scenario.stem}-messages.log"

    @property
    def _errors(self) -> Path:
        return self.directory / f"{self.scenario.stem}-errors.log"

    @property
    def _stderr(self) -> Path:
        return self.directory / f"{self.scenario.stem}-stderr.log"

    def command(self) -> str:
        """Its command line."""
        pysipp = load_pysipp()
        if self.target is None:
            agent = pysipp.server(scen_file=str(self.scenario), srcaddr=self.local)
        else:
            agent = pysipp.client(scen_file=str(self.scenario), destaddr=self.target, srcaddr=self.local)
            agent.proxyaddr = self.send_to or self.target
            agent.rate, agent.limit = self.rate, max(self.calls, 1)
        agent.recv_timeout = RECEIVE_LIMIT_MS
        agent.media_addr, agent.media_port = self.local[0], self.media_port
        agent.call_count = self.calls
        agent.transport = self.transport
        agent.key_vals = dict(self.keys)
        agent.trace_error, agent.error_file = True, str(self._errors)
        agent.trace_message, agent.message_file = True, str(self._log)
        # not by calling the agent: pysipp would leave log files in the system's folder, and print what went wrong
        command: str = agent.render()
        return command if self.retransmit else f"{command} -nr"

    async def run(self, timeout_s: float) -> SippResult:
        """Runs it to its end, within timeout_s; when cancelled it is killed, and `result` says how far it came.

        Raises:
            OSError: it cannot be started.
        """
        command = self.command()
        with self._stderr.open("wb") as stderr:
            process = await trio.lowlevel.open_process(
                shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
        try:
            with trio.move_on_after(timeout_s):
                await process.wait()
        finally:
            is_stopped = process.poll() is None
            if is_stopped:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        code = None if is_stopped else process.returncode
        return self.result(code)

    def result(self, returncode: int | None) -> SippResult:
        """What a run has left; also of one that was cancelled."""
        errors = _read(self._errors) or _read(self._stderr)
        return SippResult(returncode == 0, returncode, errors, self.command(), _read(self._log))


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", errors="replace", newline="") as log:
        return log.read(MAX_LOG_CHARS)


def run_client(
    scenario: Path,
    *,
    target: Address,
    local: Address,
    calls: int = 1,
    rate: int = 10,
    timeout_s: float = 30.0,
    transport: str = "u1",
) -> SippResult:
    """Runs a UAC scenario against target.  Blocks up to timeout_s (call it in a thread); SIPp ends within it."""
    with tempfile.TemporaryDirectory(prefix="ims-as-conformance-") as directory:
        sipp = Sipp(scenario, local, Path(directory), target=target, calls=calls, rate=rate, transport=transport)
        return trio.run(sipp.run, timeout_s)
