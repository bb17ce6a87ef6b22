"""A small world around one real server: a core that is caller, S-CSCF and phone in one, and a scripted engine.

The server is ``Application`` in the test's own loop with its real media worker process; everything speaks on loopback,
each world on a network of its own (127.P.N.x), so that tests do not meet. SIP goes over any transport (`Signalling`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

from ims_as.app import Application
from ims_as.config import Config, HostPort, Problem, read_config
from ims_as.sip.invite_session import InviteSession, Rejected, SessionEvent
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ResponseReceived, ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint
from ims_as.transport.tls import TlsOptions
from tests.support.certificates import Authority

__all__ = ["ALICE", "BOB", "IDENTITY", "Engine", "Leg", "RtpSocket", "Signalling", "World", "until", "world"]

ALICE, BOB = "sip:alice@ims.example.net", "sip:bob@ims.example.net"
SUPPORTED = ("100rel", "timer", "199", "replaces", "norefersub")
ALLOW = "INVITE, ACK, CANCEL, BYE, INFO, MESSAGE, NOTIFY, REFER, UPDATE"
IDENTITY = "sip:ai-as.ims.example.net"
E = TypeVar("E")
_networks = itertools.count(1)
WAIT_S = 5.0


async def until(condition: Callable[[], object]) -> None:
    """Waits for what no event tells: another process's or the kernel's state."""
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.sleep(0.005)


class RtpSocket:
    """A G.711 party."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.host, self.port = self.socket.getsockname()
        self._sequence = 100
        self._ssrc = b"UE" + self.port.to_bytes(2, "big")

    def offer(
        self,
        *,
        direction: str = "sendrecv",
        formats: str = "0 8 101",
        version: int = 1,
        event_type: int = 101,
        connection: str | None = None,
    ) -> bytes:
        """Also good for an answer.  ``event_type``: number of telephone-event; ``connection``: another c= address."""
        lines = ["v=0", f"o=ue 7 {version} IN IP4 {self.host}", "s=-", f"c=IN IP4 {connection or self.host}", "t=0 0"]
        lines += [f"m=audio {self.port} RTP/AVP {formats}", f"a=rtpmap:{event_type} telephone-event/8000", "a=ptime:20"]
        return ("\r\n".join([*lines, f"a={direction}"]) + "\r\n").encode()

    def send(self, host: str, port: int, packets: int = 1, *, payload_type: int = 0, sample: bytes = b"\xff") -> None:
        """Packets of 20 ms, all of one sample: silence in PCMU by default."""
        for _ in range(packets):
            self._send(host, port, payload_type, sample * 160, (self._sequence + 1) * 160)

    def send_digit(self, host: str, port: int, digit: int, *, payload_type: int = 101) -> None:
        """A telephone event of 100 ms (RFC 4733), its end three times."""
        timestamp = (self._sequence + 1) * 160
        for duration, end in ((160, 0), (480, 0), (800, 0x80), (800, 0x80), (800, 0x80)):
            payload = bytes([digit, end | 10]) + duration.to_bytes(2, "big")
            self._send(host, port, payload_type, payload, timestamp)

    def _send(self, host: str, port: int, payload_type: int, payload: bytes, timestamp: int) -> None:
        self._sequence += 1
        header = bytes([0x80, payload_type]) + self._sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        self.socket.sendto(header + self._ssrc + payload, (host, port))

    async def receive(self) -> bytes:
        with trio.fail_after(WAIT_S):
            await trio.lowlevel.wait_readable(self.socket)
        return self.socket.recv(2048)

    async def receive_type(self, payload_type: int) -> bytes:
        """The next packet of that payload type; others are thrown away."""
        with trio.fail_after(WAIT_S):
            while True:
                packet = await self.receive()
                if packet[1] & 0x7F == payload_type:
                    return packet

    def drain(self) -> int:
        """Throws away what has come; how many packets that were."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(2048)
                count += 1
        return count

    def close(self) -> None:
        self.socket.close()


@attrs.frozen
class Signalling:
    """How core and server speak SIP. With ``tls`` nothing else is listened on."""

    transport: str = "udp"
    ipv6: bool = False
    """All on ``::1``; media stay on IPv4."""
    authority: Authority | None = None
    """For ``tls``."""

    def listen(self, host: str, port: int) -> list[ListenAddress]:
        transports = ("tls",) if self.transport == "tls" else ("udp", "tcp")
        return [ListenAddress(transport, host, port) for transport in transports]

    def options(self, name: str, host: str) -> TlsOptions | None:
        return None if self.authority is None else self.authority.options(name, dns=[name], addresses=[host])

    @property
    def param(self) -> str:
        """Of URIs."""
        return "" if self.transport == "udp" else f";transport={self.transport}"


def _free_port(host: str) -> int:
    """On UDP and TCP."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as stream,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagram,
    ):
        stream.bind((host, 0))
        port: int = stream.getsockname()[1]
        datagram.bind((host, port))
        return port


@attrs.define(eq=False)
class Leg:
    """One dialog of the core with the server."""

    session: InviteSession
    events: list[SessionEvent] = attrs.Factory(list)
    _changed: trio.Event = attrs.Factory(trio.Event)

    def on_event(self, _: InviteSession, event: SessionEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, matches: Callable[[SessionEvent], bool]) -> Any:
        """The first event for which that holds, and that nobody has waited for yet."""
        with trio.fail_after(WAIT_S):
            while True:
                for index, event in enumerate(self.events):
                    if matches(event):
                        del self.events[index]
                        return event
                await self._changed.wait()

    async def wait(self, kind: type[E]) -> E:
        """The first event of that kind that nobody has waited for yet."""
        with trio.fail_after(WAIT_S):
            while True:
                for index, event in enumerate(self.events):
                    if isinstance(event, kind):
                        del self.events[index]
                        return event
                await self._changed.wait()


class Engine:
    """A scripted AI engine."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 9000
        self.connections: list[ServerConnection] = []
        self.events: list[dict[str, Any]] = []
        self.audio_bytes = 0
        self.echo = True
        self._scope: trio.CancelScope | None = None
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}/"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._serve)
                task_status.started()

    async def _serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await serve(
            self._handle,
            self.port,
            host=self.host,
            subprotocols=["ims-as.v1"],
            compression=None,
            task_status=task_status,
        )

    async def _handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            while True:
                message = await connection.recv()
                if isinstance(message, bytes):
                    self.audio_bytes += len(message)
                    if self.echo:
                        await connection.send(message)
                else:
                    self.events.append(json.loads(message))
                    self._changed.set()
                    self._changed = trio.Event()
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)

    async def wait(self, name: str) -> dict[str, Any]:
        with trio.fail_after(WAIT_S):
            while True:
                for index, event in enumerate(self.events):
                    if event["event"] == name:
                        del self.events[index]
                        return event
                await self._changed.wait()

    async def send(self, **event: Any) -> None:
        await self.connections[-1].send(json.dumps(event))

    def die(self) -> None:
        """Connections are cut without a closing handshake, and nothing listens any more."""
        for connection in self.connections:
            raw = connection.stream.socket  # type: ignore[attr-defined]
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        assert self._scope is not None
        self._scope.cancel()


DEFAULT_SIGNALLING = Signalling()


class World:
    """See the module."""

    def __init__(self, prefix: str, sip: Signalling = DEFAULT_SIGNALLING) -> None:
        self.prefix = prefix
        self.sip = sip
        self.engine = Engine(f"{prefix}.40")
        self.caller_rtp = RtpSocket(f"{prefix}.41")
        self.phone_rtp = RtpSocket(f"{prefix}.42")
        self.core_address = f"{prefix}.20"
        self.as_address = f"{prefix}.30"
        self.app: Application
        core, server = ((each, 5060) for each in (self.core_address, self.as_address))
        if sip.ipv6:
            core, server = (("::1", _free_port("::1")) for _ in range(2))
        self.core_sip, self.as_sip = HostPort(*core), HostPort(*server)
        """Where they listen for SIP."""
        self.core = Endpoint(
            listen=sip.listen(*core),
            tls=sip.options("core.ims.example.net", core[0]),
            hosts={"ai-as.ims.example.net": server},
        )
        self.agent = UserAgent(
            self.core,
            on_invite=self._on_invite,
            on_request=self._on_request,
            user_agent="",
            allow=ALLOW,
            supported=SUPPORTED,
        )
        self.core.user = self.agent
        self.overrides: tuple[str, ...] = ()
        """What a reload of the server reads besides the world's own."""
        self.phone: Callable[[Request, ServerTransaction], None] = self._not_expected
        self.arrived: list[Request] = []
        self.tasks: trio.Nursery

    @property
    def odi(self) -> str:
        return f"<sip:odi_x1y2@{self.core_sip}{self.sip.param};lr;s=2;h=0>"

    def config(self, *overrides: str) -> list[str]:
        tls = self.sip.options("ai-as.ims.example.net", self.as_sip.host)
        security = []
        if tls is not None:
            files = {"certificate": str(tls.certificate), "key": {"file": str(tls.key_file)}, "ca": str(tls.ca)}
            security = [f"sip.tls={json.dumps(files)}"]
        return [
            f"identity={IDENTITY}",
            "sip.listen=" + json.dumps([str(each) for each in self.sip.listen(*self.as_sip)]),
            'sip.trusted_peers=["127.0.0.0/8","::1/128"]',
            *security,
            f"media.address={self.as_address}",
            "media.ports=20000-20999",
            "media.codecs=[PCMA, PCMU]",
            "media.max_load=1",  # nor are its workers full
            "limits.latency_target_ms=0",  # a busy test machine is no overload
            f"api.listen={self.as_address}:8080",
            "agents=" + json.dumps({"default": {"engines": [{"type": "websocket", "url": self.engine.url}]}}),
            *overrides,
        ]

    def read_config(self) -> tuple[Config, list[Problem]]:
        return read_config(None, overrides=self.config(*self.overrides), environ={})

    def call(
        self,
        *,
        to: str = BOB,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
        odi: bool = True,
        transport: str | None = None,
        on_event: Callable[[InviteSession, SessionEvent], None] | None = None,
    ) -> Leg:
        """An INVITE over ISC, as an S-CSCF sends it."""
        route = [f"<{IDENTITY};lr;transport={transport or self.sip.transport}>", *([self.odi] if odi else [])]
        extra = [
            ("P-Served-User", f"<{to}>;sescase=term;regstate=reg"),
            ("P-Asserted-Identity", f"<{ALICE}>"),
            ("P-Charging-Vector", 'icid-value="icid-1";orig-ioi=home1.net'),
            *headers,
        ]
        leg = Leg.__new__(Leg)
        offer = self.caller_rtp.offer() if body is None else body
        Leg.__init__(leg, session=None)  # type: ignore[arg-type]
        leg.session = self.agent.invite(
            uri=to,
            from_=f"<{ALICE}>",
            to=f"<{to}>",
            route=route,
            headers=extra,
            body=offer,
            on_event=leg.on_event if on_event is None else on_event,
        )
        return leg

    def options(self, method: str = "OPTIONS", headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """A request outside of dialogs to the server."""
        uri = f"sip:{self.as_sip}{self.sip.param}"
        items = [("Max-Forwards", "70"), ("From", f"<{ALICE}>;tag={self.core.new_tag()}"), ("To", f"<{BOB}>")]
        items += [("Call-ID", self.core.new_call_id()), ("CSeq", f"1 {method}"), *headers]
        return Request(method, uri, items, body)

    async def request(self, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Response:
        """A request outside of dialogs to the server; its final response."""
        request = self.options(method, headers, body)
        done: list[Response] = []
        event = trio.Event()

        def on_event(each: object) -> None:
            if isinstance(each, ResponseReceived) and each.response.status >= 200:
                done.append(each.response)
                event.set()

        self.core.send_request(request, on_event=on_event)
        with trio.fail_after(WAIT_S):
            await event.wait()
        return done[0]

    async def invite_directly(self, headers: Sequence[tuple[str, str]] = ()) -> Response:
        """An INVITE without a Route behind us, as to a public service identity; its final response."""
        leg = self.call(odi=False, headers=headers)
        rejected = await leg.wait(Rejected)
        assert rejected.response is not None
        return rejected.response

    def answer_as_phone(self, *, ring: bool = True) -> trio.MemoryReceiveChannel[Leg]:
        """The next INVITEs that reach the core are answered by the phone; their legs come from the channel."""
        send, receive = trio.open_memory_channel[Leg](10)

        def answer(request: Request, transaction: ServerTransaction) -> None:
            leg = Leg(None)  # type: ignore[arg-type]
            leg.session = self.agent.accept(request, transaction, on_event=leg.on_event)
            if ring:
                leg.session.provisional(180)
            leg.session.answer(self.phone_rtp.offer())
            send.send_nowait(leg)

        self.phone = answer
        return receive

    def refuse_as_phone(self, status: int) -> None:
        self.phone = lambda request, transaction: self._refuse(request, transaction, status)

    def _refuse(self, request: Request, transaction: ServerTransaction, status: int) -> None:
        self.core.send_response(transaction, build_response(request, status))

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        self.arrived.append(request)
        self.phone(request, transaction)

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self._refuse(request, transaction, 405)

    def _not_expected(self, request: Request, transaction: ServerTransaction) -> None:
        self._refuse(request, transaction, 480)

    # ---------------------------------------------------------------- leaks

    async def until_idle(self) -> None:
        """Waits until nothing of any call is left in the server; fails when something is."""
        with contextlib.suppress(trio.TooSlowError):
            await until(lambda: not self._left() and not self.ports_bound())
        assert not self._left()
        assert not self.ports_bound()

    def _left(self) -> dict[str, int]:
        context = self.app.context
        stats = self.app.endpoint.stats
        left = {
            "calls": len(context.calls),
            "held": context.admission.held,
            "legs": context.media.legs,
            "dialogs": stats.dialogs,
            "engine": len(self.engine.connections),
        }
        return {name: count for name, count in left.items() if count}

    def ports_bound(self) -> list[int]:
        """RTP and RTCP ports of the server that are open, as the kernel sees it."""
        want = "".join(f"{int(part):02X}" for part in reversed(self.as_address.split(".")))
        ports = []
        with open("/proc/net/udp") as table:
            for line in list(table)[1:]:
                host, port = line.split()[1].split(":")
                if host == want and int(port, 16) >= 20000:
                    ports.append(int(port, 16))
        return ports


@asynccontextmanager
async def world(
    *overrides: str,
    engine: bool = True,
    timers: TimerConfig | None = None,
    make: Callable[[World], Sequence[str]] = lambda _: (),
    sip: Signalling = DEFAULT_SIGNALLING,
) -> AsyncIterator[World]:
    """A running world; at its end nothing of any call may be left.

    Args:
        timers: of the server's SIP.
        make: further overrides that need the world's addresses.
    """
    # after 254 worlds the first one is long gone
    here = World(f"127.{20 + os.getpid() % 200}.{next(_networks) % 254 + 1}", sip)
    async with trio.open_nursery() as nursery:
        here.tasks = nursery
        if engine:
            await nursery.start(here.engine.run)
        here.overrides = (*make(here), *overrides)
        here.app = Application(here.read_config()[0], here.read_config)
        if timers is not None:
            here.app.endpoint._layer.timers = timers
        await nursery.start(here.app.run)
        await nursery.start(here.core.run)
        try:
            yield here
            await here.until_idle()
        finally:
            here.caller_rtp.close()
            here.phone_rtp.close()
            nursery.cancel_scope.cancel()
