"""What all ways to bring a party of a call together with somebody else have in common, as the call sees them."""

from __future__ import annotations

from typing import Any

from ims_as.sip.invite_session import SessionEvent

__all__ = ["TransferAttempt"]


class TransferAttempt:
    """One attempt; a call has one at a time."""

    is_pending = True
    """Neither done nor failed: another one must wait."""
    is_bridged = False
    """The two talk through our media worker."""
    is_accepted = False
    """The caller has said that it will go elsewhere itself."""

    @property
    def owns_offers(self) -> bool:
        """The caller's description is being changed by this attempt: its own offers must wait."""
        return False

    def start(self) -> None:
        """Begins, or fails at once."""

    async def receive_callee(self, event: Any) -> None:
        """What this attempt has posted to the call's inbox under ``callee``."""

    async def caller_moved(self) -> None:
        """The call's media worker was lost, and its leg is on another one."""

    async def receive_caller(self, event: SessionEvent) -> None:
        """An event of the caller's dialog, while this attempt owns the offers there."""

    def take_digit(self, digit: str) -> None:
        """The caller has dialled a digit while ``is_bridged``."""

    def close(self) -> None:
        """The call is over."""
