"""Child processes of the lab: started with a log file, ended by their own pid, never left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import trio

__all__ = ["ChildProcess", "LabError", "is_alive"]

END_DEADLINE_S = 3.0
MAX_READY_BYTES = 4096


class LabError(Exception):
    """A part of the lab could not be started, or did not do what it must."""


class ChildProcess:
    """A running child.  Its standard error, and its output where no ready line is read, go to ``log``."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], log: Path, *, wants_ready_line: bool = False
    ) -> ChildProcess:
        """Raises LabError when it cannot be started."""
        with log.open("ab") as output:
            try:
                process = await trio.lowlevel.open_process(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if wants_ready_line else output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for us; we end our children in order
                )
            except OSError as error:
                raise LabError(f"{name} cannot be started: {error}") from error
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    async def read_ready_line(self, deadline_s: float) -> dict[str, object]:
        """The first line of its output, a JSON object.  Raises LabError."""
        assert self._process.stdout is not None
        line = b""
        with trio.move_on_after(deadline_s):
            while not line.endswith(b"\n") and len(line) < MAX_READY_BYTES:
                chunk = await self._process.stdout.receive_some(MAX_READY_BYTES)
                if not chunk:
                    break
                line += chunk
        try:
            ready = json.loads(line)
        except ValueError as error:
            raise LabError(f"{self.name} did not get ready{self.last_words()}") from error
        if not isinstance(ready, dict):
            raise LabError(f"{self.name} said {line!r}")
        return ready

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        try:
            text = self._log.read_text("utf-8", "replace").strip()
        except OSError:
            return ""
        return f": … {text[-600:]}" if text else ""

    async def kill(self) -> None:
        """SIGKILL, as when the machine's memory runs out.  Waits until it is gone."""
        self._process.kill()
        await self._process.wait()
        await self._close()

    async def end(self) -> None:
        """SIGTERM, and SIGKILL when it does not go.  Runs to its end even when cancelled."""
        with trio.CancelScope(shield=True):
            if self.is_running:
                self._process.terminate()
                with trio.move_on_after(END_DEADLINE_S):
                    await self._process.wait()
            if self.is_running:
                self._process.kill()
                await self._process.wait()
            await self._close()

    async def _close(self) -> None:
        if self._process.stdout is not None:
            await self._process.stdout.aclose()


def is_alive(pid: int) -> bool:
    """Whether such a process exists."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
