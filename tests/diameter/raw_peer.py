"""A Diameter peer that does exactly what a test says: one TCP stream, one message at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from diameter.avp import Avp, Avps
from diameter.base_commands import SH_APPLICATION, Application, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import DisconnectCause
from diameter.message import FLAG_ERROR, Message, decode_message_untrusted
from tests.diameter.support import HOST


class RawPeer:
    """One connection.

    Attributes:
        commands: builds base commands with the peer's identity.
        received: every message read so far.
    """

    def __init__(
        self, stream: trio.SocketStream, name: str = "raw", *applications: Application, realm: str = "realm"
    ) -> None:
        self.stream = stream
        self.commands = BaseCommands(name, realm, "raw", 0, 1, applications or (SH_APPLICATION,))
        self.received: list[Message] = []

    async def read(self) -> Message:
        """The next message; EOFError when the node closes."""
        frame = b""
        length = 4
        while len(frame) < length:
            try:
                chunk = await self.stream.receive_some(length - len(frame))
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                raise EOFError
            frame += chunk
            if len(frame) >= 4:
                length = int.from_bytes(frame[1:4])
        message = decode_message_untrusted(frame)
        self.received.append(message)
        return message

    async def read_code(self, code: int) -> Message:
        """The next message of that command; DWRs before it are answered."""
        while (message := await self.read()).code != code:
            if message.code == 280 and message.is_request:
                await self.send(self.commands.dwa(message))
        return message

    async def is_closed(self) -> bool:
        """True when the node closes without another message."""
        try:
            await self.read()
        except EOFError:
            return True
        return False

    async def send(self, message: Message) -> None:
        await self.stream.send_all(message.encode())

    async def answer(self, request: Message, result: int, *extra: Avp | None, origin_host: str | None = None) -> None:
        """An answer with E for 3xxx."""
        identity = (
            self.commands.identity()
            if origin_host is None
            else [base.ORIGIN_HOST.avp(origin_host), base.ORIGIN_REALM.avp("realm")]
        )
        is_error = 3000 <= result < 4000
        await self.send(request.build_answer([base.RESULT_CODE.avp(result), *identity, *extra], is_error=is_error))

    async def open(self) -> Message:
        """CER and CEA as the side that connects."""
        await self.send(self.commands.cer(HOST))
        return await self.read()

    async def accept(self, *extra: Avp) -> Message:
        """CER and CEA as the side that listens; gives the CER."""
        cer = await self.read()
        cea = self.commands.cea(cer, HOST, 2001)
        await self.send(Message(cea.code, 0, cea.flags, Avps([*cea.avps, *extra]), cea.hop_by_hop, cea.end_to_end))
        return cer

    async def refuse(self, result: int) -> None:
        """CER and a CEA with an error; then waits for the end."""
        cea = self.commands.cea(await self.read(), HOST, result)
        flags = cea.flags | FLAG_ERROR if 3000 <= result < 4000 else cea.flags
        await self.send(Message(cea.code, 0, flags, cea.avps, cea.hop_by_hop, cea.end_to_end))
        await self.is_closed()

    async def leave(self, cause: DisconnectCause) -> None:
        """DPR, DPA, end."""
        await self.send(self.commands.dpr(cause))
        await self.read_code(282)
        await self.stream.aclose()


async def connect_raw(
    nursery: trio.Nursery, address: tuple[str, int], name: str = "raw", *applications: Application
) -> RawPeer:
    """Connects to a node; no message yet. The stream is closed with the nursery."""

    async def hold(*, task_status: trio.TaskStatus[trio.SocketStream] = trio.TASK_STATUS_IGNORED) -> None:
        async with await trio.open_tcp_stream(*address) as stream:
            task_status.started(stream)
            await trio.sleep_forever()

    return RawPeer(await nursery.start(hold), name, *applications)


async def listen_raw(
    nursery: trio.Nursery,
    script: Callable[[RawPeer], Awaitable[None]],
    name: str = "raw",
    *applications: Application,
    realm: str = "realm",
    host: str = HOST,
    port: int = 0,
) -> tuple[str, int]:
    """Runs `script` for each connection that a node opens; EOF ends it."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
                await script(RawPeer(stream, name, *applications, realm=realm))

    listeners = await trio.open_tcp_listeners(port, host=host)
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    found: int = listeners[0].socket.getsockname()[1]
    return host, found
