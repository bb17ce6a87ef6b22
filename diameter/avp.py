"""AVPs: header, flags, padding (RFC 6733 §4.1).

```
code (4) | flags V=80 M=40 P=20 (1) | length (3, header + data, without padding) | [vendor (4)] | data | pad to 4
```

An AVP is known by the pair (vendor, code); a code alone means nothing (User-Data is 702 on Sh and 606 on Cx, 650 is
Load or Session-Priority). Data stays bytes until somebody asks for its value, so a message costs one slice per AVP.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from attrs import field, frozen

from diameter.errors import LocalDiameterError, RemoteDiameterError

__all__ = [
    "FLAG_MANDATORY",
    "FLAG_PROTECTED",
    "FLAG_VENDOR",
    "MAX_AVPS",
    "Avp",
    "AvpKey",
    "Avps",
    "decode_avps_untrusted",
]

AvpKey = tuple[int, int]
"""(vendor, code); vendor 0 for AVPs of the base protocol."""

FLAG_VENDOR = 0x80
FLAG_MANDATORY = 0x40
FLAG_PROTECTED = 0x20

INVALID_AVP_LENGTH = 5014
RESOURCES_EXCEEDED = 5006

# in one message or one group; the longest answers seen on Sh and Cx have some thirty, a relayed charging record
# a few hundred. Bounds the objects that one message can make us create.
MAX_AVPS = 1024

_HEADER = struct.Struct(">II")
_VENDOR_HEADER = struct.Struct(">III")
_unpack_header = _HEADER.unpack_from
_unpack_number = struct.Struct(">I").unpack_from
_MAX_LENGTH = (1 << 24) - 1
_VENDOR_BIT = FLAG_VENDOR << 24
_KEPT_FLAGS = FLAG_MANDATORY | FLAG_PROTECTED
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


@frozen
class Avp:
    """One AVP as it is on the wire.

    Attributes:
        code: AVP code.
        data: the data without padding.
        vendor: vendor id, 0 when the V bit is clear.
        flags: M and P bits; V follows from `vendor`.
    """

    code: int
    data: bytes
    vendor: int = 0
    flags: int = 0
    _wire: bytes | None = field(default=None, init=False, eq=False, repr=False)

    @property
    def key(self) -> AvpKey:
        return self.vendor, self.code

    @property
    def is_mandatory(self) -> bool:
        """The M bit."""
        return bool(self.flags & FLAG_MANDATORY)

    def encode(self) -> bytes:
        """Header, data and padding.

        Raises:
            LocalDiameterError: longer than the 24-bit length can say.
        """
        if self._wire is not None:
            return self._wire
        data = self.data
        length = len(data) + (12 if self.vendor else 8)
        if length > _MAX_LENGTH:
            raise LocalDiameterError("AVP too long")
        if self.vendor:
            header = _VENDOR_HEADER.pack(self.code, (self.flags | FLAG_VENDOR) << 24 | length, self.vendor)
        else:
            header = _HEADER.pack(self.code, self.flags << 24 | length)
        return header + data + _PADDING[length & 3]

    def kept(self) -> Avp:
        """The same, which keeps what `encode` gives: for those that go into many messages. Raises as `encode`."""
        _set_wire(self, self.encode())
        return self


_new_avp = object.__new__
_set_code, _set_data, _set_vendor, _set_flags, _set_wire = (
    getattr(Avp, name).__set__ for name in ("code", "data", "vendor", "flags", "_wire")
)


class Avps(tuple[Avp, ...]):
    """The AVPs of a message or of a group, in wire order. Equal to the tuple of its AVPs."""

    __slots__ = ()

    def find(self, key: AvpKey) -> Avp | None:
        """The first AVP of that key, or None."""
        vendor, code = key
        for avp in self:
            if avp.code == code and avp.vendor == vendor:
                return avp
        return None

    def find_all(self, key: AvpKey) -> Iterator[Avp]:
        """Every AVP of that key, in order."""
        vendor, code = key
        return (avp for avp in self if avp.code == code and avp.vendor == vendor)

    def encode(self) -> bytes:
        """The AVPs one after the other, each padded."""
        return b"".join([avp._wire or avp.encode() for avp in self])

    @classmethod
    def of(cls, avps: Iterable[Avp | None]) -> Avps:
        """The AVPs that are there: None stands for an optional AVP that is left out."""
        return cls([avp for avp in avps if avp is not None])


def decode_avps_untrusted(data: bytes, start: int = 0) -> Avps:
    """Reads AVPs from `data[start:]` to its end. Groups are left as bytes.

    Every length is held against the smallest header and the bytes at hand before anything is cut. Padding that is
    missing behind the last AVP is forgiven (seen inside groups of real peers).

    Raises:
        RemoteDiameterError: 5014 (with the header of the AVP at fault), 5006 for too many.
    """
    found: list[Avp] = []
    position, end = start, len(data)
    while position < end:
        if end - position < 8:
            raise RemoteDiameterError("AVP header cut short", INVALID_AVP_LENGTH)
        code, word = _unpack_header(data, position)
        length = word & _MAX_LENGTH
        first, last, vendor = position + 8, position + length, 0
        if word & _VENDOR_BIT:
            if end - position < 12:
                raise RemoteDiameterError("AVP header cut short", INVALID_AVP_LENGTH)
            (vendor,) = _unpack_number(data, first)
            first += 4
        if last < first or last > end:
            failed = Avp(code, b"", vendor, word >> 24 & FLAG_MANDATORY)
            raise RemoteDiameterError("AVP length wrong", INVALID_AVP_LENGTH, failed_avp=failed)
        if len(found) == MAX_AVPS:
            raise RemoteDiameterError("too many AVPs", RESOURCES_EXCEEDED)
        # as the constructor does, in half the time: this loop is most of what reading a message costs
        avp = _new_avp(Avp)
        _set_code(avp, code)
        _set_data(avp, data[first:last])
        _set_vendor(avp, vendor)
        _set_flags(avp, word >> 24 & _KEPT_FLAGS)
        _set_wire(avp, None)
        found.append(avp)
        position = last + (-length & 3)
    return Avps(found)
