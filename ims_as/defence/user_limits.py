"""How much of an agent one subscriber may have, as its profile says: calls at a time, per hour and per day.

Counted on this node, by public identity.  What is per hour or day are token buckets, so that a limit of 60 is not 60 at
the full hour.  Both tables are bounded: places by the calls that are up, buckets by `MAX_USERS`, where whoever has been
quiet longest leaves first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

import attrs

from ims_as.defence.token_bucket import TokenBucket

__all__ = ["MAX_USERS", "UserLimits"]

MAX_USERS: Final = 20_000
_PERIODS_S: Final = {"calls-per-hour": 3600.0, "calls-per-day": 86_400.0}


@attrs.define
class UserLimits:
    """The calls of all users that have limits; ``now``: monotonic seconds."""

    _held: dict[str, str] = attrs.Factory(dict)
    """User by call."""
    _up: Counter[str] = attrs.Factory(Counter)
    """Calls by user."""
    _buckets: OrderedDict[tuple[str, str], TokenBucket] = attrs.Factory(OrderedDict)

    def start(
        self,
        call_id: str,
        *,
        user: str,
        concurrent: int | None,
        per_hour: int | None,
        per_day: int | None,
        now: float,
    ) -> str | None:
        """Gives the call a place until `end`; a limit of None is no limit.

        Returns:
            None, or which limit is reached: ``concurrent-calls``, ``calls-per-hour`` or ``calls-per-day``; then nothing
            is counted.
        """
        if concurrent is not None and self._up[user] >= concurrent:
            return "concurrent-calls"
        buckets = []
        for name, count in (("calls-per-hour", per_hour), ("calls-per-day", per_day)):
            if count is not None:
                bucket = self._bucket(user, name, count, now)
                if not bucket.has(1.0, now=now):
                    return name
                buckets.append(bucket)
        for bucket in buckets:
            bucket.take(1.0, now=now)
        # also without a limit: the profile may get one while this call is up
        self._held[call_id] = user
        self._up[user] += 1
        return None

    def end(self, call_id: str) -> None:
        """The call is over; harmless for one that has no place."""
        user = self._held.pop(call_id, None)
        if user is not None:
            self._up[user] -= 1
            if not self._up[user]:
                del self._up[user]

    @property
    def up(self) -> int:
        """Calls that have a place."""
        return len(self._held)

    def _bucket(self, user: str, name: str, count: int, now: float) -> TokenBucket:
        key = (user, name)
        rate = count / _PERIODS_S[name]
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(rate, float(count), now=now)
            if len(self._buckets) > MAX_USERS:
                self._buckets.popitem(last=False)
        elif bucket.burst != count:
            bucket.change(rate, float(count), now=now)
        self._buckets.move_to_end(key)
        return bucket
