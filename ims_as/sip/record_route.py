"""Staying in the dialogs of what a proxy passes on: Record-Route and what comes back by it (RFC 3261 §16.4, §16.6).

Our Record-Route value carries a mark made from the Call-ID and a key of ours. A request inside a dialog is passed on
only by such a mark, so that nobody can use us as a relay to whatever a Route of theirs names. Where the two sides
differ (transport, address) there are two values, one for each side (RFC 5658).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from ims_as.sip.core import EndpointCore
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.header_types import parse_name_addr
from ims_as.sip.message import Request
from ims_as.sip.next_hop import next_hop
from ims_as.sip.proxy import StatefulProxy
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.uri import SipUri

__all__ = ["RecordRouter"]

_MARK: Final = "dialog"
"""Name of the URI parameter."""
_MAKES_A_DIALOG: Final = frozenset({"INVITE", "SUBSCRIBE", "REFER"})


class RecordRouter:
    """Puts our URI into the Record-Route of what `proxy` forwards, and forwards what comes back by it.

    Args:
        key: secret; nodes that share an address share it.
    """

    def __init__(self, endpoint: EndpointCore, proxy: StatefulProxy, key: bytes) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._key = key

    def values(self, request: Request, transaction: ServerTransaction) -> list[str]:
        """Our URIs for a request that is about to be forwarded, the far side's first; none where no dialog begins.

        Args:
            request: as it will be sent, our own Route taken off.
        """
        if request.method not in _MAKES_A_DIALOG or request.to_tag is not None:
            return []
        mark = self._mark(request.call_id)
        near = self._endpoint.local_uri(transaction.flow, request=request)
        try:
            far = self._endpoint.local_uri(next_hop(request))
        except SipParseError:
            far = near  # it will fail, and tell so
        return [f"<{uri.with_params(lr=None, **{_MARK: mark})}>" for uri in dict.fromkeys((far, near))]

    def forward_in_dialog(self, request: Request, transaction: ServerTransaction) -> bool:
        """For `UserAgent.passthrough`: a request inside a dialog that is not ours to end; False when we have no part
        in its dialog either."""
        plain = self._restore_strict(request)
        n_own = self._count_own(plain)
        if n_own:
            self._proxy.forward(plain, transaction, pop_route=n_own)
        return n_own > 0

    def forward_ack(self, request: Request, flow: Flow) -> None:
        """For `UserAgent.on_unhandled_ack`: the ACK of a 2xx that went by us."""
        plain = self._restore_strict(request)
        n_own = self._count_own(plain)
        if n_own:
            self._proxy.forward_ack(plain, pop_route=n_own)
        else:
            self._endpoint.counters.drops["ACK for no session"] += 1

    def _mark(self, call_id: str) -> str:
        digest = hmac.digest(self._key, call_id.encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:12]).decode()

    def _count_own(self, request: Request) -> int:
        """How many Route entries on top are of our making, for this dialog."""
        mark = self._mark(request.call_id)
        count = 0
        for value in request.routes:
            if not self._is_own(value, mark):
                break
            count += 1
        return count

    @staticmethod
    def _is_own(text: str, mark: str) -> bool:
        try:
            uri = parse_name_addr(text).uri
        except SipParseError:
            return False
        found = uri.param(_MARK) if isinstance(uri, SipUri) else None
        return found is not None and hmac.compare_digest(found.encode("utf-8", "replace"), mark.encode())

    def _restore_strict(self, request: Request) -> Request:
        """§16.4: a strict router has put our URI into the Request-URI; the target is its last Route."""
        routes = request.routes
        if (
            not routes
            or f";{_MARK}=" not in request.uri
            or not self._is_own(f"<{request.uri}>", self._mark(request.call_id))
        ):
            return request
        try:
            target = parse_name_addr(routes[-1]).uri_text
        except SipParseError:
            return request
        plain = request.copy()
        own, plain.uri = f"<{request.uri}>", target
        plain.headers.set_all("Route", [own, *routes[:-1]])
        return plain
