"""Writes Sh-Data strictly: the order and nesting of TS 29.328 Annex D, values within their ranges."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.sh.sh_data import RepositoryData, ShData
from diameter.sh.sh_data_reader import MAX_SEQUENCE_NUMBER, element_name, parse_document_untrusted

__all__ = ["write_repository_data", "write_sh_data"]

_CHARGING = (
    "PrimaryEventChargingFunctionName",
    "SecondaryEventChargingFunctionName",
    "PrimaryChargingCollectionFunctionName",
    "SecondaryChargingCollectionFunctionName",
)
_LOCATIONS = (
    "CSLocationInformation",
    "PSLocationInformation",
    "EPSLocationInformation",
    "TWANLocationInformation",
    "Sh-5GSLocationInformation",
)
_REACHABILITY = (
    ("UEIPReachabilityMME",),
    ("UEIPReachabilitySGSN",),
    ("UEIPReachabilityAMF3GPP", "UEIPReachabilityAMFnon3GPP"),
)

_Elements = list[etree._Element]


def write_repository_data(service_indication: bytes, sequence_number: int, service_data: bytes | None) -> bytes:
    """User-Data of a PUR for one repository item; `service_data` None deletes it.

    Raises:
        LocalDiameterError: as `write_sh_data`.
    """
    return write_sh_data(ShData(repository=(RepositoryData(service_indication, sequence_number, service_data),)))


def write_sh_data(data: ShData) -> bytes:
    """The document in schema order, UTF-8 with XML declaration.

    Raises:
        LocalDiameterError: a number out of range, text that XML cannot carry, or XML that is not one element of the
            name that belongs there.
    """
    root = etree.Element("Sh-Data")
    root.extend(_identities(data))
    root.extend(_repository(item) for item in data.repository)
    root.extend(_ims_data(data))
    locations = _locations(data)
    root.extend(locations["CSLocationInformation"] + locations["PSLocationInformation"])
    root.extend(_number("CSUserState", data.cs_user_state, 3) + _number("PSUserState", data.ps_user_state, 6))
    sets = (
        ("RegisteredIdentities", data.registered_identities),
        ("ImplicitIdentities", data.implicit_identities),
        ("AllIdentities", data.all_identities),
        ("AliasIdentities", data.alias_identities),
    )
    _nest(
        root,
        [
            [each for name, impus in sets for each in _identity_set(name, impus)],
            _identity_set("DeletedIdentities", data.deleted_identities),
            _tads(data),
            _number("EPSUserState", data.eps_user_state, 6) + locations["EPSLocationInformation"],
            _text("IMSI", data.imsi)
            + locations["TWANLocationInformation"]
            + _texts("IMSPrivateUserIdentity", data.private_identities),
            _text("IMEISV", data.imeisv),
            locations["Sh-5GSLocationInformation"] + _number("Sh-5GSUserState", data.fivegs_user_state, 6),
        ],
    )
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


# ---------------------------------------------------------------- parts


def _identities(data: ShData) -> _Elements:
    element = etree.Element("PublicIdentifiers")
    element.extend(_texts("IMSPublicIdentity", data.public_identities) + _texts("MSISDN", data.msisdns))
    _nest(
        element,
        [
            _number("IdentityType", data.identity_type, 3) + _text("WildcardedPSI", data.wildcarded_psi),
            _text("WildcardedIMPU", data.wildcarded_impu),
            [
                _group("ExtendedMSISDN", _text("MSISDN", digits) + _number("MSISDNType", kind, 1))
                for digits, kind in data.extended_msisdns
            ],
            [
                _group(
                    "EnhancedIMSPublicIdentifiers",
                    _text("IMSPublicIdentity", impu) + _number("IdentityType", kind, 3),
                )
                for impu, kind in data.enhanced_identities
            ],
        ],
    )
    return [element] if len(element) else []


def _identity_set(name: str, impus: tuple[str, ...]) -> _Elements:
    return [_group(name, _texts("IMSPublicIdentity", impus))] if impus else []


def _repository(item: RepositoryData) -> etree._Element:
    element = _group(
        "RepositoryData",
        _text("ServiceIndication", _utf8(item.service_indication))
        + _number("SequenceNumber", item.sequence_number, MAX_SEQUENCE_NUMBER),
    )
    if item.service_data is not None:
        etree.SubElement(element, "ServiceData").append(_embed(item.service_data))
    return element


def _ims_data(data: ShData) -> _Elements:
    element = etree.Element("Sh-IMS-Data")
    element.extend(_text("SCSCFName", data.scscf_name))
    if data.ifcs is not None:
        element.append(_embed(data.ifcs, "IFCs"))
    element.extend(_number("IMSUserState", data.user_state, 3))
    element.extend(_charging(data))
    _nest(
        element,
        [
            _number("PSIActivation", data.psi_activation, 1),
            [_group("DSAI", _text("DSAI-Tag", tag) + _number("DSAI-Value", value, 1)) for tag, value in data.dsai],
            _text("ServiceLevelTraceInfo", data.trace_info)
            + _text("IPv4Address", data.ipv4_address)
            + _text("IPv6Prefix", data.ipv6_prefix)
            + _text("IPv6InterfaceIdentifier", data.ipv6_interface_id)
            + _number("ServicePriorityLevel", data.service_priority, 4)
            + _reachability(data)
            + _sms_registration(data),
            _text("STN-SR", data.stn_sr)
            + _number("UE-SRVCC-Capability", data.ue_srvcc, 1)
            + [
                _group("ExtendedPriority", _text("PriorityNamespace", namespace) + _text("PriorityLevel", level))
                for namespace, level in data.extended_priorities
            ]
            + _text("CSRN", data.csrn),
            [
                _group(
                    "ReferenceLocationInformation",
                    _text("AccessType", each.access_type)
                    + _text("AccessInfo", each.access_info)
                    + _text("AccessValue", each.access_value),
                )
                for each in data.reference_locations
            ],
            _number("MTRRIndication", None if data.mtrr is None else int(data.mtrr), 1),
            _number("UE-5G-SRVCC-Capability", data.ue_5g_srvcc, 1),
        ],
    )
    return [element] if len(element) else []


def _charging(data: ShData) -> _Elements:
    if not data.charging:
        return []
    names = dict(data.charging)
    if len(names) != len(data.charging) or not names.keys() <= set(_CHARGING):
        raise LocalDiameterError("ChargingInformation: wrong names")
    if not {_CHARGING[0], _CHARGING[2]} & names.keys():
        raise LocalDiameterError("ChargingInformation wants a primary function")
    return [_group("ChargingInformation", [each for name in _CHARGING for each in _text(name, names.get(name))])]


def _reachability(data: ShData) -> _Elements:
    if not data.ue_reachability:
        return []
    known = {name for level in _REACHABILITY for name in level}
    if not known >= set(data.ue_reachability):
        raise LocalDiameterError("UEReachabilityForIP: wrong names")
    levels = [
        [each for name in level if name in data.ue_reachability for each in _number(name, 0, 0)]
        for level in _REACHABILITY
    ]
    element = _group("UEReachabilityForIP", levels[0])
    _nest(element, levels[1:])
    return [element]


def _sms_registration(data: ShData) -> _Elements:
    if data.sms_registration is None:
        return []
    element = _group("SMSRegistrationInfo", _text("IP-SM-GW-Number", data.sms_registration.ip_sm_gw_number))
    _nest(element, [_text("SCAddress", data.sms_registration.sc_address)])
    return [element]


def _tads(data: ShData) -> _Elements:
    tads = data.tads
    if tads is None:
        return []
    support = _number("IMSVoiceOverPSSessionSupport", tads.voice_over_ps, 2)
    element = _group("TADSinformation", support + _number("RATtype", tads.rat_type, 99_999))
    _nest(element, [_text("LastUEActivityTime", tads.last_activity), _number("AccessType", tads.access_type, 1)])
    return [element]


def _locations(data: ShData) -> dict[str, _Elements]:
    """One of each kind at most."""
    found: dict[str, _Elements] = {name: [] for name in _LOCATIONS}
    for location in data.locations:
        if found.get(location.element) != []:
            raise LocalDiameterError("location of an unknown kind, or twice")
        found[location.element].append(_embed(location.xml, location.element))
    return found


# ---------------------------------------------------------------- elements


def _nest(parent: etree._Element, levels: list[_Elements]) -> None:
    """Extension in Extension, as deep as there is something to say."""
    while levels and not levels[-1]:
        levels = levels[:-1]
    for level in levels:
        parent = etree.SubElement(parent, "Extension")
        parent.extend(level)


def _group(name: str, children: _Elements) -> etree._Element:
    element = etree.Element(name)
    element.extend(children)
    return element


def _text(name: str, text: str | None) -> _Elements:
    if text is None:
        return []
    element = etree.Element(name)
    try:
        element.text = text
    except ValueError as error:
        raise LocalDiameterError(f"{name}: not XML text") from error
    return [element]


def _texts(name: str, texts: Iterable[str]) -> _Elements:
    return [each for text in texts for each in _text(name, text)]


def _number(name: str, number: int | None, highest: int) -> _Elements:
    if number is None:
        return []
    if not 0 <= number <= highest:
        raise LocalDiameterError(f"{name} out of range")
    return _text(name, str(number))


def _utf8(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise LocalDiameterError("Service-Indication is not UTF-8") from None


def _embed(xml: bytes, name: str | None = None) -> etree._Element:
    try:
        element = parse_document_untrusted(xml)
    except RemoteDiameterError as error:
        raise LocalDiameterError(f"not one well-formed element: {error.reason}") from None
    if name is not None and element_name(element) != name:
        raise LocalDiameterError(f"{name} wanted")
    return element
