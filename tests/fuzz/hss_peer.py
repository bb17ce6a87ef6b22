"""A target behind the framing: a whole node with its Sh client, told mutated messages by the HSS it is connected to.

The node runs in a thread of its own under a clock that is moved by hand; an input is handed over and waited for. Before
each one a profile and an update are asked for, so that answers find somebody who waits for them.
"""

from __future__ import annotations

import queue
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import trio
import trio.testing

from diameter.base_commands import CX_APPLICATION, SH_APPLICATION, BaseCommands
from diameter.errors import DiameterError
from diameter.message import FLAG_REQUEST, Message, decode_message_untrusted
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig, ShProfile
from diameter.sh.errors import ShError
from diameter.transport import Connection
from tests.fuzz.diameter import whole
from tests.fuzz.diameter_seeds import AGENT_MESSAGES, BASE_MESSAGES, SH_MESSAGES

__all__ = ["HSS_PEER_SEEDS", "HssPeerFuzzer"]

BOB = "sip:bob@example.net"
ROUND = 100
"""Inputs that one node gets."""
MAX_FRAMES = 40
MAX_REASONS = 150
"""Names of counters: none may be made of what a peer sends."""
_HSS = BaseCommands("hss.example.net", "example.net", "hss", 10415, 7, (SH_APPLICATION, CX_APPLICATION))
_UDA, _SNA, _PNR = SH_MESSAGES[4], SH_MESSAGES[10], SH_MESSAGES[3]
HSS_PEER_SEEDS = (
    *SH_MESSAGES,
    *BASE_MESSAGES,
    *AGENT_MESSAGES,
    *(each + _UDA for each in AGENT_MESSAGES),
    _UDA + _PNR,
    _PNR + _UDA + _SNA,
    _UDA + _UDA,
    b"".join(BASE_MESSAGES[2:4]) + _UDA,
    b"".join(SH_MESSAGES[3:]),
    _UDA + BASE_MESSAGES[4] + _PNR,
)


class _Line(Connection):
    """A connection without a socket."""

    def __init__(self) -> None:
        with socket.socket() as unused:
            super().__init__(unused, "hss")
        self.sent: list[bytes] = []
        self._on_frame: Callable[[bytes], None] | None = None
        self._closed = trio.Event()

    @property
    def local_host(self) -> str:
        return "127.0.0.30"

    def vouches_for(self, origin_host: str) -> bool:
        return True

    def send(self, frame: bytes) -> bool:
        if not self._is_closed:
            self.sent.append(frame)
        return not self._is_closed

    async def run(self, on_frame: Callable[[bytes], None]) -> None:
        self._on_frame = on_frame
        await self._closed.wait()

    def close(self) -> None:
        self._is_closed = True
        self._closed.set()

    def feed(self, frame: bytes) -> None:
        if not self._is_closed and self._on_frame is not None:
            self._on_frame(frame)


class HssPeerFuzzer:
    """See the module."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._inputs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def read(self, data: bytes) -> None:
        """Raises what the node raised, or what does not hold."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._inputs.put(data)
        error = self._outcomes.get()
        if error is not None:
            self._thread.join()
            self._thread = None
            raise error

    def _run(self) -> None:
        clock = trio.testing.MockClock()
        try:
            while True:
                trio.run(self._one_node, clock, clock=clock)
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self._outcomes.put(error)

    async def _one_node(self, clock: trio.testing.MockClock) -> None:
        async with trio.open_nursery() as nursery:
            peer = _Peer(clock, nursery)
            await peer.start()
            for _ in range(ROUND):
                # the whole loop stands still until there is an input
                await peer.receive(self._inputs.get())
                self._outcomes.put(None)
            nursery.cancel_scope.cancel()


class _Peer:
    def __init__(self, clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
        self._clock = clock
        self._nursery = nursery
        self._line = _Line()
        self._answered: set[bytes] = set()

        async def on_request(message: Message, _: str) -> Message | None:
            return self._client.receive_push(message)

        self._node = DiameterNode(
            NodeConfig(origin_host="as.example.net", origin_realm="example.net", peers=(PeerConfig("hss"),)),
            on_request=on_request,
            clock=lambda: 1_700_000_000.0,
        )
        self._node._connector.connect = self._connect  # type: ignore[method-assign]
        config: dict[str, Any] = {"cache_s": 0.0, "negative_cache_s": 0.0, "max_users": 50}
        self._client = ShClient(
            self._node,
            ShConfig(
                destination_realm="example.net", server_name="sip:as.example.net", service_indication="ai", **config
            ),
            wall=lambda: 1_700_000_000.0,
        )

    async def start(self) -> None:
        await self._nursery.start(self._node.run)
        await self._nursery.start(self._client.run)
        await trio.testing.wait_all_tasks_blocked()

    async def receive(self, data: bytes) -> None:
        if not self._node.is_open():
            self._clock.jump(70.0)  # longer than any wait for a new connection
            await trio.testing.wait_all_tasks_blocked()
            if zlib.crc32(data) & 3:  # else what comes finds us waiting for the CEA
                self._welcome()
        outcomes: list[object] = []
        async with trio.open_nursery() as asking:
            asking.start_soon(self._ask, outcomes, lambda: self._client.fetch(BOB))
            asking.start_soon(self._ask, outcomes, lambda: self._client.update_repository(BOB, b"<a/>"))
            await trio.testing.wait_all_tasks_blocked()
            for frame in _frames(data):
                self._line.feed(self._fit(frame))
            await trio.testing.wait_all_tasks_blocked()
            # longer than the budget and any deadline; what follows an answer has another one
            for _ in range(8):
                if len(outcomes) == 2:
                    break
                self._clock.jump(5.0)
                await trio.testing.wait_all_tasks_blocked()
            assert len(outcomes) == 2, "somebody waits for ever"
        self._check(outcomes)

    def _check(self, outcomes: list[object]) -> None:
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, int | ShProfile | ShError), outcome
        assert self._node.n_pending <= 4, "only subscriptions may be under way"
        assert len(self._node.counters) < MAX_REASONS, self._node.counters
        for frame in self._line.sent:
            decode_message_untrusted(frame)
        self._line.sent.clear()
        self._answered.clear()

    async def _ask(self, outcomes: list[object], ask: Callable[[], Any]) -> None:
        try:
            outcomes.append(await ask())
        except DiameterError as error:
            outcomes.append(error)

    async def _connect(self, _: object) -> Connection:
        self._line = _Line()
        return self._line

    def _welcome(self) -> None:
        if self._line.sent:
            cer = decode_message_untrusted(self._line.sent[0])
            self._line.feed(_HSS.cea(cer, "127.0.0.10", 2001).encode())

    def _fit(self, frame: bytes) -> bytes:
        """An answer gets the hop-by-hop id of our first unanswered request of that command, unless it has its own."""
        if len(frame) < 20 or frame[4] & FLAG_REQUEST or int.from_bytes(frame[12:16]) > 0xFFFF:
            return frame
        for sent in self._line.sent:
            if sent[4] & FLAG_REQUEST and sent[5:8] == frame[5:8] and sent[12:16] not in self._answered:
                self._answered.add(sent[12:16])
                return frame[:12] + sent[12:16] + frame[16:]
        return frame


def _frames(data: bytes) -> Iterator[bytes]:
    for _ in range(MAX_FRAMES):
        if len(data) < 20:
            break
        length = int.from_bytes(data[1:4])
        if not 20 <= length <= len(data):
            length = len(data)
        yield whole(data[:length])
        data = data[length:]
