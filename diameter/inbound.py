"""Requests of peers: answered at once or each in a task, bounded, duplicates answered as the first time (trio)."""

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

RequestHandler = Callable[[Message, str], Awaitable[Message | None] | Message | None]
"""(request, peer name) → answer; None: no answer at all. RemoteDiameterError becomes an error answer.

A plain function is answered without a task: for what needs no waiting, such as notifications.
"""
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
        try:
            origin_host = self._check_untrusted(request) or peer_host
            if request.is_retransmitted:
                earlier = self._duplicates.find(origin_host, request, now=trio.current_time())
                if earlier is not None:
                    self._counters["duplicate"] += 1
                    reply(earlier)
                    return
            if self._on_request is None:
                raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
            outcome = self._on_request(request, peer)
        except RemoteDiameterError as error:
            self._refuse(request, error, reply)
            return
        if outcome is None or isinstance(outcome, Message):
            self._finish(origin_host, outcome, reply)
            return
        self._n_requests += 1
        nursery.start_soon(self._wait, request, origin_host, outcome, reply)

    async def _wait(
        self, request: Message, origin_host: str, outcome: Awaitable[Message | None], reply: Reply
    ) -> None:
        try:
            answer = await outcome
        except RemoteDiameterError as error:
            self._refuse(request, error, reply)
        else:
            self._finish(origin_host, answer, reply)
        finally:
            self._n_requests -= 1

    def _check_untrusted(self, request: Message) -> str | None:
        """The Origin-Host. Raises RemoteDiameterError for what is not for us, or has been here before."""
        if request.application_id not in self._application_ids:
            raise RemoteDiameterError("application unsupported", ResultCode.APPLICATION_UNSUPPORTED)
        for avp in request.avps.find_all(base.ROUTE_RECORD.key):
            if base.ROUTE_RECORD.value(avp).lower() == self._origin_host:
                raise RemoteDiameterError("own host in Route-Record", ResultCode.LOOP_DETECTED)
        return request.text(base.ORIGIN_HOST)

    def _finish(self, origin_host: str, answer: Message | None, reply: Reply) -> None:
        if answer is not None:
            self._duplicates.remember(origin_host, answer, now=trio.current_time())
            reply(answer)

    def _refuse(self, request: Message, error: RemoteDiameterError, reply: Reply) -> None:
        self._counters[error.reason] += 1
        reply(self._commands.error_answer(request, error))
