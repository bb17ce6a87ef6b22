"""Reason (RFC 3326, RFC 6432): why a call ended, in SIP and in Q.850 terms, read and carried from leg to leg."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ims_as.isc.params import MAX_VALUES
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import Reason
from ims_as.sip.message import Message

__all__ = ["format_reasons", "q850_cause", "read_reasons_untrusted", "reasons_for_response", "sip_status"]

_Q850_OF_STATUS: Final = {
    400: 41, 401: 21, 402: 21, 403: 21, 404: 1, 405: 63, 406: 79, 407: 21, 408: 102, 410: 22, 413: 127, 414: 127,
    415: 79, 416: 127, 420: 127, 421: 127, 423: 127, 480: 18, 481: 41, 482: 25, 483: 25, 484: 28, 485: 1, 486: 17,
    488: 65, 500: 41, 501: 79, 502: 38, 503: 41, 504: 102, 505: 127, 513: 127, 580: 47, 600: 17, 603: 21, 604: 1,
    606: 65,
}  # fmt: skip
"""RFC 3398 §8.2.6.1; 488 and 606, which it leaves open, as bearer capability not implemented."""
_STATUS_OF_Q850: Final = {
    1: 404, 2: 404, 3: 404, 17: 486, 18: 408, 19: 480, 20: 480, 21: 403, 22: 410, 23: 410, 26: 404, 27: 502, 28: 484,
    29: 501, 31: 480, 34: 503, 38: 503, 41: 503, 42: 503, 47: 503, 55: 403, 57: 403, 58: 503, 65: 488, 70: 488,
    79: 501, 87: 403, 88: 503, 102: 504, 111: 500, 127: 500,
}  # fmt: skip
"""RFC 3398 §7.2.4.1."""


def read_reasons_untrusted(message: Message) -> tuple[Reason, ...]:
    """The readable values; one for each protocol as a rule."""
    found = []
    for value in message.headers.get_list("Reason")[:MAX_VALUES]:
        try:
            found.append(Reason.parse(value))
        except SipParseError:
            continue
    return tuple(found)


def format_reasons(reasons: Iterable[Reason]) -> str:
    """As one header value."""
    return ", ".join(str(reason) for reason in reasons)


def reasons_for_response(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Those that may stand in a response: Q.850 (RFC 6432 §4), and not of the protocol SIP, which is its own status."""
    return tuple(reason for reason in reasons if reason.protocol.upper() == "Q.850")


def q850_cause(reasons: Iterable[Reason], status: int | None = None) -> int | None:
    """The Q.850 cause: as told, else by the SIP cause that is told, else by the status of a response."""
    known = list(reasons)
    for reason in known:
        if reason.protocol.upper() == "Q.850" and reason.cause is not None:
            return reason.cause
    for reason in known:
        if reason.protocol.upper() == "SIP" and reason.cause is not None:
            status = reason.cause
            break
    if status is None:
        return None
    return 16 if 200 <= status < 300 else _Q850_OF_STATUS.get(status, 31 if status >= 300 else None)


def sip_status(cause: int) -> int:
    """The status of a response that stands for a Q.850 cause; 480 for those without a mapping (§7.2.4.1)."""
    return _STATUS_OF_Q850.get(cause, 480)
