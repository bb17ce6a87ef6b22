"""What a Sh-Data document says (TS 29.328 Annex C and D), as plain values. Reading and writing are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from attrs import evolve, fields, frozen

from diameter.dictionary.sh import DataReference

__all__ = [
    "FIELDS_OF",
    "NO_DATA",
    "Location",
    "ReferenceLocation",
    "RepositoryData",
    "ShData",
    "SmsRegistration",
    "TadsInformation",
    "join_sh_data",
]


@frozen
class RepositoryData:
    """One repository item.

    Attributes:
        service_indication: its key, as in the Service-Indication AVP.
        sequence_number: 0..65535.
        service_data: the element inside ServiceData as XML; None: the item is (to be) deleted, or never existed.
    """

    service_indication: bytes
    sequence_number: int
    service_data: bytes | None


@frozen
class Location:
    """Where the user is, in one domain. Its many fields are the business of who asked for them.

    Attributes:
        element: CSLocationInformation, PSLocationInformation, EPSLocationInformation, TWANLocationInformation or
            Sh-5GSLocationInformation.
        xml: the element.
        values: (name, text) of its leaves, at any depth; cell and area identities are Base64.
    """

    element: str
    xml: bytes
    values: tuple[tuple[str, str], ...] = ()

    def value(self, name: str) -> str | None:
        """Text of the first leaf of that name (`VisitedPLMNID`, `AgeOfLocationInformation`: minutes)."""
        return next((text for each, text in self.values if each == name), None)


@frozen
class TadsInformation:
    """TADSinformation: does the user take IMS voice over packet access now?

    Attributes:
        voice_over_ps: IMSVoiceOverPSSessionSupport: 0 not supported, 1 supported, 2 unknown.
        rat_type: of the latest contact, values of RAT-Type (TS 29.212).
        last_activity: of the user's equipment, xs:dateTime.
        access_type: 0 3GPP, 1 non-3GPP.
    """

    voice_over_ps: int
    rat_type: int | None = None
    last_activity: str | None = None
    access_type: int | None = None


@frozen
class SmsRegistration:
    """SMSRegistrationInfo: address of the IP-SM-GW, and of the service centre where given (digits)."""

    ip_sm_gw_number: str
    sc_address: str | None = None


@frozen
class ReferenceLocation:
    """ReferenceLocationInformation of a fixed line."""

    access_type: str | None = None
    access_info: str | None = None
    access_value: str | None = None


@frozen(kw_only=True)
class ShData:
    """A document. None or (): not in it; '': an empty element, so the HSS says that there is none.

    Attributes:
        public_identities: IMPUs of PublicIdentifiers.
        registered_identities, implicit_identities, all_identities, alias_identities: by Identity-Set (Notif-Eff).
        deleted_identities: IMPUs that are gone.
        msisdns: digits, of PublicIdentifiers and of the identity sets.
        extended_msisdns: (digits, type) pairs, type 0 basic, 1 additional.
        identity_type: 0 public user identity, 1 distinct PSI, 2 wildcarded PSI, 3 wildcarded IMPU.
        enhanced_identities: (IMPU, identity type) pairs.
        wildcarded_psi, wildcarded_impu: what the identity falls under.
        repository: items.
        scscf_name: S-CSCF URI; '' where nobody is assigned.
        ifcs: the whole `IFCs` element as XML.
        user_state: IMSUserState 0..3.
        charging: charging function names by element name, Diameter URIs.
        psi_activation: 1 active.
        dsai: (tag, value) pairs, value 0 = active.
        trace_info: ServiceLevelTraceInfo as text.
        ipv4_address, ipv6_prefix, ipv6_interface_id: address bound to the user.
        service_priority: 0 highest .. 4.
        ue_reachability: names of the nodes that reach the user again: UEIPReachabilityMME, …SGSN, …AMF3GPP,
            …AMFnon3GPP.
        sms_registration: where the user's SMS go.
        stn_sr, csrn: routing numbers, digits.
        ue_srvcc, ue_5g_srvcc: 1 capable.
        extended_priorities: (namespace, level) pairs.
        reference_locations: of a fixed line.
        mtrr: MTRRIndication.
        cs_user_state, ps_user_state, eps_user_state, fivegs_user_state: numbers of Annex D.
        locations: by domain.
        tads: terminating access domain selection.
        imsi, imeisv: digits.
        private_identities: IMPIs.
    """

    public_identities: tuple[str, ...] = ()
    registered_identities: tuple[str, ...] = ()
    implicit_identities: tuple[str, ...] = ()
    all_identities: tuple[str, ...] = ()
    alias_identities: tuple[str, ...] = ()
    deleted_identities: tuple[str, ...] = ()
    msisdns: tuple[str, ...] = ()
    extended_msisdns: tuple[tuple[str, int], ...] = ()
    identity_type: int | None = None
    enhanced_identities: tuple[tuple[str, int], ...] = ()
    wildcarded_psi: str | None = None
    wildcarded_impu: str | None = None
    repository: tuple[RepositoryData, ...] = ()
    scscf_name: str | None = None
    ifcs: bytes | None = None
    user_state: int | None = None
    charging: tuple[tuple[str, str], ...] = ()
    psi_activation: int | None = None
    dsai: tuple[tuple[str, int], ...] = ()
    trace_info: str | None = None
    ipv4_address: str | None = None
    ipv6_prefix: str | None = None
    ipv6_interface_id: str | None = None
    service_priority: int | None = None
    ue_reachability: tuple[str, ...] = ()
    sms_registration: SmsRegistration | None = None
    stn_sr: str | None = None
    ue_srvcc: int | None = None
    extended_priorities: tuple[tuple[str, str], ...] = ()
    csrn: str | None = None
    reference_locations: tuple[ReferenceLocation, ...] = ()
    mtrr: bool | None = None
    ue_5g_srvcc: int | None = None
    cs_user_state: int | None = None
    ps_user_state: int | None = None
    eps_user_state: int | None = None
    fivegs_user_state: int | None = None
    locations: tuple[Location, ...] = ()
    tads: TadsInformation | None = None
    imsi: str | None = None
    imeisv: str | None = None
    private_identities: tuple[str, ...] = ()

    @property
    def identities(self) -> tuple[str, ...]:
        """Every IMPU that the document gives to the user, whatever the set."""
        sets = (self.registered_identities, self.implicit_identities, self.all_identities, self.alias_identities)
        if not any(sets):
            return self.public_identities
        return tuple(dict.fromkeys(impu for each in (self.public_identities, *sets) for impu in each))

    def find_repository(self, service_indication: bytes) -> RepositoryData | None:
        """The item of that Service-Indication; HSSes may send more than was asked for."""
        return next((item for item in self.repository if item.service_indication == service_indication), None)

    def find_location(self, element: str) -> Location | None:
        """The location of that element name."""
        return next((location for location in self.locations if location.element == element), None)

    def has(self, reference: DataReference) -> bool:
        """True when the document says anything about a Data-Reference."""
        return any(getattr(self, name) != _DEFAULTS[name] for name in FIELDS_OF[reference])

    def select(
        self,
        references: Iterable[DataReference],
        *,
        service_indications: Iterable[bytes] = (),
        dsai_tags: Iterable[bytes] = (),
    ) -> ShData:
        """What was asked for and nothing else: some HSSes send all that they have, whatever the question.

        Args:
            service_indications: of the items to keep; none: all.
            dsai_tags: of the DSAI to keep; none: all.
        """
        kept: dict[str, Any] = {name: getattr(self, name) for name in _fields_of(tuple(references))}
        wanted_items = frozenset(service_indications)
        if wanted_items and len(self.repository) > 0 and "repository" in kept:
            kept["repository"] = tuple(item for item in self.repository if item.service_indication in wanted_items)
        wanted_tags = frozenset(dsai_tags)
        if wanted_tags and "dsai" in kept:
            kept["dsai"] = tuple(pair for pair in self.dsai if pair[0].encode() in wanted_tags)
        return ShData(**kept)


NO_DATA = ShData()
"""A document that says nothing."""

_IDENTITY_FIELDS = (
    "public_identities",
    "registered_identities",
    "implicit_identities",
    "all_identities",
    "alias_identities",
    "deleted_identities",
    "msisdns",
    "extended_msisdns",
    "identity_type",
    "enhanced_identities",
    "wildcarded_psi",
    "wildcarded_impu",
)
FIELDS_OF: Mapping[DataReference, tuple[str, ...]] = MappingProxyType(
    {
        DataReference.REPOSITORY_DATA: ("repository",),
        DataReference.IMS_PUBLIC_IDENTITY: _IDENTITY_FIELDS,
        DataReference.IMS_USER_STATE: ("user_state",),
        DataReference.S_CSCF_NAME: ("scscf_name",),
        DataReference.INITIAL_FILTER_CRITERIA: ("ifcs",),
        DataReference.LOCATION_INFORMATION: ("locations",),
        DataReference.USER_STATE: ("cs_user_state", "ps_user_state", "eps_user_state", "fivegs_user_state"),
        DataReference.CHARGING_INFORMATION: ("charging",),
        DataReference.MSISDN: ("msisdns", "extended_msisdns"),
        DataReference.PSI_ACTIVATION: ("psi_activation",),
        DataReference.DSAI: ("dsai",),
        DataReference.SERVICE_LEVEL_TRACE_INFO: ("trace_info",),
        DataReference.IP_ADDRESS_SECURE_BINDING_INFORMATION: ("ipv4_address", "ipv6_prefix", "ipv6_interface_id"),
        DataReference.SERVICE_PRIORITY_LEVEL: ("service_priority",),
        DataReference.SMS_REGISTRATION_INFO: ("sms_registration",),
        DataReference.UE_REACHABILITY_FOR_IP: ("ue_reachability",),
        DataReference.TADS_INFORMATION: ("tads",),
        DataReference.STN_SR: ("stn_sr",),
        DataReference.UE_SRVCC_CAPABILITY: ("ue_srvcc",),
        DataReference.EXTENDED_PRIORITY: ("extended_priorities",),
        DataReference.CSRN: ("csrn", "mtrr"),
        DataReference.REFERENCE_LOCATION_INFORMATION: ("reference_locations",),
        DataReference.IMSI: ("imsi",),
        DataReference.IMS_PRIVATE_USER_IDENTITY: ("private_identities",),
        DataReference.IMEISV: ("imeisv",),
        DataReference.UE_5G_SRVCC_CAPABILITY: ("ue_5g_srvcc",),
    }
)
"""Where the data of each reference is."""


@lru_cache(256)
def _fields_of(references: tuple[DataReference, ...]) -> tuple[str, ...]:
    return tuple({name: None for reference in references for name in FIELDS_OF[reference]})


_DEFAULTS: dict[str, Any] = {attribute.name: attribute.default for attribute in fields(ShData)}


def join_sh_data(first: ShData, second: ShData) -> ShData:
    """Two documents about one user; what the second one has counts."""
    newer = {name: value for name, default in _DEFAULTS.items() if (value := getattr(second, name)) != default}
    return evolve(first, **newer)
