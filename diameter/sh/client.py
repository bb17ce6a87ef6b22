"""ShClient: profiles of served users over Sh, never slower than the budget (trio), and any other Sh operation.

On the call path `cached()` and `fetch()`: cache first; else one UDR for repository data, iFCs, user state and S-CSCF
name together (feature Notif-Eff, offered, not demanded). Many calls for one user at the same time make one UDR. When
the HSS is silent or refuses, the last known profile is used, however old; without one the caller gets a ShError when
the budget ends, never later.

Off the call path `run()`: subscriptions (SNR), their renewal, and a second, patient try for a profile that came too
late or is in doubt. `pull`, `update`, `subscribe` and their like take every Data-Reference, past the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import trio
from attrs import evolve

from diameter.dictionary.sh import DataReference
from diameter.errors import LocalDiameterError
from diameter.message import Message, Result
from diameter.node import DiameterNode
from diameter.sh.background import ShBackground
from diameter.sh.config import ShConfig, ShStats
from diameter.sh.data_reference import ShKeys, rule_of
from diameter.sh.errors import ShAnswerError, ShOutOfSyncError, ShRefusedError, ShTimeoutError
from diameter.sh.exchange import NO_KEYS, ShExchange
from diameter.sh.messages import UserIdentity
from diameter.sh.notifications import (
    NO_SUBSCRIPTION,
    SUCCESS,
    USER_UNKNOWN,
    Push,
    PushRefusal,
    build_push_answer,
    read_push_untrusted,
)
from diameter.sh.profile import ShProfile
from diameter.sh.profiles import PUSHED, ShProfiles, Target
from diameter.sh.puller import ShPuller
from diameter.sh.repository import Change, RepositoryWrite, Step, lacks_of, replace_by
from diameter.sh.subscriptions import ShSubscription
from diameter.sh.userdata import NO_DATA, RepositoryData, ShData, write_repository_data, write_sh_data

__all__ = ["ShClient", "ShConfig", "ShKeys", "ShProfile", "ShStats", "ShSubscription"]

_REPOSITORY = (DataReference.REPOSITORY_DATA,)
_UPDATE_RETRY_S = 0.1
# messages of more than 8 kB are cut by some HSSes; half a kB is what a PUR has besides
SAFE_DOCUMENT_BYTES = 7_500


class ShClient:
    """Profiles of served users.

    Args:
        node: Diameter node with the Sh application; its `on_request` has to hand PNRs to `receive_push`.
        wall: Unix seconds, for Expiry-Time.

    Attributes:
        stats: counts.
        on_notification: called with each notification that was taken, after the cache has it.
    """

    def __init__(self, node: DiameterNode, config: ShConfig, *, wall: Callable[[], float] = time.time) -> None:
        self._node = node
        self._config = config
        self.stats = ShStats()
        self.on_notification: Callable[[UserIdentity, ShData], None] | None = None
        self._exchange = ShExchange(node, config, self.stats)
        self._puller = ShPuller(self._exchange, self.stats)
        self._profiles = ShProfiles(self._puller, config, self.stats)
        self._cache = self._profiles.cache
        self._background = ShBackground(
            self._exchange,
            self._cache,
            config,
            self.stats,
            refresh=self._profiles.refresh,
            apply=self._profiles.hear,
            wall=wall,
        )
        self._profiles.connect(self._background)
        self._exchange.on_restart = self._restarted
        if node.on_restart is None:
            node.on_restart = lambda _: self._restarted()
        if node.on_isolated is None:
            # the HSS may keep its state, but what it notifies meanwhile is lost
            node.on_isolated = self._restarted

    # on the call path

    def cached(self, impu: str, *, stale_ok: bool = False, wildcard: str | None = None) -> ShProfile | None:
        """The profile without asking; None when it is not there, or too old and `stale_ok` is False."""
        if stale_ok:
            return self._cache.find(wildcard or impu)
        return self._cache.find_fresh(wildcard or impu, now=trio.current_time())

    async def fetch(self, impu: str, *, wildcard: str | None = None, others: Iterable[str] = ()) -> ShProfile:
        """The profile: fresh, else pulled, else the last known one. Returns or raises within the budget.

        Safe to cancel: others who wait for the same user go on.

        Args:
            wildcard: the wildcarded PSI or IMPU that `impu` falls under (P-Profile-Key): all that do share one profile.
            others: further identities of the same user, asked for where the HSS does not know `impu`; sip: first.

        Raises:
            ShUserUnknownError: the HSS does not know the user (or said so lately).
            ShError: no profile at all: ShTimeoutError, ShNoPeerError, ShRefusedError, ShAnswerError.
        """
        return await self._profiles.fetch(impu, wildcard=wildcard, others=others)

    # off the call path

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Subscribes, renews and refreshes until cancelled."""
        await self._background.run(task_status=task_status)

    async def update_repository(
        self, impu: str, service_data: bytes | None, *, if_sequence: int | None = None
    ) -> int | None:
        """Writes our repository item (PUR); None deletes it. When somebody else was faster, pulls and tries again:
        the last writer wins. Use `change_repository` to keep what others write.

        Args:
            service_data: one XML element.
            if_sequence: only if the item still has that sequence number.

        Returns:
            the new sequence number, None after a deletion.

        Raises:
            LocalDiameterError: `service_data` is not one well-formed element.
            ShOutOfSyncError: the item has changed (`if_sequence`), or keeps changing.
            ShError: as `fetch`, also when the item cannot be brought in step within `background_s`.
        """
        if if_sequence is not None:
            seen = RepositoryData(self._config.service_indication, if_sequence, b"")
            return await self._write(impu, RepositoryWrite(replace_by(service_data), held=seen, is_conditional=True))
        profile = self._cache.find(impu)
        held = self._item_of(profile)
        return await self._write(
            impu, RepositoryWrite(replace_by(service_data), held=held, is_held=profile is not None)
        )

    async def change_repository(self, impu: str, change: Change) -> int | None:
        """Changes our repository item and writes it; reads it and changes it again when somebody else was faster.

        Args:
            change: makes the new service data out of the present one, None being no item; the same is not written.
                It may be called several times, and after a failover for a change that is already in, so it should
                depend on nothing else. What it raises ends the update.

        Returns, Raises:
            as `update_repository`.
        """
        profile = self._cache.find_fresh(impu, now=trio.current_time())
        held = self._item_of(profile)
        return await self._write(impu, RepositoryWrite(change, held=held, is_held=profile is not None))

    async def pull(
        self,
        identity: str | UserIdentity,
        references: Sequence[DataReference],
        keys: ShKeys = NO_KEYS,
        *,
        deadline_s: float | None = None,
    ) -> ShData:
        """What the HSS has of any Data-References (UDR), past the cache; data that does not exist is left out.

        Args:
            keys: what the references want besides, see `diameter.sh.data_reference`.
            deadline_s: default `background_s`.

        Raises:
            LocalDiameterError: the request is none that TS 29.328 permits; nothing was sent.
            ShError: as `fetch`; ShPermissionError: we may not read (any of) it.
        """
        references = tuple(DataReference(rule_of(each).reference) for each in references)
        answer = await self._puller.pull(_identity(identity), references, keys, self._deadline(deadline_s))
        return answer.data

    async def update(
        self,
        identity: str | UserIdentity,
        references: Sequence[DataReference],
        data: ShData,
        keys: ShKeys = NO_KEYS,
        *,
        deadline_s: float | None = None,
    ) -> None:
        """Writes any data that an AS may change (PUR): 0, 18, 19, 24, 27.

        Repository data goes out with the sequence numbers in `data`; `update_repository` looks after them. Several
        references at a time want an HSS with Update-Eff (ShFeatureError).

        Raises:
            LocalDiameterError: as `pull`, or `data` has nothing of a reference.
            ShError: as `fetch`; ShPermissionError: we may not change it.
        """
        missing = [rule_of(each).name for each in references if not data.has(DataReference(each))]
        if missing:
            raise LocalDiameterError(f"nothing to write of {', '.join(missing)}")
        document = write_sh_data(data.select(references))
        await self._exchange.update(_identity(identity), references, document, keys, self._deadline(deadline_s))

    async def subscribe(
        self,
        identity: str | UserIdentity,
        references: Sequence[DataReference],
        keys: ShKeys = NO_KEYS,
        *,
        lifetime_s: float | None = None,
        is_one_time: bool = False,
    ) -> ShSubscription:
        """Has the HSS tell of changes of any data (SNR); `run` renews it, also after an HSS has lost its state.

        Args:
            lifetime_s: None: without limit, as far as the HSS is willing.
            is_one_time: one notification is enough.

        Returns:
            the subscription; its `data` is the present value and then that of each notification.

        Raises:
            LocalDiameterError, ShError: as `pull`.
        """
        references = tuple(DataReference(rule_of(each).reference) for each in references)
        subscription = ShSubscription(
            _identity(identity), references, keys, is_one_time=is_one_time, lifetime_s=lifetime_s
        )
        await self._background.subscribe(subscription)
        return subscription

    async def unsubscribe(self, subscription: ShSubscription) -> None:
        """Ends a subscription. Raises ShError when the HSS could not be told; here it has ended all the same."""
        await self._background.unsubscribe(subscription)

    def receive_push(self, message: Message) -> Message:
        """The answer to a request of the HSS; a PNR changes the cache first.

        5001 where we hold nothing of the identity (the HSS forgets our subscriptions then), 5107 where nothing in
        the notification is data that we use.

        Raises:
            RemoteDiameterError: not a sound PNR; the node answers with its Result-Code.
        """
        push = read_push_untrusted(message, strict=self._config.strict)
        result = push.result if isinstance(push, PushRefusal) else self._take(push)
        if result.is_success:
            self.stats.pushes += 1
        else:
            self.stats.pushes_refused += 1
        return build_push_answer(
            message, result, origin_host=self._node.origin_host, origin_realm=self._node.origin_realm
        )

    # repository data

    async def _write(self, impu: str, write: RepositoryWrite) -> int | None:
        deadline = trio.current_time() + self._config.background_s
        target = self._profiles.target(impu, None)
        identity = UserIdentity(target.identities[0])
        keys = evolve(NO_KEYS, wildcard=target.wildcard)
        service_indication = self._config.service_indication
        while write.step is not Step.DONE:
            if write.step is Step.PULL:
                pull_keys = evolve(keys, service_indications=(service_indication,))
                answer = await self._exchange.pull(identity, _REPOSITORY, pull_keys, deadline)
                self._profiles.hear(target.key, answer.data)
                write.receive_item(answer.data.find_repository(service_indication))
            elif write.step is Step.WAIT:
                await trio.sleep(_UPDATE_RETRY_S)
                write.resume()
            else:
                await self._put(target, identity, keys, write, deadline)
        return write.sequence

    async def _put(
        self, target: Target, identity: UserIdentity, keys: ShKeys, write: RepositoryWrite, deadline: float
    ) -> None:
        """One attempt. Raises ShError when there should be no other."""
        service_indication = self._config.service_indication
        document = write_repository_data(service_indication, write.number, write.service_data)
        try:
            await self._exchange.update(identity, _REPOSITORY, document, keys, deadline)
        except ShRefusedError as error:
            write.receive_result(error.result)
            self.stats.out_of_sync += isinstance(error, ShOutOfSyncError)
            if write.step is Step.FAILED:
                raise
        except ShTimeoutError:
            self._cache.doubt(target.key)  # it may be in or not
            raise
        else:
            if len(document) > SAFE_DOCUMENT_BYTES:
                await self._check_kept(target, identity, keys, write, deadline)
            write.receive_result(SUCCESS)
            self.stats.updates += 1
            item = RepositoryData(service_indication, write.number, write.service_data)
            self._profiles.hear(target.key, ShData(repository=(item,)))

    async def _check_kept(
        self, target: Target, identity: UserIdentity, keys: ShKeys, write: RepositoryWrite, deadline: float
    ) -> None:
        """Some HSSes cut a long PUR and say 2001. Raises ShError when the item is not there as it was written."""
        service_indication = self._config.service_indication
        pull_keys = evolve(keys, service_indications=(service_indication,))
        answer = await self._exchange.pull(identity, _REPOSITORY, pull_keys, deadline)
        item = answer.data.find_repository(service_indication)
        if lacks_of(write.service_data, item.service_data if item is not None else None):
            self._cache.doubt(target.key)
            raise ShAnswerError("the HSS has not kept all of the repository data")

    def _item_of(self, profile: ShProfile | None) -> RepositoryData | None:
        if profile is None or profile.sequence is None:
            return None
        return RepositoryData(self._config.service_indication, profile.sequence, profile.service_data)

    # what the HSS tells

    def _take(self, push: Push) -> Result:
        """A notification into the cache, and to the subscriptions that it belongs to."""
        data, impu = push.data, push.identity.public_identity
        names = [name for name in (push.wildcard, impu) if name is not None]
        keys = {key for name in names if self._profiles.is_held(key := self._cache.key_of(name))}
        subscriptions = self._background.table.find(push.identity)
        if not keys and not subscriptions:
            return USER_UNKNOWN
        is_ours = data == NO_DATA
        for subscription in subscriptions:
            told = subscription.select(data)
            if told != NO_DATA:
                is_ours = True
                subscription.data = told
                if subscription.is_one_time:
                    self._background.forget(subscription)
        mine = data.select(PUSHED, service_indications=[self._config.service_indication])
        for key in keys:
            if mine != NO_DATA:
                is_ours = True
                self._profiles.hear(key, mine, is_push=True)
            elif data == NO_DATA:
                self._profiles.doubt(key)  # something has changed, and the HSS does not say what
        if not is_ours:
            return NO_SUBSCRIPTION
        if self.on_notification is not None:
            self.on_notification(push.identity, data)
        return SUCCESS

    def _restarted(self) -> None:
        self._cache.void_subscriptions()
        self._background.remake_all()

    # common

    def _deadline(self, deadline_s: float | None) -> float:
        return trio.current_time() + (self._config.background_s if deadline_s is None else deadline_s)


def _identity(identity: str | UserIdentity) -> UserIdentity:
    return UserIdentity(public_identity=identity) if isinstance(identity, str) else identity
