"""Two parties that talk directly, with us in the signalling alone: a routeing B2BUA (TS 23.218 §9.1.1.4).

Offers go from one dialog into the other under that dialog's own ``o=`` line, the answers come back the same way; a BYE
of one ends the other.  Only one exchange is under way at a time: an offer that meets another is told 491.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.call.dialog_relay import DialogRelay
from ims_as.call.referral import accept_refer
from ims_as.call.sdp_relay import media_target
from ims_as.errors import Result, Termination
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


class Join:
    """Relays between ``near`` (the call's first party) and ``far`` (who it was handed to)."""

    def __init__(self, call: AgentCall, near: Side, far: Side) -> None:
        self._call = call
        self.near = near
        self.far = far
        self._asking: Side | None = None
        """Whose offer waits for the other's answer."""
        self._far_is_gone = False
        self._relays = (
            DialogRelay(call, near.session, far.session),
            DialogRelay(call, far.session, near.session, on_refer=self._receive_refer),
        )

    async def receive(self, side: Side, event: SessionEvent) -> None:
        """An event of one of the two dialogs; the near one's end is the call's own business."""
        other = self.far if side is self.near else self.near
        match event:
            case ReinviteReceived(request=request):
                self._offer(side, other, request.body)
            case ReinviteAnswered(response=response):
                self._answered(side, other, response.body)
            case ReinviteRejected(status=status):
                if self._asking is other:
                    self._asking = None
                    other.session.reject_reinvite(relayed_status(status))
            case Acked(request=request) if request.body:
                self.settle(side, other)
            case Ended(by=by) if side is self.far:
                self._far_ended(by)

    def _offer(self, side: Side, other: Side, offer: bytes) -> None:
        if self._asking is not None:
            side.session.reject_reinvite(491)
            return
        if not offer:  # an offer is asked for: what was agreed; the answer in the ACK is passed on
            side.session.accept_reinvite(side.session.local_body)
            return
        try:
            other.session.reinvite(other.describe(offer))
        except SdpError:
            side.session.reject_reinvite(488)
        except LocalProtocolError:
            side.session.reject_reinvite(491)
        else:
            self._asking = side

    def _answered(self, side: Side, other: Side, answer: bytes) -> None:
        if self._asking is not other:
            self.settle(side, other)
            return
        self._asking = None
        try:
            other.session.accept_reinvite(other.describe(answer))
        except SdpError:
            other.session.reject_reinvite(488)

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
        who = "served-user" if by == "remote" else "ims-as"
        call.hang_up(Termination(Result.TRANSFERRED, who, "bye", None))

    def take_back(self, *, has_moved: bool) -> None:
        """The caller was to be handed on to somebody else, in vain.

        Args:
            has_moved: its media goes to that other party; it gets the far one's description again.
        """
        if self._far_is_gone:
            self._call.hang_up(Termination(Result.FAILED, "ims-as", "transfer-failed", None))
        elif has_moved:
            self.settle(self.far, self.near)

    def _receive_refer(self, event: RequestReceived) -> None:
        """The far party hands the near one on."""
        receiver = accept_refer(self._call, self.far.session, event)
        if receiver is not None:
            self._call.post("refer", receiver)

    def close(self) -> None:
        """The call is over, or the near party is joined to somebody else."""
        for relay in self._relays:
            relay.detach()
        self.far.session.bye()
