from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from conformance.lab.processes import ChildProcess, LabError, is_alive


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


READY = "import sys, time; print('{\"ready\": true}', flush=True); "


def test_ready_then_ended(tmp_path: Path):
    async def main() -> None:
        child = await ChildProcess.start("c", python(READY + "time.sleep(60)"), tmp_path / "log", wants_ready_line=True)
        assert await child.read_ready_line(10) == {"ready": True}
        assert child.is_running
        assert is_alive(child.pid)
        await child.end()
        assert not child.is_running
        assert not is_alive(child.pid)
        await child.end()

    trio.run(main)


def test_killed_even_when_it_does_not_want_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("conformance.lab.processes.END_DEADLINE_S", 0.2)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(60)"

    async def main() -> None:
        child = await ChildProcess.start("c", python(stubborn), tmp_path / "log", wants_ready_line=True)
        await child.read_ready_line(10)
        await child.end()
        assert not is_alive(child.pid)

    trio.run(main)


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit('no such address')", "print('hello')", "print('[1]')", "import time; time.sleep(9)"]
)
def test_what_does_not_get_ready_says_why(tmp_path: Path, code: str):
    async def main() -> None:
        child = await ChildProcess.start("agent", python(code), tmp_path / "log", wants_ready_line=True)
        try:
            deadline_s = 0.3 if "sleep" in code else 10
            with pytest.raises(LabError, match="agent") as failure:
                await child.read_ready_line(deadline_s)
            if "exit" in code:
                assert "no such address" in str(failure.value)
        finally:
            await child.end()

    trio.run(main)


def test_a_command_that_is_not_there(tmp_path: Path):
    async def main() -> None:
        with pytest.raises(LabError, match="cannot be started"):
            await ChildProcess.start("c", [str(tmp_path / "none")], tmp_path / "log")

    trio.run(main)


def test_kill(tmp_path: Path):
    async def main() -> None:
        child = await ChildProcess.start("c", python(READY + "time.sleep(60)"), tmp_path / "log", wants_ready_line=True)
        await child.read_ready_line(10)
        await child.kill()
        assert not is_alive(child.pid)

    trio.run(main)
