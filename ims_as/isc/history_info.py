"""History-Info (RFC 7044) and Diversion (RFC 5806): by which way a call came, and how often it was diverted.

A diverted call has, in the entry that it was diverted to, a ``cause`` URI parameter (RFC 4458, TS 24.604 §4.5.2.6).
Gateways to ISDN write Diversion instead, the latest first; RFC 7544 says how one becomes the other.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

import attrs

from ims_as.isc.params import MAX_VALUES, read_addresses_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import NameAddr
from ims_as.sip.message import Message, Request
from ims_as.sip.uri import SipUri, parse_uri

__all__ = [
    "DIVERSION_CAUSES",
    "Diversion",
    "HistoryEntry",
    "diversion_count",
    "history_from_diversions",
    "read_diversions_untrusted",
    "read_history_untrusted",
    "retargeted_history",
]

DIVERSION_CAUSES: Final = frozenset({302, 404, 408, 480, 486, 487, 503})
"""RFC 4458 §2: unconditional, unknown, no reply, deflection (before ringing, while ringing: 480, 487), busy …."""
_INDEX_RE: Final = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){0,31}")
_CAUSE_OF: Final = {
    "unconditional": 302,
    "user-busy": 486,
    "no-answer": 408,
    "deflection": 480,
    "unavailable": 503,
}
"""RFC 7544 §4.1; every other reason is 404."""
_MAX_COUNTER: Final = 99


@attrs.frozen(slots=True)
class HistoryEntry:
    """One hi-entry."""

    address: NameAddr
    index: str
    """``1.1.2``."""

    @property
    def uri(self) -> str:
        """The URI without its embedded headers."""
        return self.address.uri_text.partition("?")[0]

    @property
    def cause(self) -> int | None:
        """Why the call was diverted to this one, None where it was not (an alias, a first entry)."""
        try:
            uri = parse_uri(self.address.uri_text)
        except SipParseError:
            return None
        value = uri.param("cause")
        return int(value) if value and value.isascii() and value.isdigit() and len(value) == 3 else None

    @property
    def reason(self) -> str | None:
        """The embedded Reason header, as a header value."""
        return self._embedded("reason")

    @property
    def is_private(self) -> bool:
        """Privacy for this entry alone (§10.1.2)."""
        return (self._embedded("privacy") or "").lower().startswith("history")

    def _embedded(self, name: str) -> str | None:
        _, _, headers = self.address.uri_text.partition("?")
        for part in headers.split("&")[:MAX_VALUES]:
            key, _, value = part.partition("=")
            if unquote(key).lower() == name:
                return unquote(value)
        return None


def read_history_untrusted(message: Message) -> tuple[HistoryEntry, ...]:
    """The readable entries, oldest first."""
    found = []
    for address in read_addresses_untrusted(message, "History-Info"):
        index = address.param("index") or ""
        if _INDEX_RE.fullmatch(index):
            found.append(HistoryEntry(address, index))
    return tuple(found)


def retargeted_history(
    request: Request, new_uri: str, *, cause: int | None = None, tag: str = "mp", reason: str | None = None
) -> list[str]:
    """The History-Info values for a request that goes on to another URI (§9.1, §10.3).

    What came is kept byte for byte; without any, the Request-URI becomes the first entry.

    Args:
        new_uri: the new Request-URI.
        cause: of `DIVERSION_CAUSES`, when this is a diversion of the served user's call.
        tag: ``mp`` another user, ``rc`` a contact of the same user, ``np`` nothing changed (§5).
        reason: Reason value of the response that caused it, put into the entry that was tried.
    """
    values = request.headers.get_list("History-Info")
    history = read_history_untrusted(request)
    if history:
        index = history[-1].index
    else:
        index = "1"
        values = [f"<{_escaped(request.uri)}>;index=1"]
    if reason is not None and values:
        values[-1] = _with_reason(values[-1], reason)
    if cause is not None:
        try:
            parsed = parse_uri(new_uri)
        except SipParseError:
            parsed = None
        if isinstance(parsed, SipUri):
            new_uri = str(parsed.with_params(cause=str(cause)))
        elif new_uri.lower().startswith("tel:"):
            new_uri = f"{new_uri};cause={cause}"
    source = "" if tag == "np" and not history else f";{tag}={index}"
    return [*values, f"<{_escaped(new_uri)}>;index={index}.1{source}"]


def _escaped(uri: str) -> str:
    return uri.partition("?")[0].replace(">", "%3E")


def _with_reason(value: str, reason: str) -> str:
    head, bracket, rest = value.partition(">")
    if not bracket or "<" not in head:
        return value
    joint = "&" if "?" in head else "?"
    return f"{head}{joint}Reason={quote(reason, safe='')}>{rest}"


# ---------------------------------------------------------------- Diversion


@attrs.frozen(slots=True)
class Diversion:
    """One Diversion value: who diverted, and why."""

    address: NameAddr

    @property
    def reason(self) -> str:
        """``user-busy``, ``no-answer`` …, in small letters; ``unknown`` where it is missing."""
        return (self.address.param("reason") or "unknown").lower()

    @property
    def counter(self) -> int:
        """How many diversions this value stands for, 1 where it does not say."""
        text = self.address.param("counter") or "1"
        return min(int(text), _MAX_COUNTER) if text.isascii() and text.isdigit() and len(text) < 6 else 1

    @property
    def is_private(self) -> bool:
        return (self.address.param("privacy") or "off").lower() not in ("off", "")


def read_diversions_untrusted(message: Message) -> tuple[Diversion, ...]:
    """The readable values, latest first."""
    return tuple(Diversion(address) for address in read_addresses_untrusted(message, "Diversion"))


def diversion_count(message: Message) -> int:
    """How often the call was diverted, by History-Info or Diversion, whichever knows of more."""
    by_history = sum(entry.cause in DIVERSION_CAUSES for entry in read_history_untrusted(message))
    return max(by_history, sum(each.counter for each in read_diversions_untrusted(message)))


def history_from_diversions(request: Request) -> list[str]:
    """History-Info values that say what Diversion says (RFC 7544 §4.1); empty where there is no Diversion.

    The first diverting user has index 1; each next one, and at last the Request-URI, carries the cause of the diversion
    before it.
    """
    oldest_first = read_diversions_untrusted(request)[::-1]
    values: list[str] = []
    index, cause = "", None
    for each in oldest_first:
        values.append(_converted(each.address.uri_text, index, cause, is_private=each.is_private))
        index = f"{index}.1" if index else "1"
        cause = _CAUSE_OF.get(each.reason, 404)
    if oldest_first:
        values.append(_converted(request.uri, index, cause, is_private=False))
    return values


def _converted(uri: str, parent: str, cause: int | None, *, is_private: bool) -> str:
    text = _escaped(uri)
    if cause is not None:
        text += f";cause={cause}"
    if is_private:
        text += "?Privacy=history"
    return f"<{text}>;index={f'{parent}.1;mp={parent}' if parent else '1'}"
