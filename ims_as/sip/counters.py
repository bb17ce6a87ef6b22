"""Counts of what went over the wire and of what was dropped, by reason."""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["METHODS", "SipCounters"]

METHODS: Final = frozenset(
    {"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER"}
    | {"SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH"}
)
"""Methods that are counted by name; all others are one ``other``, so that no peer can make the labels grow."""


class SipCounters:
    """Plain counters; whoever exports them reads `snapshot` or the attributes."""

    __slots__ = (
        "drops",
        "failovers",
        "guard_errors",
        "parse_errors",
        "refusals",
        "requests_in",
        "requests_out",
        "responses_in",
        "responses_out",
        "retransmissions_in",
        "retransmissions_out",
    )

    def __init__(self) -> None:
        self.requests_in: Counter[str] = Counter()
        """By method."""
        self.requests_out: Counter[str] = Counter()
        self.responses_in: Counter[int] = Counter()
        """By status."""
        self.responses_out: Counter[int] = Counter()
        self.retransmissions_in: Counter[str] = Counter()
        self.retransmissions_out: Counter[str] = Counter()
        self.parse_errors: Counter[str] = Counter()
        """By `SipParseError.reason`."""
        self.drops: Counter[str] = Counter()
        """Messages and connections that were not served, by reason: ``untrusted``, ``send buffer full`` …"""
        self.failovers: Counter[str] = Counter()
        """Requests that went to another place after the first had failed, by transport."""
        self.refusals: Counter[str] = Counter()
        """Requests that were answered (or dropped) before a transaction was made, by `Refusal.reason`."""
        self.guard_errors: Counter[str] = Counter()
        """Unforeseen errors by exception type; each is a bug of ours."""

    def snapshot(self) -> dict[str, dict[str, int]]:
        return {
            name: {str(key): count for key, count in sorted(getattr(self, name).items(), key=str)}
            for name in self.__slots__
        }
