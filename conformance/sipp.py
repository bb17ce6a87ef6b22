"""SIPp through pysipp: a scenario file, a target, a bounded run and its verdict.

pysipp renders the command line; it was written for pluggy before 1.0 (whose PluginManager
took ``implprefix``), and its own runner leaves files and processes open, so both are replaced here.
"""

from __future__ import annotations

import shlex
import subprocess
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pluggy

__all__ = ["SippResult", "load_pysipp", "run_client"]

STOP_GRACE_S = 2.0
RECEIVE_LIMIT_MS = 5000
"""A message of the scenario that does not come within this fails the call."""
MAX_ERROR_CHARS = 65_536
"""Of the error log: the first errors tell, a failing load test writes megabytes."""


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


def run_client(
    scenario: Path,
    *,
    target: tuple[str, int],
    local: tuple[str, int],
    calls: int = 1,
    rate: int = 10,
    timeout_s: float = 30.0,
    transport: str = "u1",
    directory: Path | None = None,
) -> SippResult:
    """Runs a UAC scenario against target.  Blocks up to timeout_s (call it in a thread); SIPp ends within it.

    Args:
        scenario: the XML file.
        target, local: host and port.
        transport: SIPp's ``-t``: ``u1`` UDP, ``t1`` TCP.
        directory: where SIPp may leave its error log, which then comes with the result's errors.
    """
    pysipp = load_pysipp()
    client = pysipp.client(scen_file=str(scenario), destaddr=target, srcaddr=local)
    client.proxyaddr = target
    client.media_addr, client.media_port = local[0], 6000
    client.call_count, client.rate, client.limit = calls, rate, max(calls, 1)
    client.transport = transport
    client.recv_timeout = RECEIVE_LIMIT_MS
    error_log = None if directory is None else directory / "errors.log"
    if error_log is not None:
        client.trace_error, client.error_file = True, str(error_log)
    # not by calling the client: pysipp would leave log files in the system's folder, and print what went wrong
    command = client.render()
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    is_late = False
    try:
        _, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        is_late = True
        process.kill()
        _, stderr = process.communicate(timeout=STOP_GRACE_S)
    errors = stderr.decode("utf-8", "replace")
    if error_log is not None and error_log.exists():
        with error_log.open(encoding="utf-8", errors="replace") as log:
            errors = log.read(MAX_ERROR_CHARS)
    return SippResult(
        ok=process.returncode == 0 and not is_late, returncode=process.returncode, errors=errors, command=command
    )
