"""Criteria → XML, elements in the order of the schema (TS 29.228 Annex E), booleans as 0 and 1."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from ifc.model import (
    ApplicationServer,
    ImsSubscription,
    InitialFilterCriteria,
    MethodCondition,
    PublicIdentity,
    RequestUriCondition,
    ServicePointTrigger,
    ServiceProfile,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
)

__all__ = ["write_criteria", "write_service_profile", "write_subscription"]


def write_criteria(criteria: Iterable[InitialFilterCriteria]) -> bytes:
    """An <IFCs> element, as Sh carries it (TS 29.328 Annex D).  Raises ValueError for text that XML cannot hold."""
    root = etree.Element("IFCs")
    for criterion in criteria:
        _add_criterion(root, criterion)
    return _serialise(root)


def write_service_profile(profile: ServiceProfile) -> bytes:
    """A <ServiceProfile> alone.  Raises ValueError for text that XML cannot hold."""
    root = etree.Element("ServiceProfile")
    _fill_profile(root, profile)
    return _serialise(root)


def write_subscription(subscription: ImsSubscription) -> bytes:
    """An <IMSSubscription>, as Cx carries it.  Raises ValueError for text that XML cannot hold."""
    root = etree.Element("IMSSubscription")
    _add(root, "PrivateID", subscription.private_id)
    for profile in subscription.service_profiles:
        _fill_profile(etree.SubElement(root, "ServiceProfile"), profile)
    return _serialise(root)


def _serialise(root: etree._Element) -> bytes:
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _add(parent: etree._Element, name: str, value: object = None) -> etree._Element:
    element = etree.SubElement(parent, name)
    if value is not None:
        element.text = str(int(value)) if isinstance(value, bool | int) else str(value)
    return element


def _add_optional(parent: etree._Element, name: str, value: object) -> None:
    if value is not None:
        _add(parent, name, value)


def _fill_profile(element: etree._Element, profile: ServiceProfile) -> None:
    for identity in profile.public_identities:
        _add_identity(element, identity)
    if profile.media_profile_id is not None:
        _add(_add(element, "CoreNetworkServicesAuthorization"), "SubscribedMediaProfileId", profile.media_profile_id)
    for criterion in profile.criteria:
        _add_criterion(element, criterion)
    if profile.shared_ifc_set_ids:
        extension = _add(element, "Extension")
        for number in profile.shared_ifc_set_ids:
            _add(extension, "SharedIFCSetID", number)


def _add_identity(parent: etree._Element, identity: PublicIdentity) -> None:
    element = _add(parent, "PublicIdentity")
    if identity.barred:
        _add(element, "BarringIndication", True)
    _add(element, "Identity", identity.identity)
    levels = (
        (("IdentityType", identity.identity_type), ("WildcardedPSI", identity.wildcarded_psi)),
        (("DisplayName", identity.display_name), ("AliasIdentityGroupID", identity.alias_group)),
        (("WildcardedIMPU", identity.wildcarded_impu), ("ServicePriorityLevel", identity.service_priority_level)),
    )
    used = [depth for depth, level in enumerate(levels, 1) if any(value is not None for _, value in level)]
    for level in levels[: max(used, default=0)]:
        element = _add(element, "Extension")
        for name, value in level:
            _add_optional(element, name, value)


def _add_criterion(parent: etree._Element, criterion: InitialFilterCriteria) -> None:
    element = _add(parent, "InitialFilterCriteria")
    _add(element, "Priority", criterion.priority)
    if criterion.trigger_point is not None:
        trigger_point = _add(element, "TriggerPoint")
        _add(trigger_point, "ConditionTypeCNF", criterion.trigger_point.is_cnf)
        for trigger in criterion.trigger_point.triggers:
            _add_trigger(trigger_point, trigger)
    _add_application_server(element, criterion.application_server)
    _add_optional(element, "ProfilePartIndicator", criterion.profile_part)


def _add_trigger(parent: etree._Element, trigger: ServicePointTrigger) -> None:
    element = _add(parent, "SPT")
    _add(element, "ConditionNegated", trigger.negated)
    for group in trigger.groups:
        _add(element, "Group", group)
    match trigger.condition:
        case RequestUriCondition(pattern):
            _add(element, "RequestURI", pattern)
        case MethodCondition(method):
            _add(element, "Method", method)
        case SipHeaderCondition(header, content):
            condition = _add(element, "SIPHeader")
            _add(condition, "Header", header)
            _add_optional(condition, "Content", content)
        case SessionCaseCondition(session_case):
            _add(element, "SessionCase", session_case)
        case SessionDescriptionCondition(line, content):
            condition = _add(element, "SessionDescription")
            _add(condition, "Line", line)
            _add_optional(condition, "Content", content)
    if trigger.registration_types:
        extension = _add(element, "Extension")
        for each in trigger.registration_types:
            _add(extension, "RegistrationType", each)


def _add_application_server(parent: etree._Element, server: ApplicationServer) -> None:
    element = _add(parent, "ApplicationServer")
    _add(element, "ServerName", server.server_name)
    _add_optional(element, "DefaultHandling", server.default_handling)
    _add_optional(element, "ServiceInfo", server.service_info)
    if server.include_register_request or server.include_register_response:
        extension = _add(element, "Extension")
        if server.include_register_request:
            _add(extension, "IncludeRegisterRequest")
        if server.include_register_response:
            _add(extension, "IncludeRegisterResponse")
