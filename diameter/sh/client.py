"""ShClient: profiles of served users over Sh, never slower than the budget (trio).

On the call path `cached()` and `fetch()`: cache first; else one UDR for repository data, iFCs, user state and S-CSCF
name together (feature Notif-Eff, offered, not demanded). An HSS that refuses several references gets them one by
one. Many calls for one user at the same time make one UDR. When the HSS is silent or refuses, the last known profile
is used, however old; without one the caller gets a ShError when the budget ends, never later.

Off the call path `run()`: subscriptions (SNR) and a second, patient try for a profile that came too late. Where SNR is
not answered, it is left alone for a while and profiles are polled instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

import trio
from attrs import define, evolve, field

from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, SH_APPLICATION_ID, DataReference, ShResultCode, SubsReqType
from diameter.errors import NoPeerError, RemoteDiameterError, RequestTimeoutError
from diameter.message import Message, Result
from diameter.node import DiameterNode
from diameter.sh.cache import ProfileCache, ShProfile, build_profile, merge_profile, next_sequence_number
from diameter.sh.config import ShConfig, ShStats
from diameter.sh.errors import (
    ShAnswerError,
    ShError,
    ShNoPeerError,
    ShRefusedError,
    ShTimeoutError,
    ShUserUnknownError,
)
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationAnswer,
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from diameter.sh.userdata import ShData, join_sh_data, parse_sh_data_untrusted, write_repository_data

__all__ = ["ShClient", "ShConfig", "ShProfile", "ShStats"]

PULLED = (
    DataReference.REPOSITORY_DATA,
    DataReference.INITIAL_FILTER_CRITERIA,
    DataReference.IMS_USER_STATE,
    DataReference.S_CSCF_NAME,
)
# all-or-nothing in one SNR; where the first set is refused, the repository item alone is worth having
SUBSCRIBED = ((DataReference.REPOSITORY_DATA, DataReference.IMS_USER_STATE), (DataReference.REPOSITORY_DATA,))

_USER_UNKNOWN = (Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP), Result(5030), Result(5030, VENDOR_3GPP))
_OUT_OF_SYNC = Result(ShResultCode.TRANSPARENT_DATA_OUT_OF_SYNC, VENDOR_3GPP)
_UPDATE_IN_PROGRESS = Result(ShResultCode.PRIOR_UPDATE_IN_PROGRESS, VENDOR_3GPP)

# background jobs that wait; more are dropped, they only make profiles fresher
_MAX_JOBS = 10_000
_N_WORKERS = 4
# an HSS that leaves SNR unanswered, or wants references one by one, is not asked to do better for this long
_HSS_MEMORY_S = 600.0
_MAX_UPDATE_ATTEMPTS = 4
_UPDATE_RETRY_S = 0.1


A = TypeVar("A", UserDataAnswer, ProfileUpdateAnswer, SubscribeNotificationsAnswer)


class _Job(Enum):
    SUBSCRIBE = "subscribe"
    REFRESH = "refresh"


@define(eq=False)
class _Flight:
    """One pull under way and those who wait for it."""

    done: trio.Event = field(factory=trio.Event)
    profile: ShProfile | None = None
    error: ShError | None = None
    pushes: list[ShData] = field(factory=list)


class ShClient:
    """Profiles of served users.

    Args:
        node: Diameter node with the Sh application; its `on_request` has to hand PNRs to `receive_push`.
        wall: Unix seconds, for Expiry-Time.

    Attributes:
        stats: counts.
    """

    def __init__(self, node: DiameterNode, config: ShConfig, *, wall: Callable[[], float] = time.time) -> None:
        self._node = node
        self._config = config
        self._wall = wall
        self._cache = ProfileCache(
            cache_s=config.cache_s,
            poll_s=config.poll_s,
            negative_s=config.negative_cache_s,
            max_users=config.max_users,
        )
        self._flights: dict[str, _Flight] = {}
        self._one_by_one_until = float("-inf")
        self._no_subscribing_until = float("-inf")
        self._queued: set[tuple[_Job, str]] = set()
        self._jobs, self._work = trio.open_memory_channel[tuple[_Job, str]](_MAX_JOBS)
        self.stats = ShStats()
        if node.on_restart is None:
            node.on_restart = lambda _: self._cache.void_subscriptions()

    # on the call path

    def cached(self, impu: str, *, stale_ok: bool = False) -> ShProfile | None:
        """The profile without asking; None when it is not there, or too old and `stale_ok` is False."""
        if stale_ok:
            return self._cache.find(impu)
        return self._cache.find_fresh(impu, now=trio.current_time())

    async def fetch(self, impu: str) -> ShProfile:
        """The profile: fresh, else pulled, else the last known one. Returns or raises within the budget.

        Safe to cancel: others who wait for the same user go on.

        Raises:
            ShUserUnknownError: the HSS does not know the user (or said so lately).
            ShError: no profile at all: ShTimeoutError, ShNoPeerError, ShRefusedError, ShAnswerError.
        """
        now = trio.current_time()
        profile = self._cache.find_fresh(impu, now=now)
        if profile is not None:
            self.stats.hits += 1
            return profile
        if self._cache.is_unknown(impu, now=now):
            self.stats.hits += 1
            raise ShUserUnknownError("the HSS does not know the user")
        deadline = now + self._config.budget_s
        try:
            profile = await self._fetch_shared(impu, deadline)
        except ShUserUnknownError:
            self.stats.unknown += 1
            raise
        except ShError as error:
            self._count_failure(error)
            if isinstance(error, ShTimeoutError):
                self._enqueue(_Job.REFRESH, impu)
            stale = self._cache.find(impu)
            if stale is None:
                raise
            self.stats.stale += 1
            return stale
        return profile

    # off the call path

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Subscribes and refreshes until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_N_WORKERS):
                nursery.start_soon(self._run_jobs)
            task_status.started()

    async def update_repository(self, impu: str, service_data: bytes | None) -> int | None:
        """Writes our repository item (PUR); None deletes it. When somebody else was faster, pulls and tries again.

        Args:
            service_data: one XML element.

        Returns:
            the new sequence number, None after a deletion.

        Raises:
            LocalDiameterError: `service_data` is not one well-formed element.
            ShError: as `fetch`, also when the item cannot be brought in step within `background_s`.
        """
        deadline = trio.current_time() + self._config.background_s
        profile = self._cache.find(impu)
        sequence = profile.sequence if profile is not None else await self._pull_sequence(impu, deadline)
        answer: ProfileUpdateAnswer | None = None
        for _ in range(_MAX_UPDATE_ATTEMPTS):
            number = next_sequence_number(sequence)
            request = ProfileUpdateRequest(
                **self._head(impu),
                data_references=(DataReference.REPOSITORY_DATA,),
                user_data=write_repository_data(self._config.service_indication, number, service_data),
            )
            answer = _read(ProfileUpdateAnswer, await self._ask(request.to_message(), deadline))
            if answer.result.is_success:
                return self._store_update(impu, service_data, number)
            if answer.result in _USER_UNKNOWN:
                raise ShUserUnknownError("the HSS does not know the user")
            if answer.result == _UPDATE_IN_PROGRESS:
                await trio.sleep(_UPDATE_RETRY_S)
            elif answer.result == _OUT_OF_SYNC:
                sequence = await self._pull_sequence(impu, deadline)
            else:
                break
        assert answer is not None, "the loop runs at least once"
        raise ShRefusedError(answer.result)

    def receive_push(self, message: Message) -> Message:
        """The answer to a request of the HSS; a PNR changes the cache first.

        Raises:
            RemoteDiameterError: not a sound PNR; the node answers with its Result-Code.
        """
        command = PushNotificationRequest.COMMAND
        if message.application_id != SH_APPLICATION_ID or message.code != command.code:
            raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
        request = PushNotificationRequest.read_untrusted(message)
        impu = request.user_identity.public_identity
        is_known = impu is not None and (impu in self._flights or self._cache.find(impu) is not None)
        try:
            data = parse_sh_data_untrusted(request.user_data)
        except RemoteDiameterError as error:
            return self._answer_push(message, Result(error.result_code, VENDOR_3GPP))
        if impu is None or not is_known:
            return self._answer_push(message, Result(ShResultCode.NO_SUBSCRIPTION_TO_DATA, VENDOR_3GPP))
        self.stats.pushes += 1
        self._apply(impu, data)
        return self._answer_push(message, Result(ResultCode.SUCCESS))

    # pulling

    async def _fetch_shared(self, impu: str, deadline: float) -> ShProfile:
        while True:
            flight = self._flights.get(impu)
            if flight is None:
                return await self._fly(impu, deadline)
            self.stats.shared += 1
            with trio.move_on_at(deadline):
                await flight.done.wait()
            if flight.profile is not None:
                return flight.profile
            if flight.error is not None:
                raise _renewed(flight.error)
            if not flight.done.is_set():
                raise ShTimeoutError("the HSS did not answer within the budget")
            # whoever led the flight was cancelled: somebody else has to

    async def _fly(self, impu: str, deadline: float) -> ShProfile:
        flight = self._flights[impu] = _Flight()
        try:
            data = await self._pull(impu, deadline)
            config = self._config
            now = trio.current_time()
            profile = build_profile(impu, data, service_indication=config.service_indication, now=now)
            for push in flight.pushes:
                profile = merge_profile(profile, push, service_indication=config.service_indication)
            self._cache.store(profile)
            flight.profile = profile
        except ShError as error:
            flight.error = error
            if isinstance(error, ShUserUnknownError):
                self._cache.store_unknown(impu, now=trio.current_time())
            raise
        finally:
            del self._flights[impu]
            flight.done.set()
        if config.subscribe and not self._cache.is_subscribed(impu, now=now):
            self._enqueue(_Job.SUBSCRIBE, impu)
        return profile

    async def _pull(self, impu: str, deadline: float) -> ShData:
        self.stats.pulls += 1
        if trio.current_time() >= self._one_by_one_until:
            try:
                return await self._pull_references(impu, PULLED, deadline)
            except ShRefusedError as error:
                if not 5000 <= error.result.code < 6000:
                    raise
        data = await self._pull_one_by_one(impu, deadline)
        if trio.current_time() >= self._one_by_one_until:
            self._one_by_one_until = trio.current_time() + _HSS_MEMORY_S
        return data

    async def _pull_one_by_one(self, impu: str, deadline: float) -> ShData:
        """Each reference in a request of its own, all at once; what is refused stays empty."""
        self.stats.one_by_one += 1
        found: dict[DataReference, ShData | ShError] = {}

        async def pull(reference: DataReference) -> None:
            try:
                found[reference] = await self._pull_references(impu, (reference,), deadline)
            except ShError as error:
                found[reference] = error

        async with trio.open_nursery() as nursery:
            for reference in PULLED:
                nursery.start_soon(pull, reference)
        errors = [outcome for outcome in found.values() if isinstance(outcome, ShError)]
        lasting = [error for error in errors if not isinstance(error, ShRefusedError)]
        if lasting or len(errors) == len(PULLED):
            raise (lasting or errors)[0]
        merged = ShData()
        for reference in PULLED:
            outcome = found[reference]
            if isinstance(outcome, ShData):
                merged = join_sh_data(merged, outcome)
        return merged

    async def _pull_references(self, impu: str, references: Sequence[DataReference], deadline: float) -> ShData:
        is_combined = len(references) > 1
        request = UserDataRequest(
            **self._head(impu),
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),) if is_combined else (),
            server_name=(self._config.server_name if DataReference.INITIAL_FILTER_CRITERIA in references else None),
            service_indications=(
                (self._config.service_indication,) if DataReference.REPOSITORY_DATA in references else ()
            ),
            data_references=tuple(references),
        )
        answer = _read(UserDataAnswer, await self._ask(request.to_message(), deadline))
        self._raise_failure(answer.result)
        if not answer.user_data:
            return ShData()
        try:
            return parse_sh_data_untrusted(answer.user_data)
        except RemoteDiameterError as error:
            raise ShAnswerError(f"Sh-Data cannot be read: {error.reason}") from None

    async def _pull_sequence(self, impu: str, deadline: float) -> int | None:
        """Sequence number of our item as the HSS has it; the cache learns what came along."""
        data = await self._pull_references(impu, (DataReference.REPOSITORY_DATA,), deadline)
        if self._cache.find(impu) is not None:
            self._apply(impu, data)
        item = data.find_repository(self._config.service_indication)
        return item.sequence_number if item is not None and item.service_data is not None else None

    # background

    def _enqueue(self, job: _Job, impu: str) -> None:
        if (job, impu) in self._queued:
            return
        try:
            self._jobs.send_nowait((job, impu))
        except trio.WouldBlock:
            self.stats.jobs_dropped += 1
        else:
            self._queued.add((job, impu))

    async def _run_jobs(self) -> None:
        while True:
            job, impu = await self._work.receive()
            self._queued.discard((job, impu))
            try:
                if job is _Job.SUBSCRIBE:
                    await self._subscribe(impu)
                else:
                    await self._fetch_shared(impu, trio.current_time() + self._config.background_s)
            except ShError as error:
                self._count_failure(error)

    async def _subscribe(self, impu: str) -> None:
        if trio.current_time() < self._no_subscribing_until:
            return
        for references in SUBSCRIBED:
            deadline = trio.current_time() + self._config.background_s
            try:
                answer = await self._send_subscription(impu, references, deadline)
            except ShTimeoutError:
                self.stats.subscriptions_failed += 1
                self._no_subscribing_until = trio.current_time() + _HSS_MEMORY_S
                return
            if answer.result.is_success:
                self._store_subscription(impu, answer)
                return
        self.stats.subscriptions_failed += 1

    async def _send_subscription(
        self, impu: str, references: Sequence[DataReference], deadline: float
    ) -> SubscribeNotificationsAnswer:
        request = SubscribeNotificationsRequest(
            **self._head(impu),
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),) if len(references) > 1 else (),
            service_indications=(self._config.service_indication,),
            send_data_indication=1,
            subs_req_type=SubsReqType.SUBSCRIBE,
            data_references=tuple(references),
        )
        return _read(SubscribeNotificationsAnswer, await self._ask(request.to_message(), deadline))

    def _store_subscription(self, impu: str, answer: SubscribeNotificationsAnswer) -> None:
        self.stats.subscriptions += 1
        until = float("inf")
        if answer.expiry_time is not None:
            until = trio.current_time() + answer.expiry_time - self._wall()
        self._cache.store_subscription(impu, until=until)
        if answer.user_data:
            try:
                self._apply(impu, parse_sh_data_untrusted(answer.user_data))
            except RemoteDiameterError:
                self.stats.failures += 1

    # common

    def _apply(self, impu: str, data: ShData) -> None:
        flight = self._flights.get(impu)
        if flight is not None:
            # the answer under way may be older than this
            flight.pushes.append(data)
        profile = self._cache.find(impu)
        if profile is None:
            return
        if impu in data.deleted_identities:
            self._cache.forget(impu)
            return
        self._cache.store(merge_profile(profile, data, service_indication=self._config.service_indication))

    def _store_update(self, impu: str, service_data: bytes | None, number: int) -> int | None:
        self.stats.updates += 1
        sequence = number if service_data is not None else None
        profile = self._cache.find(impu)
        if profile is not None:
            self._cache.store(evolve(profile, service_data=service_data, sequence=sequence))
        return sequence

    def _head(self, impu: str) -> dict[str, Any]:
        return {
            "session_id": self._node.new_session_id(),
            "origin_host": self._node.origin_host,
            "origin_realm": self._node.origin_realm,
            "destination_realm": self._config.destination_realm,
            "user_identity": UserIdentity(public_identity=impu),
        }

    async def _ask(self, message: Message, deadline: float) -> Message:
        deadline_s = deadline - trio.current_time()
        if deadline_s <= 0:
            raise ShTimeoutError("the HSS did not answer within the budget")
        try:
            answer = await self._node.request(message, deadline_s=deadline_s)
        except RequestTimeoutError:
            self.stats.unanswered += 1
            raise ShTimeoutError("the HSS did not answer within the budget") from None
        except NoPeerError as error:
            raise ShNoPeerError(str(error)) from None
        if answer.is_error:  # a protocol error: of an agent that could not deliver it
            self.stats.unanswered += 1
        else:
            self.stats.answered += 1
        return answer

    def _answer_push(self, message: Message, result: Result) -> Message:
        return PushNotificationAnswer(
            origin_host=self._node.origin_host, origin_realm=self._node.origin_realm, result=result
        ).to_answer(message)

    def _raise_failure(self, result: Result) -> None:
        if result in _USER_UNKNOWN:
            raise ShUserUnknownError("the HSS does not know the user")
        if not result.is_success:
            raise ShRefusedError(result)

    def _count_failure(self, error: ShError) -> None:
        if isinstance(error, ShTimeoutError):
            self.stats.timeouts += 1
        else:
            self.stats.failures += 1


def _read(kind: type[A], message: Message) -> A:
    """The typed answer. Raises ShAnswerError."""
    try:
        return kind.read_untrusted(message)
    except RemoteDiameterError as error:
        raise ShAnswerError(f"answer cannot be read: {error.reason}") from None


def _renewed(error: ShError) -> ShError:
    """The same error for another task, so that tracebacks do not pile up in one object."""
    return ShRefusedError(error.result) if isinstance(error, ShRefusedError) else type(error)(*error.args)
