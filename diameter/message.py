"""Diameter messages: header and AVPs (RFC 6733 §3), results (§7), answers built from requests (§6.2).

```
version=1 (1) | length (3) | flags R=80 P=40 E=20 T=10 (1) | command code (3) | application id (4)
hop-by-hop id (4) | end-to-end id (4) | AVPs
```
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

from diameter.avp import Avp, Avps, decode_avps_untrusted
from diameter.errors import FramingError, LocalDiameterError, RemoteDiameterError
from diameter.framing import HEADER_BYTES

if TYPE_CHECKING:
    from diameter.dictionary.loader import AvpDefinition

__all__ = [
    "FLAG_ERROR",
    "FLAG_PROXIABLE",
    "FLAG_REQUEST",
    "FLAG_RETRANSMITTED",
    "Message",
    "Result",
    "decode_message_untrusted",
    "mark_retransmitted",
]

FLAG_REQUEST = 0x80
FLAG_PROXIABLE = 0x40
FLAG_ERROR = 0x20
FLAG_RETRANSMITTED = 0x10

INVALID_HDR_BITS = 3008
INVALID_MESSAGE_LENGTH = 5015

_HEADER = struct.Struct(">IIIII")
_UINT24 = (1 << 24) - 1

_RESULT_CODE = (0, 268)
_EXPERIMENTAL_RESULT = (0, 297)
_EXPERIMENTAL_RESULT_CODE = (0, 298)
_VENDOR_ID = (0, 266)


@frozen
class Result:
    """What an answer says: Result-Code, or Experimental-Result with its vendor. The same number means two things.

    Attributes:
        code: 2001, 5001 …
        vendor: 0 for Result-Code, else the Vendor-Id of Experimental-Result (10415: 3GPP).
    """

    code: int
    vendor: int = 0

    @property
    def is_success(self) -> bool:
        """2xxx."""
        return 2000 <= self.code < 3000

    def __str__(self) -> str:
        return f"experimental {self.vendor}/{self.code}" if self.vendor else str(self.code)


@frozen
class Message:
    """A message; immutable. Identifiers of 0 are filled in by the node.

    Attributes:
        code: command code, the same for request and answer.
        application_id: 0 for base commands.
        flags: R, P, E and T bits.
        hop_by_hop: matches answer to request on one connection.
        end_to_end: stays the same over agents and failover.
        avps: in wire order.
    """

    code: int
    application_id: int
    flags: int
    avps: Avps
    hop_by_hop: int = 0
    end_to_end: int = 0

    @property
    def is_request(self) -> bool:
        return bool(self.flags & FLAG_REQUEST)

    @property
    def is_proxiable(self) -> bool:
        return bool(self.flags & FLAG_PROXIABLE)

    @property
    def is_error(self) -> bool:
        return bool(self.flags & FLAG_ERROR)

    @property
    def is_retransmitted(self) -> bool:
        return bool(self.flags & FLAG_RETRANSMITTED)

    def text(self, definition: AvpDefinition) -> str | None:
        """Value of the first AVP of that kind as text; None when absent. Raises RemoteDiameterError."""
        return definition.text(self.avps)

    def number(self, definition: AvpDefinition) -> int | None:
        """Value of the first AVP of that kind as a number; None when absent. Raises RemoteDiameterError."""
        return definition.number(self.avps)

    def octets(self, definition: AvpDefinition) -> bytes | None:
        """Data of the first AVP of that kind; None when absent."""
        return definition.octets(self.avps)

    def group(self, definition: AvpDefinition) -> Avps | None:
        """Members of the first AVP of that kind; None when absent. Raises RemoteDiameterError."""
        return definition.group(self.avps)

    def result(self) -> Result | None:
        """Result of an answer, None when it carries none that can be read.

        One of the two forms is expected (§7.6); where a peer sends both, the one that reports a failure counts.
        """
        results = []
        plain = self.avps.find(_RESULT_CODE)
        if plain is not None and len(plain.data) == 4:
            results.append(Result(int.from_bytes(plain.data)))
        grouped = self.avps.find(_EXPERIMENTAL_RESULT)
        if grouped is not None:
            try:
                members = decode_avps_untrusted(grouped.data)
            except RemoteDiameterError:
                members = Avps()
            code, vendor = members.find(_EXPERIMENTAL_RESULT_CODE), members.find(_VENDOR_ID)
            if code is not None and len(code.data) == 4:
                vendor_id = int.from_bytes(vendor.data) if vendor is not None else 0
                results.append(Result(int.from_bytes(code.data), vendor_id))
        return next((result for result in results if not result.is_success), results[0] if results else None)

    def build_answer(self, avps: Iterable[Avp | None], *, is_error: bool = False) -> Message:
        """An answer to this request: same command, application and identifiers, P copied, R and T clear (§6.2).

        Session-Id leads and Proxy-Info is echoed in its order; `avps` come between.
        """
        session = self.avps.find((0, 263))
        body = [session, *avps, *self.avps.find_all((0, 284))]
        flags = self.flags & FLAG_PROXIABLE | (FLAG_ERROR if is_error else 0)
        return Message(self.code, self.application_id, flags, Avps.of(body), self.hop_by_hop, self.end_to_end)

    def with_ids(self, *, hop_by_hop: int, end_to_end: int) -> Message:
        """The same message with other identifiers."""
        return Message(self.code, self.application_id, self.flags, self.avps, hop_by_hop, end_to_end)

    def encode(self, *, hop_by_hop: int | None = None) -> bytes:
        """The whole message, on request with another hop-by-hop id.

        Raises:
            LocalDiameterError: longer than the 24-bit length can say.
        """
        body = self.avps.encode()
        length = HEADER_BYTES + len(body)
        if length > _UINT24:
            raise LocalDiameterError("message too long")
        if hop_by_hop is None:
            hop_by_hop = self.hop_by_hop
        word = self.flags << 24 | self.code
        return _HEADER.pack(1 << 24 | length, word, self.application_id, hop_by_hop, self.end_to_end) + body


def decode_message_untrusted(frame: bytes) -> Message:
    """One whole message as `MessageFramer` delivers it.

    Raises:
        FramingError: not one whole message of version 1.
        RemoteDiameterError: 3008 for R with E, 5014 or 5006 for its AVPs; `request` then holds the header (without
            AVPs that could not be read) when it was a request.
    """
    if len(frame) < HEADER_BYTES or len(frame) % 4 or frame[0] != 1 or int.from_bytes(frame[1:4]) != len(frame):
        raise FramingError("message length wrong", INVALID_MESSAGE_LENGTH)
    _, word, application_id, hop_by_hop, end_to_end = _HEADER.unpack_from(frame)
    flags, code = word >> 24 & 0xF0, word & _UINT24
    is_request = flags & FLAG_REQUEST
    if is_request and flags & FLAG_ERROR:
        bare = Message(code, application_id, flags & ~FLAG_ERROR, Avps(), hop_by_hop, end_to_end)
        raise RemoteDiameterError("E bit in a request", INVALID_HDR_BITS, request=bare)
    try:
        avps = decode_avps_untrusted(frame, HEADER_BYTES)
    except RemoteDiameterError as error:
        if is_request:
            error.request = Message(code, application_id, flags, Avps(), hop_by_hop, end_to_end)
        raise
    return Message(code, application_id, flags, avps, hop_by_hop, end_to_end)


def mark_retransmitted(frame: bytes, *, hop_by_hop: int, is_retransmitted: bool = True) -> bytes:
    """An encoded request with another hop-by-hop id and the T bit set or clear (§3, §5.5.4); the rest is copied."""
    flags = frame[4] | FLAG_RETRANSMITTED if is_retransmitted else frame[4] & ~FLAG_RETRANSMITTED
    return frame[:4] + bytes((flags,)) + frame[5:12] + hop_by_hop.to_bytes(4) + frame[16:]
