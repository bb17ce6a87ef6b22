"""Telephone numbers in URIs, brought into the global form ``+49…`` (RFC 3966, TS 23.003 §13.3)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = ["NumberFormat"]

_SEPARATORS: Final = str.maketrans("", "", "-.()/ ")
_DIGITS_RE: Final = re.compile(r"\+?[0-9]{3,20}")
_GLOBAL_RE: Final = re.compile(r"\+[1-9][0-9]{4,14}")
"""E.164: at most fifteen digits; shorter ones are not reached from abroad."""


@attrs.frozen
class NumberFormat:
    """How a peer writes numbers.

    Numbers that are neither global nor begin with one of the prefixes (short codes, extensions) stay as they are.
    """

    international_prefix: str = "00"
    """What stands for "+"; "" for none."""
    national_prefix: str = ""
    """What stands for "+" and `country`."""
    country: str = ""
    user_phone: bool = False
    """Write ``user=phone`` into SIP URIs with a global number (RFC 3261 §19.1.1)."""

    def number(self, text: str) -> str:
        """The number in global form where it has one, else without visual separators."""
        digits = text.translate(_SEPARATORS)
        if _DIGITS_RE.fullmatch(digits) is None:
            return text
        if digits.startswith("+"):
            return digits
        international, national = self.international_prefix, self.national_prefix
        if international and digits.startswith(international):
            candidate = "+" + digits.removeprefix(international)
        elif national and self.country and digits.startswith(national):
            candidate = f"+{self.country}{digits.removeprefix(national)}"
        else:
            return digits
        return candidate if _GLOBAL_RE.fullmatch(candidate) else digits

    def uri(self, text: str) -> str:
        """The same URI with its number in this form; anything that is not a number in a URI stays byte for byte.

        A tel: URI stays one; a local number with a phone-context is left alone.
        """
        try:
            uri = parse_uri(text)
        except SipParseError:
            return text
        match uri:
            case TelUri() if not uri.has_param("phone-context"):
                number = self.number(uri.number)
                return text if number == uri.number else str(attrs.evolve(uri, number=number))
            case SipUri() if uri.user:
                return self._sip(uri, text)
        return text

    def _sip(self, uri: SipUri, text: str) -> str:
        # telephone-subscriber parameters stand in the user part (RFC 3261 §19.1.6)
        written, semicolon, rest = uri.user.partition(";")
        number = self.number(unquote(written))
        if not number.lstrip("+").isdigit():
            return text
        changed = uri
        if number != written:
            changed = attrs.evolve(uri, user=f"{number}{semicolon}{rest}")
        if self.user_phone and _GLOBAL_RE.fullmatch(number) and (uri.param("user") or "").lower() != "phone":
            changed = changed.with_params(user="phone")
        return text if changed is uri else str(changed)
