"""SIPp through pysipp: a scenario file, a target, a bounded run and its verdict.

pysipp renders the command line and the default arguments; it was written for pluggy before 1.0 (whose PluginManager
took ``implprefix``), and its own runner leaves files and processes open, so both are replaced here.
"""

from __future__ import annotations

import shlex
import subprocess
import warnings
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import attrs
import pluggy

__all__ = ["SippResult", "load_pysipp", "run_client"]

STOP_GRACE_S = 2.0


class _Streams(NamedTuple):
    stdout: bytes
    stderr: bytes


@attrs.frozen
class SippResult:
    """ok: SIPp's exit status was 0 (all calls as the scenario says) and it ended in time."""

    ok: bool
    returncode: int | None
    errors: str
    command: str


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


@attrs.define
class _BoundedRunner:
    """What pysipp calls to run its commands: each to its end, or to the deadline."""

    timeout_s: float
    processes: OrderedDict[str, Any] = attrs.Factory(OrderedDict)
    timed_out: bool = False

    def __call__(self, commands: list[str], **options: Any) -> OrderedDict[str, Any]:
        for command in commands:
            process = subprocess.Popen(
                shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                _, errors = process.communicate(timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                self.timed_out = True
                process.kill()
                _, errors = process.communicate(timeout=STOP_GRACE_S)
            process.streams = _Streams(b"", errors)  # type: ignore[attr-defined]
            self.processes[command] = process
        return self.processes

    def get(self, timeout: float | None = None) -> OrderedDict[str, Any]:
        return self.processes


def run_client(
    scenario: Path,
    *,
    target: tuple[str, int],
    local: tuple[str, int],
    calls: int = 1,
    rate: int = 10,
    timeout_s: float = 30.0,
    transport: str = "u1",
) -> SippResult:
    """Runs a UAC scenario against target.  Blocks up to timeout_s (call it in a thread); SIPp ends within it.

    Args:
        scenario: the XML file.
        target, local: host and port.
        transport: SIPp's ``-t``: ``u1`` UDP, ``t1`` TCP.
    """
    pysipp = load_pysipp()
    client = pysipp.client(scen_file=str(scenario), destaddr=target, srcaddr=local)
    client.proxyaddr = target
    client.media_addr, client.media_port = local[0], 6000
    client.call_count, client.rate, client.limit = calls, rate, max(calls, 1)
    client.transport = transport
    runner = _BoundedRunner(timeout_s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its report of a failed run uses Logger.warn
        client(runner=runner, raise_exc=False, timeout=timeout_s)
    command, process = next(iter(runner.processes.items()))
    return SippResult(
        ok=process.returncode == 0 and not runner.timed_out,
        returncode=process.returncode,
        errors=process.streams.stderr.decode("utf-8", "replace"),
        command=command,
    )
