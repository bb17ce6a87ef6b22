"""rtpengine, a media relay that we did not write, as a peer: its process and the few commands of its ng protocol."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

__all__ = ["Rtpengine", "rtpengine"]

NG_PORT = 2223
Value = dict[str, "Value"] | list["Value"] | str | bytes | int


def bencode(value: Value) -> bytes:
    match value:
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(each) for key, each in sorted(value.items())) + b"e"
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case int():
            return b"i%de" % value
        case str():
            return bencode(value.encode())
        case bytes():
            return b"%d:%b" % (len(value), value)


def bdecode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value at ``at`` and where it ends; strings are bytes, keys text."""
    match data[at : at + 1]:
        case b"i":
            end = data.index(b"e", at)
            return int(data[at + 1 : end]), end + 1
        case b"l" | b"d":
            items, place = [], at + 1
            while data[place : place + 1] != b"e":
                item, place = bdecode(data, place)
                items.append(item)
            if data[at : at + 1] == b"l":
                return items, place + 1
            keys = (key.decode() for key in items[::2])
            return dict(zip(keys, items[1::2], strict=True)), place + 1
        case _:
            colon = data.index(b":", at)
            start = colon + 1
            end = start + int(data[at:colon])
            return data[start:end], end


class Rtpengine:
    """Commands to a running rtpengine, each answered or raised as RuntimeError."""

    def __init__(self, host: str, sock: trio.socket.SocketType) -> None:
        self._address = host, NG_PORT
        self._socket = sock
        self._cookies = itertools.count(1)

    async def command(self, name: str, **fields: Value) -> dict[str, Any]:
        """``_`` in names of fields stands for ``-``."""
        cookie = b"%d" % next(self._cookies)
        message: dict[str, Value] = {"command": name, **{key.replace("_", "-"): each for key, each in fields.items()}}
        with trio.fail_after(10):
            while True:
                await self._socket.sendto(cookie + b" " + bencode(message), self._address)
                with trio.move_on_after(0.5):
                    data, _ = await self._socket.recvfrom(65536)
                    known, _, body = data.partition(b" ")
                    if known == cookie:
                        break
        reply, _ = bdecode(body)
        if reply["result"] == b"error":
            raise RuntimeError(reply["error-reason"].decode())
        return dict(reply)


@asynccontextmanager
async def rtpengine(host: str, folder: Path) -> AsyncIterator[Rtpengine]:
    """The program on one address, without the kernel's help; its log in ``folder``."""
    command = ["rtpengine", "--foreground", "--log-stderr", "--table=-1", "--config-file=none", "--log-level=6"]
    command += [f"--interface={host}", f"--listen-ng={host}:{NG_PORT}", "--port-min=23000", "--port-max=23999"]
    with (folder / "rtpengine.log").open("wb") as log, trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((host, 0))
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            peer = Rtpengine(host, sock)
            await peer.command("ping")
            yield peer
        finally:
            process.terminate()
            with trio.move_on_after(5, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()
