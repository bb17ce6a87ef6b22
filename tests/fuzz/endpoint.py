"""The whole stack as a target: datagrams into an endpoint with a user agent, alone and with a call up.

The guard of the endpoint catches every error, so what is looked at is its list of samples; and when the time of all
timers has passed, nothing may be left.
"""

from __future__ import annotations

from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import InviteSession, ReinviteReceived, SessionEvent, UpdateReceived
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.fuzz.seeds import MESSAGES, SDPS
from tests.support.link import LinkEndpoint, LinkNetwork

__all__ = ["CallFuzzer", "EndpointFuzzer"]

BATCH = 400
"""Inputs for one endpoint; then all its timers run out, and the next begins."""
LONGER_THAN_ANY_TIMER_S = 4000.0
FLOW = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 5060))


class _Server:
    """A callee that answers every call at once, on a network that loses all that it sends."""

    def __init__(self) -> None:
        self.network = LinkNetwork(fate=lambda data, source, target: ())
        self.endpoint: LinkEndpoint = self.network.add("10.0.0.2")
        self.agent = UserAgent(
            self.endpoint, on_invite=self._on_invite, on_request=self._on_request, user_agent="", allow="INVITE, UPDATE"
        )
        self.endpoint.user = self.agent

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.agent.accept(request, transaction, on_event=self._on_event)
        session.provisional(183, body=SDPS[0])
        session.answer(SDPS[0])

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.endpoint.send_response(transaction, build_response(request, 200))

    def _on_event(self, session: InviteSession, event: SessionEvent) -> None:
        if isinstance(event, ReinviteReceived):
            session.accept_reinvite(SDPS[0])
        elif isinstance(event, UpdateReceived):
            session.accept_update(SDPS[0])

    def receive(self, data: bytes) -> None:
        self.network.sent.clear()
        self.endpoint.receive_datagram_untrusted(data, FLOW)
        if self.endpoint.guard_samples:
            self.endpoint.guard_samples.clear()
            raise AssertionError("an unforeseen error in the guard")

    def finish(self) -> None:
        for session in self.agent.sessions:
            session.bye()  # a call that was acknowledged lives until somebody ends it
        self.network.run(LONGER_THAN_ANY_TIMER_S)
        assert self.endpoint.stats.is_idle, self.endpoint.stats
        assert not self.endpoint.guard_samples


class EndpointFuzzer:
    """Datagrams at an endpoint that has nothing yet."""

    def __init__(self) -> None:
        self._server = _Server()
        self._count = 0

    def read(self, data: bytes) -> None:
        self._count += 1
        self._server.receive(data)
        if self._count % BATCH == 0:
            server, self._server = self._server, self._start()
            server.finish()

    def _start(self) -> _Server:
        return _Server()


class CallFuzzer(EndpointFuzzer):
    """Datagrams at an endpoint with a call that they may belong to."""

    def __init__(self) -> None:
        super().__init__()
        self._server = self._start()

    @staticmethod
    def seeds() -> tuple[bytes, ...]:
        """The messages of the stack, those inside a dialog with the tag that our callee takes."""
        tag = _up().agent.sessions[0].key[1].encode()
        return tuple(message.replace(b";tag=t1", b";tag=" + tag) for message in MESSAGES)

    def _start(self) -> _Server:
        return _up()


def _up() -> _Server:
    server = _Server()
    server.receive(_invite())
    assert len(server.agent.sessions) == 1
    return server


def _invite() -> bytes:
    return next(each for each in MESSAGES if each.startswith(b"INVITE sip:bob@10.0.0.2") and b"1 INVITE" in each)
