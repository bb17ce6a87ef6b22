"""rtpengine, a media proxy that we did not write, as transcoder: started on loopback, asked by its ng protocol.

In user space alone, without the kernel module and without its service; ended by its process.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Rtpengine", "bdecode", "bencode", "running_rtpengine", "supported_codecs"]

NG_PORT = 2223
PATIENCE_S = 5.0


def bencode(value: Any) -> bytes:
    """Of int, str, bytes, list and dict."""
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencode(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(type(value).__name__)


def bdecode(octets: bytes) -> Any:
    """Strings come as str."""
    value, end = _decode(octets, 0)
    if end != len(octets):
        raise ValueError("more than one value")
    return value


def _decode(octets: bytes, at: int) -> tuple[Any, int]:
    kind = octets[at : at + 1]
    if kind == b"i":
        end = octets.index(b"e", at)
        return int(octets[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while octets[at : at + 1] != b"e":
            item, at = _decode(octets, at)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        return dict(zip(items[::2], items[1::2], strict=True)), at + 1
    colon = octets.index(b":", at)
    end = colon + 1 + int(octets[at:colon])
    return octets[colon + 1 : end].decode(errors="replace"), end


class Rtpengine:
    """One that runs."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(0.2)
        self._socket.connect((host, NG_PORT))
        self._cookies = itertools.count(1)

    def command(self, name: str, **fields: Any) -> dict[str, Any]:
        """Raises AssertionError: it refuses; TimeoutError: it is silent."""
        cookie = b"%d" % next(self._cookies)
        named = {key.replace("_", "-"): value for key, value in fields.items()}
        self._socket.send(cookie + b" " + bencode({"command": name, **named}))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answered, _, body = self._socket.recv(65536).partition(b" ")
            except TimeoutError:
                continue
            if answered == cookie:
                reply: dict[str, Any] = bdecode(body)
                assert reply["result"] in ("ok", "pong"), reply
                return reply
        raise TimeoutError(name)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def running_rtpengine(host: str, folder: Path) -> Iterator[Rtpengine]:
    """Listens on that address of loopback alone."""
    options = [f"--interface={host}", f"--listen-ng={host}:{NG_PORT}", "--table=-1", "--foreground", "--log-stderr"]
    options += ["--port-min=30000", "--port-max=30999", "--config-file=none", "--log-level=5", "--num-threads=2"]
    with (folder / "rtpengine.log").open("wb") as log:
        process = subprocess.Popen(["rtpengine", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    engine = Rtpengine(host)
    try:
        _wait_ready(engine, process, folder)
        yield engine
    finally:
        engine.close()
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(engine: Rtpengine, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "rtpengine.log").read_text()
        try:
            engine.command("ping")
        except (ConnectionRefusedError, TimeoutError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError((folder / "rtpengine.log").read_text())


def supported_codecs() -> dict[str, str]:
    """What this build says of each codec."""
    lines = subprocess.run(["rtpengine", "--codecs"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name.strip(): said.strip() for name, _, said in (line.partition(":") for line in lines)}
