"""Preconditions of a media line: quality of service that must be there before somebody is alerted or answered
(RFC 3312, RFC 4032).

A VoLTE phone offers ``des:qos mandatory local`` with ``curr:qos local none``: its radio bearer is not there yet. It
must not be answered before its UPDATE has said ``curr:qos local sendrecv``. The lines are written from the view of
whoever sends them, so what comes in is turned round once (`local` is the peer's access, and its `send` our `recv`), and
everything here is from our view.

Our own access is a wire: its resources are there as soon as a port is bound, and need no reservation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from typing import Final

import attrs

from ims_as.sip.errors import SdpError
from ims_as.sip.sdp import Direction, Line, MediaDescription

__all__ = ["Preconditions", "StatusType", "Strength"]

QOS: Final = "qos"
"""The only precondition type that RFC 3312 defines; security preconditions (RFC 5027) are not ours."""
MAX_LINES: Final = 32
"""Of a media line: a phone sends four to six."""


class StatusType(Enum):
    """Which part of the path: all of it, our access, the peer's access (RFC 3312 §4)."""

    E2E = "e2e"
    LOCAL = "local"
    REMOTE = "remote"

    @property
    def turned(self) -> StatusType:
        """As the other side calls it."""
        return _TURNED.get(self, self)


class Strength(IntEnum):
    """How much it is wanted; a comparison says which is more."""

    NONE = 0
    OPTIONAL = 1
    MANDATORY = 2


_TURNED: Final = {StatusType.LOCAL: StatusType.REMOTE, StatusType.REMOTE: StatusType.LOCAL}
_NO_WAY: Final = Direction.of(sends=False, receives=False)
_BOTH_WAYS: Final = Direction.of(sends=True, receives=True)
_DIRECTIONS: Final = {
    "none": _NO_WAY,
    "send": Direction.of(sends=True, receives=False),
    "recv": Direction.of(sends=False, receives=True),
    "sendrecv": _BOTH_WAYS,
}
_DIRECTION_TAGS: Final = {direction: tag for tag, direction in _DIRECTIONS.items()}
_SEGMENTED: Final = (StatusType.LOCAL, StatusType.REMOTE)


def _covers(current: Direction, wanted: Direction) -> bool:
    return (current.sends or not wanted.sends) and (current.receives or not wanted.receives)


def _joined(one: Direction, other: Direction) -> Direction:
    return Direction.of(sends=one.sends or other.sends, receives=one.receives or other.receives)


@attrs.frozen(slots=True)
class Preconditions:
    """The status table of one media line (RFC 3312 §5), from our view.

    Attributes:
        current: what is reserved.
        desired: what is wanted, by status type; each strength with its direction.
        confirm: what the peer wants to be told of (``conf``), by status type.
        unknown: names of precondition types that we do not know and that are mandatory.
    """

    current: Mapping[StatusType, Direction]
    desired: Mapping[StatusType, Mapping[Strength, Direction]]
    confirm: Mapping[StatusType, Direction]
    unknown: tuple[str, ...] = ()

    @classmethod
    def from_offer_untrusted(cls, media: MediaDescription) -> Preconditions | None:
        """Read the peer's lines; None when it has no preconditions.

        Our access counts as reserved whatever the peer believes.

        Raises:
            SdpError: a line cannot be read, or there are too many of them.
        """
        current: dict[StatusType, Direction] = {}
        desired: dict[StatusType, dict[Strength, Direction]] = {}
        confirm: dict[StatusType, Direction] = {}
        unknown: list[str] = []
        lines = [(name, value or "") for name, value in media.attributes if name in ("curr", "des", "conf")]
        if len(lines) > MAX_LINES:
            raise SdpError("too many precondition lines")
        for name, value in lines:
            words = value.split()
            if name == "des":
                strength = _read_strength(words)
                if words[:1] != [QOS]:
                    if strength is Strength.MANDATORY:
                        unknown.append(words[0])
                    continue
                status, direction = _read_status(words[2:])
                if strength is not None:
                    wanted = desired.setdefault(status, {})
                    wanted[strength] = _joined(wanted.get(strength, _NO_WAY), direction)
                continue
            if words[:1] != [QOS]:
                continue
            status, direction = _read_status(words[1:])
            (current if name == "curr" else confirm)[status] = direction
        if not current and not desired and not unknown:
            return None
        current[StatusType.LOCAL] = _BOTH_WAYS
        return cls(current, desired, confirm, tuple(unknown))

    @property
    def is_met(self) -> bool:
        """Whether everything mandatory is reserved: only then may the callee be alerted or answer (§6)."""
        return not self.unknown and not self._missing(Strength.MANDATORY)

    @property
    def is_satisfied(self) -> bool:
        """Whether what is merely wished for is reserved as well."""
        return self.is_met and not self._missing(Strength.OPTIONAL)

    @property
    def is_mandatory(self) -> bool:
        """Whether anything is: then the messages say ``Require: precondition`` (§11)."""
        return bool(self.unknown) or any(Strength.MANDATORY in wanted for wanted in self.desired.values())

    def _missing(self, strength: Strength) -> list[StatusType]:
        return [
            status
            for status, wanted in self.desired.items()
            if not _covers(self.current.get(status, _NO_WAY), wanted.get(strength, _NO_WAY))
        ]

    def to_lines(self) -> list[Line]:
        """Our lines, for an answer or a new offer: ``curr``, ``des``, and ``conf`` for what is missing (§7).

        A wish is never weakened. We ask to be told when the peer has reserved what is mandatory and missing.
        """
        statuses = _SEGMENTED if StatusType.E2E not in (*self.current, *self.desired) else (StatusType.E2E,)
        lines = [_line("curr", QOS, status.value, self.current.get(status, _NO_WAY)) for status in statuses]
        for status in statuses:
            # §5.1.1: without a wish of the peer's there is none
            wanted = self.desired.get(status) or {Strength.NONE: _BOTH_WAYS}
            lines += [
                _line("des", QOS, f"{strength.name.lower()} {status.value}", direction)
                for strength, direction in sorted(wanted.items(), reverse=True)
                if direction is not _NO_WAY
            ]
        for status in self._missing(Strength.MANDATORY):
            if status is not StatusType.LOCAL and status in statuses:
                lines.append(_line("conf", QOS, status.value, self.desired[status][Strength.MANDATORY]))
        return lines

    def to_failure_lines(self) -> list[Line]:
        """The lines of a 580 (§8): what is unknown to us, and what could not be reserved."""
        lines: list[Line] = [("a", f"des:{name} unknown e2e sendrecv") for name in self.unknown]
        for status in self._missing(Strength.MANDATORY):
            lines.append(_line("des", QOS, f"failure {status.value}", self.desired[status][Strength.MANDATORY]))
        return lines


def _line(name: str, kind: str, words: str, direction: Direction) -> Line:
    return "a", f"{name}:{kind} {words} {_DIRECTION_TAGS[direction]}"


def _read_strength(words: list[str]) -> Strength | None:
    """None: ``failure`` and ``unknown``, which only a refusal carries."""
    if len(words) < 2:
        raise SdpError("precondition without a strength")
    tag = words[1].upper()
    if tag in ("FAILURE", "UNKNOWN"):
        return None
    if tag not in Strength.__members__:
        raise SdpError("unknown strength of a precondition")
    return Strength[tag]


def _read_status(words: Iterable[str]) -> tuple[StatusType, Direction]:
    """Status type and direction, turned to our view."""
    found = [word.lower() for word in words]
    try:
        status, direction = StatusType(found[0]), _DIRECTIONS[found[1]]
    except (IndexError, KeyError, ValueError):
        raise SdpError("precondition cannot be read") from None
    return status.turned, direction.reversed
