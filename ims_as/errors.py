"""Errors of the application server, and how a call came to its end."""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["ConfigError", "ImsAsError", "Problem", "Result", "Termination"]


class ImsAsError(Exception):
    """Base of every error that ims_as raises on purpose."""


@attrs.frozen
class Problem:
    """One thing that is wrong, or doubtful, in the configuration."""

    path: str
    """Where: ``sip.listen[1]``; empty for the file as a whole."""
    text: str
    line: int | None = None
    """Line of the file, counted from 1; None where the value does not come from the file."""

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line is not None else ""
        return f"{self.path}: {self.text}{where}" if self.path else f"{self.text}{where}"


class ConfigError(ImsAsError):
    """The configuration cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems: tuple[Problem, ...] = tuple(problems)


class Result(Enum):
    """What became of a call."""

    ANSWERED = "answered"
    """The agent answered, and the call ended with the agent."""
    TRANSFERRED = "transferred"
    """The agent answered and the caller was joined to somebody else."""
    PASSED_ON = "passed-on"
    """Never anchored here: the INVITE went on along its Route."""
    REJECTED = "rejected"
    """Refused before the answer, so that the core goes on without us."""
    CONNECTED = "connected"
    """Passed on as a new dialog and answered there; the parties talked to each other."""
    CANCELLED = "cancelled"
    """The caller gave up before the answer."""
    UNANSWERED = "unanswered"
    """A call that we placed and that came to nothing: busy, no answer, refused, unreachable."""
    FAILED = "failed"
    """It was answered and was lost."""


@attrs.frozen
class Termination:
    """Why a call ended; each call records exactly one."""

    result: Result
    by: str
    """Who ended it: ``caller``, ``callee``, ``agent``, ``served-user``, ``ims-as``, ``engine``, ``media``, ``api`` or
    ``network``."""
    reason: str
    """A short fixed phrase (it is a metric label), such as ``engine-refused``; no identities in it."""
    cause: int | None = None
    """SIP status code behind it, where there is one."""
