"""What a party hears that is not its engine: clips on command, and filler as `FillerPolicy` decides."""

from __future__ import annotations

import time

from media.call import CommandError, Emit
from media.clips import FILLER, ClipError, ClipLibrary
from media.filler import Playing
from media.leg import Leg
from media.mixing import FADE_FRAMES, Mixer
from media.table import LegTable

__all__ = ["ClipPlayer"]


class ClipPlayer:
    """Starts and ends clips; the downlink takes their frames from the leg."""

    def __init__(self, table: LegTable, mixer: Mixer, emit: Emit) -> None:
        self._table = table
        self._mixer = mixer
        self._emit = emit
        self._clips = ClipLibrary()
        self._clips.get(FILLER)
        self._watched: set[Leg] = set()

    def play(self, leg: Leg, clip: str, loop: bool, *, whole: bool = False) -> None:
        """``whole``: what the engine says meanwhile is heard after it.  Raises CommandError: it cannot be read."""
        try:
            samples = self._clips.get(clip, leg.line_rate_hz)
        except ClipError as error:
            raise CommandError("bad_command", str(error)) from error
        self.switch(leg, leg.filler.play_started())
        leg.clip, leg.clip_name, leg.clip_position, leg.clip_loop = samples, clip, 0, loop
        leg.clip_frames = FADE_FRAMES
        self._table.clip[leg.row] = True
        self._hold(leg, whole and not loop)

    def _hold(self, leg: Leg, is_held: bool) -> None:
        if bool(self._table.held[leg.row]) != is_held:
            self._table.held[leg.row] = is_held
            self._table.n_held += 1 if is_held else -1

    def stop(self, leg: Leg) -> None:
        self.switch(leg, leg.filler.stopped())
        leg.clip = None
        self._table.clip[leg.row] = False
        self._hold(leg, False)

    def ended(self, leg: Leg) -> None:
        """The last frame of a clip that does not loop has been taken."""
        was_play = leg.filler.playing is Playing.CLIP
        self.stop(leg)
        if was_play:
            self._emit("played", leg)

    def engine_heard(self, leg: Leg) -> None:
        """The engine's audio takes over; filler fades out under it."""
        if leg.clip is not None and leg.filler.playing is Playing.FILLER:
            gain = min(1.0, leg.clip_frames / FADE_FRAMES)
            self._mixer.fade_out(leg.row, leg.clip, leg.clip_position, gain, leg.line_rate_hz)
        self.switch(leg, leg.filler.engine_audio())
        self._table.clip[leg.row] = False
        leg.clip = None
        self.watch(leg)

    def line_changed(self, leg: Leg) -> None:
        """The line has another rate: a clip under way starts anew."""
        self._mixer.forget(leg.row)
        self._set_bed(leg)
        if leg.clip is not None:
            leg.clip, leg.clip_position = self._clips.get(leg.clip_name, leg.line_rate_hz), 0

    def switch(self, leg: Leg, filler_on: bool | None) -> None:
        """Does what the leg's policy said; None: nothing changes."""
        if filler_on is None:
            return
        if filler_on:
            leg.clip_name = leg.filler_clip or FILLER
            try:
                leg.clip = self._clips.get(leg.clip_name, leg.line_rate_hz)
            except ClipError:
                leg.clip_name = FILLER
                leg.clip = self._clips.get(FILLER, leg.line_rate_hz)
            leg.clip_position, leg.clip_loop, leg.clip_frames = 0, True, 0
        else:
            leg.clip = None
        self._mixer.set_filler(leg.row, filler_on)
        self._table.clip[leg.row] = filler_on
        self._emit("filler", leg, at=time.time(), on=filler_on)

    def watch(self, leg: Leg) -> None:
        """The leg's policy has decided anew when it wants to be asked."""
        if leg.filler.next_deadline() is None:
            self._watched.discard(leg)
        else:
            self._watched.add(leg)

    def forget(self, leg: Leg) -> None:
        self._watched.discard(leg)
        self._hold(leg, False)
        self._mixer.set_filler(leg.row, False)
        self._mixer.forget(leg.row)

    def set_background(self, leg: Leg, clip: str | None, level_db: float) -> None:
        """What is heard under everything that goes to the party; one that cannot be read is none."""
        leg.background, leg.background_db = clip, level_db
        self._set_bed(leg)

    def _set_bed(self, leg: Leg) -> None:
        clip = None
        if leg.background is not None:
            try:
                clip = self._clips.get(leg.background, leg.line_rate_hz)
            except ClipError as error:
                self._emit("error", leg, detail=f"background: {error}")
        self._mixer.set_bed(leg.row, clip, 10 ** (leg.background_db / 20), leg.line_rate_hz)

    def handle_timers(self, tick: int) -> None:
        for leg in [leg for leg in self._watched if _is_due(leg, tick)]:
            self.switch(leg, leg.filler.handle_timer(tick))
            self.watch(leg)


def _is_due(leg: Leg, tick: int) -> bool:
    deadline = leg.filler.next_deadline()
    return deadline is not None and tick >= deadline
