"""User agents that record what happens to them."""

from __future__ import annotations

from collections.abc import Callable

from ims_as.sip.core import EndpointCore
from ims_as.sip.invite_session import Cancelled, Ended, InviteSession, Rejected, SessionEvent
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent

__all__ = ["ALLOW", "OFFER", "RecordingAgent"]

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"
OFFER = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

OnInvite = Callable[["RecordingAgent", InviteSession], None]


class RecordingAgent:
    """A user agent whose sessions' events are kept in `events`; `on_invite` decides about an incoming call."""

    def __init__(self, endpoint: EndpointCore, on_invite: OnInvite | None = None, **options: object) -> None:
        self.endpoint = endpoint
        self.agent = UserAgent(
            endpoint,
            on_invite=self._on_invite,
            on_request=self._on_request,
            **{"user_agent": "test", "allow": ALLOW, **options},  # type: ignore[arg-type]
        )
        endpoint.user = self.agent
        self.sessions: list[InviteSession] = []
        self.events: dict[InviteSession, list[SessionEvent]] = {}
        self.handlers: dict[type, Callable[[InviteSession, SessionEvent], None]] = {}
        self._decide = on_invite

    def call(self, uri: str = "sip:bob@10.0.0.2", **options: object) -> InviteSession:
        session = self.agent.invite(
            uri=uri,
            from_="<sip:alice@10.0.0.1>",
            to=f"<{uri}>",
            **{"body": OFFER, "on_event": self.record, **options},  # type: ignore[arg-type]
        )
        self.events.setdefault(session, [])
        self.sessions.append(session)
        return session

    def record(self, session: InviteSession, event: SessionEvent) -> None:
        self.events.setdefault(session, []).append(event)
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(session, event)

    def names(self, session: InviteSession | None = None) -> list[str]:
        chosen = self.sessions[-1] if session is None else session
        return [type(event).__name__ for event in self.events[chosen]]

    def last(self, session: InviteSession | None = None) -> SessionEvent:
        return self.events[self.sessions[-1] if session is None else session][-1]

    def assert_one_end(self) -> None:
        """Each session has had exactly one final event, as its last."""
        for session, events in self.events.items():
            final = [event for event in events if isinstance(event, Rejected | Cancelled | Ended)]
            assert len(final) == 1, (session.id, events)
            assert events[-1] is final[0]
            assert session.is_terminated

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.agent.accept(request, transaction, on_event=self.record)
        self.events[session] = []
        self.sessions.append(session)
        if self._decide is not None:
            self._decide(self, session)

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.endpoint.send_response(transaction, build_response(request, 200))
