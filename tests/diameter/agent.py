"""A relay agent, or an HSS, that answers UDRs as a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from diameter.base_commands import Application
from diameter.dictionary import base
from diameter.dictionary.base import RELAY_APPLICATION_ID
from diameter.message import Message
from tests.diameter.raw_peer import RawPeer, listen_raw

RELAY = Application(RELAY_APPLICATION_ID)
Answering = Callable[[RawPeer, Message], Awaitable[None]]


class Agent:
    """A relay agent that answers requests as told.

    Attributes:
        seen: requests.
    """

    def __init__(self, name: str, answering: Answering) -> None:
        self.name = name
        self.answering = answering
        self.seen: list[Message] = []

    @property
    def hosts(self) -> list[str | None]:
        """Destination-Host of each request."""
        return [request.text(base.DESTINATION_HOST) for request in self.seen]

    async def listen(self, nursery: trio.Nursery) -> tuple[str, int]:
        return await listen_raw(nursery, self._serve, self.name, RELAY)

    async def _serve(self, raw: RawPeer) -> None:
        await raw.accept()
        while True:
            request = await raw.read_code(306)
            self.seen.append(request)
            await self.answering(raw, request)


def serving(*hosts: str) -> Answering:
    """Hosts behind the agent take turns, unless one is named; a name that is not there cannot be delivered."""
    turn = 0

    async def answer(raw: RawPeer, request: Message) -> None:
        nonlocal turn
        named = request.text(base.DESTINATION_HOST)
        if named is not None and named not in hosts:
            await raw.answer(request, 3002)
            return
        turn += 1
        await raw.answer(request, 2001, origin_host=named or hosts[(turn - 1) % len(hosts)])

    return answer


def refusing(result: int, *, origin_host: str | None = None, times: int = 10**6) -> Answering:
    """Answers so for some times, then well."""
    n = 0

    async def answer(raw: RawPeer, request: Message) -> None:
        nonlocal n
        n += 1
        await raw.answer(request, result if n <= times else 2001, origin_host=origin_host)

    return answer
