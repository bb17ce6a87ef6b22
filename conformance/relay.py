"""A man in the middle between a case and the target, who does what the faults say and else changes nothing.

Each side of each SIPp instance gets a socket.  The address that SIPp writes into Via and Contact is exchanged for the
relay's on the way to the target and back again on the way to the case, so that both see what they would see without it:

    SIPp ──▶ near │ relay │ far ──▶ target ──▶ next hop │ relay │ ──▶ SIPp as next hop

On a stream the relay reads whole messages, and swallows keep-alives.  Towards the target it may speak TLS where SIPp,
which as packaged cannot, speaks TCP.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Awaitable, Callable

import attrs
import trio

from conformance.fault import Emission, FaultyLink

__all__ = ["Address", "Relay"]

MAX_DATAGRAM_BYTES = 65_535
MAX_MESSAGE_BYTES = 1 << 20
CONNECT_DEADLINE_S = 3.0

Address = tuple[str, int]

_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d{1,9})", re.IGNORECASE | re.MULTILINE)


def _port(address: Address) -> bytes:
    """As it stands behind a host; the port alone, since a Via may have a name for our host."""
    return b":%d" % address[1]


@attrs.define(eq=False)
class Relay:
    """``await nursery.start(relay.run)``, then give SIPp `near` as the address to send to.

    Args:
        link: what happens to the messages.
        target: the server under test.
        case: where the SIPp instance listens that begins the case.
        next_hop: where the one listens that plays the next hop, if any; always by UDP.
        tls: for a target that speaks TLS; the transport is then TCP on the case's side.
    """

    link: FaultyLink
    target: Address
    case: Address
    transport: str
    """``udp``, ``tcp`` or ``tls``, towards the target."""
    next_hop: Address | None = None
    tls: ssl.SSLContext | None = None
    near: Address = ("", 0)
    """Where the case is to send."""
    _n_pongs: int = 0
    _outward: list[tuple[bytes, bytes]] = attrs.Factory(list)
    _nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled.  Raises OSError when no socket can be had."""
        host = self.case[0]
        sockets: list[trio.socket.SocketType] = []

        async def udp() -> trio.socket.SocketType:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = trio.socket.socket(family, socket.SOCK_DGRAM)
            sockets.append(made)
            await made.bind((host, 0))
            return made

        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self.next_hop is not None:
                    far, near = await udp(), await udp()
                    self._outward.append((_port(self.next_hop), _port(far.getsockname()[:2])))
                    nursery.start_soon(self._carry, far, near, "peer", "from-peer", self.next_hop)
                if self.transport == "udp":
                    near, far = await udp(), await udp()
                    self.near = near.getsockname()[:2]
                    self._outward.append((_port(self.case), _port(far.getsockname()[:2])))
                    nursery.start_soon(self._carry, near, far, "to", "from", self.target)
                else:
                    listeners = await trio.open_tcp_listeners(0, host=host)
                    self.near = listeners[0].socket.getsockname()[:2]
                    nursery.start_soon(trio.serve_listeners, self._serve_case, listeners)
                    if self.tls is None:
                        listeners = await trio.open_tcp_listeners(0, host=host)
                        self._outward.append((_port(self.case), _port(listeners[0].socket.getsockname())))
                        nursery.start_soon(trio.serve_listeners, self._serve_target, listeners)
                    else:  # a target that is asked for TLS must use the connection that is there (RFC 5923)
                        self._outward.append((b"SIP/2.0/TCP", b"SIP/2.0/TLS"))
                        self._outward.append((b"transport=tcp", b"transport=tls"))
                task_status.started()
                await trio.sleep_forever()
        finally:
            for each in sockets:
                each.close()

    @property
    def n_unanswered_pings(self) -> int:
        """Keep-alives that were sent on a stream and not answered (RFC 5626 §3.5.1); datagrams want no answer."""
        return 0 if self.transport == "udp" else max(0, self.link.n_pings - self._n_pongs)

    # ---------------------------------------------------------------- addresses

    def _rename(self, data: bytes, *, outward: bool) -> bytes:
        """outward: towards the target."""
        for ours, theirs in self._outward:
            data = data.replace(ours, theirs) if outward else data.replace(theirs, ours)
        return data

    # ---------------------------------------------------------------- datagrams

    async def _carry(
        self, one: trio.socket.SocketType, other: trio.socket.SocketType, there: str, back: str, address: Address
    ) -> None:
        """What `one` receives leaves by `other` to the address, and the other way round to who sent last."""
        sources: list[Address] = [("", 0)]

        async def forth() -> None:
            while True:
                data, sources[0] = await one.recvfrom(MAX_DATAGRAM_BYTES)
                await self._send(there, data, lambda each: other.sendto(each, address), one, sources[0])

        async def and_back() -> None:
            while True:
                data, sender = await other.recvfrom(MAX_DATAGRAM_BYTES)
                await self._send(back, data, lambda each: one.sendto(each, sources[0]), other, sender)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forth)
            nursery.start_soon(and_back)

    async def _send(
        self,
        side: str,
        data: bytes,
        send: Callable[[bytes], Awaitable[object]],
        from_socket: trio.socket.SocketType,
        sender: Address,
    ) -> None:
        outward = side in ("to", "from-peer")
        assert self._nursery is not None
        for emission in self.link.pass_on(side, data):
            if emission.back:
                await from_socket.sendto(emission.data, sender)
            elif emission.delay_s:
                self._nursery.start_soon(self._send_later, emission, send, outward)
            else:
                await send(self._rename(emission.data, outward=outward))

    async def _send_later(self, emission: Emission, send: Callable[[bytes], Awaitable[object]], outward: bool) -> None:
        await trio.sleep(emission.delay_s)
        await send(self._rename(emission.data, outward=outward))

    # ---------------------------------------------------------------- streams

    async def _serve_case(self, near: trio.SocketStream) -> None:
        far: trio.SocketStream | trio.SSLStream[trio.SocketStream] = await self._connect(self.target)
        if self.tls is not None:
            assert isinstance(far, trio.SocketStream)
            far = trio.SSLStream(far, self.tls, server_hostname=self.target[0], https_compatible=True)
        await self._join(near, far)

    async def _serve_target(self, far: trio.SocketStream) -> None:
        """The target opens a connection of its own, towards the case's Contact or Route."""
        await self._join(await self._connect(self.case), far)

    async def _connect(self, address: Address) -> trio.SocketStream:
        with trio.fail_after(CONNECT_DEADLINE_S):
            return await trio.open_tcp_stream(*address, local_address=self.case[0])

    async def _join(self, near: trio.abc.Stream, far: trio.abc.Stream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, "to")
                nursery.start_soon(self._pump, far, near, "from")
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # one of them is gone; so is the other, then
        finally:
            await trio.aclose_forcefully(far)
            await trio.aclose_forcefully(near)

    async def _pump(self, source: trio.abc.Stream, sink: trio.abc.Stream, side: str) -> None:
        buffer = bytearray()
        while chunk := await source.receive_some(65_536):
            buffer += chunk
            while (message := self._next_message(buffer, side)) is not None:
                await self._send_on_stream(side, message, source, sink)
        raise trio.BrokenResourceError(f"{side}: closed")

    def _next_message(self, buffer: bytearray, side: str) -> bytes | None:
        """Takes one message off the buffer when it is whole, and every keep-alive before it."""
        size = len(buffer) - len(buffer.lstrip(b"\r\n"))
        if size:
            del buffer[:size]
            self._n_pongs += side == "from"
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        found = _LENGTH.search(buffer, 0, end + 2)
        size = end + 4 + (int(found[1]) if found else 0)
        if size > MAX_MESSAGE_BYTES or len(buffer) < size:
            return None
        message = bytes(buffer[:size])
        del buffer[:size]
        return message

    async def _send_on_stream(self, side: str, message: bytes, source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        elapsed = 0.0
        for emission in self.link.pass_on(side, message):
            if emission.delay_s > elapsed:  # a stream keeps its order
                await trio.sleep(emission.delay_s - elapsed)
                elapsed = emission.delay_s
            if emission.back:
                await source.send_all(emission.data)
            else:
                await sink.send_all(self._rename(emission.data, outward=side == "to"))
