"""Key material in session descriptions, made unreadable before anything of them is shown to people or kept on disk.

SDES carries the keys of SRTP in the clear (RFC 4568 §6.1), ``k=`` did so before (RFC 4566 §5.12), and MIKEY may
(RFC 4567).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "mask_keys", "mask_line"]

MASK: Final = "***"
# what follows "inline:" up to the end of the key: lifetime and MKI say nothing secret and may stay
_INLINE: Final = re.compile(r"(inline:)[^\s|;]+", re.IGNORECASE)
_OTHERS: Final = re.compile(r"^([ak])=(key-mgmt:\S+ |(?:clear|base64|uri):)[^\r\n]+", re.IGNORECASE | re.MULTILINE)


def mask_keys(text: str) -> str:
    """The text (a SIP message, a description) without keys; everything else stays as it is."""
    return _OTHERS.sub(rf"\1=\2{MASK}", _INLINE.sub(rf"\1{MASK}", text))


def mask_line(line: tuple[str, str]) -> tuple[str, str]:
    """The same for one line of a description."""
    kind, value = line
    return (kind, mask_keys(f"{kind}={value}")[2:]) if kind in "ak" else line
