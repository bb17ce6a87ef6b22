"""Registration information documents (RFC 3680 §5): ``application/reginfo+xml``, full and partial.

The document is a peer's text: no entities, no DTD, bounded in bytes and in elements.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import attrs
from lxml import etree

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import printable

__all__ = ["Applied", "RegContact", "RegInfo", "RegInfoState", "RegRecord", "parse_reginfo_untrusted"]

MAX_BYTES: Final = 131_072
MAX_RECORDS: Final = 100
"""Identities of an implicit set; 3GPP networks have a handful."""
MAX_CONTACTS: Final = 32
MAX_CHARS: Final = 1024
_NUMBER_RE: Final = re.compile(r"[0-9]{1,9}")
_STATES: Final = frozenset({"init", "active", "terminated"})


@attrs.frozen(slots=True)
class RegContact:
    """One ``contact``."""

    id: str
    is_active: bool
    event: str
    """``registered``, ``created``, ``refreshed``, ``shortened``, ``expired``, ``deactivated``, ``probation``,
    ``unregistered``, ``rejected``."""
    uri: str
    expires_s: int | None = None
    q: float | None = None


@attrs.frozen(slots=True)
class RegRecord:
    """One ``registration``: an address of record and its contacts."""

    aor: str
    id: str
    state: str
    """``init``, ``active`` or ``terminated``."""
    contacts: tuple[RegContact, ...]

    @property
    def active_contacts(self) -> tuple[RegContact, ...]:
        return tuple(contact for contact in self.contacts if contact.is_active)


@attrs.frozen(slots=True)
class RegInfo:
    """One document."""

    version: int
    is_full: bool
    records: tuple[RegRecord, ...]


def parse_reginfo_untrusted(xml: bytes) -> RegInfo:
    """Read a document; elements and attributes of other namespaces and of later versions are left out.

    Raises:
        SipParseError: it is no reginfo document, or too large.
    """
    if len(xml) > MAX_BYTES:
        raise SipParseError("reginfo too large")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise SipParseError("malformed reginfo") from error
    if root.getroottree().docinfo.internalDTD is not None or _name(root) != "reginfo":
        raise SipParseError("malformed reginfo")
    version = _number(root.get("version"))
    state = root.get("state")
    if version is None or state not in ("full", "partial"):
        raise SipParseError("malformed reginfo")
    found = [_read_record(child) for child in root if _name(child) == "registration"]
    if len(found) > MAX_RECORDS:
        raise SipParseError("reginfo too large")
    return RegInfo(version, state == "full", tuple(found))


def _read_record(element: etree._Element) -> RegRecord:
    state = (element.get("state") or "").strip().lower()
    aor = _text(element.get("aor"))
    if state not in _STATES or not aor:
        raise SipParseError("malformed reginfo")
    contacts = [_read_contact(child) for child in element if _name(child) == "contact"]
    if len(contacts) > MAX_CONTACTS:
        raise SipParseError("reginfo too large")
    return RegRecord(aor, _text(element.get("id")) or aor, state, tuple(contacts))


def _read_contact(element: etree._Element) -> RegContact:
    uri = next((_text(child.text) for child in element if _name(child) == "uri"), "")
    q = element.get("q") or ""
    return RegContact(
        _text(element.get("id")) or uri,
        (element.get("state") or "").strip().lower() == "active",
        _text(element.get("event")).lower(),
        uri,
        _number(element.get("expires")),
        float(q) if re.fullmatch(r"[01](?:\.[0-9]{0,3})?", q) else None,
    )


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _text(value: str | None) -> str:
    return printable((value or "").strip())[:MAX_CHARS]


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and _NUMBER_RE.fullmatch(value.strip()) else None


class Applied(Enum):
    """What became of a document."""

    DONE = "done"
    STALE = "stale"
    """Its version is not above the one before: ignored."""
    GAP = "gap"
    """A document between is missing (or there was no full one): a refresh must bring the full state."""


class RegInfoState:
    """The documents of one subscription put together (§5.1)."""

    __slots__ = ("_records", "_version")

    def __init__(self) -> None:
        self._version: int | None = None
        self._records: dict[str, RegRecord] = {}

    @property
    def records(self) -> tuple[RegRecord, ...]:
        return tuple(self._records.values())

    def apply(self, document: RegInfo) -> Applied:
        """Take in the next document."""
        version = self._version
        if document.is_full:
            if version is not None and document.version <= version:
                return Applied.STALE
            self._records = {record.id: record for record in document.records}
        else:
            if version is not None and document.version <= version:
                return Applied.STALE
            if version is None or document.version > version + 1:
                return Applied.GAP
            for record in document.records:
                self._merge(record)
        self._version = document.version
        return Applied.DONE

    def expect_anew(self) -> None:
        """The next full document counts whatever its version: the subscription was made anew."""
        self._version = None

    def _merge(self, record: RegRecord) -> None:
        known = self._records.get(record.id)
        if known is not None:
            contacts = {contact.id: contact for contact in (*known.contacts, *record.contacts)}
            record = attrs.evolve(record, contacts=tuple(contacts.values())[-MAX_CONTACTS:])
        elif len(self._records) >= MAX_RECORDS:
            return
        self._records[record.id] = record
