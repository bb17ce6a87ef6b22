"""Sequence numbers of repository data (TS 29.328 §6.1.2): which version is newer, and how to change an item so that
nobody's change is lost. Sans-IO.

0 creates an item, each change and the deletion carry one more than the stored number, and after 65535 comes 1. The
HSS refuses any other number with 5105: then the item is read again and the change made anew, on what is there now.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import frozen
from lxml import etree

from diameter.dictionary.base import VENDOR_3GPP
from diameter.dictionary.sh import ShResultCode
from diameter.message import Result
from diameter.sh.sh_data import RepositoryData

__all__ = ["RepositoryWrite", "Step", "Verdict", "judge_push", "lacks_of", "next_sequence_number", "replace_by"]

MAX_ATTEMPTS = 4

_HIGHEST = 65535
_OUT_OF_SYNC = Result(ShResultCode.TRANSPARENT_DATA_OUT_OF_SYNC, VENDOR_3GPP)
_IN_PROGRESS = Result(ShResultCode.PRIOR_UPDATE_IN_PROGRESS, VENDOR_3GPP)


def next_sequence_number(sequence: int | None) -> int:
    """TS 29.328 §6.1.2: 0 creates, then one more each time; after 65535 comes 1."""
    if sequence is None:
        return 0
    return 1 if sequence >= _HIGHEST else sequence + 1


def _steps(older: int, newer: int) -> int:
    """How many changes lead from one number to another, going around after 65535; 0 is only where it begins."""
    if older == 0:
        return newer
    return (newer - older) % _HIGHEST


# ---------------------------------------------------------------- notifications


@frozen
class Verdict:
    """What to do with a notified item.

    Attributes:
        applies: it takes the place of what we hold.
        is_doubtful: the numbers leave open what the HSS has now: it should be asked.
        is_unsettling: from now on, and for as long as notifications may be late, no number can be trusted: after a
            deletion they begin anew, and one of the old item would look like one of the new.
    """

    applies: bool
    is_doubtful: bool = False
    is_unsettling: bool = False


_TAKE, _LEAVE = Verdict(True), Verdict(False)
_TAKE_DELETION, _LEAVE_DELETION = Verdict(True, False, True), Verdict(False, False, True)
_TAKE_AND_ASK, _LEAVE_AND_ASK = Verdict(True, True, True), Verdict(False, True, True)


def judge_push(sequence: int | None, service_data: bytes | None, item: RepositoryData) -> Verdict:
    """Holds a notification against the version that we have; notifications may come late, twice, or not at all.

    Args:
        sequence: of the version held, None when there is no item.
        service_data: its data.
    """
    if sequence is None:
        if item.service_data is None:
            return _LEAVE_DELETION
        return _TAKE if item.sequence_number == 0 else _TAKE_AND_ASK
    if item.sequence_number == next_sequence_number(sequence):
        return _TAKE if item.service_data is not None else _TAKE_DELETION
    if item.service_data is None:
        if item.sequence_number in (0, sequence):
            return _TAKE_AND_ASK  # some HSSes give no number of its own to a deletion
        return _TAKE_AND_ASK if _steps(sequence, item.sequence_number) <= _HIGHEST // 2 else _LEAVE_AND_ASK
    if item.sequence_number == sequence:
        return _LEAVE if item.service_data == service_data else _TAKE_AND_ASK
    if item.sequence_number == 0:
        return _LEAVE_AND_ASK  # late by long, or the item was deleted and made anew
    # some between the two were lost, or this one is late
    return _TAKE_AND_ASK if _steps(sequence, item.sequence_number) <= _HIGHEST // 2 else _LEAVE_AND_ASK


# ---------------------------------------------------------------- writing


class Step(Enum):
    """What a write wants next."""

    PULL = "pull"
    PUT = "put"
    WAIT = "wait"
    DONE = "done"
    FAILED = "failed"


Change = Callable[[bytes | None], bytes | None]


def replace_by(service_data: bytes | None) -> Change:
    """The change that does not care what was there: the last writer wins."""
    return lambda _: service_data


class RepositoryWrite:
    """One change of one item, until it is in or cannot be.

    `step` says what to do; the outcome goes to `receive_item` or `receive_result`, and after a wait to `resume`.

    Args:
        change: makes the new service data out of the present one; None is no item. Called again on what the HSS has
            when somebody else was faster, so it should depend on nothing else.
        held: the item as we know it; give None with `is_held` where we know that there is none.
        is_held: False reads the item first. So does a change that would change nothing: what we hold may be old.
        is_conditional: True fails where the item is not what we hold, and does not try again.

    Attributes:
        sequence: of the item when it is in; None: there is none.
        service_data: what is to be stored.
        result: of the latest attempt.
    """

    def __init__(
        self,
        change: Change,
        *,
        held: RepositoryData | None = None,
        is_held: bool = True,
        is_conditional: bool = False,
    ) -> None:
        self._change = change
        self._is_conditional = is_conditional
        self._attempts_left = 1 if is_conditional else MAX_ATTEMPTS
        self._number = 0
        self.step = Step.PULL
        self.sequence: int | None = None
        self.service_data: bytes | None = None
        self.result: Result | None = None
        if is_held:
            present = held.service_data if held is not None else None
            wanted = change(present)
            if is_conditional or wanted != present:
                self._prepare(held, wanted)

    @property
    def number(self) -> int:
        """Sequence number to be sent."""
        return self._number

    def receive_item(self, item: RepositoryData | None) -> None:
        """What the HSS has."""
        present = item.service_data if item is not None else None
        wanted = self._change(present)
        if wanted == present:
            # nothing (left) to change: also where an answer of ours was lost and the change had been made
            self.service_data = present
            self.sequence = item.sequence_number if item is not None and present is not None else None
            self.step = Step.DONE
            return
        self._prepare(item, wanted)

    def receive_result(self, result: Result) -> None:
        """How the HSS took it."""
        self.result = result
        self._attempts_left -= 1
        if result.is_success:
            self.sequence = None if self.service_data is None else self._number
            self.step = Step.DONE
        elif result not in (_OUT_OF_SYNC, _IN_PROGRESS) or self._attempts_left <= 0:
            self.step = Step.FAILED
        else:
            self.step = Step.PULL if result == _OUT_OF_SYNC else Step.WAIT

    def resume(self) -> None:
        """Waited long enough: the same again."""
        self.step = Step.PUT

    def _prepare(self, item: RepositoryData | None, wanted: bytes | None) -> None:
        has_data = item is not None and item.service_data is not None
        self.service_data = wanted
        self._number = next_sequence_number(item.sequence_number if item is not None and has_data else None)
        self.step = Step.PUT


def lacks_of(written: bytes | None, kept: bytes | None) -> bool:
    """True when an HSS has kept less than was written. Blanks and the spelling of namespaces do not count."""
    if written is None:
        return False
    return kept is None or _extent(kept) < _extent(written)


def _extent(xml: bytes) -> int:
    try:
        return len(etree.canonicalize(xml.decode(), strip_text=True))
    except (etree.XMLSyntaxError, ValueError):
        return 0
