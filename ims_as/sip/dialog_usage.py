"""What shares a dialog with others: subscriptions beside a call or beside each other (RFC 5057).

A usage is attached to the user agent under the dialog's Call-ID and local tag; it is asked before the call of that
dialog whether an in-dialog request is its own. Its requests go out by a `DialogChannel`, which takes CSeq numbers from
the same `Dialog` as the call does, so it works on when the call has ended and its BYE was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ServerTransaction

if TYPE_CHECKING:
    from ims_as.sip.core import EndpointCore
    from ims_as.sip.dialog import Dialog
    from ims_as.sip.user_agent import UserAgent

__all__ = ["DialogChannel", "DialogUsage"]

Header = tuple[str, str]


class DialogUsage(Protocol):
    """What `UserAgent.attach` takes."""

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """A request with the dialog's Call-ID and local tag.

        Returns:
            True when it was this usage's and has been answered; False passes it on to the next usage and the call.
        """


class DialogChannel:
    """The way into one dialog, for one usage."""

    __slots__ = ("contact", "dialog", "user_agent")

    def __init__(self, user_agent: UserAgent, dialog: Dialog, contact: str) -> None:
        self.user_agent = user_agent
        self.dialog = dialog
        self.contact = contact
        """Our Contact value; SUBSCRIBE, NOTIFY and REFER are target refresh requests and carry it."""

    @property
    def endpoint(self) -> EndpointCore:
        return self.user_agent.endpoint

    @property
    def key(self) -> tuple[str, str]:
        """What the user agent finds the usage by."""
        return self.dialog.id.call_id, self.dialog.id.local_tag

    def send(
        self,
        method: str,
        *,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        content_type: str | None = None,
        on_event: Callable[[ClientEvent], None],
    ) -> ClientTransaction:
        """Send a request inside the dialog, with Contact and the user agent's common headers."""
        items = [("Contact", self.contact), *self.user_agent.common_headers, *headers]
        request = self.dialog.build_request(method, headers=items, body=body, content_type=content_type)
        return self.endpoint.send_request(request, on_event=on_event)

    def respond(
        self, request: Request, transaction: ServerTransaction, status: int, headers: Iterable[Header] = ()
    ) -> None:
        """Answer a request of the peer; a 2xx has our Contact."""
        items = [("Contact", self.contact)] if 200 <= status < 300 else []
        self.endpoint.send_response(transaction, build_response(request, status, headers=[*items, *headers]))

    def is_from_peer(self, request: Request) -> bool:
        """Whether the From tag is the peer's."""
        return (request.from_tag or "") == self.dialog.id.remote_tag
