"""One request, one answer: Sh operations typed and checked, failures as ShErrors (trio by way of the node)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trio
from attrs import frozen

from diameter.dictionary import base
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, FEATURE_UPDATE_EFF, DataReference, IdentitySet, SubsReqType
from diameter.errors import NoPeerError, RemoteDiameterError, RequestTimeoutError
from diameter.message import Message
from diameter.node import DiameterNode
from diameter.sh.config import ShConfig, ShStats
from diameter.sh.data_reference import Operation, ShKeys, check_request
from diameter.sh.errors import (
    ShAnswerError,
    ShError,
    ShNoPeerError,
    ShPermissionError,
    ShTimeoutError,
)
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
from diameter.sh.ownership import tells_of_another
from diameter.sh.results import error_of
from diameter.sh.userdata import NO_DATA, ShData, find_deviations_untrusted, parse_sh_data_untrusted

__all__ = ["PullAnswer", "ShExchange", "ShKeys", "SubscriptionAnswer"]

NO_KEYS = ShKeys()
# HSSes behind an agent whose Origin-State-Id is watched
_MAX_STATE_IDS = 64

A = TypeVar("A", UserDataAnswer, ProfileUpdateAnswer, SubscribeNotificationsAnswer)


@frozen
class PullAnswer:
    """What a UDA says.

    Attributes:
        data: filtered to what was asked for.
        has_notif_eff: the HSS knows requests for several references.
        wildcard: the wildcarded identity that it says this one falls under.
    """

    data: ShData
    has_notif_eff: bool
    wildcard: str | None = None


@frozen
class SubscriptionAnswer:
    """What an SNA says; `until` Unix seconds, None without limit."""

    data: ShData | None
    until: int | None


class ShExchange:
    """Sends requests of one client.

    Attributes:
        on_restart: called when an HSS, maybe behind an agent, shows by its Origin-State-Id that it has lost its state.
    """

    def __init__(self, node: DiameterNode, config: ShConfig, stats: ShStats) -> None:
        self._node = node
        self._config = config
        self._stats = stats
        self._state_ids: dict[str, int] = {}
        self.on_restart: Callable[[], None] | None = None

    async def pull(
        self,
        identity: UserIdentity,
        references: Sequence[DataReference],
        keys: ShKeys,
        deadline: float,
    ) -> PullAnswer:
        """UDR.

        Raises:
            LocalDiameterError: the request is none that TS 29.328 permits; nothing was sent.
            ShError: no answer, or none that helps.
        """
        check_request(Operation.PULL, identity, references, keys)
        n_items = len(references) + max(0, len(keys.service_indications) - 1) + max(0, len(keys.identity_sets) - 1)
        request = UserDataRequest(
            **self._head(identity),
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),) if n_items > 1 else (),
            data_references=tuple(references),
            **keys.avps(Operation.PULL),
        )
        message = await self._ask(request.to_message(), identity, deadline)
        answer = self._read(UserDataAnswer, message, Operation.PULL, references)
        wildcard = answer.wildcarded_public_identity or answer.wildcarded_impu
        data = NO_DATA
        if answer.user_data:
            data = self._read_own(answer.user_data, identity, keys, wildcard).select(
                references, service_indications=keys.service_indications, dsai_tags=keys.dsai_tags
            )
        has_notif_eff = bool(answer.features & FEATURE_NOTIF_EFF)
        return PullAnswer(data, has_notif_eff, wildcard)

    async def update(
        self,
        identity: UserIdentity,
        references: Sequence[DataReference],
        document: bytes,
        keys: ShKeys,
        deadline: float,
    ) -> None:
        """PUR. Several references want Update-Eff: it is a condition then, for else an HSS would take the first alone.

        Raises:
            LocalDiameterError, ShError: as `pull`.
        """
        check_request(Operation.UPDATE, identity, references, keys)
        is_several = len(references) > 1
        request = ProfileUpdateRequest(
            **self._head(identity),
            supported_features=(SupportedFeatures(FEATURE_UPDATE_EFF, is_required=True),) if is_several else (),
            data_references=tuple(references),
            user_data=document,
            **keys.avps(Operation.UPDATE),
        )
        message = await self._ask(request.to_message(), identity, deadline)
        self._read(ProfileUpdateAnswer, message, Operation.UPDATE, references)

    async def subscribe(
        self,
        identity: UserIdentity,
        references: Sequence[DataReference],
        keys: ShKeys,
        deadline: float,
        *,
        wants_data: bool = True,
        expiry_time: int | None = None,
        is_one_time: bool = False,
        is_end: bool = False,
    ) -> SubscriptionAnswer:
        """SNR.

        Args:
            wants_data: have the present value in the answer.
            expiry_time: Unix seconds until when; None: without limit.
            is_one_time: one notification is enough.
            is_end: unsubscribe.

        Raises:
            LocalDiameterError, ShError: as `pull`.
        """
        operation = Operation.UNSUBSCRIBE if is_end else Operation.SUBSCRIBE
        check_request(operation, identity, references, keys)
        request = SubscribeNotificationsRequest(
            **self._head(identity),
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),) if len(references) > 1 else (),
            send_data_indication=1 if wants_data and not is_end else None,
            subs_req_type=SubsReqType.UNSUBSCRIBE if is_end else SubsReqType.SUBSCRIBE,
            data_references=tuple(references),
            expiry_time=None if is_end else expiry_time,
            one_time_notification=0 if is_one_time else None,
            **keys.avps(operation),
        )
        message = await self._ask(request.to_message(), identity, deadline)
        answer = self._read(SubscribeNotificationsAnswer, message, operation, references)
        data: ShData | None = None
        if answer.user_data:
            data = self._read_own(answer.user_data, identity, keys, None).select(
                references, service_indications=keys.service_indications, dsai_tags=keys.dsai_tags
            )
        return SubscriptionAnswer(data, answer.expiry_time)

    def read_data(self, xml: bytes) -> ShData:
        """Sh-Data of an answer. Raises ShAnswerError."""
        try:
            data = parse_sh_data_untrusted(xml)
            deviations = find_deviations_untrusted(xml) if self._config.strict else ()
        except RemoteDiameterError as error:
            raise ShAnswerError(f"Sh-Data cannot be read: {error.reason}") from None
        if deviations:
            raise ShAnswerError(f"Sh-Data deviates from the schema: {'; '.join(deviations)}")
        return data

    def _read_own(self, xml: bytes, identity: UserIdentity, keys: ShKeys, wildcard: str | None) -> ShData:
        """Sh-Data about that identity. Raises ShAnswerError, also when it is about somebody else."""
        data = self.read_data(xml)
        # of the registered identities the one that was asked for need not be one
        can_tell = not (keys.wildcard or wildcard or IdentitySet.REGISTERED_IDENTITIES in keys.identity_sets)
        if can_tell and tells_of_another(identity, data):
            self._stats.foreign += 1
            raise ShAnswerError("the HSS answered with another user's data")
        return data

    def _head(self, identity: UserIdentity) -> dict[str, Any]:
        return {
            "session_id": self._node.new_session_id(),
            "origin_host": self._node.origin_host,
            "origin_realm": self._node.origin_realm,
            "destination_realm": self._config.destination_realm,
            "user_identity": identity,
        }

    async def _ask(self, message: Message, identity: UserIdentity, deadline: float) -> Message:
        deadline_s = deadline - trio.current_time()
        if deadline_s <= 0:
            raise ShTimeoutError("the HSS did not answer within the budget")
        try:
            # the host that serves the user is remembered, and asked directly the next time
            user = identity.public_identity or identity.msisdn or identity.external_identifier
            answer = await self._node.request(message, deadline_s=deadline_s, user=user)
        except RequestTimeoutError:
            self._stats.unanswered += 1
            raise ShTimeoutError("the HSS did not answer within the budget") from None
        except NoPeerError as error:
            raise ShNoPeerError(str(error)) from None
        if answer.is_error:  # a protocol error: of an agent that could not deliver it
            self._stats.unanswered += 1
        else:
            self._stats.answered += 1
        return answer

    def _read(self, kind: type[A], message: Message, operation: Operation, references: Sequence[DataReference]) -> A:
        try:
            answer = kind.read_untrusted(message)
            self._note_state_id(message)
        except RemoteDiameterError as error:
            raise ShAnswerError(f"answer cannot be read: {error.reason}") from None
        if not answer.result.is_success:
            raise self._counted(error_of(answer.result, operation, references))
        return answer

    def _counted(self, error: ShError) -> ShError:
        if isinstance(error, ShPermissionError):
            self._stats.not_permitted += 1
        return error

    def _note_state_id(self, message: Message) -> None:
        """The peer's own is watched by the node; this is for an HSS behind an agent."""
        state_id = message.number(base.ORIGIN_STATE_ID)
        host = None if state_id is None else message.text(base.ORIGIN_HOST)
        if state_id is None or host is None:
            return
        before = self._state_ids.get(host)
        if before is None and len(self._state_ids) >= _MAX_STATE_IDS:
            return
        self._state_ids[host] = state_id
        if before is not None and state_id > before and self.on_restart is not None:
            self.on_restart()
