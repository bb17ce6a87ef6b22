"""Digits in INFO: the bodies ``application/dtmf-relay`` and ``application/dtmf``, with or without an info package.

Before RFC 6086 INFO had no packages, and nearly all that send digits this way still do without (§2: legacy usage);
3GPP names a package ``infoDtmf`` for it (TS 24.229 annex P).  A digit of a caller that sends each by INFO and in the
audio is one digit all the same: `ims_as.call.digit_merger`.
"""

from __future__ import annotations

from typing import Final

import attrs

from ims_as.sip.message import Request
from media.dtmf import DIGITS

__all__ = ["INFO_PACKAGES", "InfoDigit", "InfoRefusal", "build_relay_body", "read_info_untrusted"]

INFO_PACKAGES: Final = ("infoDtmf",)
"""Ours, for Recv-Info."""
RELAY_TYPE: Final = "application/dtmf-relay"
_TYPES: Final = (RELAY_TYPE, "application/dtmf")
MAX_BODY_BYTES: Final = 512
"""``Signal=5`` and ``Duration=160`` take thirty."""
DEFAULT_DURATION_MS: Final = 160
MAX_DURATION_MS: Final = 8000
_EVENTS: Final = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D", "STAR": "*", "POUND": "#"}
"""Some write the number of the RFC 4733 event, or the name of the key."""


@attrs.frozen(slots=True)
class InfoDigit:
    """One key press."""

    digit: str
    duration_ms: int = DEFAULT_DURATION_MS


@attrs.frozen(slots=True)
class InfoRefusal:
    """What an INFO that we do not take is answered."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


def read_info_untrusted(request: Request) -> InfoDigit | InfoRefusal | None:
    """The digit of an INFO; None: it has none, and 200 is the answer; else a refusal.

    469 for a package that we have not announced (RFC 6086 §4.2.2), 415 for another body, 400 for a bad one.
    """
    package = request.headers.get("Info-Package")
    if package is not None:
        name = package.split(";", 1)[0].strip().lower()
        if name not in {ours.lower() for ours in INFO_PACKAGES}:
            return InfoRefusal(469, (("Recv-Info", ", ".join(INFO_PACKAGES)),))
    body = request.body
    if not body:
        return None  # a legacy keep-alive, or a package that says all by its name
    kind = (request.headers.get("Content-Type") or "").split(";", 1)[0].strip().lower()
    if kind not in _TYPES:
        return InfoRefusal(415, (("Accept", ", ".join(_TYPES)),))
    found = _read_body_untrusted(body, is_relay=kind == RELAY_TYPE)
    return InfoRefusal(400) if found is None else found


def _read_body_untrusted(body: bytes, *, is_relay: bool) -> InfoDigit | None:
    if len(body) > MAX_BODY_BYTES:
        return None
    signal, duration_ms = None, DEFAULT_DURATION_MS
    for line in body.decode("ascii", "replace").splitlines():
        name, equals, value = line.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals and not is_relay and signal is None:
            signal = line.strip()  # application/dtmf is the bare digit
        elif name == "signal" and signal is None:
            signal = value
        elif name == "duration" and value.isascii() and value.isdigit() and len(value) < 9:
            duration_ms = min(int(value), MAX_DURATION_MS)
    if signal is None:
        return None
    digit = _EVENTS.get(signal.upper(), signal.upper())
    return InfoDigit(digit, duration_ms) if len(digit) == 1 and digit in DIGITS else None


def build_relay_body(digit: str, duration_ms: int = DEFAULT_DURATION_MS) -> bytes:
    """The body of an INFO that carries one digit, as most gateways read it."""
    return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode()
