"""Sh side of the lab's HSS (TS 29.328 §6.1, checks in the order of §6.1.1–6.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from conformance.lab.subscribers import Subscriber
from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, SH, DataReference, ShResultCode, SubsReqType
from diameter.errors import RemoteDiameterError
from diameter.message import Message, Result
from diameter.sh.cache import next_sequence_number
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from diameter.sh.userdata import RepositoryData, ShData, parse_sh_data_untrusted, write_sh_data

__all__ = ["Notification", "ShService", "Subscription"]

_SERVED = frozenset(
    {
        DataReference.REPOSITORY_DATA,
        DataReference.IMS_PUBLIC_IDENTITY,
        DataReference.IMS_USER_STATE,
        DataReference.S_CSCF_NAME,
        DataReference.INITIAL_FILTER_CRITERIA,
        DataReference.MSISDN,
        DataReference.PSI_ACTIVATION,
        DataReference.DSAI,
    }
)
_SUBSCRIBABLE = _SERVED - {DataReference.MSISDN, DataReference.PSI_ACTIVATION, DataReference.DSAI}


@frozen
class Subscription:
    """Who wants to hear of what: the key of one item, and the identity that was used."""

    origin_host: str
    origin_realm: str
    impu: str
    data_reference: int
    service_indication: bytes = b""
    server_name: str = ""


@frozen
class Notification:
    """One PNR to be sent."""

    subscription: Subscription
    user_data: bytes


class ShService:
    """Answers UDR, PUR and SNR.

    Args:
        find: subscriber of a public identity.
        notify: takes notifications to be sent.

    Attributes:
        subscriptions: those that hold.
        single_reference: True plays an HSS that takes one Data-Reference per request only.
        denied: Data-References that application servers may not use.
        max_repository_bytes: larger service data is refused (TOO_MUCH_DATA).
        checks_sequence: False plays an HSS that stores whatever the sequence number is.
        expiry_time: Unix seconds given in SNA; None: without limit.
    """

    def __init__(
        self, find: Callable[[str], Subscriber | None], notify: Callable[[Iterable[Notification]], None]
    ) -> None:
        self._find = find
        self._notify = notify
        self.subscriptions: set[Subscription] = set()
        self.single_reference = False
        self.denied: set[int] = set()
        self.max_repository_bytes = 32 * 1024
        self.checks_sequence = True
        self.expiry_time: int | None = None

    def answer(self, request: Message, identity: dict[str, Any]) -> Message:
        """The answer to a request of the Sh application.

        Args:
            identity: origin_host and origin_realm of the HSS.

        Raises:
            RemoteDiameterError: unknown command, or the request breaks the notation.
        """
        match request.code:
            case UserDataRequest.COMMAND.code:
                return self._pull(request, identity)
            case ProfileUpdateRequest.COMMAND.code:
                return self._update(request, identity)
            case SubscribeNotificationsRequest.COMMAND.code:
                return self._subscribe(request, identity)
        raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)

    def changed(self, subscriber: Subscriber, reference: int, *, si: bytes = b"", by: str = "") -> None:
        """Tells the subscribers of an item that it has changed, except the one who did it."""
        found = [
            subscription
            for subscription in self.subscriptions
            if subscription.data_reference == reference
            and subscription.service_indication == si
            and subscription.origin_host != by
            and self._find(subscription.impu) is subscriber
        ]
        if reference == DataReference.REPOSITORY_DATA and si not in subscriber.repository:
            # a deleted item takes its subscriptions with it
            self.subscriptions -= {s for s in self.subscriptions if s.service_indication == si and s in found}
        notifications = []
        for subscription in found:
            sis = (si,) if si else ()
            data = self._collect(subscriber, (reference,), sis, subscription.server_name, has_notif_eff=True)
            notifications.append(Notification(subscription, write_sh_data(data)))
        self._notify(notifications)

    def _pull(self, request: Message, identity: dict[str, Any]) -> Message:
        udr = UserDataRequest.read_untrusted(request)
        has_notif_eff = self._takes_several(udr.supported_features)
        answer: dict[str, Any] = dict(identity)
        if has_notif_eff:
            answer["supported_features"] = (SupportedFeatures(FEATURE_NOTIF_EFF),)
        result = self._check(udr.data_references, udr.user_identity, _SERVED, has_notif_eff=has_notif_eff)
        subscriber = self._user(udr.user_identity)
        if result is not None or subscriber is None:
            return UserDataAnswer(**answer, result=result or _experimental(ShResultCode.USER_UNKNOWN)).to_answer(
                request
            )
        if DataReference.INITIAL_FILTER_CRITERIA in udr.data_references and udr.server_name is None:
            raise _missing("Server-Name", request)
        if DataReference.REPOSITORY_DATA in udr.data_references and not udr.service_indications:
            raise _missing("Service-Indication", request)
        data = self._collect(
            subscriber,
            udr.data_references,
            udr.service_indications,
            udr.server_name or "",
            has_notif_eff=has_notif_eff,
        )
        user_data = write_sh_data(data) if data != ShData() else None
        return UserDataAnswer(**answer, user_data=user_data).to_answer(request)

    def _update(self, request: Message, identity: dict[str, Any]) -> Message:
        pur = ProfileUpdateRequest.read_untrusted(request)
        result = self._store(pur)
        failed = None if result.is_success else DataReference.REPOSITORY_DATA
        return ProfileUpdateAnswer(**identity, result=result, data_reference=failed).to_answer(request)

    def _store(self, pur: ProfileUpdateRequest) -> Result:
        if pur.data_references != (DataReference.REPOSITORY_DATA,):
            return _experimental(ShResultCode.OPERATION_NOT_ALLOWED)
        if DataReference.REPOSITORY_DATA in self.denied:
            return _experimental(ShResultCode.USER_DATA_CANNOT_BE_MODIFIED)
        subscriber = self._user(pur.user_identity)
        if subscriber is None:
            return _experimental(ShResultCode.USER_UNKNOWN)
        if pur.user_name is not None and pur.user_name != subscriber.impi:
            return _experimental(ShResultCode.IDENTITIES_DONT_MATCH)
        try:
            data = parse_sh_data_untrusted(pur.user_data)
        except RemoteDiameterError:
            return _experimental(ShResultCode.USER_DATA_NOT_RECOGNIZED)
        if len(data.repository) != 1:
            return _experimental(ShResultCode.USER_DATA_NOT_RECOGNIZED)
        item = data.repository[0]
        si, service_data = item.service_indication, item.service_data
        is_there = si in subscriber.repository
        expected = next_sequence_number(subscriber.sequences[si] if is_there else None)
        if self.checks_sequence and item.sequence_number != expected:
            return _experimental(ShResultCode.TRANSPARENT_DATA_OUT_OF_SYNC)
        if not is_there and service_data is None:
            return _experimental(ShResultCode.OPERATION_NOT_ALLOWED)
        if service_data is not None and len(service_data) > self.max_repository_bytes:
            return _experimental(ShResultCode.TOO_MUCH_DATA)
        if service_data is None:
            del subscriber.repository[si], subscriber.sequences[si]
        else:
            subscriber.repository[si], subscriber.sequences[si] = service_data, item.sequence_number
        self.changed(subscriber, DataReference.REPOSITORY_DATA, si=si, by=pur.origin_host)
        return Result(ResultCode.SUCCESS)

    def _subscribe(self, request: Message, identity: dict[str, Any]) -> Message:
        snr = SubscribeNotificationsRequest.read_untrusted(request)
        has_notif_eff = self._takes_several(snr.supported_features)
        result = self._check(
            snr.data_references, snr.user_identity, _SUBSCRIBABLE, has_notif_eff=has_notif_eff, is_pull=False
        )
        subscriber = self._user(snr.user_identity)
        impu = snr.user_identity.public_identity
        if result is not None or subscriber is None or impu is None:
            return SubscribeNotificationsAnswer(
                **identity, result=result or _experimental(ShResultCode.OPERATION_NOT_ALLOWED)
            ).to_answer(request)
        wanted = {
            Subscription(snr.origin_host, snr.origin_realm, impu, reference, si, server_name)
            for reference in snr.data_references
            for si in (snr.service_indications if reference == DataReference.REPOSITORY_DATA else (b"",))
            for server_name in (
                (snr.server_name or "",) if reference == DataReference.INITIAL_FILTER_CRITERIA else ("",)
            )
        }
        if snr.subs_req_type == SubsReqType.UNSUBSCRIBE:
            self.subscriptions -= wanted
            return SubscribeNotificationsAnswer(**identity).to_answer(request)
        if any(s.service_indication and s.service_indication not in subscriber.repository for s in wanted):
            return SubscribeNotificationsAnswer(
                **identity, result=_experimental(ShResultCode.SUBS_DATA_ABSENT)
            ).to_answer(request)
        self.subscriptions |= wanted
        user_data: bytes | None = None
        if snr.send_data_indication == 1:
            data = self._collect(
                subscriber,
                snr.data_references,
                snr.service_indications,
                snr.server_name or "",
                has_notif_eff=has_notif_eff,
            )
            user_data = write_sh_data(data)
        return SubscribeNotificationsAnswer(**identity, user_data=user_data, expiry_time=self.expiry_time).to_answer(
            request
        )

    def _check(
        self,
        references: tuple[int, ...],
        user: UserIdentity,
        allowed: Iterable[int],
        *,
        has_notif_eff: bool,
        is_pull: bool = True,
    ) -> Result | None:
        if len(references) > 1 and not has_notif_eff:
            return Result(ResultCode.AVP_OCCURS_TOO_MANY_TIMES)
        if self.denied.intersection(references):
            return _experimental(
                ShResultCode.USER_DATA_CANNOT_BE_READ if is_pull else ShResultCode.USER_DATA_CANNOT_BE_NOTIFIED
            )
        if self._user(user) is None:
            return _experimental(ShResultCode.USER_UNKNOWN)
        if not set(references) <= set(allowed):
            return _experimental(ShResultCode.OPERATION_NOT_ALLOWED)
        return None

    def _takes_several(self, offered: tuple[SupportedFeatures, ...]) -> bool:
        bits = next((group.feature_list for group in offered if group.feature_list_id == 1), 0)
        return bool(bits & FEATURE_NOTIF_EFF) and not self.single_reference

    def _user(self, user: UserIdentity) -> Subscriber | None:
        if user.public_identity is not None:
            return self._find(user.public_identity)
        return self._find(f"tel:+{user.msisdn}") if user.msisdn is not None else None

    def _collect(
        self,
        subscriber: Subscriber,
        references: Iterable[int],
        service_indications: Iterable[bytes],
        server_name: str,
        *,
        has_notif_eff: bool,
    ) -> ShData:
        """What the references ask for. With Notif-Eff an item that is not there is an empty element."""
        asked = set(references)
        items = []
        for si in service_indications if DataReference.REPOSITORY_DATA in asked else ():
            service_data = subscriber.repository.get(si)
            if service_data is not None or has_notif_eff:
                items.append(RepositoryData(si, subscriber.sequences.get(si, 0), service_data))
        wants_identities = DataReference.IMS_PUBLIC_IDENTITY in asked
        return ShData(
            public_identities=subscriber.impus if wants_identities and not has_notif_eff else (),
            alias_identities=subscriber.impus if wants_identities and has_notif_eff else (),
            msisdns=subscriber.msisdns if DataReference.MSISDN in asked else (),
            repository=tuple(items),
            scscf_name=subscriber.scscf_name if DataReference.S_CSCF_NAME in asked else None,
            ifcs=(subscriber.ifcs_for(server_name) if DataReference.INITIAL_FILTER_CRITERIA in asked else None),
            user_state=subscriber.state if DataReference.IMS_USER_STATE in asked else None,
            psi_activation=subscriber.psi_activation if DataReference.PSI_ACTIVATION in asked else None,
            dsai=tuple(subscriber.dsai.items()) if DataReference.DSAI in asked else (),
        )


def _experimental(code: ShResultCode) -> Result:
    return Result(code, VENDOR_3GPP)


def _missing(name: str, request: Message) -> RemoteDiameterError:
    definition = SH[name]
    return RemoteDiameterError(
        "AVP missing",
        ResultCode.MISSING_AVP,
        failed_avp=definition.avp("" if name == "Server-Name" else b""),
        request=request,
    )
