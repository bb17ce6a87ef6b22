"""Rules that look at the XML itself, and at what the parser made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from lxml import etree

from ifc.ere import Ere, EreError
from ifc.parser import IfcError, parse_subscription_untrusted
from ims_as.ifc_tool.findings import Finding, found
from ims_as.ifc_tool.reading import Criteria, Document

__all__ = ["element_findings", "problem_findings", "same_priorities", "shared_sets"]

_PATTERN_ELEMENTS = ("RequestURI", "Header", "Content", "Line")

_ORDER: Mapping[str, tuple[str, ...]] = {
    "InitialFilterCriteria": ("Priority", "TriggerPoint", "ApplicationServer", "ProfilePartIndicator", "Extension"),
    "TriggerPoint": ("ConditionTypeCNF", "SPT", "Extension"),
    "SPT": (
        "ConditionNegated", "Group", "RequestURI", "Method", "SIPHeader", "SessionCase", "SessionDescription",
        "Extension",
    ),
    "SIPHeader": ("Header", "Content", "Extension"),
    "SessionDescription": ("Line", "Content", "Extension"),
    "ApplicationServer": ("ServerName", "DefaultHandling", "ServiceInfo", "Extension"),
}  # fmt: skip
"""Elements in the order of the schema; what stands in an Extension is for later releases and not looked at."""


def element_findings(xml: bytes) -> Iterator[Finding]:
    """What the parser refuses with a rule of its own, and what it tolerates though a schema would not.

    The document is one that the parser has taken.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    root = etree.fromstring(xml, parser)
    for element in root.iter(*(f"{{*}}{name}" for name in _ORDER)):
        if not _is_criterion_part(element):
            continue
        name = etree.QName(element).localname
        yield from _order(element, name)
        if name == "TriggerPoint" and not any(_local(child) == "ConditionTypeCNF" for child in element):
            yield found("condition-type-missing", _line(element), "TriggerPoint without ConditionTypeCNF")
        if name == "SPT":
            yield from _trigger(element)


def _is_criterion_part(element: etree._Element) -> bool:
    """Not of the same name in repository data."""
    names = [_local(element), *map(_local, element.iterancestors())]
    return "InitialFilterCriteria" in names and "RepositoryData" not in names


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _line(element: etree._Element) -> int | None:
    return element.sourceline if isinstance(element.sourceline, int) else None


def _order(element: etree._Element, name: str) -> Iterator[Finding]:
    order = _ORDER[name]
    children = [child for child in element if isinstance(child.tag, str)]
    for child in children:
        # the schema lets vendors add elements of a namespace of their own
        if _local(child) not in order and etree.QName(child).namespace == etree.QName(element).namespace:
            yield found("unknown-element", _line(child), f"{name} holds an element {_local(child)[:40]}")
    for earlier, later in pairwise(child for child in children if _local(child) in order):
        if order.index(_local(later)) < order.index(_local(earlier)):
            text = f"{_local(later)} stands after {_local(earlier)} in {name}"
            yield found("element-order", _line(later), text)
            return


def _trigger(element: etree._Element) -> Iterator[Finding]:
    for child in element.iter():
        name, text = _local(child), child.text or ""
        if name == "Group" and text.strip().startswith("-"):
            yield found("negative-group", _line(child), f"Group is {text.strip()[:20]}")
        if name not in _PATTERN_ELEMENTS or len(child):
            continue
        try:
            Ere(text.strip() if "\n" in text or "\r" in text else text)
        except EreError as error:
            yield found("pattern-refused", _line(child), f"{name}: {error}")


def problem_findings(document: Document, told: frozenset[int | None]) -> Iterator[Finding]:
    """What the parser left out, but for the lines of which something was told already."""
    for problem in document.problems:
        if problem.is_skipped and problem.line not in told:
            yield found("unreadable", problem.line, problem.text)


def same_priorities(criteria: Criteria) -> Iterator[Finding]:
    """Within one profile, its shared sets included."""
    ordered = sorted(criteria, key=lambda criterion: criterion.priority)
    for earlier, later in pairwise(ordered):
        if earlier.priority == later.priority:
            text = f"priority {later.priority} is already that of {earlier.application_server.server_name}"
            yield found("duplicate-priority", later.line, text)


def shared_sets(xml: bytes, table: Mapping[int, Criteria] | None) -> Iterator[Finding]:
    """Of a subscription: the sets that it refers to."""
    try:
        subscription = parse_subscription_untrusted(xml).subscription
    except IfcError:
        return
    numbers = dict.fromkeys(each for profile in subscription.service_profiles for each in profile.shared_ifc_set_ids)
    for number in numbers:
        if table is not None and number not in table:
            yield found("shared-set-unknown", None, f"SharedIFCSetID {number} is not in the table of shared sets")
        else:
            yield found("shared-set", None, f"criteria of the shared set {number} count for this user too")
