"""How much an agent may call: so many at a time and per hour, and per hour on behalf of one caller.

What the destination policy allows may still be abused by doing it often. Calls are counted in token buckets that fill
over an hour, so that a limit of 60 is not 60 at the full hour; the callers' table is bounded, and whoever has been
quiet longest leaves it first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

import attrs

from ims_as.defence.token_bucket import TokenBucket

__all__ = ["MAX_CALLERS", "OutboundLimits"]

MAX_CALLERS: Final = 10_000
HOUR_S: Final = 3600.0


@attrs.define
class OutboundLimits:
    """A limit of 0 is no limit."""

    per_agent_at_once: int = 0
    per_agent_per_hour: int = 0
    per_caller_per_hour: int = 0
    _held: dict[str, str] = attrs.Factory(dict)
    """Agent by call."""
    _up: Counter[str] = attrs.Factory(Counter)
    """Number of calls by agent."""
    _agents: dict[str, TokenBucket] = attrs.Factory(dict)
    _callers: OrderedDict[str, TokenBucket] = attrs.Factory(OrderedDict)

    def start(self, call_id: str, *, agent: str, caller: str, now: float) -> str | None:
        """Takes the right to call somebody; until `end` the call has a place among those at once.

        A call that tries again keeps its place, but each try counts for the hour.

        Args:
            agent: its name; from the configuration, so there are few.
            caller: on whose behalf: URI of the caller, or the identity of an outbound call.
            now: monotonic seconds.

        Returns:
            None, or which limit is reached.
        """
        is_new = call_id not in self._held
        if is_new and self.per_agent_at_once and self._up[agent] >= self.per_agent_at_once:
            return "policy.limits.per_agent_at_once"
        buckets = []
        if self.per_agent_per_hour:
            buckets.append(("per_agent_per_hour", self._bucket(self._agents, agent, self.per_agent_per_hour, now)))
        if self.per_caller_per_hour:
            bucket = self._bucket(self._callers, caller, self.per_caller_per_hour, now)
            self._callers.move_to_end(caller)
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
            buckets.append(("per_caller_per_hour", bucket))
        for name, bucket in buckets:
            if not bucket.has(1.0, now=now):
                return f"policy.limits.{name}"
        for _, bucket in buckets:
            bucket.take(1.0, now=now)
        if is_new:
            self._held[call_id] = agent
            self._up[agent] += 1
        return None

    def end(self, call_id: str) -> None:
        """The call is over; harmless for one that has no place."""
        agent = self._held.pop(call_id, None)
        if agent is not None:
            self._up[agent] -= 1
            if not self._up[agent]:
                del self._up[agent]

    def change(self, per_agent_at_once: int, per_agent_per_hour: int, per_caller_per_hour: int) -> None:
        """Other limits from now on; what has been used up stays used up."""
        self.per_agent_at_once = per_agent_at_once
        self.per_agent_per_hour = per_agent_per_hour
        self.per_caller_per_hour = per_caller_per_hour

    @property
    def up(self) -> int:
        """Calls that have a place."""
        return len(self._held)

    @staticmethod
    def _bucket(buckets: dict[str, TokenBucket], key: str, per_hour: int, now: float) -> TokenBucket:
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = TokenBucket(per_hour / HOUR_S, float(per_hour), now=now)
        elif bucket.burst != per_hour:
            bucket.change(per_hour / HOUR_S, float(per_hour), now=now)
        return bucket
