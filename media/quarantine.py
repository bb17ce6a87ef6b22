"""Which leg an unforeseen error was about, so that it alone is given up and not its worker.

A pass handles all legs; what raises in it does so, as a rule, in the part that handles one leg by itself.  The frames
of the traceback are looked through from where it was raised outwards for an object that belongs to a leg.  A wrong
guess costs an innocent leg a move to another row, no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import FrameType
from typing import Final

from media.leg import Leg

__all__ = ["leg_behind"]

_HOLDERS: Final = ("leg", "call", "session", "self")


def leg_behind(error: BaseException, leg_of: Callable[[int], Leg]) -> Leg | None:
    """The leg that was being handled, None when it cannot be told.

    Args:
        leg_of: row to leg; raises LookupError.
    """
    frames: list[FrameType] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    for frame in reversed(frames):
        found = None
        with contextlib.suppress(Exception):  # of objects in no good state
            found = _leg_in(frame, leg_of)
        if found is not None:
            return found
    return None


def _leg_in(frame: FrameType, leg_of: Callable[[int], Leg]) -> Leg | None:
    names = frame.f_locals
    for name in _HOLDERS:
        holder = names.get(name)
        owner = getattr(holder, "owner", None)  # of an engine's session: its call
        for each in (holder, getattr(holder, "leg", None), getattr(owner, "leg", None)):
            if isinstance(each, Leg):
                return each
        row = getattr(holder, "row", None)
        if isinstance(row, int) and (leg := _at(row, leg_of)) is not None:
            return leg
    row = names.get("row")
    return _at(row, leg_of) if isinstance(row, int) else None


def _at(row: int, leg_of: Callable[[int], Leg]) -> Leg | None:
    try:
        return leg_of(row)
    except (LookupError, ValueError):
        return None
