"""Each key press once, whichever way it came: the one place where reports of the same press are told apart.

A press may be reported by a telephone event (RFC 4733), by its tones, heard in the audio, and by INFO; some gateways
do all three.  Each source reports a press once and in order; between the sources nothing is certain but that reports
are near in time.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import attrs

__all__ = ["MAX_WAITING", "DigitMerger", "DigitSource", "source_of"]

DigitSource = Literal["rtp", "inband", "info"]
INFO_SLACK_S: Final = 1.0
"""An INFO takes the long way, through every proxy of the path."""
MEDIA_SLACK_S: Final = 0.4
"""Between event and tones, which come through one socket: jitter, and what hearing a tone takes."""
MAX_WAITING: Final = 32


def source_of(name: object) -> DigitSource:
    """What the media worker calls it; a worker that does not say knows telephone events alone."""
    return next((source for source in get_args(DigitSource) if source == name), "rtp")


@attrs.define
class _Press:
    digit: str
    sources: set[DigitSource]
    begin: float
    end: float

    def is_near(self, source: DigitSource, begin: float, end: float) -> bool:
        slack = MEDIA_SLACK_S if "info" not in self.sources and source != "info" else INFO_SLACK_S
        return self.begin <= end + slack and begin <= self.end + slack


@attrs.define
class DigitMerger:
    """Tells further reports of a key press from the next one.

    A report belongs to the first press of that digit, near in time, which its source has not reported yet; so the same
    key pressed twice, reported two or three ways, is two digits.
    """

    _presses: list[_Press] = attrs.Factory(list)

    def is_new(self, source: DigitSource, digit: str, duration_ms: int, *, now: float) -> bool:
        """``now``: monotonic seconds of the report, which comes at the end of the key press or, by INFO, at either."""
        duration_s = duration_ms / 1000
        begin, end = now - duration_s, now + (duration_s if source == "info" else 0.0)
        self._presses = [press for press in self._presses[-MAX_WAITING:] if press.end + INFO_SLACK_S >= begin]
        for press in self._presses:
            if press.digit == digit and source not in press.sources and press.is_near(source, begin, end):
                press.sources.add(source)
                return False
        self._presses.append(_Press(digit, {source}, begin, end))
        return True
