"""Findings on initial filter criteria: what is wrong, what is dangerous, what one S-CSCF reads otherwise than another.

The rules are in `ims_as.ifc_tool.findings`, the modules ``lint_…`` apply them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ifc.model import InitialFilterCriteria
from ifc.parser import IfcError
from ifc.shared import SharedSets
from ims_as.ifc_tool.findings import Finding, Severity, found
from ims_as.ifc_tool.lint_document import element_findings, problem_findings, same_priorities, shared_sets
from ims_as.ifc_tool.lint_outcome import MAX_STEPS, criterion_findings, profile_findings
from ims_as.ifc_tool.lint_servers import is_ours, server_findings
from ims_as.ifc_tool.lint_storage import storage_findings
from ims_as.ifc_tool.lint_triggers import trigger_findings
from ims_as.ifc_tool.logic import Budget, may_match
from ims_as.ifc_tool.reading import Criteria, read_document_untrusted

__all__ = ["Finding", "Severity", "lint_criteria", "lint_untrusted", "may_match"]


def lint_untrusted(
    xml: bytes,
    *,
    identity: str | None = None,
    own_hosts: frozenset[str] = frozenset(),
    shared: SharedSets | None = None,
) -> tuple[Finding, ...]:
    """All findings, by line.  Never raises: a document that cannot be read is a finding.

    Args:
        identity: our SIP URI; None does not look at server names.
        own_hosts: further hosts (lower case) by which we are reached.
        shared: the S-CSCF's table of shared sets; their criteria count with the profile's, and missing ones are told.
    """
    try:
        document = read_document_untrusted(xml, shared)
    except IfcError as error:
        consequence = "no S-CSCF can use it: its users have no services at all"
        return (found("unreadable", None, str(error), consequence=consequence),)
    findings = list(element_findings(xml))
    told = frozenset(finding.line for finding in findings)
    findings += problem_findings(document, told)
    findings += shared_sets(xml, shared)
    budget = Budget(MAX_STEPS)
    for _, criteria in document.profiles:
        findings += _profile(criteria, identity, own_hosts, budget)
    if identity is not None:
        # a profile without a criterion of ours is none of our business when another one has it
        findings += server_findings(document.criteria, identity, own_hosts)
    return _sorted(findings)


def lint_criteria(
    criteria: Iterable[InitialFilterCriteria], *, identity: str | None = None, own_hosts: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Findings on the criteria of one profile, as far as they do not need the document; arguments as above."""
    ordered = tuple(sorted(criteria, key=lambda criterion: criterion.priority))
    findings = list(_profile(ordered, identity, own_hosts, Budget(MAX_STEPS)))
    if identity is not None:
        findings += server_findings(ordered, identity, own_hosts)
    return _sorted(findings)


def _profile(criteria: Criteria, identity: str | None, own_hosts: frozenset[str], budget: Budget) -> Iterator[Finding]:
    yield from same_priorities(criteria)
    ours = frozenset(place for place, each in enumerate(criteria) if is_ours(each, identity, own_hosts))
    for place, criterion in enumerate(criteria):
        yield from criterion_findings(criterion, is_ours=place in ours, budget=budget)
        yield from trigger_findings(criterion)
    # our agents answer; what another server does with a call is not known
    answering = ours if identity is not None else frozenset()
    yield from profile_findings(criteria, ours=ours, answering=answering, budget=budget)
    yield from storage_findings(criteria)


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.rule)))
