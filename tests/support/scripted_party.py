"""A party that says exactly what a test tells it: every message of its dialogs by hand, on the fake link."""

from __future__ import annotations

from collections.abc import Iterable

from ims_as.sip.dialog import Dialog
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
)
from ims_as.sip.user_agent import UserAgent
from tests.support.link import LinkEndpoint, LinkNetwork

__all__ = ["Party"]

Header = tuple[str, str]


class Party:
    """Requests that came are in `requests`, what became of its own in `outcomes`."""

    def __init__(self, network: LinkNetwork, host: str) -> None:
        self.network = network
        self.host = host
        self.endpoint: LinkEndpoint = network.add(host)
        agent = UserAgent(self.endpoint, on_invite=self._take, on_request=self._take, user_agent="", allow="INVITE")
        agent.passthrough = lambda request, transaction: self._take(request, transaction) or True
        agent.on_unhandled_ack = lambda request, flow: self.acks.append(request)
        agent.on_unowned_cancel = self._take_cancel
        self.endpoint.user = agent
        self.requests: list[tuple[Request, ServerTransaction]] = []
        self.acks: list[Request] = []
        self.cancels: list[Request] = []
        self.outcomes: list[Response | int] = []
        """Responses to its requests; a number where there was none: 408, 503."""
        self.auto = {"BYE": 200}
        """Methods that are answered at once, and with what."""
        self.invite: Request | None = None
        self.client: ClientTransaction | None = None

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        self.requests.append((request, transaction))
        if request.method in self.auto:
            self.respond(self.auto[request.method], method=request.method)

    def _take_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        self.cancels.append(cancel)
        self.endpoint.send_response(transaction, build_response(transaction.request, 487))

    def _on_event(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            if event.response.status > 100:
                self.outcomes.append(event.response)
        else:
            self.outcomes.append(408 if isinstance(event, TransactionTimeout) else 503)

    # ---------------------------------------------------------------- as caller

    def call(
        self,
        uri: str,
        *,
        route: Iterable[str] = (),
        headers: Iterable[Header] = (),
        body: bytes = b"",
        max_forwards: int = 70,
    ) -> Request:
        items = [("Route", value) for value in route]
        items += [
            ("Max-Forwards", str(max_forwards)),
            ("From", f'"Alice" <sip:alice@{self.host}>;tag={self.endpoint.new_tag()}'),
            ("To", f"<{uri}>"),
            ("Call-ID", self.endpoint.new_call_id()),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<sip:alice@{self.host}>;+g.alice"),
            *headers,
        ]
        if body:
            items.append(("Content-Type", "application/sdp"))
        self.invite = Request("INVITE", uri, items, body)
        self.client = self.endpoint.send_request(self.invite, on_event=self._on_event)
        self.run()
        return self.invite

    def dialog(self, tag: str | None = None) -> Dialog:
        """Of the latest response, or of the one with that To tag."""
        assert self.invite is not None
        found = [
            each
            for each in self.outcomes
            if isinstance(each, Response) and each.cseq.method == "INVITE" and (tag is None or each.to_tag == tag)
        ]
        return Dialog.from_uac(self.invite, found[-1])

    def responses(self, method: str = "INVITE") -> list[Response]:
        return [each for each in self.outcomes if isinstance(each, Response) and each.cseq.method == method]

    def ack(self, dialog: Dialog, *, body: bytes = b"", cseq: int = 1) -> None:
        self.endpoint.send_ack(
            dialog.build_request("ACK", cseq=cseq, body=body, content_type="application/sdp" if body else None)
        )
        self.run()

    def cancel(self, headers: Iterable[Header] = ()) -> None:
        assert self.client is not None
        self.endpoint.cancel(self.client, headers=headers)
        self.run()

    # ---------------------------------------------------------------- as callee

    def latest(self, method: str = "INVITE") -> Request:
        return [request for request, _ in self.requests if request.method == method][-1]

    def respond(
        self,
        status: int,
        *,
        tag: str = "bob",
        method: str = "INVITE",
        headers: Iterable[Header] = (),
        body: bytes = b"",
        contact: bool = True,
    ) -> None:
        """To the latest request of that method."""
        request, transaction = next(each for each in reversed(self.requests) if each[0].method == method)
        items = list(headers)
        if contact and 100 < status < 300 and method in ("INVITE", "UPDATE"):
            items.insert(0, ("Contact", f"<sip:{tag}@{self.host}>;+g.bob"))
        response = build_response(request, status, to_tag=tag, headers=items, body=body, content_type="application/sdp")
        self.endpoint.send_response(transaction, response)
        if method not in self.auto:
            self.run()

    def callee_dialog(self, tag: str = "bob") -> Dialog:
        return Dialog.from_uas(self.latest(), tag)

    # ---------------------------------------------------------------- both

    def say(
        self, dialog: Dialog, method: str, *, headers: Iterable[Header] = (), body: bytes = b"", contact: bool = False
    ) -> Request:
        items = list(headers)
        if contact:
            items.insert(0, ("Contact", f"<sip:moved@{self.host}>"))
        request = dialog.build_request(
            method, headers=items, body=body, content_type="application/sdp" if body else None
        )
        self.endpoint.send_request(request, on_event=self._on_event)
        self.run()
        return request

    def run(self, seconds: float = 0.1) -> None:
        self.network.run(seconds)
