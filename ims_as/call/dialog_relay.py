"""Requests of a joined party that are no offers (INFO, MESSAGE, NOTIFY, REFER of the caller) go on to the other one.

A relay is attached to a dialog beside its session, so that it may answer when the other party has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.invite_session import InviteSession, RequestReceived
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction

__all__ = ["DialogRelay"]

_RELAYED: Final = frozenset({"INFO", "MESSAGE", "NOTIFY", "REFER", "PUBLISH"})
_TARGET_REFRESH: Final = frozenset({"NOTIFY", "REFER"})
_REQUEST_HEADERS: Final = (
    "Info-Package",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "MIME-Version",
    "Refer-To",
    "Referred-By",
    "Refer-Sub",
    "Event",
    "Subscription-State",
    "Subject",
)
_RESPONSE_HEADERS: Final = ("Accept", "Allow", "Recv-Info", "Refer-Sub", "Retry-After", "Unsupported", "Warning")

Header = tuple[str, str]


class DialogRelay:
    """Requests that come in ``near``'s dialog and go out in ``far``'s.

    Args:
        on_refer: takes the REFERs of this party, for those that are ours to carry out; None relays them.
    """

    def __init__(
        self,
        near: InviteSession,
        far: InviteSession,
        on_refer: Callable[[RequestReceived], None] | None = None,
    ) -> None:
        self._near = near
        self._far = far
        self._on_refer = on_refer
        assert near.dialog is not None
        self._key = near.dialog.id.call_id, near.dialog.id.local_tag
        near.user_agent.attach(*self._key, self)

    def detach(self) -> None:
        """No more requests."""
        self._near.user_agent.detach(*self._key, self)

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """For the user agent."""
        dialog = self._near.dialog
        if request.method not in _RELAYED or dialog is None or self._near.is_terminated:
            return False
        if dialog.id.remote_tag != (request.from_tag or "") or not dialog.accept_cseq(request):
            return False  # the session says what is wrong with it
        if request.method == "REFER" and self._on_refer is not None:
            self._on_refer(RequestReceived(request, transaction))
            return True
        self._relay(request, transaction)
        return True

    def _relay(self, request: Request, transaction: ServerTransaction) -> None:
        items: list[Header] = [("Contact", self._far.contact)] if request.method in _TARGET_REFRESH else []
        for name in _REQUEST_HEADERS:
            items += [(name, value) for value in request.headers.get_all(name)]
        try:
            self._far.send_request(
                request.method,
                headers=items,
                body=request.body,
                content_type=request.headers.get("Content-Type"),
                on_event=lambda event: self._answer(request, transaction, event),
            )
        except LocalProtocolError:
            self._near.user_agent.endpoint.send_response(transaction, build_response(request, 500))

    def _answer(self, request: Request, transaction: ServerTransaction, event: ClientEvent) -> None:
        if not isinstance(event, ResponseReceived):
            response = build_response(request, 500)
        elif event.response.status < 200:
            return
        else:
            response = self._response(request, event.response)
        self._near.user_agent.endpoint.send_response(transaction, response)

    def _response(self, request: Request, theirs: Response) -> Response:
        items: list[Header] = [*self._near.response_headers]
        if request.method in _TARGET_REFRESH and theirs.status < 300:
            items.append(("Contact", self._near.contact))
        for name in _RESPONSE_HEADERS:
            items += [(name, value) for value in theirs.headers.get_all(name)]
        return build_response(
            request,
            theirs.status,
            theirs.reason,
            headers=items,
            body=theirs.body,
            content_type=theirs.headers.get("Content-Type"),
        )
