"""Which mode an AMR encoder sends next: what the peer wishes, within what was negotiated (RFC 4867 §8.1, §3.6)."""

from __future__ import annotations

from media.codecs.amr_payload import AmrKind
from media.codecs.base import CodecError, Parameters

__all__ = ["ModeControl", "read_mode_set"]


def read_mode_set(parameters: Parameters, kind: AmrKind) -> tuple[int, ...]:
    """The modes of ``mode-set``, ascending; all where there is none.

    Raises:
        CodecError: no mode of this codec in it, or something else.
    """
    text = parameters.get("mode-set", "").strip()
    if not text:
        return tuple(range(kind.n_modes))
    modes = {part.strip() for part in text.split(",")}
    if not all(each.isascii() and each.isdigit() and len(each) == 1 and int(each) < kind.n_modes for each in modes):
        raise CodecError(f"mode-set {text[:40]!r}")
    return tuple(sorted(int(each) for each in modes))


class ModeControl:
    """The mode of each frame of one stream.

    A wish is brought to the highest mode of the set that is not above it (to the lowest one where all are above), and
    is reached in steps of one where the peer wants neighbours only, at every other frame where it wants a period of 2.

    Args:
        first: the mode to begin with, brought into the set likewise.
    """

    def __init__(self, parameters: Parameters, kind: AmrKind, *, first: int) -> None:
        self.modes = read_mode_set(parameters, kind)
        self._neighbours_only = parameters.get("mode-change-neighbor", "0").strip() == "1"
        self._period = 2 if parameters.get("mode-change-period", "1").strip() == "2" else 1
        self._index = self._target = self._nearest(first)
        self._since_change = 0

    @property
    def mode(self) -> int:
        """Of the frame sent last."""
        return self.modes[self._index]

    def request(self, mode: int) -> None:
        """The peer wishes that mode from now on."""
        self._target = self._nearest(mode)

    def next_mode(self) -> int:
        """Of the frame to be sent now."""
        self._since_change += 1
        if self._index != self._target and self._since_change % self._period == 0:
            step = self._target - self._index
            self._index += max(-1, min(1, step)) if self._neighbours_only else step
        return self.modes[self._index]

    def _nearest(self, mode: int) -> int:
        return max((index for index, each in enumerate(self.modes) if each <= mode), default=0)
