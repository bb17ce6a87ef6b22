"""Two dialogs that are one call to its parties: what comes in one goes out in the other (RFC 7092, a signalling B2BUA).

Offers and answers, PRACK, UPDATE, preconditions, glare and session timers are the two ends' own affair: their requests
and responses are carried across one for one, with the dialog's identifiers, CSeq, RAck, Contact and routes exchanged.
Bodies go byte for byte, so that each dialog's session description keeps its one origin.

We act ourselves only where an end would be left alone: a BYE is answered and sent on; an end that has lost the dialog,
does not answer, or does not refresh it in time ends both (RFC 4028 §10).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ims_as.sip.dialog import Dialog
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import RAck, SessionExpires
from ims_as.sip.message import Message, Request, Response, build_response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
)

if TYPE_CHECKING:
    from ims_as.sip.coupling import Coupling

__all__ = ["CoupledDialog", "DialogEnd", "reason_header"]

Header = tuple[str, str]

TARGET_REFRESH: Final = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"""Requests that carry a Contact."""
_REFRESH: Final = frozenset({"INVITE", "UPDATE"})
_OTHER_USAGES: Final = frozenset({"SUBSCRIBE", "NOTIFY"})
"""Their failure says nothing of the call (RFC 5057 §5.1)."""
MIN_SESSION_S: Final = 90
"""RFC 4028 §5."""
MAX_INVITES: Final = 8
"""INVITEs of one end whose ACK may still come; the latest ones."""


def reason_header(cause: int, text: str) -> Header:
    """Reason of a request that we send of our own accord (RFC 3326)."""
    return "Reason", f'SIP;cause={cause};text="{text}"'


class DialogEnd:
    """Our end of the dialog with one party."""

    __slots__ = ("contact", "dialog", "invites", "key", "name", "supports_timer")

    def __init__(self, name: str, dialog: Dialog, contact: str) -> None:
        self.name = name
        """``caller`` or ``callee``: the party at the other end."""
        self.dialog = dialog
        self.contact = contact
        """Our Contact value in this dialog."""
        self.key = (dialog.id.call_id, dialog.id.local_tag)
        self.invites: dict[int, int] = {}
        """CSeq of the party's INVITEs → CSeq of the same in the other dialog."""
        self.supports_timer = False

    def note_invite(self, cseq: int, other: int) -> None:
        self.invites[cseq] = other
        while len(self.invites) > MAX_INVITES:
            del self.invites[next(iter(self.invites))]


class _Relayed:
    """One request inside the dialog on its way across; handles its CANCEL."""

    __slots__ = ("_client", "_from", "_pair", "_request", "_to", "_transaction")

    def __init__(
        self, pair: CoupledDialog, from_: DialogEnd, to: DialogEnd, request: Request, transaction: ServerTransaction
    ) -> None:
        self._pair = pair
        self._from = from_
        self._to = to
        self._request = request
        self._transaction = transaction
        self._client: ClientTransaction | None = None

    def start(self, request: Request) -> None:
        self._transaction.owner = self
        self._client = self._pair.endpoint.send_request(request, on_event=self._on_event)
        if self._transaction.is_cancelled:
            self._pair.endpoint.cancel(self._client)

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        if self._client is not None:
            headers = [("Reason", value) for value in cancel.headers.get_all("Reason")]
            self._pair.endpoint.cancel(self._client, headers=headers)

    def _on_event(self, event: ClientEvent) -> None:
        pair = self._pair
        if isinstance(event, ResponseReceived):
            if event.response.status > 100:
                pair.relay_response(self._from, self._to, self._request, self._transaction, event.response)
            return
        timed_out = isinstance(event, TransactionTimeout)
        if self._request.method == "INVITE" or not timed_out:  # RFC 4320 §4.2: no 408 to others
            pair.respond(self._request, self._transaction, 408 if timed_out else 500)
        if not pair.is_over and self._request.method not in _OTHER_USAGES:
            pair.hang_up(reason_header(408 if timed_out else 503, "no answer inside the dialog"), by=self._to.name)


class CoupledDialog:
    """One pair; made by `Coupling` for each dialog that the far side opens."""

    def __init__(self, coupling: Coupling, near: DialogEnd, far: DialogEnd) -> None:
        self.coupling = coupling
        self.endpoint = coupling.endpoint
        self.near = near
        self.far = far
        self.is_confirmed = False
        self.is_over = False
        self._is_acked = False
        self._bye_after_ack: tuple[list[Header], bytes] | None = None
        self._expiry: TimerHandle | None = None
        self._ack_timer: TimerHandle | None = None

    def end_of(self, request: Request) -> DialogEnd | None:
        """The end that a request came to; None when its From tag is not that of the party there."""
        key = (request.call_id, request.to_tag or "")
        end = self.near if key == self.near.key else self.far
        return end if end.dialog.id.remote_tag == (request.from_tag or "") else None

    def other(self, end: DialogEnd) -> DialogEnd:
        return self.far if end is self.near else self.near

    # ---------------------------------------------------------------- confirmed

    def confirm(self, far: Dialog) -> None:
        """The far side has answered; its 2xx is on the way to the near one."""
        if self.is_confirmed:
            return
        early = self.far.dialog
        far.local_cseq = max(far.local_cseq, early.local_cseq)
        far.remote_cseq = early.remote_cseq
        self.far.dialog = far
        self.is_confirmed = True
        endpoint = self.endpoint
        # the far side hangs up itself when it gets no ACK; should it not, nothing may be left here either
        when = endpoint.now() + endpoint.timers.transaction_timeout + endpoint.timers.t4
        self._ack_timer = endpoint.call_at(when, self._ack_missing)

    def _ack_missing(self) -> None:
        self._ack_timer = None
        self._take_ack()
        if not self.is_over:
            self.hang_up(reason_header(408, "no ACK"), by=self.near.name)

    def _take_ack(self) -> None:
        """The near side has sent its ACK, or never will."""
        self._is_acked = True
        self._stop(self._ack_timer)
        self._ack_timer = None
        if self._bye_after_ack is not None:
            headers, body = self._bye_after_ack
            self._bye_after_ack = None
            self._send_bye(self.near, headers, body)

    def receive_ack(self, ack: Request) -> bool:
        """The ACK of a 2xx; False when it is for none that we know."""
        end = self.end_of(ack)
        cseq = end.invites.get(ack.cseq.number) if end is not None else None
        if end is None or cseq is None:
            return False
        if not self.is_over:
            other = self.other(end)
            headers = self.coupling.headers.for_request(ack)
            request = other.dialog.build_request("ACK", cseq=cseq, headers=headers, body=ack.body)
            _count_forwards(ack, request)
            self.endpoint.send_ack(request)
        if end is self.near and not self._is_acked:
            self._take_ack()
        return True

    # ---------------------------------------------------------------- requests inside the dialog

    def receive_request(self, request: Request, transaction: ServerTransaction) -> None:
        """Any but ACK and CANCEL."""
        end = self.end_of(request)
        method = request.method
        if end is None:
            self.respond(request, transaction, 481)
        elif not end.dialog.accept_cseq(request) and method != "PRACK":
            self.respond(request, transaction, 500)
        elif method == "BYE":
            self.respond(request, transaction, 200)
            if not self.is_over:
                self._receive_bye(end, request)
        elif self.is_over:
            self.respond(request, transaction, 481)
        elif request.max_forwards == 0:
            self.respond(request, transaction, 483)
        elif method == "REFER" and not self.coupling.headers.passes_refer:
            self.respond(request, transaction, 403)
        elif method == "INVITE" and not self.is_confirmed:
            self.respond(request, transaction, 491)
        else:
            self._relay(end, self.other(end), request, transaction)

    def _relay(self, end: DialogEnd, other: DialogEnd, request: Request, transaction: ServerTransaction) -> None:
        headers = self.coupling.headers.for_request(request)
        method = request.method
        if method in TARGET_REFRESH:
            headers.insert(0, ("Contact", other.contact))
        if method == "PRACK":
            rack = self._translate_rack(end, request)
            if rack is None:
                self.respond(request, transaction, 481)
                return
            headers.append(rack)
        relayed = other.dialog.build_request(method, headers=headers, body=request.body)
        _count_forwards(request, relayed)
        if method == "INVITE":
            end.note_invite(request.cseq.number, relayed.cseq.number)
        _Relayed(self, end, other, request, transaction).start(relayed)

    @staticmethod
    def _translate_rack(end: DialogEnd, request: Request) -> Header | None:
        try:
            rack = RAck.parse(request.headers.get("RAck") or "")
        except SipParseError:
            return None
        cseq = end.invites.get(rack.cseq_number)
        return None if cseq is None else ("RAck", str(RAck(rack.response_number, cseq, rack.method)))

    def relay_response(
        self, end: DialogEnd, other: DialogEnd, request: Request, transaction: ServerTransaction, response: Response
    ) -> None:
        """A response of `other`'s party to a request of `end`'s, above 100."""
        status = response.status
        headers = self.coupling.headers.for_response(request, response)
        if status < 300 and request.method in TARGET_REFRESH:
            headers.insert(0, ("Contact", end.contact))
            if status >= 200:
                end.dialog.update_target(request)
                other.dialog.update_target(response)
                if request.method in _REFRESH:
                    headers += self.watch(request, response)
        relayed = build_response(request, status, response.reason, headers=headers, body=response.body)
        self.endpoint.send_response(transaction, relayed)
        method = request.method
        is_lost = status == 481 and method not in _OTHER_USAGES
        if not self.is_over and (is_lost or (status == 408 and method in _REFRESH)):
            self.hang_up(reason_header(status, "the dialog is lost"), by=other.name, spare=other)

    def respond(self, request: Request, transaction: ServerTransaction, status: int) -> None:
        self.endpoint.send_response(transaction, build_response(request, status))

    # ---------------------------------------------------------------- session timer, RFC 4028 §8

    def watch(self, request: Request, response: Response) -> list[Header]:
        """Count the session's time anew from a 2xx; what has to be added to it for the party that gets it."""
        if self.is_over:
            return []
        added: list[Header] = []
        agreed = session_interval(response)
        if agreed is None and supports_timer(request):
            # the answering side knows no timers: the asking one refreshes, and hears of it from us (§8.2)
            agreed = session_interval(request) or self.coupling.session_expires_s
            added = [("Session-Expires", f"{agreed};refresher=uac"), ("Require", "timer")]
        self._stop(self._expiry)
        self._expiry = None
        if agreed is not None:
            agreed = max(agreed, MIN_SESSION_S)
            self._expiry = self.endpoint.call_at(self.endpoint.now() + agreed, self._expire)
        return added

    def _expire(self) -> None:
        self._expiry = None
        self.hang_up(reason_header(408, "session timer"), by="network")

    # ---------------------------------------------------------------- end

    def _receive_bye(self, end: DialogEnd, request: Request) -> None:
        is_confirmed = self.is_confirmed
        headers = self.coupling.headers.for_request(request)
        self._end()
        if end is self.near:
            self._stop(self._ack_timer)
            self._ack_timer = None
        self.coupling.forget_key(end.key, self)
        self._say_bye(self.other(end), headers, request.body)
        if is_confirmed:
            self.coupling.dialog_ended(self, end.name, request.headers.get("Reason") or "bye")

    def hang_up(self, reason: Header, *, by: str, spare: DialogEnd | None = None) -> None:
        """End both dialogs; `spare` is over already."""
        if self.is_over:
            return
        self._end()
        for end in (self.far, self.near):
            if end is spare:
                self.coupling.forget_key(end.key, self)
            else:
                self._say_bye(end, [reason], b"")
        if self.is_confirmed:
            self.coupling.dialog_ended(self, by, reason[1])

    def _say_bye(self, end: DialogEnd, headers: list[Header], body: bytes) -> None:
        """End one dialog: by BYE, once it may be sent, where there is anything that a BYE could end (RFC 3261 §15)."""
        if end is self.near and not self.is_confirmed:
            self.coupling.forget_key(end.key, self)
        elif end is self.near and not self._is_acked and self._ack_timer is not None:
            self._bye_after_ack = headers, body
        else:
            self._send_bye(end, headers, body)

    def drop(self) -> None:
        """The dialogs never came about, or ended with the INVITE."""
        if not self.is_over:
            self._end()
        self._stop(self._ack_timer)
        self._ack_timer = None
        self.coupling.forget_key(self.near.key, self)
        self.coupling.forget_key(self.far.key, self)

    def _end(self) -> None:
        self.is_over = True
        self._stop(self._expiry)
        self._expiry = None

    def _send_bye(self, end: DialogEnd, headers: Iterable[Header], body: bytes) -> None:
        if end is self.far and self.is_confirmed and not self._is_acked:
            # its 2xx has no ACK yet, and will get none from the near side any more
            cseq = next(iter(self.near.invites.values()))
            self.endpoint.send_ack(end.dialog.build_request("ACK", cseq=cseq))
        request = end.dialog.build_request("BYE", headers=headers, body=body)

        def on_event(event: ClientEvent) -> None:
            if not isinstance(event, ResponseReceived) or event.response.status >= 200:
                self.coupling.forget_key(end.key, self)

        self.endpoint.send_request(request, on_event=on_event)

    @staticmethod
    def _stop(timer: TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def session_interval(message: Message) -> int | None:
    """Session-Expires in seconds, None where it is not there or cannot be read."""
    text = message.headers.get("Session-Expires")
    if text is None:
        return None
    try:
        return SessionExpires.parse(text).interval_s
    except SipParseError:
        return None


def supports_timer(request: Request) -> bool:
    return any(tag.lower() == "timer" for tag in request.headers.get_list("Supported"))


def _count_forwards(request: Request, relayed: Request) -> None:
    """Max-Forwards goes on being counted on the other side (RFC 7332)."""
    value = request.max_forwards
    if value is not None:
        relayed.headers.set("Max-Forwards", str(max(value - 1, 0)))
