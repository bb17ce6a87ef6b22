"""What an AS may do with each Data-Reference, and what the HSS needs to know for it (TS 29.328 Table 7.6.1). Sans-IO.

`check_request` holds a request against the table before it is sent: a wrong one is our own mistake, and an HSS answers
it with 5101 or 5005, or worse, with data that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, Flag, auto
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from attrs import evolve, field, fields, frozen

from diameter.dictionary.sh import DataReference, RequestedDomain
from diameter.errors import LocalDiameterError
from diameter.sh.messages import CallReferenceInfo, UserIdentity

__all__ = ["REFERENCE_RULES", "Identity", "Operation", "ReferenceRule", "ShKeys", "check_request", "rule_of"]


class Operation(Enum):
    """What an AS does; the value is the command."""

    PULL = "UDR"
    UPDATE = "PUR"
    SUBSCRIBE = "SNR"
    UNSUBSCRIBE = "SNR off"


class Identity(Flag):
    """Kinds of identity in User-Identity. An IMPU and a PSI look alike on the wire: which one it is, the HSS knows."""

    PUBLIC = auto()
    MSISDN = auto()
    EXTERNAL = auto()


def _octets(values: Iterable[bytes | str]) -> tuple[bytes, ...]:
    return tuple(value.encode() if isinstance(value, str) else value for value in values)


def _numbers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@frozen(kw_only=True, cache_hash=True)
class ShKeys:
    """What belongs to a request besides the identity and the Data-References.

    Attributes:
        service_indications: which repository items (0).
        server_name: SIP URI of the AS as in the iFC (13, 19).
        identity_sets: `IdentitySet` values (10).
        dsai_tags: which activation tags (19).
        requested_domain: `RequestedDomain` (14, 15).
        current_location: `CurrentLocation` (14).
        requested_nodes: `RequestedNodes` bits, with the PS domain only (14, 15).
        serving_node_only: the serving node's name is enough (14).
        local_time_zone: Local-Time-Zone-Indication (14): 0 only the time zone, 1 with the location.
        pre_paging: Pre-paging-Supported (14).
        udr_flags: `UdrFlags` bits (14).
        session_priority: 0 (highest) to 4.
        call_reference: (Call-Reference-Number, AS-Number) of a CSRN or location request.
        private_identity: IMPI, where one public identity belongs to several (User-Name).
        wildcard: wildcarded PSI or IMPU that the public identity falls under, as P-Profile-Key gives it.
    """

    service_indications: tuple[bytes, ...] = field(default=(), converter=_octets)
    server_name: str | None = None
    identity_sets: tuple[int, ...] = field(default=(), converter=_numbers)
    dsai_tags: tuple[bytes, ...] = field(default=(), converter=_octets)
    requested_domain: int | None = None
    current_location: int | None = None
    requested_nodes: int | None = None
    serving_node_only: bool = False
    local_time_zone: int | None = None
    pre_paging: bool | None = None
    udr_flags: int | None = None
    session_priority: int | None = None
    call_reference: tuple[bytes, bytes] | None = None
    private_identity: str | None = None
    wildcard: str | None = None

    def with_wildcard(self, wildcard: str | None) -> ShKeys:
        """The same for an identity that falls under a wildcard; as they are for None."""
        return self if wildcard is None else evolve(self, wildcard=wildcard)

    def avps(self, operation: Operation) -> dict[str, Any]:
        """The fields of the request class of that operation."""
        values: dict[str, Any] = {"user_name": self.private_identity, "wildcarded_public_identity": self.wildcard}
        if operation is Operation.UPDATE:
            return values
        values |= {
            "service_indications": self.service_indications,
            "server_name": self.server_name,
            "identity_sets": self.identity_sets,
            "dsai_tags": self.dsai_tags,
        }
        if operation is Operation.PULL:
            values |= {
                "requested_domain": self.requested_domain,
                "current_location": self.current_location,
                "requested_nodes": self.requested_nodes,
                "serving_node_indication": 0 if self.serving_node_only else None,
                "local_time_zone_indication": self.local_time_zone,
                "pre_paging_supported": None if self.pre_paging is None else int(self.pre_paging),
                "udr_flags": self.udr_flags,
                "session_priority": self.session_priority,
                "call_reference_info": CallReferenceInfo(*self.call_reference) if self.call_reference else None,
            }
        return values


NO_KEYS = ShKeys()


@frozen
class ReferenceRule:
    """One row of the table.

    Attributes:
        name: as TS 29.328 spells it.
        elements: where the data is in Sh-Data: element names (Extension levels left out).
        operations: what an AS may do.
        identities: kinds of identity that it may be asked by.
        needed: names of the `ShKeys` that have to be given.
        optional: names of those that may be.
    """

    reference: DataReference
    name: str
    elements: tuple[str, ...]
    operations: frozenset[Operation]
    identities: Identity
    needed: tuple[str, ...]
    optional: tuple[str, ...]


# reference, name | operations (p u s) | identities (i m e) | needed keys | optional keys | elements
_ROWS = """
0  RepositoryData | pus | i | service_indications | | RepositoryData
10 IMSPublicIdentity | ps | ime | | identity_sets
   | PublicIdentifiers RegisteredIdentities ImplicitIdentities AllIdentities AliasIdentities DeletedIdentities
11 IMSUserState | ps | i | | | IMSUserState
12 S-CSCFName | ps | i | | | SCSCFName
13 InitialFilterCriteria | ps | i | server_name | | IFCs
14 LocationInformation | p | ime | requested_domain current_location
   | private_identity requested_nodes serving_node_only local_time_zone pre_paging udr_flags call_reference
   | CSLocationInformation PSLocationInformation EPSLocationInformation TWANLocationInformation
     Sh-5GSLocationInformation
15 UserState | p | ime | requested_domain | private_identity requested_nodes
   | CSUserState PSUserState EPSUserState Sh-5GSUserState
16 ChargingInformation | ps | ime | | | ChargingInformation
17 MSISDN | p | ime | | private_identity | PublicIdentifiers
18 PSIActivation | pus | i | | | PSIActivation
19 DSAI | pus | i | dsai_tags server_name | | DSAI
21 ServiceLevelTraceInfo | ps | ime | | | ServiceLevelTraceInfo
22 IPAddressSecureBindingInformation | ps | i | | | IPv4Address IPv6Prefix IPv6InterfaceIdentifier
23 ServicePriorityLevel | ps | i | | | ServicePriorityLevel
24 SMSRegistrationInfo | pu | ime | | private_identity | SMSRegistrationInfo
25 UEReachabilityForIP | s | ime | | private_identity | UEReachabilityForIP
26 TADSinformation | p | im | | private_identity | TADSinformation
27 STN-SR | pu | im | | private_identity | STN-SR
28 UE-SRVCC-Capability | ps | im | | private_identity | UE-SRVCC-Capability
29 ExtendedPriority | ps | i | | | ExtendedPriority
30 CSRN | p | im | | private_identity call_reference pre_paging | CSRN
31 ReferenceLocationInformation | p | i | | private_identity | ReferenceLocationInformation
32 IMSI | p | ime | | private_identity | IMSI
33 IMSPrivateUserIdentity | ps | i | | | IMSPrivateUserIdentity
34 IMEISV | p | ime | | private_identity | IMEISV
35 UE-5G-SRVCC-Capability | ps | im | | private_identity | UE-5G-SRVCC-Capability
"""

_OPERATIONS = {
    "p": (Operation.PULL,),
    "u": (Operation.UPDATE,),
    "s": (Operation.SUBSCRIBE, Operation.UNSUBSCRIBE),
}
_IDENTITIES = {"i": Identity.PUBLIC, "m": Identity.MSISDN, "e": Identity.EXTERNAL}
# may go with every reference
_COMMON_KEYS = frozenset({"wildcard", "session_priority"})
# what a PUR does not carry: the document itself has it
_PULL_KEYS = frozenset({"service_indications", "server_name", "dsai_tags"})


def _read_rows() -> dict[DataReference, ReferenceRule]:
    rules: dict[DataReference, ReferenceRule] = {}
    for row in _joined_lines(_ROWS):
        head, operations, identities, needed, optional, elements = (part.strip() for part in row.split("|"))
        number, name = head.split()
        kinds = Identity(0)
        for letter in identities:
            kinds |= _IDENTITIES[letter]
        rules[DataReference(int(number))] = ReferenceRule(
            DataReference(int(number)),
            name,
            tuple(elements.split()),
            frozenset(operation for letter in operations for operation in _OPERATIONS[letter]),
            kinds,
            tuple(needed.split()),
            tuple(optional.split()),
        )
    return rules


def _joined_lines(text: str) -> list[str]:
    """Rows; a line that is indented goes on with the one before."""
    rows: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            rows[-1] += " " + line.strip()
        else:
            rows.append(line)
    return rows


REFERENCE_RULES: Mapping[DataReference, ReferenceRule] = MappingProxyType(_read_rows())


def rule_of(reference: int) -> ReferenceRule:
    """The row of a reference.

    Raises:
        LocalDiameterError: TS 29.328 knows none such.
    """
    try:
        return REFERENCE_RULES[DataReference(reference)]
    except ValueError:
        raise LocalDiameterError(f"no Data-Reference {reference}") from None


def check_request(
    operation: Operation, identity: UserIdentity, references: Iterable[int], keys: ShKeys = NO_KEYS
) -> tuple[ReferenceRule, ...]:
    """The rows of a request that is in order.

    Raises:
        LocalDiameterError: an operation that the data does not permit, a kind of identity that it cannot be asked
            by, a key that is missing, or one that belongs to none of the references.
    """
    return _check(operation, _kind_of(identity), tuple(references), keys)


@lru_cache(maxsize=256)  # a server asks for the same few things again and again
def _check(
    operation: Operation, kind: Identity, references: tuple[int, ...], keys: ShKeys
) -> tuple[ReferenceRule, ...]:
    rules = tuple(rule_of(reference) for reference in references)
    if not rules:
        raise LocalDiameterError("no Data-Reference")
    if len(set(rules)) != len(rules):
        raise LocalDiameterError("a Data-Reference given twice")
    known = set(_COMMON_KEYS)
    for rule in rules:
        if operation not in rule.operations:
            raise LocalDiameterError(f"{operation.value}: not permitted for {rule.name}")
        if not kind & rule.identities:
            raise LocalDiameterError(f"{rule.name} cannot be asked for by {(kind.name or '').lower()} identity")
        for name in rule.needed:
            is_in_document = operation is Operation.UPDATE and name in _PULL_KEYS
            if not is_in_document and getattr(keys, name) in (None, (), ""):
                raise LocalDiameterError(f"{rule.name} wants {name}")
        known.update(rule.needed, rule.optional)
    for name, default in _DEFAULTS.items():
        if name not in known and getattr(keys, name) != default:
            raise LocalDiameterError(f"{name} belongs to none of {', '.join(rule.name for rule in rules)}")
    if keys.requested_nodes is not None and keys.requested_domain != RequestedDomain.PS:
        raise LocalDiameterError("requested_nodes wants the PS domain")
    return rules


_DEFAULTS = {attribute.name: getattr(NO_KEYS, attribute.name) for attribute in fields(ShKeys)}


def _kind_of(identity: UserIdentity) -> Identity:
    if identity.public_identity and not identity.msisdn and not identity.external_identifier:
        return Identity.PUBLIC
    given = (
        (Identity.PUBLIC, identity.public_identity),
        (Identity.MSISDN, identity.msisdn),
        (Identity.EXTERNAL, identity.external_identifier),
    )
    kinds = [kind for kind, value in given if value]
    if len(kinds) != 1:
        raise LocalDiameterError("User-Identity wants exactly one identity")
    return kinds[0]
