"""python-diameter in its own environment (`make peers`): its import name is ours, so it only ever runs as a program."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

__all__ = ["Codec", "Peer", "peers_python", "running_peer"]

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "peers"
END_S = 5.0
ANSWER_S = 15.0


def peers_python() -> str:
    """The interpreter of .venv-peers. Fails the test when nobody has made it."""
    python = ROOT / ".venv-peers" / "bin" / "python"
    assert (ROOT / ".venv-peers" / ".installed").exists(), "run `make peers` first (`make test` does)"
    return str(python)


def command(program: str, *arguments: str) -> list[str]:
    """Isolated: neither PYTHONPATH nor the directory of the script may lead it to our package of the same name."""
    return [peers_python(), "-I", "-u", str(PROGRAMS / program), *arguments]


class Codec:
    """The codec as a child: a question, an answer."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            command("python_diameter_codec.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Fails the test with what python-diameter has raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def decode(self, frame: bytes) -> dict[str, Any]:
        return self.ask({"decode": frame.hex()})

    def samples(self) -> dict[str, bytes]:
        """Messages that its typed classes have built."""
        return {name: bytes.fromhex(text) for name, text in self.ask({"samples": True}).items()}


class Peer:
    """A python-diameter node as a child: a line of JSON each way."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def ask(self, **question: Any) -> Any:
        """What the program answers."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(question).encode() + b"\n")
        return await self.read_line()

    async def read_line(self) -> Any:
        assert self._process.stdout is not None
        with trio.fail_after(ANSWER_S):
            while b"\n" not in self._buffer:
                chunk = await self._process.stdout.receive_some(1 << 16)
                assert chunk, "the program has ended"
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        """As when its machine dies."""
        self._process.kill()


@asynccontextmanager
async def running_peer(program: str, *arguments: str) -> AsyncIterator[Peer]:
    """The program of tests/support/peers, ready; killed at the end, for its node takes seconds to stop."""
    process = await trio.lowlevel.open_process(
        command(program, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    peer = Peer(process)
    try:
        assert await peer.read_line() == "ready"
        yield peer
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()
