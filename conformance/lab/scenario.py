"""The frame of a demo call: checks, measured values, evidence, and the report made of them.

A scenario's ``play`` does the call and states facts; whatever goes wrong in it (a party that does not answer, a
deadline) becomes a failed fact, so that the other calls still run and the report shows how far this one came.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import numpy as np
import numpy.typing as npt
import trio

from conformance.lab import evidence, pcmu
from conformance.lab.network import Lab
from conformance.lab.processes import LabError
from conformance.lab.report.model import (
    Band,
    BandKind,
    CallReport,
    Caption,
    Event,
    EventKind,
    Fact,
    Lifeline,
    Marker,
    Timing,
    Track,
    TranscriptLine,
)
from conformance.lab.rtp_leg import RtpLeg
from conformance.lab.speech import Recogniser, SpeechError, hear_all
from conformance.lab.ue import CallFailedError, PhoneCall, read_wav

__all__ = ["AUDIO", "RELEASE_LIMIT_S", "TRANSCRIPTS", "Judged", "Recognisers", "Scenario", "user_to_user"]

AUDIO: Final = Path(__file__).with_name("audio")
TRANSCRIPTS: Final = dict(
    line.split("\t") for line in (AUDIO / "transcripts.tsv").read_text(encoding="utf-8").splitlines()
)
PHONE_SPEECH: Final = "jfk.wav"
PHONE_SPEECH_S: Final = 2.7
"""So much of it is played; the next words come later."""
PHONE_WORDS: Final = "and so my fellow americans"
EDGE_S: Final = 0.3
"""Listened to before and after a stretch of speech, so that no soft consonant is lost."""
QUIET_S: Final = 1.0
"""An answer is over after so long without sound; pauses between its words are shorter."""
RELEASE_LIMIT_S: Final = 0.2
RELEASE_WAIT_S: Final = 2.0
POLL_S: Final = 0.02


@attrs.frozen
class Recognisers:
    """What the recordings are judged with: cards spoken by people, and the agent's own speech."""

    cards: Recogniser
    answers: Recogniser


@attrs.define
class Judged:
    """A stretch of a recording that a recogniser shall say the words of."""

    leg: RtpLeg
    start: float
    end: float
    recogniser: Recogniser
    words: str = ""


class Scenario(ABC):
    """One call of the demo."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    limit_s: ClassVar[float] = 30.0

    def __init__(self, lab: Lab, number: str, tell: Callable[[str], None]) -> None:
        self.lab = lab
        self.number = number
        self.tell = tell
        self.began_at = time.time()
        self.facts: list[Fact] = []
        self.timings: list[Timing] = []
        self.notes: list[Event] = []
        self.markers: list[Marker] = []
        self.session_data: list[tuple[str, str]] = []
        self.caller: PhoneCall | None = None
        self.phone: PhoneCall | None = None
        self.detail: dict[str, Any] = {}
        """What ims-as's API says of the call."""
        self.ttfb_ms: float | None = None
        """End of the caller's speech to the first sound of the answer, both at the caller."""
        self.ended_by: str | None = None
        self.ports_left: int | None = None
        self.spoken: dict[int, list[Caption]] = {}
        """By id of the leg: what was played on it."""
        self.direct_from: float | None = None
        self.filler_from: float | None = None
        self.judged: list[Judged] = []

    # ---------------------------------------------------------------- for subclasses

    @abstractmethod
    async def play(self) -> None:
        """Does the call."""

    @abstractmethod
    def judge(self) -> None:
        """States facts about what the recognisers and ims-as's own record say; called after `play`."""

    def check(self, text: str, ok: bool) -> bool:
        self.facts.append(Fact(text, ok))
        return ok

    def measure(self, name: str, seconds: float | None, limit_s: float | None = None) -> float | None:
        """A timing, checked against its limit where it has one."""
        limit = "" if limit_s is None else f"≤ {1000 * limit_s:.0f} ms"
        ok = None if limit_s is None else seconds is not None and seconds <= limit_s
        value = "–" if seconds is None else f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"
        self.timings.append(Timing(name, value, limit, ok))
        return seconds

    async def call(self, target: str) -> PhoneCall:
        """The caller's UE calls; returns when answered.  Raises CallFailedError."""
        self.tell("the caller dials")
        self.caller = await self.lab.caller.start_call(target)
        await self.caller.answered.wait()
        if self.caller.failure is not None:
            raise CallFailedError(self.caller.failure)
        assert self.caller.answered_at is not None
        self.measure("INVITE to 200 at the caller", self.caller.answered_at - self.caller.began_at)
        return self.caller

    async def say(self, call: PhoneCall, name: str, length_s: float | None = None, words: str | None = None) -> Caption:
        """Plays a recording of ours; returns where its speech was."""
        pcm = read_wav(AUDIO / name)
        if length_s is not None:
            pcm = pcm[: int(length_s * pcmu.RATE_HZ)]
        captions = evidence.spoken_captions(pcm, pcmu.RATE_HZ, time.time(), words or TRANSCRIPTS[name])
        self.spoken.setdefault(id(call.rtp), []).extend(captions)
        await call.play(pcm)
        return captions[0]

    async def hear_answer(self, call: PhoneCall, after: float) -> tuple[float, float]:
        """Waits for speech that begins after ``after``, until it is over.  Returns when it began and ended."""
        await call.rtp.wait_until(lambda: call.rtp.last_sound_at > after)
        began = call.rtp.first_sound(after)
        assert began is not None
        while True:
            ended = call.rtp.last_sound_at
            quiet_for = ended + QUIET_S - time.time()
            if quiet_for <= 0:
                return began, ended
            await trio.sleep(quiet_for)

    def measure_answer(self, waits_s: list[float]) -> None:
        """TTFB as the caller has it."""
        median = sorted(waits_s)[len(waits_s) // 2]
        self.ttfb_ms = 1000 * median
        what = "End of speech to first sound of the answer"
        self.measure(f"{what}, median of {len(waits_s)}" if len(waits_s) > 1 else what, median)

    def judge_words(self, leg: RtpLeg, start: float, end: float, recogniser: Recogniser) -> Judged:
        """Has the words of a stretch of a recording recognised once the call is over."""
        judged = Judged(leg, start - EDGE_S, end + EDGE_S, recogniser)
        self.judged.append(judged)
        return judged

    async def phone_call(self, number: int) -> PhoneCall:
        """The ``number``-th call of the legacy phone, once it is answered."""
        call = await self.lab.phone.wait_for_call(number)
        self.phone = call
        self.tell("the phone rings")
        await call.answered.wait()
        return call

    async def talk(self, caller: PhoneCall, phone: PhoneCall) -> Judged:
        """Both parties speak at once, then the phone hangs up.  Returns what the phone heard, to be judged."""
        self.tell("caller and phone talk")
        captions: list[Caption] = []

        async def caller_speaks() -> None:
            captions.append(await self.say(caller, "cards-003.wav"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller_speaks)
            nursery.start_soon(self.say, phone, PHONE_SPEECH, PHONE_SPEECH_S, PHONE_WORDS)
        await trio.sleep(0.3)
        phone.bye()
        await caller.ended.wait()
        self.ended_by = "served-user"
        return self.judge_words(phone.rtp, captions[0].start, captions[0].end, self.recognisers.cards)

    async def wait_released(self, after: float) -> float | None:
        """Seconds from ``after`` until no media port and engine connection of ims-as was left."""
        with trio.move_on_after(RELEASE_WAIT_S):
            await self.lab.sockets.wait_until(lambda: self.lab.sockets.gone_at(after) is not None)
        gone = self.lab.sockets.gone_at(after)
        return None if gone is None else gone - after

    def note(self, line: Lifeline, text: str, *, is_failure: bool = False) -> float:
        at = time.time()
        self.notes.append(Event(at, EventKind.DECISION, line, line, text, is_failure=is_failure))
        return at

    def sip_times(self, wanted: Callable[[str, str, str], bool]) -> list[float]:
        """Times of SIP messages in ims-as's trail for which ``wanted(source, target, message)``."""
        return [
            float(e["at"])
            for e in self.detail.get("trace", [])
            if e["kind"] == "sip" and wanted(e["source"], e["target"], e["text"])
        ]

    # ---------------------------------------------------------------- running

    recognisers: Recognisers

    async def run(self, recognisers: Recognisers) -> CallReport:
        """Plays, gathers, judges.  Never raises for a call that goes wrong."""
        self.recognisers = recognisers
        self.lab.capture.clear()
        self.began_at = time.time()
        try:
            with trio.fail_after(self.limit_s):
                await self.play()
        except (LabError, CallFailedError) as error:
            self.check(f"The call came about ({error})", False)
        except trio.TooSlowError:
            self.check(f"The call was over within {self.limit_s:.0f} s", False)
        ended_at = time.time()
        await self._hang_up()
        left = self.lab.sockets.look()
        self.ports_left = len(left.rtp_ports)
        self.check("No media port and no engine connection of ims-as is left", not left.rtp_ports | left.engine_ports)
        await self._gather()
        self.tell("listening to the recordings")
        for judged in self.judged:
            await trio.to_thread.run_sync(self._recognise, judged)
        played, self.facts = self.facts, []
        self.judge()
        self.facts += played  # what was understood and said comes first
        return self._report(ended_at)

    async def _hang_up(self) -> None:
        """Ends what is still up, so that the next call starts from nothing."""
        for phone in (self.lab.caller, self.lab.phone):
            for call in phone.calls:
                if call.ended_at is None:
                    call.bye()
        with trio.move_on_after(RELEASE_WAIT_S):
            for phone in (self.lab.caller, self.lab.phone):
                for call in phone.calls:
                    await call.ended.wait()
        if self.caller is not None and self.caller.ended_at is not None:
            await self.wait_released(self.caller.ended_at)

    async def _gather(self) -> None:
        if self.caller is None or self.caller.session is None:
            return
        call_id = self.caller.session.request.call_id
        with trio.move_on_after(1.0):  # the record is closed a moment after the BYE
            while not (found := await self.lab.fetch_call(call_id) or {}).get("termination"):
                self.detail = found or self.detail
                await trio.sleep(POLL_S)
            self.detail = found
        if isinstance(own := self.detail.get("ttfb_ms"), int | float):
            self.measure("Time to first byte as ims-as measures it, first answer", own / 1000)

    @staticmethod
    def _recognise(judged: Judged) -> None:
        pcm = judged.leg.heard_pcm()
        first, last = (round((at - judged.leg.began_at) * pcmu.RATE_HZ) for at in (judged.start, judged.end))
        try:
            judged.words = hear_all(judged.recogniser, evidence.to_16k(pcm[max(0, first) : max(0, last)]))
        except SpeechError as error:
            judged.words = f"({error})"

    # ---------------------------------------------------------------- the report

    def _report(self, ended_at: float) -> CallReport:
        zero = self.caller.began_at if self.caller is not None else self.began_at
        result = {
            "name": self.name,
            "ok": bool(self.facts) and all(fact.ok for fact in self.facts),
            "setup_ms": self._setup_ms(),
            "ttfb_ms": None if self.ttfb_ms is None else round(self.ttfb_ms, 1),
            "ended_by": self.ended_by,
            "legacy_answered": self.phone is not None and self.phone.answered_at is not None,
            "ports_left": self.ports_left,
            "transcript": [{"role": t["role"], "text": t["text"]} for t in self.detail.get("transcript", [])],
            "failed": [fact.text for fact in self.facts if not fact.ok],
        }
        legs = [call.rtp for call in (self.caller, self.phone) if call is not None]
        names = {**self.lab.lifeline_hosts()}
        return CallReport(
            number=self.number,
            name=self.name,
            title=self.title,
            summary=self.summary,
            began_at=zero,
            ended_at=ended_at,
            facts=tuple(self.facts),
            timings=tuple(self.timings),
            events=tuple(self._events(zero - 0.001)),
            bands=tuple(self._bands()),
            tracks=tuple(self._tracks()),
            markers=tuple(self.markers),
            transcript=tuple(self._transcript()),
            rtp_flows=tuple(evidence.rtp_flows(self.lab.capture.flows, legs, names)),
            session_data=tuple(self.session_data),
            result=result,
        )

    def _setup_ms(self) -> float | None:
        if self.caller is None or self.caller.answered_at is None:
            return None
        return round(1000 * (self.caller.answered_at - self.caller.began_at), 1)

    def _events(self, since: float) -> list[Event]:
        events = [*self.notes]
        events += evidence.sip_events(self.lab.sip_wire, self.lab.lifeline_hosts(), since)
        seen_at_hss = (evidence.sh_event(*seen) for seen in self.lab.diameter_wire if seen[0] >= since)
        events += [event for event in seen_at_hss if event is not None]
        events += evidence.scscf_events(self.lab.scscf.decisions, since)
        events += evidence.trace_events(self.detail.get("trace", []), self.lab.lifeline_hosts())
        events += evidence.engine_events(evidence.read_json_lines(self.lab.engine_log, since))
        return sorted(events, key=lambda event: event.at)

    def _heard(self, leg: RtpLeg) -> list[Caption]:
        return [Caption(j.start + EDGE_S, j.end - EDGE_S, j.words or "…") for j in self.judged if j.leg is leg]

    def _bands(self) -> list[Band]:
        bands: list[Band] = []
        ue, engine, phone = Lifeline.UE, Lifeline.ENGINE, Lifeline.PHONE
        direct = self.direct_from if self.direct_from is not None else float("inf")
        if self.caller is not None:
            said = [c for c in self.spoken.get(id(self.caller.rtp), []) if c.start < direct]
            bands += evidence.bands_of(said, BandKind.CALLER, ue, engine)
            heard = [c for c in self._heard(self.caller.rtp) if c.start < direct]
            bands += evidence.bands_of(heard, BandKind.AGENT, engine, ue)
            if self.filler_from is not None and direct < float("inf"):
                bands.append(Band(self.filler_from, direct, BandKind.FILLER, Lifeline.MEDIA, ue, "filler"))
            if self.direct_from is not None and self.caller.ended_at is not None:
                bands.append(
                    Band(direct, self.caller.ended_at, BandKind.DIRECT, ue, phone, "caller and phone talk directly")
                )
        return bands

    def _tracks(self) -> list[Track]:
        tracks = []
        for who, call in (("Caller", self.caller), ("Phone", self.phone)):
            if call is None or call.rtp.began_at == 0.0:
                continue
            for verb, pcm, captions in (
                ("sent", call.rtp.sent_pcm(), self.spoken.get(id(call.rtp), [])),
                ("heard", call.rtp.heard_pcm(), self._heard(call.rtp)),
            ):
                file_name = f"{self.number}-{self.name}-{who.lower()}-{verb}.wav"
                tracks.append(
                    Track(f"{who} {verb}", file_name, _trimmed(pcm), pcmu.RATE_HZ, call.rtp.began_at, tuple(captions))
                )
        return tracks

    def _transcript(self) -> list[TranscriptLine]:
        expected = [c.text for c in self.spoken.get(id(self.caller.rtp), [])] if self.caller is not None else []
        lines = []
        for entry in self.detail.get("transcript", []):
            wanted = expected.pop(0) if entry["role"] == "user" and expected else None
            lines.append(TranscriptLine(float(entry["at"]), entry["role"], entry["text"], wanted))
        return lines


def _trimmed(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return pcm if len(pcm) else np.zeros(pcmu.RATE_HZ // 50, np.int16)


def user_to_user(value: str) -> str:
    """The content of a User-to-User header in readable form (RFC 7433: hexadecimal)."""
    content = value.partition(";")[0].strip()
    try:
        return json.dumps(json.loads(bytes.fromhex(content)), ensure_ascii=False)
    except ValueError:
        return content
