"""Two dialogs of ours whose parties talk to each other: offers of one go to the other (RFC 3725, RFC 6337).

One exchange is under way at a time; an offer that meets another is told 491.  An exchange has the offer of one party,
the other's answer, and where no offer came (a re-INVITE without one), first the question for it.  Each dialog keeps its
own ``o=`` line and its own number of m= lines, which never falls (RFC 3264 §8).

No I/O and no clock in here: it is told events and tells sessions.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ims_as.call.sdp_relay import relay_untrusted
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Acked,
    InviteSession,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    SessionEvent,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.sdp import MediaDescription, parse_sdp_untrusted

__all__ = ["PairSide", "SessionPair"]

PADDING = MediaDescription("audio", 0, "RTP/AVP", ("0",))


@attrs.define(eq=False)
class PairSide:
    """One dialog.  ``sdp``: the o= line of what we send in it."""

    name: str
    session: InviteSession
    sdp: SdpSession
    lines: int = 0
    """m= lines that the dialog has had."""

    def offer_of(self, body: bytes) -> bytes:
        """The other party's offer as it goes into this dialog.  Raises SdpError."""
        description = parse_sdp_untrusted(body)
        missing = self.lines - len(description.media)
        if missing > 0:
            description = attrs.evolve(description, media=(*description.media, *[PADDING] * missing))
        self.lines = max(self.lines, len(description.media))
        return relay_untrusted(description.to_bytes(), self.sdp).to_bytes()

    def answer_of(self, body: bytes, offer: bytes) -> bytes:
        """The other party's answer as it goes into this dialog, whose party made ``offer``.  Raises SdpError."""
        description, asked = parse_sdp_untrusted(body), parse_sdp_untrusted(offer)
        kept = description.media[: len(asked.media)]
        refused = tuple(line.rejected() for line in asked.media[len(kept) :])
        self.lines = max(self.lines, len(asked.media))
        return relay_untrusted(attrs.evolve(description, media=(*kept, *refused)).to_bytes(), self.sdp).to_bytes()


@attrs.define(eq=False)
class _Exchange:
    asker: PairSide
    """Whose offer it is, or who asks for one."""
    other: PairSide
    offer: bytes
    """Of the asker; b"": it wants one, until it has that of the other."""
    accept: Callable[[bytes], object]
    reject: Callable[[int], object]
    asks: bool = False
    is_asking: bool = False
    """The asker has been sent the other's offer; its answer comes with its ACK."""


class SessionPair:
    """Carries offers and answers between two answered sessions."""

    def __init__(self, first: PairSide, second: PairSide) -> None:
        self.first = first
        self.second = second
        self._open: _Exchange | None = None

    @property
    def is_busy(self) -> bool:
        return self._open is not None

    def other(self, side: PairSide) -> PairSide:
        return self.second if side is self.first else self.first

    def offer(
        self,
        asker: PairSide,
        offer: bytes,
        *,
        accept: Callable[[bytes], object],
        reject: Callable[[int], object],
        by_update: bool = False,
    ) -> None:
        """Takes an offer of one party to the other; ``accept`` gets the answer for it, ``reject`` a status."""
        if self._open is not None:
            reject(491)
            return
        other = self.other(asker)
        try:
            body = other.offer_of(offer)
            if by_update and other.session.can_update:
                other.session.update(body)
            else:
                other.session.reinvite(body)
        except SdpError:
            reject(488)
        except LocalProtocolError:
            reject(491)
        else:
            self._open = _Exchange(asker, other, offer, accept, reject)

    def ask(self, asker: PairSide, *, accept: Callable[[bytes], object], reject: Callable[[int], object]) -> None:
        """Asks the other party for an offer; ``accept`` gets it."""
        if self._open is not None:
            reject(491)
            return
        other = self.other(asker)
        try:
            other.session.reinvite(b"")
        except LocalProtocolError:
            reject(491)
        else:
            self._open = _Exchange(asker, other, b"", accept, reject, asks=True)

    def abandon(self) -> None:
        """The exchange under way goes on elsewhere."""
        self._open = None

    # ---------------------------------------------------------------- events

    def receive(self, side: PairSide, event: SessionEvent) -> bool:
        """An event of one of the sessions; False when it is none of offers and answers."""
        session = side.session
        match event:
            case ReinviteReceived(body=b""):
                self.ask(side, accept=session.accept_reinvite, reject=session.reject_reinvite)
            case ReinviteReceived(body=body):
                self.offer(side, body, accept=session.accept_reinvite, reject=session.reject_reinvite)
            case UpdateReceived(body=body):
                self.offer(side, body, accept=session.accept_update, reject=session.reject_update, by_update=True)
            case ReinviteAnswered(body=body) | UpdateAnswered(body=body):
                self._receive_answer(side, body)
            case ReinviteRejected(status=status) | UpdateRejected(status=status):
                self._receive_refusal(side, status)
            case Acked(body=body):
                self._receive_ack(side, body)
            case _:
                return False
        return True

    def _receive_answer(self, side: PairSide, body: bytes) -> None:
        exchange = self._open
        if exchange is None or exchange.other is not side:
            if body:  # a refresh of the session timer has changed what the party wants: the other has to know
                self.offer(side, body, accept=lambda _: None, reject=lambda _: None)
            return
        asker = exchange.asker
        try:
            if not exchange.asks:
                self._open = None
                exchange.accept(asker.answer_of(body, exchange.offer))
                return
            exchange.offer, exchange.is_asking = body, True
            if not exchange.accept(asker.offer_of(body)):
                self._give_up_offer(exchange)
        except SdpError:
            self._open = None
            exchange.reject(488)
            side.session.ack(side.session.local_body)

    def _receive_ack(self, side: PairSide, body: bytes) -> None:
        exchange = self._open
        if exchange is None or exchange.asker is not side or not exchange.is_asking:
            return
        if not body:
            self._give_up_offer(exchange)  # it owes an answer; what held before still holds
            return
        self._open = None
        other = exchange.other
        try:
            answer = other.answer_of(body, exchange.offer)
        except SdpError:
            answer = other.session.local_body
        other.session.ack(answer)

    def _give_up_offer(self, exchange: _Exchange) -> None:
        self._open = None
        exchange.other.session.ack(exchange.other.session.local_body)

    def _receive_refusal(self, side: PairSide, status: int) -> None:
        exchange = self._open
        if exchange is not None and exchange.other is side:
            self._open = None
            # what concerns the hop between us and that party stays with us
            exchange.reject(500 if status < 400 or status in (401, 407, 408, 481) else status)
