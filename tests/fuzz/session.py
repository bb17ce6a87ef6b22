"""Datagrams into calls that are being made: a callee that waits for PRACKs, and a caller whose INVITE is out.

What is promised is looked at as well: one end for each session, as its last event, and nothing left when all timers
have run out.
"""

from __future__ import annotations

from ims_as.sip.invite_session import (
    Answered,
    Cancelled,
    Ended,
    InviteSession,
    Pracked,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    Rejected,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.option_tags import KNOWN_TO_SESSIONS
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.session_timer import SessionTimerConfig
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.fuzz.endpoint import FLOW, LONGER_THAN_ANY_TIMER_S
from tests.fuzz.seeds import MESSAGES, SDPS
from tests.support.link import LinkNetwork

__all__ = ["CallerFuzzer", "EarlyCallFuzzer"]

SDP = SDPS[0]
ROUND = 25
"""Inputs for one call: later it is answered or so, and takes less of what may come."""


class _Party:
    """An endpoint at 10.0.0.2 whose datagrams are lost, with sessions that take every offer."""

    def __init__(self) -> None:
        self.network = LinkNetwork(fate=lambda data, source, target: ())
        self.endpoint = self.network.add("10.0.0.2")
        self.agent = UserAgent(
            self.endpoint,
            on_invite=self._on_invite,
            on_request=self._on_request,
            user_agent="",
            allow="INVITE, UPDATE",
            supported=(*KNOWN_TO_SESSIONS, "replaces"),
            session_timer=SessionTimerConfig(),
        )
        self.endpoint.user = self.agent
        self.main: InviteSession | None = None
        """The call that the inputs are about."""
        self.events: dict[str, list[SessionEvent]] = {}
        self.sent: list[bytes] = []

    def call(self, body: bytes) -> InviteSession:
        session = self.agent.invite(
            uri="sip:bob@10.0.0.1", from_="<sip:a@10.0.0.2>", to="<sip:bob@x>", body=body, on_event=self._on_event
        )
        self.sent += [data for *_, data in self.network.sent]
        self.main = session
        return session

    @property
    def is_over(self) -> bool:
        return self.main is not None and self.main.is_terminated

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        self.agent.find_replaced(request)
        session = self.agent.accept(request, transaction, on_event=self._on_event)
        session.provisional(183, body=SDP)
        session.provisional(180, reliable=True)

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.endpoint.send_response(transaction, build_response(request, 200))

    def _on_event(self, session: InviteSession, event: SessionEvent) -> None:
        events = self.events.setdefault(session.id, [])
        assert not events or not isinstance(events[-1], Rejected | Cancelled | Ended), events
        events.append(event)
        match event:
            case ReinviteReceived():
                session.accept_reinvite(SDP)
            case UpdateReceived():
                session.accept_update(SDP, to_tag=event.request.from_tag)
            case Provisional(needs_prack=True):
                session.prack(SDP)
            case Answered(needs_ack=True) | ReinviteAnswered(needs_ack=True):
                session.ack(SDP)
            case Pracked() if len(events) > 1:
                session.answer(SDP)
            case Pracked() if session.can_offer:
                session.update(SDP)

    def receive(self, data: bytes) -> None:
        self.network.sent.clear()
        self.endpoint.receive_datagram_untrusted(data, FLOW)
        if self.endpoint.guard_samples:
            self.endpoint.guard_samples.clear()
            raise AssertionError("an unforeseen error in the guard")

    def finish(self) -> None:
        for _ in range(2):
            for session in self.agent.sessions:
                session.bye()
            self.network.run(LONGER_THAN_ANY_TIMER_S)
        assert self.endpoint.stats.is_idle, self.endpoint.stats
        assert not self.endpoint.guard_samples


class EarlyCallFuzzer:
    """A callee with a reliable 183 that has no PRACK yet, another waiting behind it."""

    def __init__(self) -> None:
        self._count = 0
        self._party = self._start()

    def seeds(self) -> tuple[bytes, ...]:
        """The messages of the stack inside our dialog, and a PRACK that fits."""
        party = self._start()
        response = parse_message_untrusted(party.network.sent[-1][3])
        assert isinstance(response, Response)
        tag, rseq = (response.to_tag or "").encode(), (response.headers.get("RSeq") or "").encode()
        inside = tuple(message.replace(b";tag=t1", b";tag=" + tag) for message in MESSAGES)
        prack = next(message for message in inside if message.startswith(b"PRACK"))
        fitting = prack.replace(b"776656", rseq)
        return (*inside, fitting, fitting.replace(b"Content-Length: 0\r\n\r\n", _with_sdp()))

    def read(self, data: bytes) -> None:
        self._count += 1
        self._party.receive(data)
        if self._count % ROUND == 0 or self._party.is_over:
            party, self._party = self._party, self._start()
            party.finish()

    def _start(self) -> _Party:
        party = _Party()
        invite = next(each for each in MESSAGES if each.startswith(b"INVITE sip:bob@10.0.0.2") and b"1 INVITE" in each)
        party.receive(invite.replace(b"Content-Type", b"Supported: 100rel, timer\r\nContent-Type", 1))
        (party.main,) = party.agent.sessions
        return party


class CallerFuzzer:
    """A caller whose INVITE, with or without an offer, has no response yet."""

    def __init__(self, body: bytes) -> None:
        self._count = 0
        self._body = body
        self._party = self._start()

    def seeds(self) -> tuple[bytes, ...]:
        """Responses to our INVITE, and requests of the callee."""
        party = self._start()
        (data,) = party.sent
        invite = parse_message_untrusted(data)
        assert isinstance(invite, Request)
        contact = ("Contact", "<sip:bob@10.0.0.1>")
        sdp = ("Content-Type", "application/sdp")
        reliable = [contact, sdp, ("Require", "100rel"), ("RSeq", "5"), ("Allow", "UPDATE")]
        responses = [
            build_response(invite, 100),
            build_response(invite, 180, to_tag="t1", headers=[contact]),
            build_response(invite, 183, to_tag="t1", headers=reliable, body=SDP),
            build_response(invite, 183, to_tag="t2", headers=reliable, body=SDP),
            build_response(invite, 199, to_tag="t2", headers=[contact]),
            build_response(
                invite, 200, to_tag="t1", headers=[contact, sdp, ("Session-Expires", "90;refresher=uac")], body=SDP
            ),
            build_response(invite, 200, to_tag="t3", headers=[contact]),
            build_response(invite, 422, to_tag="t1", headers=[("Min-SE", "3000")]),
            build_response(invite, 486, to_tag="t1"),
        ]
        requests = [
            message.replace(b"<sip:alice@10.0.0.1>;tag=f1", b"<sip:bob@x>;tag=t1")
            .replace(b"<sip:bob@10.0.0.2>;tag=t1", f"<sip:a@10.0.0.2>;tag={invite.from_tag}".encode())
            .replace(b"fuzz@10.0.0.1", invite.call_id.encode())
            for message in MESSAGES
            if b";tag=t1" in message and not message.startswith(b"SIP/2.0")
        ]
        return (*(response.to_bytes() for response in responses), *requests)

    def read(self, data: bytes) -> None:
        self._count += 1
        self._party.receive(data)
        if self._count % ROUND == 0 or self._party.is_over:
            party, self._party = self._party, self._start()
            party.finish()

    def _start(self) -> _Party:
        party = _Party()
        party.call(self._body)
        return party


def _with_sdp() -> bytes:
    return b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(SDP) + SDP
