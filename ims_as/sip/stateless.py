"""Answers that leave nothing behind: RFC 3261 §8.2.7, the stateless user agent server.

What is refused before a transaction exists must cost little, else refusing is itself the overload. So the answer is
written straight from the request's lines, and the To tag is a keyed hash of what identifies the transaction: the same
request always gets the same tag, and the ACK of a refusal is recognised by its tag without anything having been kept.

One thing is remembered: that a request was refused, as 64 bits in a fixed table. An INVITE whose first copy was refused
must not be accepted when its retransmission comes from the queue a moment later: its sender has ended that transaction
and would never acknowledge the call.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import attrs

from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.message import REASONS, Request

__all__ = [
    "ABSORBED",
    "NO_DIALOG",
    "NO_TRANSACTION",
    "TOO_MANY",
    "WRONG_SOURCE",
    "Gate",
    "Refusal",
    "StatelessResponder",
]

TAG_MARK: Final = "x"
"""First letter of our stateless tags; `EndpointCore.new_tag` makes hexadecimal text, which never begins with it."""
MEMORY_SLOTS: Final = 1 << 17
"""One MiB; at 10,000 refusals a second the retransmissions of the first 10 s are still known."""
MEMORY_S: Final = 32.0
"""64*T1: after that no client retransmits."""


@attrs.frozen(slots=True)
class Refusal:
    """What a request is answered with, and why; made once and used many times.

    Raises:
        LocalProtocolError: a header holds a line end or NUL.
    """

    reason: str
    """For the counters; from a fixed vocabulary."""
    status: int = 503
    """0: no answer at all."""
    headers: tuple[tuple[str, str], ...] = ()
    start: bytes = attrs.field(init=False, repr=False)
    """Status line with its end."""
    tail: bytes = attrs.field(init=False, repr=False)
    """The headers of the answer after the copied ones, and its end."""

    @start.default
    def _start(self) -> bytes:
        return f"SIP/2.0 {self.status} {REASONS.get(self.status, 'Unknown')}\r\n".encode()

    @tail.default
    def _tail(self) -> bytes:
        if any(char in text for item in self.headers for text in item for char in "\r\n\0"):
            raise LocalProtocolError("line end or NUL inside a header")
        lines = [*(f"{name}: {value}" for name, value in self.headers), "Content-Length: 0", "", ""]
        return "\r\n".join(lines).encode()


Gate = Callable[[Request, Flow], Refusal | None]
"""Asked for each new request outside of dialogs (never ACK or CANCEL); None lets it in."""

TOO_MANY: Final = Refusal("too many transactions", headers=(("Retry-After", "10"),))
ABSORBED: Final = Refusal("ACK of a refusal", 0)
NO_TRANSACTION: Final = Refusal("CANCEL of no transaction", 481)
NO_DIALOG: Final = Refusal("no such dialog", 481)
WRONG_SOURCE: Final = Refusal("in-dialog request from elsewhere", 481)


class StatelessResponder:
    """Tags, answers and the memory of refusals.

    Args:
        secret: key of the tags, so that no peer can make one.
    """

    def __init__(self, secret: bytes) -> None:
        self.gate: Gate | None = None
        self._secret = secret[:64]
        self._refused = array("Q")
        self._remembered_until = 0.0
        self._latest: Refusal | None = None
        self._digested: tuple[Request, bytes] | None = None

    def tag(self, request: Request) -> str:
        """The To tag of a stateless answer; the same for the request, its retransmissions, its ACK and its CANCEL."""
        return TAG_MARK + self._digest(request).hex()

    def _digest(self, request: Request) -> bytes:
        if self._digested is not None and self._digested[0] is request:
            return self._digested[1]
        try:
            via = request.via
            text = f"{via.branch}\0{via.host.lower()}\0{request.call_id}\0{request.cseq.number}"
        except SipParseError:  # what is left of a request that could not be read
            headers = request.headers
            text = "\0".join(headers.get(name) or "" for name in ("via", "call-id", "cseq"))
        digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8, key=self._secret).digest()
        self._digested = request, digest
        return digest

    @property
    def is_open(self) -> bool:
        """Nothing is refused: there is no gate, and no refusal to be repeated."""
        return self.gate is None and not self._refused

    def absorbs_ack(self, ack: Request) -> bool:
        """Whether this is the ACK of a refusal of ours, which wants nothing."""
        to = ack.headers.get("to") or ""
        return f";tag={TAG_MARK}" in to and f";tag={self.tag(ack)}" in to

    def find_refusal(self, request: Request, flow: Flow, now: float) -> Refusal | None:
        """What a request that matches no transaction is refused with, None when it is let in."""
        if now < self._remembered_until and self._is_remembered(request):
            return self._latest
        if self.gate is None or _has_to_tag(request):
            return None
        refusal = self.gate(request, flow)
        if refusal is not None and refusal.status and flow.connection is None and request.method == "INVITE":
            self._remember(request, refusal, now)
        return refusal

    def _is_remembered(self, request: Request) -> bool:
        if request.method != "INVITE":
            return False
        mark = int.from_bytes(self._digest(request), "little")
        return self._refused[mark % MEMORY_SLOTS] == mark

    def _remember(self, request: Request, refusal: Refusal, now: float) -> None:
        if not self._refused:
            self._refused = array("Q", bytes(8 * MEMORY_SLOTS))
        elif now >= self._remembered_until:
            self._refused = array("Q", bytes(8 * MEMORY_SLOTS))  # what is older is of no use
        mark = int.from_bytes(self._digest(request), "little")
        self._refused[mark % MEMORY_SLOTS] = mark
        self._remembered_until = now + MEMORY_S
        self._latest = refusal

    def build(self, request: Request, refusal: Refusal) -> bytes:
        """The answer for the wire: Via, From, To, Call-ID and CSeq as they came, and what the refusal says."""
        to_tag = "" if _has_to_tag(request) else f";tag={self.tag(request)}"
        lines: list[str] = []
        index = request.headers.indexed()
        for prefix, key in _COPIED:
            found = index.get(key, "")
            if not isinstance(found, str):
                if key == "via":
                    lines += [prefix + value for value in found]
                    continue
                found = found[0]
            if key == "to" and to_tag:
                # a parameter behind an address without brackets is one of the header (§20), so the tag may just follow;
                # only a tag without value must go
                bare = "tag" in found.lower() and request.to.has_param("tag")
                found = str(request.to.with_tag(self.tag(request))) if bare else found + to_tag
            lines.append(prefix + found)
        lines.append("")
        return refusal.start + "\r\n".join(lines).encode("utf-8", "surrogateescape") + refusal.tail


def _has_to_tag(request: Request) -> bool:
    """Seen without taking To apart where it has no such word, as in nearly all requests that make a dialog."""
    return "tag" in (request.headers.get("to") or "").lower() and request.to_tag is not None


_COPIED: Final = (
    ("Via: ", "via"),
    ("From: ", "from"),
    ("To: ", "to"),
    ("Call-ID: ", "call-id"),
    ("CSeq: ", "cseq"),
)
