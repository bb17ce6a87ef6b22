"""Rules about HSSes that cannot hold all that the schema allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from ifc.ere import Ere
from ifc.model import InitialFilterCriteria, SessionDescriptionCondition
from ims_as.ifc_tool.findings import Finding, found
from ims_as.ifc_tool.reading import Criteria

__all__ = ["storage_findings"]

OPEN5GS_TRIGGERS: Final = 20
FHOSS_CHARS: Final = 255
"""Of server name, ServiceInfo and patterns (varchar)."""


def storage_findings(criteria: Criteria) -> Iterator[Finding]:
    """One for each HSS and profile."""
    if limits := list(dict.fromkeys(_open5gs(criteria))):
        yield found("open5gs", None, f"not held by Open5GS: {'; '.join(limits)}")
    if limits := list(dict.fromkeys(each for criterion in criteria for each in _fhoss(criterion))):
        yield found("fhoss", None, f"for FHoSS: {'; '.join(limits)}")


def _open5gs(criteria: Criteria) -> Iterator[str]:
    if len(criteria) > 1:
        yield "more than one criterion (the number of triggers is stored with the first)"
    for criterion in criteria:
        server = criterion.application_server
        if server.service_info:
            yield "ServiceInfo"
        if server.include_register_request or server.include_register_response:
            yield "IncludeRegisterRequest and IncludeRegisterResponse"
        if criterion.profile_part is not None:
            yield "ProfilePartIndicator"
        triggers = () if criterion.trigger_point is None else criterion.trigger_point.triggers
        if len(triggers) > OPEN5GS_TRIGGERS:
            yield f"more than {OPEN5GS_TRIGGERS} triggers"
        for trigger in triggers:
            if len(set(trigger.groups)) > 1:
                yield "a trigger in several groups"
            if trigger.registration_types:
                yield "RegistrationType"
            if isinstance(trigger.condition, SessionDescriptionCondition):
                yield "SessionDescription (read, but never put into the XML)"


def _fhoss(criterion: InitialFilterCriteria) -> Iterator[str]:
    server = criterion.application_server
    triggers = () if criterion.trigger_point is None else criterion.trigger_point.triggers
    texts = [server.server_name, server.service_info or ""]
    for trigger in triggers:
        condition = trigger.condition
        texts += [str(value) for value in attrs.asdict(condition, recurse=False).values() if isinstance(value, Ere)]
        if isinstance(condition, SessionDescriptionCondition) and condition.content is None:
            yield "a SessionDescription without Content gets the Content null"
    for text in texts:
        if "&" in text or "<" in text:
            yield f"escape & and < in {text[:40]} yourself"
        if len(text) > FHOSS_CHARS:
            yield f"{text[:20]}… is longer than {FHOSS_CHARS} characters"
