"""Several Data-References of one user, whatever the HSS makes of that (trio by way of the node).

One UDR for all of them where the HSS knows Notif-Eff. One that refuses gets them one by one, all at once; so does one
that silently answers the first alone. Data that we may not read is left out from then on. What was learnt of the HSS
counts for ten minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import trio
from attrs import evolve

from diameter.dictionary.sh import DataReference
from diameter.sh.config import ShStats
from diameter.sh.data_reference import ShKeys, rule_of
from diameter.sh.errors import ShError, ShPermissionError, ShRefusedError
from diameter.sh.exchange import NO_KEYS, PullAnswer, ShExchange
from diameter.sh.messages import UserIdentity
from diameter.sh.userdata import NO_DATA, join_sh_data

__all__ = ["HSS_MEMORY_S", "ShPuller", "keys_for"]

# what an HSS cannot do, it is not asked to do for this long
HSS_MEMORY_S = 600.0

_NEVER = float("-inf")


class ShPuller:
    """Pulls of one client."""

    def __init__(self, exchange: ShExchange, stats: ShStats) -> None:
        self._exchange = exchange
        self._stats = stats
        self._one_by_one_until = _NEVER
        self._answers_all_until = _NEVER
        self._denied_until: dict[DataReference, float] = {}

    async def pull(
        self, identity: UserIdentity, references: Sequence[DataReference], keys: ShKeys, deadline: float
    ) -> PullAnswer:
        """What the HSS has of the references; what it refuses stays empty, unless it refuses all.

        Raises:
            LocalDiameterError, ShError: as `ShExchange.pull`.
        """
        now = trio.current_time()
        wanted = tuple(each for each in references if self._denied_until.get(each, _NEVER) <= now)
        if not wanted:
            wanted = tuple(references)
        if len(wanted) == 1:
            return await self._exchange.pull(identity, wanted, keys_for(keys, wanted), deadline)
        if now >= self._one_by_one_until:
            try:
                answer = await self._exchange.pull(identity, wanted, keys_for(keys, wanted), deadline)
            except ShRefusedError as error:
                if not 5000 <= error.result.code < 6000:
                    raise
            else:
                return await self._complete(answer, identity, wanted, keys, deadline)
        answer, was_denied = await self._pull_one_by_one(identity, wanted, keys, deadline)
        now = trio.current_time()
        if now >= self._one_by_one_until and not was_denied:
            self._one_by_one_until = now + HSS_MEMORY_S
        return answer

    async def _complete(
        self,
        answer: PullAnswer,
        identity: UserIdentity,
        references: Sequence[DataReference],
        keys: ShKeys,
        deadline: float,
    ) -> PullAnswer:
        """An HSS that does not know Notif-Eff may have looked at the first reference only: once, the rest is asked."""
        if answer.has_notif_eff:
            return answer
        missing = [each for each in references if not answer.data.has(each)]
        now = trio.current_time()
        if len(missing) < len(references) - 1 or now < self._answers_all_until:
            return answer
        try:
            rest, _ = await self._pull_one_by_one(identity, missing, keys, deadline)
        except ShError:
            return answer
        if rest.data == NO_DATA:
            self._answers_all_until = now + HSS_MEMORY_S
        else:
            self._one_by_one_until = now + HSS_MEMORY_S
        return evolve(answer, data=join_sh_data(answer.data, rest.data))

    async def _pull_one_by_one(
        self, identity: UserIdentity, references: Sequence[DataReference], keys: ShKeys, deadline: float
    ) -> tuple[PullAnswer, bool]:
        """Each reference in a request of its own, all at once; what is refused stays empty. True: permissions lack."""
        self._stats.one_by_one += 1
        found: dict[DataReference, PullAnswer | ShError] = {}

        async def pull(reference: DataReference) -> None:
            try:
                found[reference] = await self._exchange.pull(
                    identity, (reference,), keys_for(keys, (reference,)), deadline
                )
            except ShError as error:
                found[reference] = error

        async with trio.open_nursery() as nursery:
            for reference in references:
                nursery.start_soon(pull, reference)
        errors = [outcome for outcome in found.values() if isinstance(outcome, ShError)]
        denied = [each for each, outcome in found.items() if isinstance(outcome, ShPermissionError)]
        self._denied_until |= dict.fromkeys(denied, trio.current_time() + HSS_MEMORY_S)
        lasting = [error for error in errors if not isinstance(error, ShRefusedError)]
        if lasting or len(errors) == len(references):
            raise (lasting or errors)[0]
        merged, wildcard = NO_DATA, None
        for reference in references:
            outcome = found[reference]
            if isinstance(outcome, PullAnswer):
                merged = join_sh_data(merged, outcome.data)
                wildcard = outcome.wildcard or wildcard
        return PullAnswer(merged, False, wildcard), bool(denied)


@lru_cache(maxsize=256)
def keys_for(keys: ShKeys, references: tuple[DataReference, ...]) -> ShKeys:
    """Those of the keys that belong to the references."""
    names = {"wildcard", "session_priority"}
    for reference in references:
        rule = rule_of(reference)
        names.update(rule.needed, rule.optional)
    return evolve(NO_KEYS, **{name: getattr(keys, name) for name in names})
