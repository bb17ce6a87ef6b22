"""The criteria as values: TS 29.228 Annex B (what they mean) and Annex E (the schema).

Immutable, and free of the XML they came from.  Patterns are given as text and held compiled (`ifc.ere.Ere`); a pattern
that is no ERE raises EreError when the value is built.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs

from ifc.ere import Ere

__all__ = [
    "ApplicationServer",
    "Condition",
    "DefaultHandling",
    "ImsSubscription",
    "InitialFilterCriteria",
    "MethodCondition",
    "ProfilePart",
    "PublicIdentity",
    "RegistrationType",
    "RequestUriCondition",
    "ServicePointTrigger",
    "ServiceProfile",
    "SessionCase",
    "SessionCaseCondition",
    "SessionDescriptionCondition",
    "SipHeaderCondition",
    "TriggerPoint",
]


class DefaultHandling(IntEnum):
    """What the S-CSCF does when the AS cannot be reached; an absent element means SESSION_CONTINUED."""

    SESSION_CONTINUED = 0
    SESSION_TERMINATED = 1


class SessionCase(IntEnum):
    """DirectionOfRequest of the schema; 4 came with Release 9."""

    ORIGINATING_REGISTERED = 0
    TERMINATING_REGISTERED = 1
    TERMINATING_UNREGISTERED = 2
    ORIGINATING_UNREGISTERED = 3
    ORIGINATING_CDIV = 4

    @property
    def is_originating(self) -> bool:
        return self not in (SessionCase.TERMINATING_REGISTERED, SessionCase.TERMINATING_UNREGISTERED)


class RegistrationType(IntEnum):
    INITIAL_REGISTRATION = 0
    RE_REGISTRATION = 1
    DE_REGISTRATION = 2


class ProfilePart(IntEnum):
    """ProfilePartIndicator; absent: the criterion belongs to both parts."""

    REGISTERED = 0
    UNREGISTERED = 1


def _ere(pattern: str | Ere) -> Ere:
    return pattern if isinstance(pattern, Ere) else Ere(pattern)


def _optional_ere(pattern: str | Ere | None) -> Ere | None:
    return None if pattern is None else _ere(pattern)


def _header_name_ere(pattern: str | Ere) -> Ere:
    # header names ignore case (RFC 3261 §7.3.1)
    return Ere(str(pattern), ignore_case=True)


@attrs.frozen
class RequestUriCondition:
    """ERE on the hostport of a SIP URI, the telephone-subscriber of a tel URI, the text after ``urn:`` of a URN."""

    pattern: Ere = attrs.field(converter=_ere)


@attrs.frozen
class MethodCondition:
    """The method itself, compared as a string."""

    method: str


@attrs.frozen
class SipHeaderCondition:
    """ERE on each header name, and on each single value when content is given."""

    header: Ere = attrs.field(converter=_header_name_ere)
    content: Ere | None = attrs.field(default=None, converter=_optional_ere)


@attrs.frozen
class SessionCaseCondition:
    session_case: SessionCase


@attrs.frozen
class SessionDescriptionCondition:
    """ERE on the type letter of each SDP line, and on what follows its ``=`` when content is given."""

    line: Ere = attrs.field(converter=_ere)
    content: Ere | None = attrs.field(default=None, converter=_optional_ere)


Condition: TypeAlias = (
    RequestUriCondition | MethodCondition | SipHeaderCondition | SessionCaseCondition | SessionDescriptionCondition
)


@attrs.frozen
class ServicePointTrigger:
    """SPT: one condition, negated or not, as a member of one or more groups."""

    condition: Condition
    groups: tuple[int, ...] = (0,)
    negated: bool = False
    registration_types: tuple[RegistrationType, ...] = ()
    """Narrows Method REGISTER only; empty: any."""


Group: TypeAlias = tuple[int, tuple[ServicePointTrigger, ...]]

_COST = {
    MethodCondition: 0,
    SessionCaseCondition: 0,
    RequestUriCondition: 1,
    SipHeaderCondition: 2,
    SessionDescriptionCondition: 3,
}


def _cost(trigger: ServicePointTrigger) -> int:
    return _COST[type(trigger.condition)]


@attrs.frozen
class TriggerPoint:
    """CNF: every group must have a trigger that holds.  DNF: one group must have all its triggers hold."""

    is_cnf: bool
    triggers: tuple[ServicePointTrigger, ...]
    groups: tuple[Group, ...] = attrs.field(init=False, eq=False, repr=False)
    """(number, members), members and groups that are cheap to test first: the result does not depend on the order."""

    @groups.default
    def _make_groups(self) -> tuple[Group, ...]:
        members: dict[int, list[ServicePointTrigger]] = {}
        for trigger in self.triggers:
            for number in dict.fromkeys(trigger.groups):
                members.setdefault(number, []).append(trigger)
        groups = [(number, tuple(sorted(group, key=_cost))) for number, group in sorted(members.items())]
        # the dearest member decides: groups of methods and session cases only come first
        return tuple(sorted(groups, key=lambda group: _cost(group[1][-1])))


@attrs.frozen
class ApplicationServer:
    server_name: str
    """SIP URI; becomes the top Route value towards the AS."""
    default_handling: DefaultHandling | None = None
    service_info: str | None = None
    """Goes into third-party REGISTER bodies only (TS 23.218 clause 6.9.2.5)."""
    include_register_request: bool = False
    include_register_response: bool = False

    @property
    def is_terminating_on_failure(self) -> bool:
        return self.default_handling is DefaultHandling.SESSION_TERMINATED


@attrs.frozen
class InitialFilterCriteria:
    priority: int
    """Lower is evaluated earlier."""
    trigger_point: TriggerPoint | None
    """None: matches every initial request, REGISTER too."""
    application_server: ApplicationServer
    profile_part: ProfilePart | None = None
    line: int | None = attrs.field(default=None, eq=False, repr=False)
    """Line of the document it was read from."""


@attrs.frozen
class PublicIdentity:
    """Of a service profile; the fields after barred live in nested Extension elements."""

    identity: str
    barred: bool = False
    identity_type: int | None = None
    """0 distinct IMPU, 1 distinct PSI, 2 wildcarded PSI, 3 non-distinct IMPU, 4 wildcarded IMPU."""
    wildcarded_psi: str | None = None
    display_name: str | None = None
    alias_group: str | None = None
    wildcarded_impu: str | None = None
    service_priority_level: int | None = None
    """0 highest to 4 lowest."""


@attrs.frozen
class ServiceProfile:
    public_identities: tuple[PublicIdentity, ...]
    criteria: tuple[InitialFilterCriteria, ...] = ()
    """In priority order."""
    shared_ifc_set_ids: tuple[int, ...] = ()
    media_profile_id: int | None = None
    """SubscribedMediaProfileId."""


@attrs.frozen
class ImsSubscription:
    private_id: str
    service_profiles: tuple[ServiceProfile, ...]

    def profile_of(self, impu: str) -> ServiceProfile | None:
        """The profile that lists this public identity, spelled exactly so."""
        for profile in self.service_profiles:
            if any(each.identity == impu for each in profile.public_identities):
                return profile
        return None
