"""Requests of peers: answered at once or each in a task, bounded, duplicates answered as the first time (trio)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from diameter.base_commands import BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.errors import RemoteDiameterError
from diameter.message import Message
from diameter.pending import DuplicateFilter, is_repeated

__all__ = ["InboundRequests", "RequestHandler"]

RequestHandler = Callable[[Message, str], Awaitable[Message | None] | Message | None]
"""(request, peer name) → answer; None: no answer at all. RemoteDiameterError becomes an error answer.

A plain function is answered without a task: for what needs no waiting, such as notifications.
"""
Reply = Callable[[Message], None]
"""Writes an answer on the connection that the request came on."""


# repetitions of one request that wait for its answer; agents make one or two
_MAX_REPEATED = 4


@define(eq=False)
class _Running:
    """A request that the application has, and its repetitions meanwhile."""

    request: Message
    repeated: list[tuple[Message, Reply]] = field(factory=list)


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
        self._running: dict[tuple[str, int], _Running] = {}
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
            key = (self._check_untrusted(request) or peer_host, request.end_to_end)
            if self._is_duplicate(key, request, reply):
                return
            if self._on_request is None:
                raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
            outcome = self._on_request(request, peer)
        except RemoteDiameterError as error:
            self._refuse(request, error, reply)
            return
        if outcome is None or isinstance(outcome, Message):
            self._finish(key[0], request, outcome, reply)
            return
        self._n_requests += 1
        running = _Running(request)
        self._running.setdefault(key, running)
        nursery.start_soon(self._wait, key, running, outcome, reply)

    async def _wait(
        self, key: tuple[str, int], running: _Running, outcome: Awaitable[Message | None], reply: Reply
    ) -> None:
        """Answers one request, and whatever has repeated it meanwhile."""
        request = running.request
        try:
            answer = await outcome
        except RemoteDiameterError as error:
            self._refuse(request, error, reply)
            return
        finally:
            self._n_requests -= 1
            if self._running.get(key) is running:
                del self._running[key]
        self._finish(key[0], request, answer, reply)
        if answer is not None:
            for repeated, reply_again in running.repeated:
                reply_again(answer.with_ids(hop_by_hop=repeated.hop_by_hop, end_to_end=repeated.end_to_end))

    def _is_duplicate(self, key: tuple[str, int], request: Message, reply: Reply) -> bool:
        """True when the request is taken care of: answered as the first time, or to be with the first one."""
        earlier = self._duplicates.find(key[0], request, now=trio.current_time())
        first = self._running.get(key)
        if earlier is not None:
            reply(earlier)
        elif first is not None and is_repeated(request, first.request):
            if len(first.repeated) < _MAX_REPEATED:
                first.repeated.append((request, reply))
        else:
            return False
        self._counters["duplicate"] += 1
        return True

    def _check_untrusted(self, request: Message) -> str | None:
        """The Origin-Host. Raises RemoteDiameterError for what is not for us, or has been here before."""
        if request.application_id not in self._application_ids:
            raise RemoteDiameterError("application unsupported", ResultCode.APPLICATION_UNSUPPORTED)
        for avp in request.avps.find_all(base.ROUTE_RECORD.key):
            if base.ROUTE_RECORD.value(avp).lower() == self._origin_host:
                raise RemoteDiameterError("own host in Route-Record", ResultCode.LOOP_DETECTED)
        return request.text(base.ORIGIN_HOST)

    def _finish(self, origin_host: str, request: Message, answer: Message | None, reply: Reply) -> None:
        if answer is not None:
            self._duplicates.remember(origin_host, request, answer, now=trio.current_time())
            reply(answer)

    def _refuse(self, request: Message, error: RemoteDiameterError, reply: Reply) -> None:
        self._counters[error.reason] += 1
        reply(self._commands.error_answer(request, error))
