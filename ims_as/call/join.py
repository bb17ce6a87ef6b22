"""Two parties that talk directly, with us in the signalling alone: a routeing B2BUA (TS 23.218 §9.1.1.4).

Offers go from one dialog into the other under that dialog's own ``o=`` line, the answers come back the same way; a BYE
of one ends the other.  Only one exchange is under way at a time: an offer that meets another is told 491.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.call.dialog_relay import DialogRelay
from ims_as.call.media_description import CallDescription
from ims_as.call.referral import accept_refer
from ims_as.call.sdp_relay import media_target
from ims_as.errors import Result, Termination
from ims_as.sip.body import sdp_of
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Acked,
    Ended,
    InviteSession,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    RequestReceived,
    SessionEvent,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.sdp import parse_sdp_untrusted

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["Join", "Side", "relayed_status", "same_target"]


RETRY_S: Final = 0.2
SETTLE_ATTEMPTS: Final = 50


@attrs.define(eq=False)
class Side:
    """One dialog of a joined call."""

    name: str
    session: InviteSession
    describe: Callable[[bytes], bytes]
    """The other party's description as it goes into this dialog; raises SdpError."""


def same_target(one: bytes, other: bytes) -> bool:
    """Whether two descriptions want the same from whoever sends to them.  Raises SdpError."""
    return media_target(parse_sdp_untrusted(one)) == media_target(parse_sdp_untrusted(other))


def relayed_status(status: int) -> int:
    """What a refusal of one party is to the other: what concerns the hop between us and it stays with us."""
    return 500 if status < 400 or status in (401, 407, 408, 481) else status


@attrs.frozen
class _Asking:
    """An offer of one party that waits for the other's answer."""

    side: Side
    accept: Callable[[bytes], bool]
    reject: Callable[[int], bool]


class Join:
    """Relays between ``near`` (the call's first party) and ``far`` (who it was handed to)."""

    def __init__(self, call: AgentCall, near: Side, far: Side) -> None:
        self._call = call
        self.near = near
        self.far = far
        self._asking: _Asking | None = None
        self._offering: Side | None = None
        """Who was asked for an offer and has made one in its 2xx; the other's ACK answers it."""
        self._far_is_gone = False
        self._relays = self._attach()

    async def receive(self, side: Side, event: SessionEvent) -> None:
        """An event of one of the two dialogs; the near one's end is the call's own business."""
        other = self.far if side is self.near else self.near
        match event:
            case ReinviteReceived():
                session = side.session
                self._offer(_Asking(side, session.accept_reinvite, session.reject_reinvite), other, event.body)
            case UpdateReceived():
                session = side.session
                asking = _Asking(side, session.accept_update, session.reject_update)
                self._offer(asking, other, event.body, by_update=True)
            case ReinviteAnswered(needs_ack=needs_ack):
                self._answered(side, other, event.body, needs_ack=needs_ack)
            case UpdateAnswered():
                self._answered(side, other, event.body)
            case ReinviteRejected(status=status) | UpdateRejected(status=status):
                self._refused(other, status)
            case Acked() if self._offering is not None:
                self._acked(side, other, event.body)
            case Acked() if event.body:  # to an offer that we made of what we knew
                self.settle(side, other)
            case Ended(by=by) if side is self.far:
                self._far_ended(by)

    def _offer(self, asking: _Asking, other: Side, offer: bytes, *, by_update: bool = False) -> None:
        """Passes an offer on, or the wish for one; by UPDATE where it came by that and the other party takes it."""
        if self._asking is not None or self._offering is not None:
            asking.reject(491)
            return
        try:
            body = other.describe(offer) if offer else b""
            if by_update and other.session.can_update:
                other.session.update(body)
            else:
                other.session.reinvite(body)
        except SdpError:
            asking.reject(488)
        except LocalProtocolError:
            asking.reject(491)
        else:
            self._asking = asking

    def _answered(self, side: Side, other: Side, body: bytes, *, needs_ack: bool = False) -> None:
        asking = self._asking
        if asking is not None and asking.side.name == other.name:
            other = asking.side  # or whoever is taking its place
        else:
            asking = None
        if asking is None:
            self.settle(side, other)  # a session refresh has brought it, or we have asked on our own
            return
        self._asking = None
        try:
            accepted = asking.accept(other.describe(body))
        except SdpError:
            asking.reject(488)
            accepted = False
        if needs_ack and accepted:
            self._offering = side
        elif needs_ack:
            side.session.ack(side.session.local_body)  # nobody wants its offer any more: all stays as it was
        elif not accepted:
            self.settle(other, side)

    def _refused(self, other: Side, status: int) -> None:
        asking = self._asking
        if asking is not None and asking.side.name == other.name:
            self._asking = None
            asking.reject(relayed_status(status))

    def _acked(self, side: Side, other: Side, answer: bytes) -> None:
        if self._offering is not other:
            return
        self._offering = None
        try:
            other.session.ack(other.describe(answer) if answer else other.session.local_body)
        except SdpError as error:
            self._call.trace("decision", "ims-as", "ims-as", f"the {side.name}'s answer cannot be read", str(error))
            other.session.ack(other.session.local_body)

    def settle(self, side: Side, other: Side, attempts: int = SETTLE_ATTEMPTS) -> None:
        """Tells the other party when what it knows of this one is not true any more."""
        call = self._call
        try:
            body = other.describe(side.session.remote_body)
            if body != other.session.local_body:
                other.session.reinvite(body)
        except SdpError as error:
            call.trace("decision", "ims-as", "ims-as", f"the {other.name} cannot be told", str(error))
        except LocalProtocolError:
            if attempts > 1 and not other.session.is_terminated:
                call.post_later(RETRY_S, "retry", lambda: self.settle(side, other, attempts - 1))

    def _far_ended(self, by: str) -> None:
        call = self._call
        self._far_is_gone = True
        if call.handover is not None and call.handover.is_pending:
            return  # it referred the caller to somebody else and does not wait for the outcome
        if by == "remote":
            call.hang_up(Termination(Result.TRANSFERRED, "served-user", "bye", None))
        else:  # its session timer has run out, or it has lost the dialog
            call.hang_up(Termination(Result.TRANSFERRED, "network", f"far-{by}", None))

    def take_back(self, *, has_moved: bool) -> None:
        """The caller was to be handed on to somebody else, in vain.

        Args:
            has_moved: its media goes to that other party; it gets the far one's description again.
        """
        if self._far_is_gone:
            self._call.hang_up(Termination(Result.FAILED, "ims-as", "transfer-failed", None))
        elif has_moved:
            self.settle(self.far, self.near)

    def replace(self, replaced: InviteSession, session: InviteSession) -> None:
        """One party's place is taken by whoever sent the INVITE of ``session``: to be answered when the other has."""
        call = self._call
        side = self.near if replaced is self.near.session else self.far
        other = self.far if side is self.near else self.near
        if replaced is not side.session or self._asking is not None or self._offering is not None:
            session.reject(491)
            return
        description = CallDescription(
            call.context.config.media.address, int(call.context.wall() * 1000), call.context.codecs, call.context.srtp
        )
        new = Side(side.name, session, description.relay_untrusted)
        offer = sdp_of(session.request)

        def accept(body: bytes) -> bool:
            if not session.answer(body):
                return False
            self._swap(side, new, description)
            return True

        try:
            if offer:
                other.session.reinvite(other.describe(offer))
                self._asking = _Asking(new, accept, session.reject)
            else:  # the answer in the ACK is passed on
                accept(new.describe(other.session.remote_body))
        except SdpError:
            session.reject(488)
        except LocalProtocolError:
            session.reject(491)

    def _swap(self, old: Side, new: Side, description: CallDescription) -> None:
        call = self._call
        call.trace("decision", "ims-as", "ims-as", f"the {old.name} was replaced")
        self._detach()
        if old is self.near:
            self.near = new
            call.replace_near(new.session, description)
        else:
            self.far = new
        self._relays = self._attach()
        old.session.bye()

    def _attach(self) -> tuple[DialogRelay, DialogRelay]:
        return (
            DialogRelay(self.near.session, self.far.session),
            DialogRelay(self.far.session, self.near.session, on_refer=self._receive_refer),
        )

    def _detach(self) -> None:
        for relay in self._relays:
            relay.detach()

    def _receive_refer(self, event: RequestReceived) -> None:
        """The far party hands the near one on."""
        receiver = accept_refer(self._call, self.far.session, event)
        if receiver is not None and not self._call.post("refer", receiver):
            receiver.close()

    def close(self) -> None:
        """The call is over, or the near party is joined to somebody else."""
        self._detach()
        self.far.session.bye()
