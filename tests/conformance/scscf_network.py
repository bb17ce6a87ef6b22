"""A small IMS on loopback around the lab S-CSCF: scripted user agents on the real SIP stack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from conformance.lab.scscf import LabScscf
from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    TriggerPoint,
)
from ifc.writer import write_criteria
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, Response
from ims_as.sip.proxy import StatefulProxy
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint

HOST = "127.0.78."
DOMAIN = "ims.example.net"
ALICE = f"sip:alice@{DOMAIN}"
BOB = f"sip:bob@{DOMAIN}"
CAROL = f"sip:carol@{DOMAIN}"
OFFER = b"v=0\r\nm=audio 40000 RTP/AVP 8\r\n"
ANSWER = b"v=0\r\nm=audio 42000 RTP/AVP 8\r\n"
GUARD_S = 0.15
DEADLINE_S = 5.0


class Agent:
    """A user agent that does nothing by itself; what reaches it waits in queues."""

    def __init__(self, host: str, timers: TimerConfig | None = None) -> None:
        # no 100 by itself: silence is to be silence
        timers = TimerConfig(trying_after=1000.0) if timers is None else timers
        self.endpoint = Endpoint(listen=[ListenAddress("udp", host, 0)], timers=timers)
        self.ua = UserAgent(
            self.endpoint, on_invite=self._put_invite, on_request=self._put_request, user_agent="", allow="INVITE"
        )
        self.ua.passthrough = self._pass_through
        self.endpoint.user = self.ua
        self.proxy = StatefulProxy(self.endpoint)
        self._invites_in, self.invites = trio.open_memory_channel[tuple[Request, ServerTransaction]](100)
        self._requests_in, self.requests = trio.open_memory_channel[tuple[Request, ServerTransaction]](100)
        self._events_in, self.events = trio.open_memory_channel[tuple[InviteSession, SessionEvent]](100)
        self._responses_in, self.responses = trio.open_memory_channel[Response](100)

    def _put_invite(self, request: Request, transaction: ServerTransaction) -> None:
        self._invites_in.send_nowait((request, transaction))

    def _put_request(self, request: Request, transaction: ServerTransaction) -> None:
        self._requests_in.send_nowait((request, transaction))

    def _pass_through(self, request: Request, transaction: ServerTransaction) -> bool:
        self._put_request(request, transaction)
        return True

    def on_event(self, session: InviteSession, event: SessionEvent) -> None:
        self._events_in.send_nowait((session, event))

    @property
    def address(self) -> str:
        bound = self.endpoint.addresses[0]
        return f"{bound.host}:{bound.port}"

    async def next_event(self, kind: type[Any]) -> Any:
        """The next event of the agent's sessions, which must be of that kind."""
        _, event = await self.events.receive()
        assert isinstance(event, kind), event
        return event

    async def accept(self) -> tuple[Request, InviteSession]:
        """Wait for an INVITE and take it."""
        request, transaction = await self.invites.receive()
        return request, self.ua.accept(request, transaction, on_event=self.on_event)

    async def answer(self) -> tuple[Request, InviteSession]:
        request, session = await self.accept()
        session.answer(ANSWER)
        return request, session

    async def reject(self, status: int) -> Request:
        request, session = await self.accept()
        session.reject(status)
        return request

    def send(self, request: Request) -> None:
        """A request outside of dialogs; its final response comes in `responses`."""

        def on_event(event: ClientEvent) -> None:
            assert isinstance(event, ResponseReceived), event
            self._responses_in.send_nowait(event.response)

        self.endpoint.send_request(request, on_event=on_event)


class Network:
    """alice calls, bob is served: by `server` where his criteria say so, at `phone` otherwise."""

    def __init__(self, **options: Any) -> None:
        self.alice = Agent(f"{HOST}41")
        self.server = Agent(f"{HOST}30")
        self.second = Agent(f"{HOST}31")
        self.phone = Agent(f"{HOST}42")
        self.profiles: dict[str, bytes] = {ALICE: b"", BOB: b""}
        options = {"continued_s": GUARD_S, "terminated_s": GUARD_S, **options}
        self.scscf = LabScscf(host=f"{HOST}20", port=0, profiles=self.profiles.get, **options)

    def serve(self, user: str, *criteria: InitialFilterCriteria) -> None:
        self.profiles[user] = write_criteria(criteria)

    def criterion(
        self,
        server: Agent | None = None,
        *,
        priority: int = 0,
        handling: DefaultHandling | None = DefaultHandling.SESSION_CONTINUED,
        case: SessionCase | None = SessionCase.TERMINATING_REGISTERED,
        method: str = "INVITE",
        **server_options: Any,
    ) -> InitialFilterCriteria:
        triggers = [ServicePointTrigger(MethodCondition(method), (0,))]
        if case is not None:
            triggers.append(ServicePointTrigger(SessionCaseCondition(case), (1,)))
        name = f"sip:{(server or self.server).address}"
        return InitialFilterCriteria(
            priority, TriggerPoint(True, tuple(triggers)), ApplicationServer(name, handling, **server_options)
        )

    def call(
        self,
        uri: str = BOB,
        *,
        agent: Agent | None = None,
        route: Iterable[str] | None = None,
        headers: Iterable[tuple[str, str]] = (),
        **options: Any,
    ) -> InviteSession:
        agent = agent or self.alice
        return agent.ua.invite(
            uri=uri,
            from_=f"<{ALICE}>",
            to=f"<{uri}>",
            route=[f"<{self.scscf.uri};lr>"] if route is None else list(route),
            headers=[("P-Asserted-Identity", f"<{ALICE}>"), *headers],
            body=OFFER,
            on_event=agent.on_event,
            **options,
        )

    @property
    def decisions(self) -> str:
        return "\n".join(text for _, text in self.scscf.decisions)


@asynccontextmanager
async def network(**options: Any) -> AsyncIterator[Network]:
    """Started, with bob's phone registered; nothing may hang longer than DEADLINE_S."""
    net = Network(**options)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for part in (net.alice, net.server, net.second, net.phone):
                await nursery.start(part.endpoint.run)
            await nursery.start(net.scscf.run)
            net.scscf.contacts[BOB] = f"sip:bob@{net.phone.address}"
            yield net
            assert not net.scscf.endpoint.counters.guard_errors
            nursery.cancel_scope.cancel()
