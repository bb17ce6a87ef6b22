"""What can go wrong on Sh, as the caller sees it. Each one is a DiameterError.

An answer that refuses is a ShRefusedError, or the subclass for its code: `diameter.sh.results` has the table.
"""

from __future__ import annotations

from collections.abc import Iterable

from diameter.errors import DiameterError
from diameter.message import Result

__all__ = [
    "ShAnswerError",
    "ShDataAbsentError",
    "ShError",
    "ShFeatureError",
    "ShIdentityMismatchError",
    "ShNoPeerError",
    "ShNoSubscriptionError",
    "ShNotAllowedError",
    "ShNotAvailableError",
    "ShNotRecognizedError",
    "ShOutOfSyncError",
    "ShPermissionError",
    "ShRefusedError",
    "ShTimeoutError",
    "ShTooMuchDataError",
    "ShUpdateInProgressError",
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
    """The answer cannot be read, or (strict) its Sh-Data deviates from the schema."""


class ShRefusedError(ShError):
    """The HSS has answered with a failure.

    Attributes:
        result: what it said.
        operation: the command that it refused (UDR, PUR, SNR), '' where not told.
        references: names of the data that were asked for.
    """

    def __init__(
        self, result: Result, operation: str = "", references: Iterable[str] = (), *, meaning: str = ""
    ) -> None:
        self.result = result
        self.operation = operation
        self.references = tuple(references)
        self.meaning = meaning
        to = f" to {operation} of {', '.join(self.references)}" if operation else ""
        super().__init__(f"the HSS answered {result}{to}" + (f": {meaning}" if meaning else ""))

    @property
    def is_transient(self) -> bool:
        """True where the same request may succeed later (4xxx)."""
        return 4000 <= self.result.code < 5000

    def renewed(self) -> ShRefusedError:
        """The same error for another task."""
        return type(self)(self.result, self.operation, self.references, meaning=self.meaning)


class ShPermissionError(ShRefusedError):
    """This Origin-Host may not do that with this data (5102 read, 5103 modify, 5104 be notified).

    Permissions belong to the application server, not to the user (TS 29.328 §6.2): trying again is of no use until
    the HSS is configured otherwise.
    """


class ShNotAvailableError(ShRefusedError):
    """The data is not there for now (4100)."""


class ShUpdateInProgressError(ShRefusedError):
    """Somebody else is changing the data (4101)."""


class ShIdentityMismatchError(ShRefusedError):
    """Public and private identity do not belong together (5002)."""


class ShTooMuchDataError(ShRefusedError):
    """The item is larger than the HSS accepts (5008)."""


class ShFeatureError(ShRefusedError):
    """The HSS lacks a feature that was demanded (5011)."""


class ShNotRecognizedError(ShRefusedError):
    """The HSS cannot make sense of the XML (5100)."""


class ShNotAllowedError(ShRefusedError):
    """Not permitted for that data or kind of identity, or nothing to delete (5101)."""


class ShOutOfSyncError(ShRefusedError):
    """Somebody else has changed the repository item since it was read (5105)."""


class ShDataAbsentError(ShRefusedError):
    """There is nothing to subscribe to (5106), or no such activation tag (5108)."""


class ShNoSubscriptionError(ShRefusedError):
    """No such subscription (5107)."""
