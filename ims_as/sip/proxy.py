"""A stateful proxy (RFC 3261 §16) that forwards each request to one place at a time.

Not a forking proxy: who wants a second place consumes the first failure in `on_response` and calls `forward` again with
the same server transaction. What forks behind it, does: every provisional response and every 2xx goes upstream. Routing
is loose only; a strict router on the way is sent to as if it were loose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ims_as.sip.core import EndpointCore
from ims_as.sip.flow import Destination
from ims_as.sip.message import DEFAULT_MAX_FORWARDS, REASONS, Request, Response, build_response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, ServerTransaction, TransportFailure

__all__ = ["ProxyBranch", "StatefulProxy"]

UNDERSTOOD: Final = frozenset({"privacy"})
"""Option tags that may stand in Proxy-Require: RFC 3323 asks nothing of a proxy inside the trust domain."""

OnResponse = Callable[["ProxyBranch", Response | None], bool]


class ProxyBranch:
    """One request on its way, from `StatefulProxy.forward` to its final response."""

    __slots__ = (
        "_client",
        "_earlier",
        "_endpoint",
        "_hides_503",
        "_on_response",
        "_timer_c",
        "is_cancelled",
        "is_finished",
        "request",
        "response",
        "transaction",
    )

    def __init__(
        self,
        endpoint: EndpointCore,
        request: Request,
        transaction: ServerTransaction,
        on_response: OnResponse | None,
        *,
        hides_503: bool,
    ) -> None:
        self.request = request
        """As it was sent."""
        self.transaction = transaction
        """Upstream."""
        self.response: Response | None = None
        """The latest response, as it came."""
        self.is_finished = False
        """A final response, a time-out or a failure has come."""
        self.is_cancelled = False
        self._endpoint = endpoint
        self._on_response = on_response
        self._hides_503 = hides_503
        self._client: ClientTransaction | None = None
        self._timer_c: TimerHandle | None = None
        earlier = transaction.owner
        self._earlier = earlier if isinstance(earlier, ProxyBranch) and not earlier.is_finished else None

    def start(self, destination: Destination | None) -> None:
        """For the proxy: send."""
        if self.request.method == "INVITE":
            self._start_timer_c()
        self._client = self._endpoint.send_request(self.request, destination=destination, on_event=self._on_event)

    def finish(self) -> None:
        """For the proxy: no response will come of it."""
        self.is_finished = True
        self._stop_timer_c()

    def cancel(self, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE downstream; its final response (487) still goes upstream."""
        if self.is_finished or self._client is None:
            return
        self.is_cancelled = True
        self._endpoint.cancel(self._client, headers=headers)

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """An upstream CANCEL; Reason goes along (RFC 3326 §2)."""
        headers = [("Reason", value) for value in cancel.headers.get_all("Reason")]
        self.cancel(headers=headers)
        if self._earlier is not None:
            self._earlier.receive_cancel(transaction, cancel)

    # ---------------------------------------------------------------- timer C, §16.8

    def _start_timer_c(self) -> None:
        self._stop_timer_c()
        endpoint = self._endpoint
        self._timer_c = endpoint.call_at(endpoint.now() + endpoint.timers.timer_c, self._fire_timer_c)

    def _stop_timer_c(self) -> None:
        if self._timer_c is not None:
            self._timer_c.cancel()
            self._timer_c = None

    def _fire_timer_c(self) -> None:
        self._timer_c = None
        # without a provisional timer B ends it long before
        self.cancel()

    # ---------------------------------------------------------------- responses, §16.7

    def _on_event(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            self._receive_response(event.response)
            return
        self.finish()
        if self._on_response is not None and self._on_response(self, None):
            return
        request = self.transaction.request
        if self.is_cancelled:
            status = 487
        elif isinstance(event, TransportFailure):
            status = 500 if self._hides_503 else 503
        elif request.method == "INVITE":
            status = 408
        else:
            return  # RFC 4320 §4.2: no 408 to a non-INVITE; upstream's own timer is about to fire
        self._endpoint.send_response(self.transaction, build_response(request, status))

    def _receive_response(self, response: Response) -> None:
        self.response = response
        status = response.status
        if status >= 200:
            self.finish()
        elif status > 100 and self._timer_c is not None:
            self._start_timer_c()
        if self._on_response is not None and self._on_response(self, response):
            return
        if status > 100:
            self.forward_response(response)

    def forward_response(self, response: Response) -> None:
        """Send a response upstream, without our Via; also for one that `on_response` had consumed."""
        upstream = response.copy()
        upstream.headers.pop_value("Via")
        if upstream.status == 503 and self._hides_503:
            upstream.status, upstream.reason = 500, REASONS[500]
            upstream.headers.remove("Retry-After")
        if "Via" in upstream.headers:
            self._endpoint.send_response(self.transaction, upstream)


class StatefulProxy:
    """Forwards requests over an endpoint. Keeps nothing itself: branches hang on their transactions.

    Args:
        hides_503: a 503 of somebody behind us goes upstream as 500, for it does not say that we are overloaded
            (§16.7 item 6); so does a next hop that cannot be reached (§16.9).
    """

    def __init__(self, endpoint: EndpointCore, *, hides_503: bool = False) -> None:
        self._endpoint = endpoint
        self._hides_503 = hides_503
        self.record_route: Callable[[Request, ServerTransaction], Sequence[str]] | None = None
        """Our URIs for what is forwarded without a `record_route` of its own; None: we do not stay in the dialog."""

    def forward(
        self,
        request: Request,
        transaction: ServerTransaction,
        *,
        uri: str | None = None,
        record_route: str | Sequence[str] | None = None,
        pop_route: bool | int = True,
        edit: Callable[[Request], None] | None = None,
        destination: Destination | None = None,
        on_response: OnResponse | None = None,
    ) -> ProxyBranch:
        """Forward a request (§16.6); the given one is not changed.

        Args:
            uri: new Request-URI.
            record_route: our own URI, to stay in the dialog; or two, that of the side it goes to first, where the
                sides differ (RFC 5658).
            pop_route: take the top Route off: it is ours; or how many of them are.
            edit: last changes to the copy.
            destination: next hop instead of Route or Request-URI.
            on_response: sees every response before it goes upstream, and None for a time-out or failure; True keeps it
                from going there.

        Returns:
            The branch; already finished when Max-Forwards was used up (483 is sent) or Proxy-Require asks for what we
            do not know (420).
        """
        copy = _forwarded_copy(request, pop_route=pop_route)
        refusal = build_response(request, 483) if copy is None else _refuse_extension(request)
        sent = request if copy is None else copy
        branch = ProxyBranch(self._endpoint, sent, transaction, on_response, hides_503=self._hides_503)
        if copy is None or refusal is not None:
            branch.finish()
            if refusal is not None:
                self._endpoint.send_response(transaction, refusal)
            return branch
        if uri is not None:
            copy.uri = uri
        if record_route is None and self.record_route is not None:
            record_route = self.record_route(copy, transaction)
        if record_route is not None:
            for each in reversed([record_route] if isinstance(record_route, str) else record_route):
                copy.headers.prepend("Record-Route", each if each.startswith("<") else f"<{each}>")
        if edit is not None:
            edit(copy)
        transaction.owner = branch
        branch.start(destination)
        if transaction.is_cancelled:
            branch.cancel()  # the CANCEL was here before this place was tried
        return branch

    def forward_ack(
        self,
        request: Request,
        *,
        uri: str | None = None,
        pop_route: bool | int = True,
        destination: Destination | None = None,
    ) -> bool:
        """Forward the ACK of a 2xx; False when Max-Forwards was used up."""
        copy = _forwarded_copy(request, pop_route=pop_route)
        if copy is None:
            return False
        if uri is not None:
            copy.uri = uri
        self._endpoint.send_ack(copy, destination=destination)
        return True

    def on_cancel(self, transaction: ServerTransaction, cancel: Request | None = None) -> bool:
        """An upstream CANCEL; False when the transaction is not one that was forwarded."""
        branch = transaction.owner
        if not isinstance(branch, ProxyBranch):
            return False
        branch.receive_cancel(transaction, transaction.request if cancel is None else cancel)
        return True


def _refuse_extension(request: Request) -> Response | None:
    """§16.3 item 5: 420 to a Proxy-Require that asks for more than we understand."""
    if "Proxy-Require" not in request.headers:
        return None
    unknown = [tag for tag in request.headers.get_list("Proxy-Require") if tag.lower() not in UNDERSTOOD]
    return build_response(request, 420, headers=[("Unsupported", ", ".join(unknown))]) if unknown else None


def _forwarded_copy(request: Request, *, pop_route: bool | int) -> Request | None:
    max_forwards = request.max_forwards
    if max_forwards == 0:
        return None
    copy = request.copy()
    copy.headers.set("Max-Forwards", str(DEFAULT_MAX_FORWARDS if max_forwards is None else max_forwards - 1))
    for _ in range(pop_route):
        copy.headers.pop_value("Route")
    return copy
