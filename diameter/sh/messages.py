"""Typed UDR … PNA (TS 29.329 §6.1). Each class names its AVPs once; writing and reading follow from that.

`to_message()` gives a `Message` without identifiers; `read_untrusted(message)` gives the typed form back. Requests
are held against the command notation when read (5001, 5005, 5009); answers are read for what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from operator import attrgetter
from typing import Any, ClassVar, Protocol, Self

import attrs
from attrs import frozen

from diameter.avp import Avp, AvpKey, Avps
from diameter.base_commands import SH_APPLICATION
from diameter.dictionary import base
from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.loader import AvpDefinition, CommandDefinition
from diameter.dictionary.sh import SH
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.message import Message, Result
from diameter.types import digits_from_tbcd_untrusted, tbcd_from_digits

__all__ = [
    "CallReferenceInfo",
    "ProfileUpdateAnswer",
    "ProfileUpdateRequest",
    "PushNotificationAnswer",
    "PushNotificationRequest",
    "RepositoryDataId",
    "SubscribeNotificationsAnswer",
    "SubscribeNotificationsRequest",
    "SupportedFeatures",
    "UserDataAnswer",
    "UserDataRequest",
    "UserIdentity",
    "required_features_untrusted",
]

NO_STATE_MAINTAINED = 1

# AVPs that have a value of their own in each message; the others have few in one process, see `_Slots`
_VARIED = frozenset(
    {
        "Session-Id",
        "Wildcarded-Public-Identity",
        "Wildcarded-IMPU",
        "User-Name",
        "User-Data",
        "Expiry-Time",
    }
)
_MAX_KNOWN = 256
_MAX_KNOWN_BYTES = 256

_SESSION_ID = base.SESSION_ID
_PUBLIC_IDENTITY = SH["Public-Identity"]
_MSISDN = SH["MSISDN"]
_EXTERNAL_IDENTIFIER = SH["External-Identifier"]
_SUPPORTED_FEATURES = SH["Supported-Features"]
_FEATURE_LIST_ID = SH["Feature-List-ID"]
_FEATURE_LIST = SH["Feature-List"]
_SERVICE_INDICATION = SH["Service-Indication"]
_SEQUENCE_NUMBER = SH["Sequence-Number"]
_CALL_REFERENCE_NUMBER = SH["Call-Reference-Number"]
_AS_NUMBER = SH["AS-Number"]


class GroupModel(Protocol):
    """A grouped AVP with a class of its own."""

    def members(self) -> list[Avp | None]: ...

    @classmethod
    def read_untrusted(cls, avps: Avps) -> Self: ...


@frozen
class UserIdentity:
    """User-Identity: exactly one of the three is set.

    Attributes:
        public_identity: sip: or tel: URI as provisioned.
        msisdn: digits without `+`.
        external_identifier: user@domain.
    """

    public_identity: str | None = None
    msisdn: str | None = None
    external_identifier: str | None = None

    def members(self) -> list[Avp | None]:
        given = (self.public_identity, self.msisdn, self.external_identifier)
        if given.count(None) != 2:
            raise LocalDiameterError("User-Identity wants exactly one identity")
        return [
            _PUBLIC_IDENTITY.optional(self.public_identity),
            _MSISDN.avp(tbcd_from_digits(self.msisdn)) if self.msisdn is not None else None,
            _EXTERNAL_IDENTIFIER.optional(self.external_identifier),
        ]

    @classmethod
    def read_untrusted(cls, avps: Avps) -> Self:
        tbcd = _MSISDN.octets(avps)
        identity = cls(
            _PUBLIC_IDENTITY.text(avps),
            digits_from_tbcd_untrusted(tbcd) if tbcd is not None else None,
            _EXTERNAL_IDENTIFIER.text(avps),
        )
        if identity == cls():
            raise RemoteDiameterError("User-Identity without identity", ResultCode.MISSING_AVP)
        return identity


@frozen
class SupportedFeatures:
    """Supported-Features of vendor 3GPP.

    Attributes:
        feature_list: bits; Sh list 1: 0 Notif-Eff, 1 Update-Eff.
        feature_list_id: 1 for Sh.
        is_required: sets M when written: a condition (an HSS without it answers 5011), no mere offer. For requests
            only; what was read has it False, see `required_features_untrusted`.
    """

    feature_list: int
    feature_list_id: int = 1
    is_required: bool = attrs.field(default=False, eq=False)

    def members(self) -> list[Avp | None]:
        return [*_feature_members(self.feature_list_id, self.feature_list)]

    @classmethod
    def read_untrusted(cls, avps: Avps) -> Self:
        return cls(_FEATURE_LIST.number(avps) or 0, _FEATURE_LIST_ID.number(avps) or 0)


@lru_cache(_MAX_KNOWN)
def _feature_members(feature_list_id: int, feature_list: int) -> tuple[Avp, ...]:
    return (
        base.VENDOR_ID.avp(VENDOR_3GPP),
        _FEATURE_LIST_ID.avp(feature_list_id),
        _FEATURE_LIST.avp(feature_list),
    )


@frozen
class CallReferenceInfo:
    """Call-Reference-Info: the call that a location or CSRN is asked for."""

    call_reference_number: bytes
    as_number: bytes

    def members(self) -> list[Avp | None]:
        return [_CALL_REFERENCE_NUMBER.avp(self.call_reference_number), _AS_NUMBER.avp(self.as_number)]

    @classmethod
    def read_untrusted(cls, avps: Avps) -> Self:
        return cls(_CALL_REFERENCE_NUMBER.octets(avps) or b"", _AS_NUMBER.octets(avps) or b"")


@frozen
class RepositoryDataId:
    """Repository-Data-ID: which repository item, and its sequence number."""

    service_indication: bytes
    sequence_number: int

    def members(self) -> list[Avp | None]:
        return [_SERVICE_INDICATION.avp(self.service_indication), _SEQUENCE_NUMBER.avp(self.sequence_number)]

    @classmethod
    def read_untrusted(cls, avps: Avps) -> Self:
        return cls(_SERVICE_INDICATION.octets(avps) or b"", _SEQUENCE_NUMBER.number(avps) or 0)


def _wire(name: str, *, model: type[GroupModel] | None = None, is_many: bool = False) -> dict[str, Any]:
    """Metadata that ties a field to its AVP."""
    return {"avp": SH[name], "model": model, "many": is_many}


def _one(name: str, *, default: Any = None) -> Any:
    return attrs.field(default=default, metadata=_wire(name))


def _many(name: str, *, model: type[GroupModel] | None = None) -> Any:
    return attrs.field(default=(), converter=tuple, metadata=_wire(name, model=model, is_many=True))


@frozen(eq=False)
class _Slot:
    """One field of a message class. `read_before`: data of a steady one → its value."""

    name: str
    definition: AvpDefinition
    model: type[GroupModel] | None
    is_many: bool
    read_before: dict[bytes, Any] = attrs.field(init=False, factory=dict)

    @property
    def is_steady(self) -> bool:
        return self.model is None and self.definition.name not in _VARIED

    def build(self, value: Any) -> tuple[Avp, ...]:
        """The AVPs of a value; none for None."""
        if value is None:
            return ()
        if self.is_many:
            return tuple(map(self._build_one, value))
        return (self._build_one(value),)

    def _build_one(self, value: Any) -> Avp:
        if self.model is None:
            return self.definition.avp(value)
        if self.model is SupportedFeatures:
            return _features_avp(value.feature_list_id, value.feature_list, value.is_required)
        return self.definition.avp(value.members())

    def read(self, avp: Avp) -> Any:
        value = self.definition.value(avp)
        if self.model is not None:
            return self.model.read_untrusted(value)
        if self.is_steady and len(avp.data) <= _MAX_KNOWN_BYTES:
            if len(self.read_before) >= _MAX_KNOWN:
                self.read_before.clear()
            self.read_before[avp.data] = value
        return value


@frozen(eq=False)
class _Slots:
    """The AVP fields of a class.

    Those that are steady, most of them, make few combinations of values in one process: the AVPs of each are written
    once and kept. A full table just starts again.

    Attributes:
        steady: in the order of writing, without Session-Id.
        varied: the others.
        places: how many of the steady ones come before each of the others.
        known: values of the steady ones → their AVPs, cut where one of the others belongs.
        by_key: all.
    """

    steady: tuple[_Slot, ...]
    varied: tuple[_Slot, ...]
    places: tuple[int, ...]
    steady_of: Callable[[_ShMessage], tuple[Any, ...]]
    varied_of: Callable[[_ShMessage], tuple[Any, ...]]
    known: dict[tuple[Any, ...], tuple[tuple[Avp, ...], ...]]
    by_key: Mapping[AvpKey, _Slot]

    def write(self, message: _ShMessage) -> list[Avp]:
        """The AVPs of a message that come after Session-Id and `_HEAD`."""
        values = self.steady_of(message)
        first, *rest = self.known.get(values) or self._learn(values)
        avps = [*first]
        for slot, value, run in zip(self.varied, self.varied_of(message), rest, strict=True):
            if value is not None:
                avps += slot.build(value)
            avps += run
        return avps

    def _learn(self, values: tuple[Any, ...]) -> tuple[tuple[Avp, ...], ...]:
        built = [tuple(avp.kept() for avp in slot.build(v)) for slot, v in zip(self.steady, values, strict=True)]
        cuts = (0, *self.places, len(built))
        runs = tuple(tuple(chain.from_iterable(built[low:high])) for low, high in pairwise(cuts))
        if len(self.known) >= _MAX_KNOWN:
            self.known.clear()
        self.known[values] = runs
        return runs


_SLOTS: dict[type[_ShMessage], _Slots] = {}


def _slots(cls: type[_ShMessage]) -> _Slots:
    """Found once."""
    found = _SLOTS.get(cls)
    if found is None:
        fields = [field for field in attrs.fields(cls) if "avp" in field.metadata]
        slots = [_Slot(f.name, f.metadata["avp"], f.metadata["model"], f.metadata["many"]) for f in fields]
        steady = tuple(slot for slot in slots[1:] if slot.is_steady)
        varied = tuple(slot for slot in slots[1:] if not slot.is_steady)
        places = tuple(sum(slot.is_steady for slot in slots[1 : slots.index(each)]) for each in varied)
        by_key = {slot.definition.key: slot for slot in slots}
        found = _SLOTS[cls] = _Slots(steady, varied, places, _values_of(steady), _values_of(varied), {}, by_key)
    return found


def _values_of(slots: Sequence[_Slot]) -> Callable[[_ShMessage], tuple[Any, ...]]:
    names = [slot.name for slot in slots]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


@lru_cache(_MAX_KNOWN)
def _features_avp(feature_list_id: int, feature_list: int, is_required: bool) -> Avp:
    return _SUPPORTED_FEATURES.avp(_feature_members(feature_list_id, feature_list), mandatory=is_required).kept()


# Session-Id leads (§8.8); what every Sh message carries follows it
_HEAD = (SH_APPLICATION.avp().kept(), base.AUTH_SESSION_STATE.avp(NO_STATE_MAINTAINED).kept())


@lru_cache(_MAX_KNOWN)
def _result_avp(code: int, vendor: int) -> Avp:
    if not vendor:
        return base.RESULT_CODE.avp(code).kept()
    members = [base.VENDOR_ID.avp(vendor), base.EXPERIMENTAL_RESULT_CODE.avp(code)]
    return base.EXPERIMENTAL_RESULT.avp(members).kept()


@frozen(kw_only=True)
class _ShMessage:
    """What all Sh messages have."""

    COMMAND: ClassVar[CommandDefinition]

    session_id: str = _one("Session-Id", default="")
    origin_host: str = _one("Origin-Host", default="")
    origin_realm: str = _one("Origin-Realm", default="")

    @classmethod
    def _read(cls, message: Message) -> dict[str, Any]:
        values: dict[str, Any] = {}
        by_key = _slots(cls).by_key
        for avp in message.avps:
            slot = by_key.get((avp.vendor, avp.code))
            if slot is None:
                continue
            name = slot.name
            if slot.is_many:
                values.setdefault(name, []).append(slot.read(avp))
            elif name not in values:
                before = slot.read_before
                value = before.get(avp.data) if before else None
                values[name] = slot.read(avp) if value is None else value
        return values


@frozen(kw_only=True)
class _ShRequest(_ShMessage):
    destination_host: str | None = _one("Destination-Host")
    destination_realm: str = _one("Destination-Realm", default="")
    supported_features: tuple[SupportedFeatures, ...] = _many("Supported-Features", model=SupportedFeatures)
    user_identity: UserIdentity = attrs.field(metadata=_wire("User-Identity", model=UserIdentity))
    wildcarded_public_identity: str | None = _one("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = _one("Wildcarded-IMPU")

    def to_message(self) -> Message:
        """The request; the node adds the identifiers. Raises LocalDiameterError for values that do not fit."""
        return self.COMMAND.message([_SESSION_ID.avp(self.session_id), *_HEAD, *_slots(type(self)).write(self)])

    @classmethod
    def read_untrusted(cls, message: Message) -> Self:
        """Reads a request.

        Raises:
            RemoteDiameterError: with the Result-Code for an error answer.
        """
        SH.check_untrusted(message, cls.COMMAND)
        return cls(**cls._read(message))


@frozen(kw_only=True)
class _ShAnswer(_ShMessage):
    """`result` is written as Result-Code or Experimental-Result, never both."""

    result: Result = attrs.field(default=Result(ResultCode.SUCCESS))
    supported_features: tuple[SupportedFeatures, ...] = _many("Supported-Features", model=SupportedFeatures)

    def to_answer(self, request: Message) -> Message:
        """The answer to that request, with its Session-Id and identifiers."""
        written = _result_avp(self.result.code, self.result.vendor)
        return request.build_answer([*_HEAD, written, *_slots(type(self)).write(self)])

    @classmethod
    def read_untrusted(cls, message: Message) -> Self:
        """Reads an answer.

        Raises:
            RemoteDiameterError: no result, or an AVP that we need has no readable value.
        """
        result = message.result()
        if result is None:
            raise RemoteDiameterError("answer without result", ResultCode.MISSING_AVP)
        return cls(result=result, **cls._read(message))

    @property
    def features(self) -> int:
        """Bits of feature list 1."""
        return next((group.feature_list for group in self.supported_features if group.feature_list_id == 1), 0)


@frozen(kw_only=True)
class UserDataRequest(_ShRequest):
    """UDR, Sh-Pull."""

    COMMAND = SH.command("UDR")

    server_name: str | None = _one("Server-Name")
    service_indications: tuple[bytes, ...] = _many("Service-Indication")
    data_references: tuple[int, ...] = _many("Data-Reference")
    identity_sets: tuple[int, ...] = _many("Identity-Set")
    requested_domain: int | None = _one("Requested-Domain")
    current_location: int | None = _one("Current-Location")
    dsai_tags: tuple[bytes, ...] = _many("DSAI-Tag")
    session_priority: int | None = _one("Session-Priority")
    user_name: str | None = _one("User-Name")
    requested_nodes: int | None = _one("Requested-Nodes")
    serving_node_indication: int | None = _one("Serving-Node-Indication")
    pre_paging_supported: int | None = _one("Pre-paging-Supported")
    local_time_zone_indication: int | None = _one("Local-Time-Zone-Indication")
    udr_flags: int | None = _one("UDR-Flags")
    call_reference_info: CallReferenceInfo | None = attrs.field(
        default=None, metadata=_wire("Call-Reference-Info", model=CallReferenceInfo)
    )


@frozen(kw_only=True)
class UserDataAnswer(_ShAnswer):
    """UDA. Data that does not exist is no error: `user_data` is None, or an element of it is missing or empty."""

    COMMAND = SH.command("UDA")

    wildcarded_public_identity: str | None = _one("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = _one("Wildcarded-IMPU")
    user_data: bytes | None = _one("User-Data")


@frozen(kw_only=True)
class ProfileUpdateRequest(_ShRequest):
    """PUR, Sh-Update."""

    COMMAND = SH.command("PUR")

    user_name: str | None = _one("User-Name")
    data_references: tuple[int, ...] = _many("Data-Reference")
    user_data: bytes = _one("User-Data", default=b"")


@frozen(kw_only=True)
class ProfileUpdateAnswer(_ShAnswer):
    """PUA; the last two name the item that failed."""

    COMMAND = SH.command("PUA")

    wildcarded_public_identity: str | None = _one("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = _one("Wildcarded-IMPU")
    repository_data_id: RepositoryDataId | None = attrs.field(
        default=None, metadata=_wire("Repository-Data-ID", model=RepositoryDataId)
    )
    data_reference: int | None = _one("Data-Reference")


@frozen(kw_only=True)
class SubscribeNotificationsRequest(_ShRequest):
    """SNR, Sh-Subs-Notif. `expiry_time` and the answer's are Unix seconds."""

    COMMAND = SH.command("SNR")

    service_indications: tuple[bytes, ...] = _many("Service-Indication")
    send_data_indication: int | None = _one("Send-Data-Indication")
    server_name: str | None = _one("Server-Name")
    subs_req_type: int = _one("Subs-Req-Type", default=0)
    data_references: tuple[int, ...] = _many("Data-Reference")
    identity_sets: tuple[int, ...] = _many("Identity-Set")
    expiry_time: int | None = _one("Expiry-Time")
    dsai_tags: tuple[bytes, ...] = _many("DSAI-Tag")
    one_time_notification: int | None = _one("One-Time-Notification")
    user_name: str | None = _one("User-Name")


@frozen(kw_only=True)
class SubscribeNotificationsAnswer(_ShAnswer):
    """SNA; `user_data` when Send-Data-Indication asked for it."""

    COMMAND = SH.command("SNA")

    wildcarded_public_identity: str | None = _one("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = _one("Wildcarded-IMPU")
    user_data: bytes | None = _one("User-Data")
    expiry_time: int | None = _one("Expiry-Time")


@frozen(kw_only=True)
class PushNotificationRequest(_ShRequest):
    """PNR, Sh-Notif: the HSS sends it to the Origin-Host that subscribed."""

    COMMAND = SH.command("PNR")

    user_name: str | None = _one("User-Name")
    user_data: bytes = _one("User-Data", default=b"")


def required_features_untrusted(message: Message) -> int:
    """Bits of feature list 1 that a request sets as a condition (M).

    Raises:
        RemoteDiameterError: such a group cannot be read.
    """
    definition = SH["Supported-Features"]
    bits = 0
    for avp in message.avps.find_all(definition.key):
        if avp.is_mandatory:
            group = SupportedFeatures.read_untrusted(definition.value(avp))
            bits |= group.feature_list if group.feature_list_id == 1 else -1
    return bits


@frozen(kw_only=True)
class PushNotificationAnswer(_ShAnswer):
    """PNA."""

    COMMAND = SH.command("PNA")
