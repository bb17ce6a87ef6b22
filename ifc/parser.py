"""XML → criteria, with limits: TS 29.228 Annex E and the IFCs element of TS 29.328 Annex D.

The document comes from an HSS or an operator's editor, so it is judged criterion by criterion: one that cannot be used
is left out and reported with its line, and the others still count.  Only a document that is none raises.

Tolerant where HSSes differ and nothing is lost: any element order, unknown elements, namespaces, ``true`` for ``1``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from itertools import pairwise
from typing import TypeVar

import attrs
from lxml import etree

from ifc.ere import Ere
from ifc.errors import EreError, IfcError
from ifc.model import (
    ApplicationServer,
    Condition,
    DefaultHandling,
    ImsSubscription,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    PublicIdentity,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    ServiceProfile,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)

__all__ = [
    "IfcError",
    "ParsedCriteria",
    "ParsedSharedSets",
    "ParsedSubscription",
    "Problem",
    "parse_criteria_untrusted",
    "parse_shared_sets_untrusted",
    "parse_subscription_untrusted",
]

MAX_DOCUMENT_BYTES = 262_144
"""Four times what a Diameter answer of usual limits carries."""
MAX_CRITERIA = 200
"""Per document; Open5GS stops at 20."""
MAX_TRIGGERS = 100
"""SPTs of one criterion."""
MAX_GROUPS = 100
"""Groups that one SPT is in."""
MAX_TEXT_CHARS = 4096
"""Of any one element; the patterns have a smaller cap of their own."""
MAX_INTEGER_DIGITS = 10
"""The schema's xs:int."""
MAX_PROFILES = 100
MAX_SHARED_SETS = 1000
MAX_PROBLEMS = 100
"""Further ones are not listed: a document of nonsense must not fill the log."""


@attrs.frozen
class Problem:
    """Something wrong, or doubtful, in the document."""

    line: int | None
    text: str
    is_skipped: bool = True
    """True: a criterion (or identity) was left out because of it.  False: it counts all the same."""

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{self.text}{' (left out)' if self.is_skipped else ''}"


@attrs.frozen
class ParsedCriteria:
    criteria: tuple[InitialFilterCriteria, ...]
    """In priority order; those of equal priority in document order."""
    problems: tuple[Problem, ...] = ()


@attrs.frozen
class ParsedSubscription:
    subscription: ImsSubscription
    problems: tuple[Problem, ...] = ()


@attrs.frozen
class ParsedSharedSets:
    sets: Mapping[int, tuple[InitialFilterCriteria, ...]]
    """SetID → criteria in priority order."""
    problems: tuple[Problem, ...] = ()


class _Bad(Exception):
    """This criterion cannot be used."""

    def __init__(self, element: etree._Element, text: str) -> None:
        super().__init__(text)
        self.line = _line(element)


def parse_criteria_untrusted(xml: bytes) -> ParsedCriteria:
    """Criteria of <IFCs>, <Sh-Data>, <ServiceProfile>, <IMSSubscription> or a single <InitialFilterCriteria>.

    The profiles of a subscription are taken together.  Raises IfcError, and nothing else, when the document as a whole
    cannot be used.
    """
    root = _parse_document(xml)
    problems: list[Problem] = []
    match _name(root):
        case "InitialFilterCriteria":
            elements = [root]
        case "IFCs" | "ServiceProfile":
            elements = _children(root, "InitialFilterCriteria")
        case "IMSSubscription":
            profiles = _children(root, "ServiceProfile")
            elements = [each for profile in profiles for each in _children(profile, "InitialFilterCriteria")]
        case "Sh-Data":
            # not by searching the tree: repository data may hold elements of any name
            ims = [root, *_children(root, "Sh-IMS-Data")]
            lists = [each for parent in ims for each in _children(parent, "IFCs")]
            elements = [each for parent in lists for each in _children(parent, "InitialFilterCriteria")]
        case other:
            raise IfcError(f"root element {other[:40]!r} holds no initial filter criteria")
    return ParsedCriteria(_read_criteria(elements, problems), tuple(problems))


def parse_subscription_untrusted(xml: bytes) -> ParsedSubscription:
    """A whole <IMSSubscription>.  Raises IfcError, and nothing else, when it has no usable frame."""
    root = _parse_document(xml)
    if _name(root) != "IMSSubscription":
        raise IfcError(f"root element {_name(root)[:40]!r} is not IMSSubscription")
    problems: list[Problem] = []
    profiles = _children(root, "ServiceProfile")
    if len(profiles) > MAX_PROFILES:
        raise IfcError(f"more than {MAX_PROFILES} service profiles")
    try:
        private_id = _text(_one(root, "PrivateID"))
        read = tuple(_read_profile(profile, problems) for profile in profiles)
    except _Bad as bad:
        raise IfcError(f"line {bad.line}: {bad}") from bad
    return ParsedSubscription(ImsSubscription(private_id, read), tuple(problems))


def parse_shared_sets_untrusted(xml: bytes) -> ParsedSharedSets:
    """The S-CSCF's table of shared sets (`ifc.shared`).  Raises IfcError, and nothing else, when it is none."""
    root = _parse_document(xml)
    if _name(root) != "SharedIFCsSets":
        raise IfcError(f"root element {_name(root)[:40]!r} is not SharedIFCsSets")
    problems: list[Problem] = []
    table: dict[int, tuple[InitialFilterCriteria, ...]] = {}
    elements = _children(root, "SharedIFCsSet")
    if len(elements) > MAX_SHARED_SETS:
        raise IfcError(f"more than {MAX_SHARED_SETS} shared sets")
    for element in elements:
        try:
            number = _integer(_one(element, "SetID"))
            if number in table:
                raise _Bad(element, f"SetID {number} is used again")
            table[number] = _read_criteria(_children(element, "InitialFilterCriteria"), problems)
        except _Bad as bad:
            _report(problems, Problem(bad.line, str(bad)))
    return ParsedSharedSets(table, tuple(problems))


# ---------------------------------------------------------------- the document


def _parse_document(xml: bytes) -> etree._Element:
    if len(xml) > MAX_DOCUMENT_BYTES:
        raise IfcError(f"document of {len(xml)} bytes, at most {MAX_DOCUMENT_BYTES}")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise IfcError(f"not XML: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise IfcError("document type declarations are not accepted")
    return root


def _name(element: etree._Element) -> str:
    """The local name: some HSSes put a namespace where the specification has none."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _line(element: etree._Element) -> int | None:
    line = element.sourceline
    return line if isinstance(line, int) else None


def _children(parent: etree._Element, name: str) -> list[etree._Element]:
    return [child for child in parent if _name(child) == name]


def _optional(parent: etree._Element, name: str) -> etree._Element | None:
    found = _children(parent, name)
    if len(found) > 1:
        raise _Bad(found[1], f"{name} more than once")
    return found[0] if found else None


def _one(parent: etree._Element, name: str) -> etree._Element:
    found = _optional(parent, name)
    if found is None:
        raise _Bad(parent, f"{_name(parent)} without {name}")
    return found


def _extension(parent: etree._Element | None, depth: int = 1) -> etree._Element | None:
    """The Extension element inside parent, or the one nested depth deep."""
    for _ in range(depth):
        if parent is None:
            return None
        parent = _optional(parent, "Extension")
    return parent


def _raw_text(element: etree._Element) -> str:
    if len(element):
        raise _Bad(element, f"{_name(element)} holds elements instead of text")
    text = element.text or ""
    if len(text) > MAX_TEXT_CHARS:
        raise _Bad(element, f"{_name(element)} of {len(text)} characters")
    return text


def _text(element: etree._Element) -> str:
    """Text without the white space around it; never empty."""
    text = _raw_text(element).strip()
    if not text:
        raise _Bad(element, f"{_name(element)} is empty")
    return text


def _optional_text(parent: etree._Element | None, name: str) -> str | None:
    element = None if parent is None else _optional(parent, name)
    return None if element is None else _raw_text(element)


def _integer(element: etree._Element) -> int:
    text = _text(element)
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_INTEGER_DIGITS and int(text) < 2**31):
        raise _Bad(element, f"{_name(element)} is {text[:20]!r}, not a number from 0")
    return int(text)


def _optional_integer(parent: etree._Element | None, name: str) -> int | None:
    element = None if parent is None else _optional(parent, name)
    return None if element is None else _integer(element)


def _boolean(element: etree._Element) -> bool:
    text = _text(element)
    if text not in ("0", "1", "true", "false"):
        raise _Bad(element, f"{_name(element)} is {text[:20]!r}, neither 0 nor 1")
    return text in ("1", "true")


_E = TypeVar("_E", bound=IntEnum)


def _enum(element: etree._Element, kind: type[_E]) -> _E:
    number = _integer(element)
    try:
        return kind(number)
    except ValueError:
        values = ", ".join(str(each.value) for each in kind)
        raise _Bad(element, f"{_name(element)} is {number}, not one of {values}") from None


def _pattern(element: etree._Element) -> Ere:
    text = _raw_text(element)
    # line breaks around it come from pretty printers; a blank can be meant
    if "\n" in text or "\r" in text:
        text = text.strip()
    try:
        return Ere(text)
    except EreError as error:
        raise _Bad(element, f"{_name(element)}: {error}") from error


def _optional_pattern(parent: etree._Element, name: str) -> Ere | None:
    element = _optional(parent, name)
    return None if element is None else _pattern(element)


# ---------------------------------------------------------------- criteria


def _read_criteria(elements: list[etree._Element], problems: list[Problem]) -> tuple[InitialFilterCriteria, ...]:
    criteria: list[InitialFilterCriteria] = []
    for element in elements:
        if len(criteria) >= MAX_CRITERIA:
            _report(problems, Problem(_line(element), f"more than {MAX_CRITERIA} criteria"))
            break
        try:
            criteria.append(_read_criterion(element))
        except _Bad as bad:
            _report(problems, Problem(bad.line, str(bad)))
    criteria.sort(key=lambda criterion: criterion.priority)
    for earlier, later in pairwise(criteria):
        if earlier.priority == later.priority:
            text = f"priority {later.priority} is used again; document order decides"
            _report(problems, Problem(later.line, text, is_skipped=False))
    return tuple(criteria)


def _report(problems: list[Problem], problem: Problem) -> None:
    if len(problems) < MAX_PROBLEMS:
        problems.append(problem)


def _read_criterion(element: etree._Element) -> InitialFilterCriteria:
    trigger_point = _optional(element, "TriggerPoint")
    part = _optional(element, "ProfilePartIndicator")
    return InitialFilterCriteria(
        priority=_integer(_one(element, "Priority")),
        trigger_point=None if trigger_point is None else _read_trigger_point(trigger_point),
        application_server=_read_application_server(_one(element, "ApplicationServer")),
        profile_part=None if part is None else _enum(part, ProfilePart),
        line=_line(element),
    )


def _read_application_server(element: etree._Element) -> ApplicationServer:
    name = _one(element, "ServerName")
    server_name = _text(name)
    if not server_name.lower().startswith(("sip:", "sips:")) or not _is_uri_text(server_name):
        raise _Bad(name, f"ServerName {server_name[:80]!r} is not a SIP URI")
    handling = _optional(element, "DefaultHandling")
    extension = _extension(element)
    return ApplicationServer(
        server_name=server_name,
        default_handling=None if handling is None else _enum(handling, DefaultHandling),
        service_info=_optional_text(element, "ServiceInfo"),
        include_register_request=extension is not None and _optional(extension, "IncludeRegisterRequest") is not None,
        include_register_response=extension is not None and _optional(extension, "IncludeRegisterResponse") is not None,
    )


def _is_uri_text(text: str) -> bool:
    """No blanks, controls or angle brackets: it is put into a Route header."""
    return all("!" <= char <= "~" and char not in '<>"' for char in text) and len(text.partition(":")[2]) > 0


def _read_trigger_point(element: etree._Element) -> TriggerPoint:
    triggers = _children(element, "SPT")
    if not triggers:
        raise _Bad(element, "TriggerPoint without SPT")
    if len(triggers) > MAX_TRIGGERS:
        raise _Bad(element, f"more than {MAX_TRIGGERS} SPTs")
    is_cnf = _boolean(_one(element, "ConditionTypeCNF"))
    return TriggerPoint(is_cnf, tuple(map(_read_trigger, triggers)))


def _read_trigger(element: etree._Element) -> ServicePointTrigger:
    groups = _children(element, "Group")
    if not groups:
        raise _Bad(element, "SPT without Group")
    if len(groups) > MAX_GROUPS:
        raise _Bad(element, f"SPT in more than {MAX_GROUPS} groups")
    found = list(_conditions(element))
    if len(found) != 1:
        raise _Bad(element, f"SPT with {len(found)} conditions instead of one")
    negated = _optional(element, "ConditionNegated")
    extension = _extension(element)
    types = [] if extension is None else _children(extension, "RegistrationType")
    if len(types) > len(RegistrationType):
        raise _Bad(element, "RegistrationType too often")
    return ServicePointTrigger(
        condition=found[0],
        groups=tuple(map(_integer, groups)),
        negated=negated is not None and _boolean(negated),
        registration_types=tuple(_enum(each, RegistrationType) for each in types),
    )


def _conditions(element: etree._Element) -> Iterator[Condition]:
    for child in element:
        reader = _CONDITIONS.get(_name(child))
        if reader is not None:
            yield reader(child)


def _read_header(element: etree._Element) -> SipHeaderCondition:
    return SipHeaderCondition(_pattern(_one(element, "Header")), _optional_pattern(element, "Content"))


def _read_sdp(element: etree._Element) -> SessionDescriptionCondition:
    return SessionDescriptionCondition(_pattern(_one(element, "Line")), _optional_pattern(element, "Content"))


_CONDITIONS: dict[str, Callable[[etree._Element], Condition]] = {
    "RequestURI": lambda element: RequestUriCondition(_pattern(element)),
    "Method": lambda element: MethodCondition(_text(element)),
    "SIPHeader": _read_header,
    "SessionCase": lambda element: SessionCaseCondition(_enum(element, SessionCase)),
    "SessionDescription": _read_sdp,
}


# ---------------------------------------------------------------- profiles


def _read_profile(element: etree._Element, problems: list[Problem]) -> ServiceProfile:
    authorization = _optional(element, "CoreNetworkServicesAuthorization")
    extension = _extension(element)
    sets = [] if extension is None else _children(extension, "SharedIFCSetID")
    nested = _extension(extension)
    if nested is not None:
        sets += _children(nested, "SharedIFCSetID")  # FHoSS puts them one level too deep
    return ServiceProfile(
        public_identities=tuple(_read_identities(_children(element, "PublicIdentity"), problems)),
        criteria=_read_criteria(_children(element, "InitialFilterCriteria"), problems),
        shared_ifc_set_ids=tuple(map(_integer, sets)),
        media_profile_id=_optional_integer(authorization, "SubscribedMediaProfileId"),
    )


def _read_identities(elements: list[etree._Element], problems: list[Problem]) -> Iterator[PublicIdentity]:
    for element in elements:
        try:
            yield _read_identity(element)
        except _Bad as bad:
            _report(problems, Problem(bad.line, str(bad)))


def _read_identity(element: etree._Element) -> PublicIdentity:
    barring = _optional(element, "BarringIndication")
    first, second, third = (_extension(element, depth) for depth in (1, 2, 3))
    return PublicIdentity(
        identity=_text(_one(element, "Identity")),
        barred=barring is not None and _boolean(barring),
        identity_type=_optional_integer(first, "IdentityType"),
        wildcarded_psi=_optional_text(first, "WildcardedPSI"),
        display_name=_optional_text(second, "DisplayName"),
        alias_group=_optional_text(second, "AliasIdentityGroupID"),
        wildcarded_impu=_optional_text(third, "WildcardedIMPU"),
        service_priority_level=_optional_integer(third, "ServicePriorityLevel"),
    )
