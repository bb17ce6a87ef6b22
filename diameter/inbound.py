"""Requests of peers: each in a task, bounded, duplicates answered as the first time (trio)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from diameter.base_commands import BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.errors import RemoteDiameterError
from diameter.message import Message
from diameter.pending import DuplicateFilter

__all__ = ["InboundRequests", "RequestHandler"]

RequestHandler = Callable[[Message, str], Awaitable[Message | None]]
"""(request, peer name) → answer; None: no answer at all. RemoteDiameterError becomes an error answer."""
Reply = Callable[[Message], None]
"""Writes an answer on the connection that the request came on."""


class InboundRequests:
    """Answers what peers ask.

    Args:
        on_request: the application; None answers COMMAND_UNSUPPORTED.
        max_requests: under way at most; more are answered TOO_BUSY.
    """

    def __init__(
        self,
        commands: BaseCommands,
        on_request: RequestHandler | None,
        counters: Counter[str],
        *,
        max_requests: int,
    ) -> None:
        self._commands = commands
        self._on_request = on_request
        self._counters = counters
        self._max_requests = max_requests
        self._application_ids = frozenset(application.application_id for application in commands.applications)
        self._origin_host = commands.origin_host.lower()
        self._duplicates = DuplicateFilter()
        self._n_requests = 0

    def receive(self, nursery: trio.Nursery | None, request: Message, peer: str, peer_host: str, reply: Reply) -> None:
        """Takes one request; the answer goes to `reply`, now or later.

        Args:
            nursery: where the application runs; None (the node is not running): the request is refused.
            peer: name of the peer, for the application.
            peer_host: its DiameterIdentity, for a request without Origin-Host.
        """
        if self._n_requests >= self._max_requests or nursery is None:
            self._counters["too_busy"] += 1
            reply(self._commands.error_answer(request, RemoteDiameterError("too busy", ResultCode.TOO_BUSY)))
            return
        self._n_requests += 1
        nursery.start_soon(self._serve, request, peer, peer_host, reply)

    async def _serve(self, request: Message, peer: str, peer_host: str, reply: Reply) -> None:
        try:
            answer = await self._build_answer(request, peer, peer_host)
        finally:
            self._n_requests -= 1
        if answer is not None:
            reply(answer)

    async def _build_answer(self, request: Message, peer: str, peer_host: str) -> Message | None:
        now = trio.current_time()
        try:
            if request.application_id not in self._application_ids:
                raise RemoteDiameterError("application unsupported", ResultCode.APPLICATION_UNSUPPORTED)
            for avp in request.avps.find_all(base.ROUTE_RECORD.key):
                if base.ROUTE_RECORD.value(avp).lower() == self._origin_host:
                    raise RemoteDiameterError("own host in Route-Record", ResultCode.LOOP_DETECTED)
            origin_host = request.text(base.ORIGIN_HOST) or peer_host
            if request.is_retransmitted:
                earlier = self._duplicates.find(origin_host, request, now=now)
                if earlier is not None:
                    self._counters["duplicate"] += 1
                    return earlier
            if self._on_request is None:
                raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
            answer = await self._on_request(request, peer)
        except RemoteDiameterError as error:
            self._counters[error.reason] += 1
            return self._commands.error_answer(request, error)
        if answer is not None:
            self._duplicates.remember(origin_host, answer, now=now)
        return answer
