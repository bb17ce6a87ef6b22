"""Watches the wire of one endpoint and says when its offers and answers break the rules.

It knows nothing of sessions: it reads messages in the order in which the endpoint sends and takes them, for one call
without forks, and keeps whose offers are open (RFC 3264 §4, RFC 6337 §2.2, RFC 3262 §3, RFC 3311 §5).
"""

from __future__ import annotations

from ims_as.sip.body import sdp_of
from ims_as.sip.core import WireEvent
from ims_as.sip.header_types import RAck
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.reliable import read_rseq

__all__ = ["OfferReferee"]

Key = tuple[str, bool, int]
"""Method of the request that carried the offer ("offer in response" where the response did), whether the request was
ours, its CSeq."""


class OfferReferee:
    """`see` is an endpoint's `on_wire`. What was wrong is in `faults`; an exception would vanish in the guard."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.is_over = False
        """To be set when the session has ended: then anything goes."""
        self._mine: set[Key] = set()
        self._theirs: set[Key] = set()
        self._closed: set[Key] = set()
        self._offerless: set[Key] = set()
        self._answered_reliably: set[Key] = set()
        self._unpracked: set[int] = set()

    def see(self, event: WireEvent) -> None:
        if self.is_over:
            return
        message = parse_message_untrusted(event.data)
        if isinstance(message, Request):
            self._see_request(message, by_us=event.direction == "out")
        else:
            self._see_response(message, by_us=event.direction == "out")

    def _fault(self, text: str) -> None:
        self.faults.append(f"{text}; ours {sorted(self._mine)}, theirs {sorted(self._theirs)}")

    def _open(self, key: Key, *, by_us: bool) -> None:
        if key in self._closed or key in self._mine or key in self._theirs:
            return  # a retransmission
        if not by_us:
            self._theirs.add(key)
            return
        if self._mine or self._theirs:
            self._fault(f"second offer {key}")
        if self._unpracked:
            self._fault(f"offer {key} before the answer is known to have arrived")
        self._mine.add(key)

    def _close(self, key: Key) -> None:
        self._mine.discard(key)
        self._theirs.discard(key)
        self._closed.add(key)

    def _see_request(self, request: Request, *, by_us: bool) -> None:
        number, method = request.cseq.number, request.method
        body = sdp_of(request)
        key = method, by_us, number
        if method == "ACK":
            self._close(("offer in response", by_us, number))
        elif method == "PRACK":
            rack = RAck.parse(request.headers.get("RAck") or "")
            self._unpracked.discard(rack.response_number)
            offer = "offer in response", by_us, rack.cseq_number
            if offer in self._mine or offer in self._theirs or offer in self._closed:
                self._close(offer)
            elif body:
                self._open(key, by_us=by_us)
        elif method in ("INVITE", "UPDATE") and body:
            self._open(key, by_us=by_us)
        elif method == "INVITE":
            self._offerless.add(key)

    def _see_response(self, response: Response, *, by_us: bool) -> None:
        method, status = response.cseq.method, response.status
        key = method, not by_us, response.cseq.number
        if method in ("UPDATE", "PRACK"):
            if status >= 200:
                self._check_answer(key, status, by_us=by_us)
                self._close(key)
            return
        if method != "INVITE" or status <= 100:
            return
        body = sdp_of(response)
        rseq = read_rseq(response) if status < 200 else None
        offer = "offer in response", not by_us, response.cseq.number
        if status >= 300:
            self._close(key)
            self._close(offer)
        elif status >= 200 or rseq is not None:
            if status >= 200 and by_us and self._unpracked:
                self._fault("2xx before the PRACK of a description")
            if rseq is not None and body and by_us:
                self._unpracked.add(rseq)
            if key in self._offerless:
                if body:
                    self._open_once(offer, by_us=by_us)
            elif body or status >= 200:
                self._check_answer(key, status, by_us=by_us)
                self._close(key)

    def _open_once(self, offer: Key, *, by_us: bool) -> None:
        """A reliable response that is retransmitted before its PRACK is the one that `_unpracked` waits for."""
        waiting = set(self._unpracked)
        self._unpracked.clear()
        self._open(offer, by_us=by_us)
        self._unpracked = waiting

    def _check_answer(self, key: Key, status: int, *, by_us: bool) -> None:
        if by_us and status < 300 and key in self._theirs and (self._mine or self._theirs != {key}):
            self._fault(f"answer to {key} with another offer open")
