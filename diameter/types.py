"""Data formats of AVPs, RFC 6733 §4.2 and §4.3, as a table of encoders and decoders.

Decoders take bytes that a peer chose and raise RemoteDiameterError only; encoders take values of our own code and
raise LocalDiameterError. `Grouped` is not here: its data is a sequence of AVPs and lives in `diameter.avp`.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

from attrs import frozen

from diameter.errors import LocalDiameterError, RemoteDiameterError

__all__ = [
    "AvpFormat",
    "decode_value_untrusted",
    "digits_from_tbcd_untrusted",
    "encode_value",
    "tbcd_from_digits",
]

INVALID_AVP_VALUE = 5004
INVALID_AVP_LENGTH = 5014

# seconds between 1 January 1900 (NTP era 0) and 1 January 1970
_NTP_TO_UNIX = 2_208_988_800
# RFC 6733 §4.3.1: the value wraps in 2036; as in RFC 4330 §3 a clear top bit means the era after that
_NTP_ERA = 1 << 32


class AvpFormat(Enum):
    """Names as RFC 6733 prints them; the Python type of the value stands beside each."""

    OCTET_STRING = "OctetString"  # bytes
    INTEGER32 = "Integer32"  # int
    INTEGER64 = "Integer64"  # int
    UNSIGNED32 = "Unsigned32"  # int
    UNSIGNED64 = "Unsigned64"  # int
    FLOAT32 = "Float32"  # float
    FLOAT64 = "Float64"  # float
    GROUPED = "Grouped"  # Avps
    ADDRESS = "Address"  # str for IPv4 and IPv6; (family, bytes) for any other address family
    TIME = "Time"  # int, Unix seconds (UTC)
    UTF8_STRING = "UTF8String"  # str
    DIAMETER_IDENTITY = "DiameterIdentity"  # str
    DIAMETER_URI = "DiameterURI"  # str
    ENUMERATED = "Enumerated"  # int (Integer32)
    IP_FILTER_RULE = "IPFilterRule"  # str

    # members are single objects, and looked up for each AVP: Enum's own hash would hash the name in Python
    __hash__ = object.__hash__


@frozen
class _Codec:
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _packed(layout: str) -> _Codec:
    packer = struct.Struct(layout)

    def encode(value: Any) -> bytes:
        return packer.pack(value)

    def decode(data: bytes) -> Any:
        if len(data) != packer.size:
            raise RemoteDiameterError("number of wrong size", INVALID_AVP_LENGTH)
        return packer.unpack(data)[0]

    return _Codec(encode, decode)


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("text wanted")
    return value.encode("utf-8")


def _decode_utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteDiameterError("text is not UTF-8", INVALID_AVP_VALUE) from None


def _encode_ascii(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("text wanted")
    return value.encode("ascii")


def _decode_ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise RemoteDiameterError("text is not ASCII", INVALID_AVP_VALUE) from None


def _encode_octets(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("bytes wanted")
    return value


def _encode_address(value: Any) -> bytes:
    if isinstance(value, tuple):
        family, raw = value
        return struct.pack(">H", family) + _encode_octets(raw)
    address = ipaddress.ip_address(value)
    return struct.pack(">H", 1 if address.version == 4 else 2) + address.packed


def _decode_address(data: bytes) -> str | tuple[int, bytes]:
    if len(data) < 2:
        raise RemoteDiameterError("address without family", INVALID_AVP_LENGTH)
    family, raw = int.from_bytes(data[:2]), data[2:]
    if family == 1 and len(raw) == 4:
        return str(ipaddress.IPv4Address(raw))
    if family == 2 and len(raw) == 16:
        return str(ipaddress.IPv6Address(raw))
    if family in (1, 2):
        raise RemoteDiameterError("address of wrong size", INVALID_AVP_VALUE)
    return family, raw


def _encode_time(value: Any) -> bytes:
    return struct.pack(">I", (int(value) + _NTP_TO_UNIX) % _NTP_ERA)


def _decode_time(data: bytes) -> int:
    if len(data) != 4:
        raise RemoteDiameterError("time of wrong size", INVALID_AVP_LENGTH)
    seconds = int.from_bytes(data)
    if seconds < 1 << 31:
        seconds += _NTP_ERA
    return seconds - _NTP_TO_UNIX


_CODECS: dict[AvpFormat, _Codec] = {
    AvpFormat.OCTET_STRING: _Codec(_encode_octets, bytes),
    AvpFormat.INTEGER32: _packed(">i"),
    AvpFormat.INTEGER64: _packed(">q"),
    AvpFormat.UNSIGNED32: _packed(">I"),
    AvpFormat.UNSIGNED64: _packed(">Q"),
    AvpFormat.FLOAT32: _packed(">f"),
    AvpFormat.FLOAT64: _packed(">d"),
    AvpFormat.ADDRESS: _Codec(_encode_address, _decode_address),
    AvpFormat.TIME: _Codec(_encode_time, _decode_time),
    AvpFormat.UTF8_STRING: _Codec(_encode_text, _decode_utf8),
    AvpFormat.DIAMETER_IDENTITY: _Codec(_encode_ascii, _decode_ascii),
    AvpFormat.DIAMETER_URI: _Codec(_encode_ascii, _decode_ascii),
    AvpFormat.ENUMERATED: _packed(">i"),
    AvpFormat.IP_FILTER_RULE: _Codec(_encode_ascii, _decode_ascii),
}


def encode_value(data_format: AvpFormat, value: Any) -> bytes:
    """Bytes of one value, without header and padding.

    Raises:
        LocalDiameterError: the value has the wrong type or is out of range.
    """
    try:
        return _CODECS[data_format].encode(value)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise LocalDiameterError(f"not a value of {data_format.value}: {value!r}") from error


def decode_value_untrusted(data_format: AvpFormat, data: bytes) -> Any:
    """The value of an AVP's data.

    Raises:
        RemoteDiameterError: 5004 or 5014.
    """
    return _CODECS[data_format].decode(data)


def tbcd_from_digits(digits: str) -> bytes:
    """TBCD as in MSISDN (TS 29.329 §6.3.2): low nibble first, an odd count filled with F."""
    if not digits or not (digits.isascii() and digits.isdigit()):
        raise LocalDiameterError("MSISDN wants digits only")
    padded = digits + ("F" if len(digits) % 2 else "")
    return bytes.fromhex("".join(padded[i + 1] + padded[i] for i in range(0, len(padded), 2)))


def digits_from_tbcd_untrusted(data: bytes) -> str:
    """Digits of a TBCD string.

    Raises:
        RemoteDiameterError: 5004, a nibble is no digit or the filler stands in the middle.
    """
    text = data.hex()
    swapped = "".join(text[i + 1] + text[i] for i in range(0, len(text), 2))
    digits = swapped[:-1] if swapped.endswith("f") else swapped
    if not digits.isdigit():
        raise RemoteDiameterError("not TBCD", INVALID_AVP_VALUE)
    return digits
