"""An INVITE passed on as a new dialog: the routeing B2BUA (TS 23.218 §9.1.1.4), without anchoring anything.

The near side is whoever sent the INVITE, the far side where it goes. Each dialog that the far side opens (it may fork)
gets a dialog of its own towards the near side, with a To tag of ours; `coupled_dialog` carries what is said in them.
Responses go back one for one, reliable ones too: their PRACK comes from the near side and goes all the way.

`CouplingTable` finds the coupling of a message; it is asked for what belongs to no session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from ims_as.sip.core import EndpointCore
from ims_as.sip.coupled_dialog import CoupledDialog, DialogEnd, reason_header, session_interval
from ims_as.sip.dialog import Dialog
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Destination
from ims_as.sip.grammar import format_params
from ims_as.sip.header_types import NameAddr
from ims_as.sip.message import DEFAULT_MAX_FORWARDS, REASONS, Message, Request, Response, build_response
from ims_as.sip.next_hop import next_hop
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
)

__all__ = ["Coupling", "CouplingHeaders", "CouplingTable", "CouplingUser"]

Header = tuple[str, str]
Key = tuple[str, str]

MAX_FORKS: Final = 16
"""Dialogs of one INVITE; responses of others are dropped."""


class CouplingHeaders(Protocol):
    """Which headers go across."""

    passes_refer: bool

    def for_request(self, request: Request) -> list[Header]: ...

    def for_response(self, request: Request, response: Response) -> list[Header]: ...


class CouplingUser(Protocol):
    """Who is told how the call goes; each is called once at most, except `progress`."""

    def progress(self, status: int) -> None:
        """A provisional response went to the near side."""

    def answered(self) -> None:
        """The first 2xx went to the near side."""

    def failed(self, status: int, by: str) -> None:
        """It came to nothing: the final status that the near side got. ``by``: ``caller``, ``callee``, ``network``."""

    def ended(self, by: str, reason: str) -> None:
        """The answered call is over."""


class CouplingTable:
    """The couplings of a process by the dialogs that they have with both sides."""

    def __init__(self, endpoint: EndpointCore) -> None:
        self._by_key: dict[Key, list[CoupledDialog]] = {}
        endpoint.dialog_gauges.append(self._by_key.__len__)

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: Key, pair: CoupledDialog) -> None:
        self._by_key.setdefault(key, []).append(pair)

    def remove(self, key: Key, pair: CoupledDialog) -> None:
        pairs = self._by_key.get(key)
        if pairs is not None and pair in pairs:
            pairs.remove(pair)
            if not pairs:
                del self._by_key[key]

    def _find(self, message: Message) -> CoupledDialog | None:
        pairs = self._by_key.get((message.call_id, message.to_tag or ""))
        if pairs is None:
            return None
        if len(pairs) == 1:
            return pairs[0]
        # the far side has forked: several dialogs with the same tag of ours
        tag = message.from_tag or ""
        return next((pair for pair in pairs if pair.far.dialog.id.remote_tag == tag), pairs[0])

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """A request inside a dialog of no session; False when it is not of a coupling either."""
        pair = self._find(request)
        if pair is not None:
            pair.receive_request(request, transaction)
        return pair is not None

    def receive_ack(self, ack: Request) -> bool:
        """The ACK of a 2xx; False when it is not of a coupling."""
        pair = self._find(ack)
        return pair is not None and pair.receive_ack(ack)

    def translate_replaces(self, text: str) -> str:
        """A Replaces value as the other side of the named dialog knows it; unchanged when it is none of ours."""
        call_id, *params = (part.strip() for part in text.split(";"))
        tags = {name.strip().lower(): value.strip() for name, _, value in (each.partition("=") for each in params)}
        for pair in self._by_key.get((call_id, tags.get("to-tag", "")), ()):
            end = pair.near if pair.near.key == (call_id, tags.get("to-tag", "")) else pair.far
            if end.dialog.id.remote_tag != tags.get("from-tag"):
                continue
            there = pair.other(end).dialog.id
            flags = "".join(f";{each}" for each in params if "=" not in each)
            return f"{there.call_id};to-tag={there.remote_tag};from-tag={there.local_tag}{flags}"
        return text


class Coupling:
    """One INVITE and what became of it.

    Args:
        request: the INVITE as it came.
        route: Route values of the new one, byte for byte.
        call_id: of the new dialog.
        session_expires_s: put in where the INVITE has no Session-Expires, so that every call ends some day.
    """

    def __init__(
        self,
        endpoint: EndpointCore,
        table: CouplingTable,
        request: Request,
        transaction: ServerTransaction,
        *,
        route: Sequence[str],
        headers: CouplingHeaders,
        user: CouplingUser,
        call_id: str,
        uri: str | None = None,
        session_expires_s: int = 1800,
        extra: Iterable[Header] = (),
    ) -> None:
        self.endpoint = endpoint
        self.headers = headers
        self.session_expires_s = session_expires_s
        self.request = request
        self._table = table
        self._transaction = transaction
        self._user = user
        self._tag = endpoint.new_tag()
        self._pairs: dict[str, CoupledDialog] = {}
        """By the far side's To tag."""
        self._is_answered = False
        self._is_failed = False
        self._is_told = False
        self._given_up: int | None = None
        """Status for the near side where it was us who cancelled."""
        self._client: ClientTransaction | None = None
        self._timer_c: TimerHandle | None = None
        self._forks_timer: TimerHandle | None = None
        self._far_request = self._build_invite(route, call_id, request.uri if uri is None else uri, extra)

    # ---------------------------------------------------------------- the INVITE

    def _build_invite(self, route: Sequence[str], call_id: str, uri: str, extra: Iterable[Header]) -> Request:
        request = self.request
        sender = request.from_.without_param("tag").with_tag(self._tag)
        max_forwards = request.max_forwards
        items = [("Route", value) for value in route]
        items += [
            ("Max-Forwards", str(DEFAULT_MAX_FORWARDS if max_forwards is None else max(max_forwards - 1, 0))),
            ("From", str(sender)),
            ("To", str(request.to)),
            ("Call-ID", call_id),
            ("CSeq", "1 INVITE"),
        ]
        far = Request("INVITE", uri, items, request.body)
        try:
            there = next_hop(far)
        except SipParseError:
            there = Destination("UDP", "")  # it will fail, and tell so
        self._far_contact = f"<{self.endpoint.local_uri(there)}>{_contact_params(request)}"
        far.headers.add("Contact", self._far_contact)
        for name, value in (*self.headers.for_request(request), *extra):
            far.headers.add(name, value)
        for value in request.headers.get_all("Replaces"):
            far.headers.add("Replaces", self._table.translate_replaces(value))
        if session_interval(request) is None:
            far.headers.remove("Session-Expires")
            far.headers.add("Session-Expires", str(self.session_expires_s))
        return far

    def start(self) -> None:
        """Send it. Max-Forwards has been looked at before."""
        self._transaction.owner = self
        self._start_timer_c()
        self._client = self.endpoint.send_request(self._far_request, on_event=self._on_event)
        if self._transaction.is_cancelled:
            self.endpoint.cancel(self._client)

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """For the user agent: the near side gives up; the INVITE's end comes from the far side."""
        self.cancel([("Reason", value) for value in cancel.headers.get_all("Reason")])

    def cancel(self, headers: Iterable[Header] = ()) -> None:
        """Give the far side up, if it is not too late."""
        if self._client is not None and not self._is_answered and not self._is_failed:
            self.endpoint.cancel(self._client, headers=headers)

    def hang_up(self, cause: int, text: str) -> None:
        """End the call from our side, whatever its state."""
        if not self._is_answered:
            self._given_up = 480
            self.cancel([reason_header(cause, text)])
        for pair in list(self._pairs.values()):
            if pair.is_confirmed:
                pair.hang_up(reason_header(cause, text), by="ims-as")

    # ---------------------------------------------------------------- responses

    def _on_event(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            response = event.response
            if response.status >= 300:
                self._receive_failure(response)
            elif response.status > 100:
                self._receive_dialog_response(response)
            return
        assert self._client is not None
        if self._transaction.is_cancelled:
            status, by = 487, "caller"
        elif self._given_up is not None:
            status, by = self._given_up, "ims-as"
        else:
            status, by = (408 if isinstance(event, TransactionTimeout) else 500), "network"
        self.endpoint.send_response(self._transaction, build_response(self.request, status))
        self._fail(status, by)

    def _receive_dialog_response(self, response: Response) -> None:
        status = response.status
        pair = self._pair_of(response)
        if pair is None:
            return
        if status >= 200:
            pair.confirm(Dialog.from_uac(self._far_request, response))
        elif not pair.is_confirmed:
            pair.far.dialog.update_target(response)
        headers = [("Contact", pair.near.contact), *self.headers.for_response(self.request, response)]
        if status >= 200:
            headers += pair.watch(self.request, response)
        self._respond(response, headers, pair.near.dialog.id.local_tag)
        if status >= 200:
            self._answer()
            if self._given_up is not None:  # our CANCEL has crossed it
                pair.hang_up(reason_header(self._given_up, "given up"), by="ims-as")
            return
        self._start_timer_c()
        self._user.progress(status)
        if status == 199:  # RFC 6228: that dialog is over; PRACK is not asked for
            pair.drop()

    def _respond(self, response: Response, headers: list[Header], tag: str | None) -> None:
        status, reason = response.status, response.reason
        if status == 503:  # it does not say that we are overloaded (RFC 3261 §16.7 item 6 has the same for proxies)
            status, reason = 500, REASONS[500]
        relayed = build_response(self.request, status, reason, to_tag=tag, headers=headers, body=response.body)
        self.endpoint.send_response(self._transaction, relayed)

    def _pair_of(self, response: Response) -> CoupledDialog | None:
        tag = response.to_tag or ""
        pair = self._pairs.get(tag)
        if pair is not None or len(self._pairs) >= MAX_FORKS or (self._is_failed and response.status < 200):
            return pair
        near_tag = self._transaction.to_tag if not self._pairs else self.endpoint.new_tag()
        near_dialog = Dialog.from_uas(self.request, near_tag)
        contact = f"<{self.endpoint.local_uri(self._transaction.flow)}>{_contact_params(response)}"
        near = DialogEnd("caller", near_dialog, contact)
        far = DialogEnd("callee", Dialog.from_uac(self._far_request, response), self._far_contact)
        near.note_invite(self.request.cseq.number, self._far_request.cseq.number)
        pair = self._pairs[tag] = CoupledDialog(self, near, far)
        self._table.add(near.key, pair)
        self._table.add(far.key, pair)
        return pair

    def _answer(self) -> None:
        if self._is_answered:
            return
        self._is_answered = True
        self._stop_timer_c()
        # other dialogs may still be answered, as long as the transaction lives; then they are over
        endpoint = self.endpoint
        if len(self._pairs) > 1:
            when = endpoint.now() + endpoint.timers.transaction_timeout
            self._forks_timer = endpoint.call_at(when, self._drop_early)
        self._user.answered()

    def _receive_failure(self, response: Response) -> None:
        if self._transaction.is_cancelled:
            by = "caller"
        elif self._given_up is not None and response.status == 487:
            self.endpoint.send_response(self._transaction, build_response(self.request, self._given_up))
            self._fail(self._given_up, "ims-as")
            return
        else:
            by = "callee"
        self._respond(response, self.headers.for_response(self.request, response), None)
        self._fail(response.status, by)

    def _fail(self, status: int, by: str) -> None:
        self._is_failed = True
        self._stop_timer_c()
        self._drop_early()
        if not self._is_answered:
            self._user.failed(status, by)

    def _drop_early(self) -> None:
        self._forks_timer = None
        for pair in list(self._pairs.values()):
            if not pair.is_confirmed:
                pair.drop()

    # ---------------------------------------------------------------- for the dialogs

    def forget_key(self, key: Key, pair: CoupledDialog) -> None:
        """The dialog with that side is over."""
        self._table.remove(key, pair)

    def dialog_ended(self, pair: CoupledDialog, by: str, reason: str) -> None:
        """An answered dialog is over; with the last of them the call."""
        if any(each.is_confirmed and not each.is_over for each in self._pairs.values()) or self._is_told:
            return
        self._is_told = True
        self._user.ended(by, reason)

    # ---------------------------------------------------------------- timer C (RFC 3261 §16.8)

    def _start_timer_c(self) -> None:
        """A far side that neither answers nor refuses is cancelled, as a proxy would do."""
        self._stop_timer_c()
        endpoint = self.endpoint
        self._timer_c = endpoint.call_at(endpoint.now() + endpoint.timers.timer_c, self._fire_timer_c)

    def _stop_timer_c(self) -> None:
        if self._timer_c is not None:
            self._timer_c.cancel()
            self._timer_c = None

    def _fire_timer_c(self) -> None:
        self._timer_c = None
        self._given_up = 408
        self.cancel([reason_header(408, "no answer")])


def _contact_params(message: Message) -> str:
    """The feature tags of the party's own Contact: ours says them for it (RFC 3840)."""
    try:
        contact: NameAddr | None = message.contact
    except SipParseError:
        return ""
    if contact is None:
        return ""
    kept = tuple(
        entry for entry in contact.params if entry[0].lower() not in ("expires", "q", "+sip.instance", "reg-id")
    )
    return format_params(kept)
