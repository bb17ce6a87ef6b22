"""Reads Sh-Data, tolerantly: whatever a real HSS makes of TS 29.328 Annex D.

Elements are found by name at any depth of `Extension`, unknown ones are ignored (real HSSes put names of their own
into Sh-IMS-Data), a value that makes no sense is left out. ServiceData, IFCs and locations are kept as XML: what they
mean is not this library's business. The document may be hostile: no DTD, no entities, no network, bounded size and
depth. How far a document deviates from the schema, `find_deviations_untrusted` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import Any

from lxml import etree

from diameter.dictionary.sh import ShResultCode
from diameter.errors import RemoteDiameterError
from diameter.sh.sh_data import (
    Location,
    ReferenceLocation,
    RepositoryData,
    ShData,
    SmsRegistration,
    TadsInformation,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_SEQUENCE_NUMBER",
    "MAX_USER_DATA_BYTES",
    "element_name",
    "find_deviations_untrusted",
    "parse_document_untrusted",
    "parse_sh_data_untrusted",
]

# a profile with dozens of iFCs has some ten kB; HSSes cut or refuse repository data far below this
MAX_USER_DATA_BYTES = 256 * 1024
# the deepest standard element (UE-5G-SRVCC-Capability) sits ten levels down; iFCs and service data need few more
MAX_DEPTH = 48
# bounds the nodes that one document makes us create: the densest real profiles have a few thousand
MAX_ELEMENTS = 20_000
MAX_SEQUENCE_NUMBER = 65535

_MAX_DEVIATIONS = 10
_MAX_DEVIATION_CHARS = 200
_MAX_LOCATION_VALUES = 64
# misprints that TS 29.328 tables have passed on to implementations, and names of poor HSSes
_SYNONYMS = {
    "Extention": "Extension",
    "Sh-Data-Extension": "Extension",
    "Sh-IMS-Data-Extension": "Extension",
    "RegisteredIdentites": "RegisteredIdentities",
    "S-CSCFName": "SCSCFName",
}

_Found = dict[str, Any]


def parse_sh_data_untrusted(xml: bytes) -> ShData:
    """Reads a Sh-Data document.

    Raises:
        RemoteDiameterError: 3GPP experimental 5100 as `result_code`: too large or deep, a DTD, not well-formed, or
            another root element. A single value that makes no sense is left out instead.
    """
    root = parse_document_untrusted(xml)
    if element_name(root) != "Sh-Data":
        raise _not_recognized("root element is not Sh-Data")
    found: _Found = {}
    _read_parts(found, root)
    return ShData(**found)


def find_deviations_untrusted(xml: bytes) -> tuple[str, ...]:
    """What is wrong with a document that `parse_sh_data_untrusted` takes, held against the schema; at most ten lines.

    Raises:
        RemoteDiameterError: as `parse_sh_data_untrusted`.
    """
    root = parse_document_untrusted(xml)
    schema = _schema()
    if schema.validate(root):
        return ()
    found = []
    for entry in islice(iter(schema.error_log), _MAX_DEVIATIONS):  # type: ignore[call-overload]
        text = "".join(char if char.isprintable() else "?" for char in entry.message[:_MAX_DEVIATION_CHARS])
        found.append(f"line {entry.line}: {text}")
    return tuple(found)


@cache
def _schema() -> etree.XMLSchema:
    text = resources.files("diameter.sh").joinpath("sh-data.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(text))


# keeps nothing of one document for the next
_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)

_TOO_MANY = etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)}) or count(//*) > {MAX_ELEMENTS}")


def parse_document_untrusted(xml: bytes) -> etree._Element:
    """The root of any XML document within our bounds. Raises RemoteDiameterError (5100)."""
    if len(xml) > MAX_USER_DATA_BYTES:
        raise _not_recognized("Sh-Data too large")
    try:
        root = etree.fromstring(xml, _PARSER)
    except (etree.XMLSyntaxError, ValueError):
        raise _not_recognized("Sh-Data is not well-formed") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise _not_recognized("Sh-Data with a DTD")
    if _TOO_MANY(root):
        raise _not_recognized("Sh-Data too deep or too many elements")
    return root


def element_name(element: etree._Element) -> str:
    """Local name, spelled as the specification does."""
    tag = element.tag
    # an entity reference has no name: it is left unresolved on purpose
    return _specified_name(tag) if isinstance(tag, str) else ""


@lru_cache(1024)
def _specified_name(tag: str) -> str:
    local = tag.rpartition("}")[2]
    return _SYNONYMS.get(local, local)


def _not_recognized(reason: str) -> RemoteDiameterError:
    return RemoteDiameterError(reason, ShResultCode.USER_DATA_NOT_RECOGNIZED)


# ---------------------------------------------------------------- elements


def _read_parts(found: _Found, parent: etree._Element) -> None:
    for name, element in _flat(parent):
        reader = _READERS.get(name)
        if reader is not None:
            reader(found, element)


def _add(found: _Found, field: str, *values: Any) -> None:
    """To a tuple, each value once."""
    have = found.get(field, ())
    found[field] = have + tuple(value for value in dict.fromkeys(values) if value not in have)


def _as_text(field: str) -> Callable[[_Found, etree._Element], None]:
    def read(found: _Found, element: etree._Element) -> None:
        found[field] = _text(element)

    return read


def _as_number(field: str, highest: int) -> Callable[[_Found, etree._Element], None]:
    def read(found: _Found, element: etree._Element) -> None:
        number = _number(element)
        if number is not None and number <= highest:
            found[field] = number

    return read


def _as_identities(field: str) -> Callable[[_Found, etree._Element], None]:
    def read(found: _Found, element: etree._Element) -> None:
        for name, child in _flat(element):
            text = _text(child)
            match name:
                case "IMSPublicIdentity" if text:
                    _add(found, field, text)
                case "MSISDN" if text:
                    _add(found, "msisdns", text)
                case "IMSPrivateUserIdentity" if text:
                    _add(found, "private_identities", text)  # PyHSS has it here
                case "IdentityType":
                    _as_number("identity_type", 3)(found, child)
                case "WildcardedPSI":
                    found["wildcarded_psi"] = text
                case "WildcardedIMPU":
                    found["wildcarded_impu"] = text
                case "ExtendedMSISDN":
                    _add_typed(found, "extended_msisdns", child, "MSISDN", "MSISDNType", 1)
                case "EnhancedIMSPublicIdentifiers":
                    _add_typed(found, "enhanced_identities", child, "IMSPublicIdentity", "IdentityType", 3)

    return read


def _add_typed(found: _Found, field: str, element: etree._Element, name: str, number: str, highest: int) -> None:
    """A pair of a text and a small number."""
    text, kind = _child_text(element, name), _small(_child_text(element, number))
    if text and kind is not None and kind <= highest:
        _add(found, field, (text, kind))


def _read_repository(found: _Found, element: etree._Element) -> None:
    service_indication: str | None = None
    number: int | None = 0
    service_data: bytes | None = None
    for name, child in _children(element):
        match name:
            case "ServiceIndication":
                service_indication = _text(child) if service_indication is None else service_indication
            case "SequenceNumber":
                number = _number(child)
            case "ServiceData":
                inner = next((inner for _, inner in _children(child)), None)
                # some HSSes keep plain text: it is given as it stands
                service_data = _serialise(inner) if inner is not None else _text(child).encode()
    if service_indication and number is not None and number <= MAX_SEQUENCE_NUMBER:
        item = RepositoryData(service_indication.encode(), number, service_data or None)
        found["repository"] = (*found.get("repository", ()), item)


def _read_ifcs(found: _Found, element: etree._Element) -> None:
    found["ifcs"] = _serialise(element)


def _read_charging(found: _Found, element: etree._Element) -> None:
    for name, child in _children(element):
        if name.endswith("FunctionName"):
            _add(found, "charging", (name, _text(child)))


def _read_dsai(found: _Found, element: etree._Element) -> None:
    tag, value = _child_text(element, "DSAI-Tag"), _child_text(element, "DSAI-Value")
    if tag and value in ("0", "1"):
        found["dsai"] = (*found.get("dsai", ()), (tag, int(value)))


def _read_location(found: _Found, element: etree._Element) -> None:
    values = [
        (element_name(leaf), _text(leaf))
        for leaf in element.iter()
        if leaf is not element and isinstance(leaf.tag, str) and len(leaf) == 0
    ]
    location = Location(element_name(element), _serialise(element), tuple(values[:_MAX_LOCATION_VALUES]))
    found["locations"] = (*found.get("locations", ()), location)


def _read_reachability(found: _Found, element: etree._Element) -> None:
    _add(found, "ue_reachability", *(name for name, _ in _flat(element) if name.startswith("UEIP")))


def _read_sms_registration(found: _Found, element: etree._Element) -> None:
    number = _flat_text(element, "IP-SM-GW-Number")
    if number:
        found["sms_registration"] = SmsRegistration(number, _flat_text(element, "SCAddress"))


def _read_priority(found: _Found, element: etree._Element) -> None:
    namespace, level = _child_text(element, "PriorityNamespace"), _child_text(element, "PriorityLevel")
    if namespace and level:
        _add(found, "extended_priorities", (namespace, level))


def _read_reference_location(found: _Found, element: etree._Element) -> None:
    names = ("AccessType", "AccessInfo", "AccessValue")
    location = ReferenceLocation(*(_child_text(element, name) or None for name in names))
    found["reference_locations"] = (*found.get("reference_locations", ()), location)


def _read_tads(found: _Found, element: etree._Element) -> None:
    support = _small(_flat_text(element, "IMSVoiceOverPSSessionSupport") or "")
    if support is not None and support <= 2:
        found["tads"] = TadsInformation(
            support,
            _small(_flat_text(element, "RATtype") or ""),
            _flat_text(element, "LastUEActivityTime"),
            _small(_flat_text(element, "AccessType") or ""),
        )


def _read_mtrr(found: _Found, element: etree._Element) -> None:
    found["mtrr"] = _text(element) in ("1", "true")


def _read_private_identity(found: _Found, element: etree._Element) -> None:
    if text := _text(element):
        _add(found, "private_identities", text)


_READERS: dict[str, Callable[[_Found, etree._Element], None]] = {
    "PublicIdentifiers": _as_identities("public_identities"),
    "RegisteredIdentities": _as_identities("registered_identities"),
    "ImplicitIdentities": _as_identities("implicit_identities"),
    "AllIdentities": _as_identities("all_identities"),
    "AliasIdentities": _as_identities("alias_identities"),
    "DeletedIdentities": _as_identities("deleted_identities"),
    "RepositoryData": _read_repository,
    "AliasesRepositoryData": _read_repository,
    "Sh-IMS-Data": _read_parts,
    "SCSCFName": _as_text("scscf_name"),
    "IFCs": _read_ifcs,
    "IMSUserState": _as_number("user_state", 99_999),
    "ChargingInformation": _read_charging,
    "PSIActivation": _as_number("psi_activation", 1),
    "DSAI": _read_dsai,
    "ServiceLevelTraceInfo": _as_text("trace_info"),
    "IPv4Address": _as_text("ipv4_address"),
    "IPv6Prefix": _as_text("ipv6_prefix"),
    "IPv6InterfaceIdentifier": _as_text("ipv6_interface_id"),
    "ServicePriorityLevel": _as_number("service_priority", 4),
    "UEReachabilityForIP": _read_reachability,
    "SMSRegistrationInfo": _read_sms_registration,
    "STN-SR": _as_text("stn_sr"),
    "UE-SRVCC-Capability": _as_number("ue_srvcc", 1),
    "ExtendedPriority": _read_priority,
    "CSRN": _as_text("csrn"),
    "ReferenceLocationInformation": _read_reference_location,
    "MTRRIndication": _read_mtrr,
    "UE-5G-SRVCC-Capability": _as_number("ue_5g_srvcc", 1),
    "CSUserState": _as_number("cs_user_state", 3),
    "PSUserState": _as_number("ps_user_state", 6),
    "EPSUserState": _as_number("eps_user_state", 6),
    "Sh-5GSUserState": _as_number("fivegs_user_state", 6),
    "CSLocationInformation": _read_location,
    "PSLocationInformation": _read_location,
    "EPSLocationInformation": _read_location,
    "TWANLocationInformation": _read_location,
    "Sh-5GSLocationInformation": _read_location,
    "TADSinformation": _read_tads,
    "IMSI": _as_text("imsi"),
    "IMEISV": _as_text("imeisv"),
    "IMSPrivateUserIdentity": _read_private_identity,
}


# ---------------------------------------------------------------- XML


def _children(element: etree._Element) -> list[tuple[str, etree._Element]]:
    """(name, child) of each."""
    return [(_specified_name(tag), child) for child in element if isinstance(tag := child.tag, str)]


def _flat(element: etree._Element) -> list[tuple[str, etree._Element]]:
    """(name, child) of each, with those of nested Extension elements in their place. The parser bounds depth."""
    found: list[tuple[str, etree._Element]] = []
    for name, child in _children(element):
        if name == "Extension":
            found += _flat(child)
        else:
            found.append((name, child))
    return found


def _text(element: etree._Element) -> str:
    # XML white space only: str.strip() would take a no-break space of the value as well
    return (element.text or "").strip(" \t\r\n")


def _child_text(element: etree._Element, name: str) -> str:
    return next((_text(child) for each, child in _children(element) if each == name), "")


def _flat_text(element: etree._Element, name: str) -> str | None:
    """Text of a child at any depth of Extension, None when absent or empty."""
    return next((_text(child) for each, child in _flat(element) if each == name), "") or None


def _number(element: etree._Element) -> int | None:
    return _small(_text(element))


def _small(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


def _serialise(element: etree._Element) -> bytes:
    """The element as UTF-8 with the namespaces that it uses, without declaration."""
    return etree.tostring(element, encoding="unicode", with_tail=False).encode()
