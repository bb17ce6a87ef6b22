"""What can go wrong on Sh, as the caller sees it. Each one is a DiameterError."""

from __future__ import annotations

from diameter.errors import DiameterError
from diameter.message import Result

__all__ = [
    "ShAnswerError",
    "ShError",
    "ShNoPeerError",
    "ShRefusedError",
    "ShTimeoutError",
    "ShUserUnknownError",
]


class ShError(DiameterError):
    """Root: no profile, or no update, because of the HSS."""


class ShUserUnknownError(ShError):
    """The HSS does not know the identity (experimental 5001; some HSSes say 5030)."""


class ShTimeoutError(ShError):
    """No answer within the budget."""


class ShNoPeerError(ShError):
    """No HSS is connected, or too many requests are unanswered."""


class ShAnswerError(ShError):
    """The answer cannot be read."""


class ShRefusedError(ShError):
    """The HSS has answered with a failure.

    Attributes:
        result: what it said.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(f"the HSS answered {result}")
        self.result = result
