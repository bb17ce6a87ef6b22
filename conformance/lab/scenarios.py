"""The calls of the demo."""

from __future__ import annotations

import re
import time
from typing import ClassVar, Literal

import trio

from conformance.lab import evidence
from conformance.lab.network import ALICE, ANNA
from conformance.lab.report.model import Lifeline, Marker
from conformance.lab.scenario import RELEASE_LIMIT_S, TRANSCRIPTS, Judged, Scenario, user_to_user
from conformance.lab.ue import PhoneCall
from conformance.lab.words import count_right_words

__all__ = [
    "INTELLIGIBLE",
    "Answered",
    "EngineDies",
    "EngineDown",
    "EngineHangs",
    "EngineRefusesTerminated",
    "Transferred",
]

CARDS = ("cards-005.wav", "cards-001.wav", "cards-003.wav", "cards-004.wav")
INTELLIGIBLE = 0.8
"""Share of the words of the synthetic answers that a recogniser must get right over the telephone."""
CAPTURED = 0.95
"""Share of the packets that a capture must have seen: under load the kernel may drop copies."""
FILLER_LIMIT_S = 0.3
REFUSED_LIMIT_S = 0.05
BUDGET_S = 1.5
"""``answer_budget_ms`` of the lab's configuration (the default)."""
SETTLE_S = 0.4
"""What a party needs between answering and speaking."""


class Answered(Scenario):
    name = "answered"
    title = "Answered by the agent"
    summary = (
        "A caller’s recorded human speech is heard by the voice agent over ISC, RTP and WebSocket, understood word for "
        "word, and repeated in speech; the caller’s recording of each answer is recognised again."
    )
    limit_s = 45.0

    async def play(self) -> None:
        call = await self.call(ALICE)
        self.markers.append(Marker(call.answered_at or 0.0, "answered"))
        self.answers: list[tuple[str, Judged]] = []
        await trio.sleep(SETTLE_S)
        waits = []
        for name in CARDS:
            self.tell(f"the caller says “{TRANSCRIPTS[name]}”")
            said = await self.say(call, name)
            began, ended = await self.hear_answer(call, after=said.end)
            waits.append(began - said.end)
            self.answers.append((name, self.judge_words(call.rtp, began, ended, self.recognisers.answers)))
        self.measure_answer(waits)
        call.bye()
        at = call.ended_at or time.time()
        self.ended_by = "caller"
        self.markers.append(Marker(at, "BYE"))
        released = self.measure(
            "Port and engine socket released after BYE", await self.wait_released(at), RELEASE_LIMIT_S
        )
        self.check("Port and engine socket released at once", released is not None and released <= RELEASE_LIMIT_S)
        self.check("The legacy phone was not rung", not self.lab.phone.calls)

    def judge(self) -> None:
        heard = [line["text"] for line in self.detail.get("transcript", []) if line["role"] == "user"]
        expected = [TRANSCRIPTS[name] for name in CARDS]
        n_words = len(" ".join(expected).split())
        n_right = sum(count_right_words(e, h) for e, h in zip(expected, heard, strict=False))
        self.check(f"The agent understood {n_right} of {n_words} words", heard == expected)
        wanted = [f"you said {TRANSCRIPTS[name]}" for name, _ in self.answers]
        n_words = len(" ".join(wanted).split())
        n_right = sum(
            count_right_words(text, judged.words) for text, (_, judged) in zip(wanted, self.answers, strict=True)
        )
        is_clear = bool(wanted) and n_right >= INTELLIGIBLE * n_words
        self.check(f"The spoken answers, recognised again at the caller: {n_right} of {n_words} words", is_clear)
        said = [line["text"] for line in self.detail.get("transcript", []) if line["role"] == "agent"]
        self.check("The agent answered each with exactly what it heard", said == [f"you said {h}" for h in heard])


class _WithPhone(Scenario):
    """Calls that end at the legacy phone."""

    phone_heard: Judged | None = None

    def judge_direct_media(self) -> None:
        """RTP between the two phones both ways, and what was said came through."""
        assert self.caller is not None
        assert self.phone is not None
        mine, theirs = self.caller.rtp, self.phone.rtp
        there = theirs.sources().get(mine.local, (0, 0.0, 0.0))[0]
        back = mine.sources().get(theirs.local, (0, 0.0, 0.0))[0]
        self.check(
            f"Caller and phone sent RTP directly to each other ({there} and {back} packets)", min(there, back) > 50
        )
        if self.lab.capture.is_running:
            wire = self.lab.capture.flows.get((mine.local, theirs.local))
            n_seen = wire.n_packets if wire is not None else 0
            self.check(f"The wire shows the same ({n_seen} packets to the phone)", n_seen >= CAPTURED * there)
        if self.phone_heard is not None:
            expected = TRANSCRIPTS["cards-003.wav"]
            self.check(f"The phone heard “{self.phone_heard.words}”", self.phone_heard.words == expected)

    def judge_nothing_passes_us(self, after: float) -> None:
        """No RTP to or from ims-as later than ``after`` and the time to let go."""
        limit = after + RELEASE_LIMIT_S
        host = self.lab.addresses.ims_as
        late = [f for key, f in self.lab.capture.flows.items() if host in (key[0][0], key[1][0]) and f.last_at > limit]
        assert self.caller is not None
        late_at_ue = [p for p in self.caller.rtp.received if p.source[0] == host and p.at > limit]
        self.check("No RTP at ims-as afterwards", not late and not late_at_ue)

    def last_ack(self, before: float) -> float:
        """When the last ACK before ``before`` passed a phone."""
        wire = [*self.lab.caller.wire, *self.lab.phone.wire]
        return max((e.at for e in wire if e.data.startswith(b"ACK ") and e.at < before), default=self.began_at)

    async def join(self, caller: PhoneCall, number: int) -> PhoneCall:
        """The phone is called, answers, and the caller's media moves to it."""
        phone = await self.phone_call(number)
        await caller.moved.wait()
        self.direct_from = caller.moved_at[-1]
        self.markers.append(Marker(self.direct_from, "joined to the phone"))
        await trio.sleep(SETTLE_S)
        joined = self.last_ack(time.time())
        released = await self.wait_released(joined)
        self.measure("Port and engine socket released after the last ACK", released, RELEASE_LIMIT_S)
        self.check("Port and engine socket released at once", released is not None and released <= RELEASE_LIMIT_S)
        return phone


class Transferred(_WithPhone):
    name = "transferred"
    title = "Transferred to the served user"
    summary = (
        "On “queen of clubs” the agent hands the caller over: a new INVITE reaches the served user’s phone by legacy "
        "termination, re-INVITEs join the two parties’ media, and nothing of ims-as stays in the media path."
    )

    async def play(self) -> None:
        number = len(self.lab.phone.calls) + 1
        call = await self.call(ALICE)
        self.markers.append(Marker(call.answered_at or 0.0, "answered"))
        await trio.sleep(SETTLE_S)
        self.tell("the caller says “four queen of clubs”")
        said = await self.say(call, "cards-002.wav")
        phone = await self.join(call, number)
        began, ended = call.rtp.first_sound(said.end), self.direct_from
        if began is not None and ended is not None:
            self.measure_answer([began - said.end])
            self.judge_words(call.rtp, began, ended, self.recognisers.answers)
        assert phone.ringing_at is not None
        self.measure("End of speech to the phone ringing", phone.ringing_at - said.end)
        self.phone_heard = await self.talk(call, phone)
        self.check("Both legs ended with the phone’s BYE", call.ended_by == "remote")

    def judge(self) -> None:
        heard = [line["text"] for line in self.detail.get("transcript", []) if line["role"] == "user"]
        self.check("The agent understood 4 of 4 words", heard == [TRANSCRIPTS["cards-002.wav"]])
        if self.phone is None or self.direct_from is None:
            return
        self.judge_direct_media()
        self.judge_nothing_passes_us(self.last_ack(self.direct_from + 1.0))
        termination = self.detail.get("termination") or {}
        self.check(
            "ims-as recorded “transferred”, ended by the served user", termination.get("result") == "transferred"
        )


class EngineDown(_WithPhone):
    """The engine refuses connections; the criterion says SESSION_CONTINUED."""

    name = "engine-down"
    title = "Engine down"
    summary = (
        "The engine refuses connections. ims-as answers 503 at once, the S-CSCF continues (default handling "
        "SESSION_CONTINUED), and the call completes on legacy termination."
    )
    target: ClassVar[str] = ALICE
    fault: ClassVar[Literal["hang"] | None] = None
    limit_503_s: ClassVar[float] = REFUSED_LIMIT_S

    async def play(self) -> None:
        if self.fault is None:
            await self.lab.stop_engine()
            self.note(Lifeline.ENGINE, "not running", is_failure=True)
        else:
            await self.lab.start_engine(self.fault)
            self.note(Lifeline.ENGINE, "accepts connections, never answers", is_failure=True)
        number = len(self.lab.phone.calls) + 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._find_phone, number)
            call = await self.call(self.target)
        self.direct_from = call.answered_at
        self.markers.append(Marker(call.answered_at or 0.0, "answered by the phone"))
        assert self.phone is not None
        assert self.phone.ringing_at is not None
        self.measure("INVITE to the phone ringing", self.phone.ringing_at - call.began_at)
        await trio.sleep(SETTLE_S)
        self.phone_heard = await self.talk(call, self.phone)

    async def _find_phone(self, number: int) -> None:
        await self.phone_call(number)

    def judge(self) -> None:
        self.judge_failure()
        if self.phone is not None:
            self.judge_direct_media()

    def judge_failure(self) -> None:
        invites = self.sip_times(lambda source, target, text: target == "ims-as" and text.startswith("INVITE "))
        failures = self.sip_times(lambda source, target, text: source == "ims-as" and evidence.status_of(text) == 503)
        took = failures[0] - invites[0] if invites and failures else None
        self.measure("INVITE to 503 at ims-as", took, self.limit_503_s)
        in_time = took is not None and took <= self.limit_503_s
        self.check(f"ims-as answered 503 within {1000 * self.limit_503_s:.0f} ms", in_time)
        decisions = " ".join(text for at, text in self.lab.scscf.decisions if at >= self.began_at)
        self.check("The S-CSCF applied its default handling and continued", "continue" in decisions.lower())


class EngineHangs(EngineDown):
    name = "engine-hangs"
    title = "Engine hangs"
    summary = (
        "The engine accepts the TCP connection and never answers. ims-as gives up inside its own answer budget "
        "with 503 (its 100 has switched the S-CSCF’s guard off by then); the call completes on legacy termination."
    )
    fault = "hang"
    limit_503_s = BUDGET_S


class EngineRefusesTerminated(EngineDown):
    name = "engine-down-terminated"
    title = "Engine down, SESSION_TERMINATED"
    summary = (
        "As before, but the served user’s criterion says SESSION_TERMINATED: a 503 would kill the call. ims-as passes "
        "the INVITE on by its own Route, with the original dialog identifier, and the phone answers."
    )
    target = ANNA

    def judge_failure(self) -> None:
        failures = self.sip_times(
            lambda source, target, text: source == "ims-as" and (evidence.status_of(text) or 0) >= 300
        )
        self.check("ims-as sent no failure", bool(self.detail) and not failures)
        passed = self.sip_times(lambda source, target, text: source == "ims-as" and text.startswith("INVITE "))
        invites = self.sip_times(lambda source, target, text: target == "ims-as" and text.startswith("INVITE "))
        took = passed[0] - invites[0] if invites and passed else None
        self.measure("INVITE in to INVITE passed on", took, REFUSED_LIMIT_S)
        self.check("ims-as passed the INVITE on by its Route", took is not None)
        termination = self.detail.get("termination") or {}
        self.check("ims-as recorded “passed-on”", str(termination.get("result", "")).replace("_", "-") == "passed-on")


class EngineDies(_WithPhone):
    name = "engine-dies"
    title = "Engine dies in the call"
    summary = (
        "The engine process is killed while the caller is speaking. Filler starts at once; the served user’s phone is "
        "called with session data in the INVITE, and the caller is joined to it."
    )
    limit_s = 40.0

    async def play(self) -> None:
        await self.lab.start_engine()
        await self.lab.wait_ready()
        number = len(self.lab.phone.calls) + 1
        call = await self.call(ALICE)
        self.markers.append(Marker(call.answered_at or 0.0, "answered"))
        await trio.sleep(SETTLE_S)
        self.tell("the caller says “ten of clubs”")
        said = await self.say(call, "cards-001.wav")
        began, ended = await self.hear_answer(call, after=said.end)
        self.measure_answer([began - said.end])
        self.judge_words(call.rtp, began, ended, self.recognisers.answers)
        self.tell("the engine is killed while the caller speaks")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.say, call, "cards-005.wav")
            await trio.sleep(1.0)
            killed_at = self.note(Lifeline.ENGINE, "process killed (SIGKILL)", is_failure=True)
            self.markers.append(Marker(killed_at, "engine killed"))
            await self.lab.kill_engine()
            await call.rtp.wait_until(lambda: call.rtp.last_sound_at > killed_at)
            self.filler_from = call.rtp.first_sound(killed_at)
            filler = self.measure(
                "Engine killed to filler heard",
                None if self.filler_from is None else self.filler_from - killed_at,
                FILLER_LIMIT_S,
            )
            self.check("Filler within 300 ms", filler is not None and filler <= FILLER_LIMIT_S)
            phone = await self.join(call, number)
        assert phone.ringing_at is not None
        self.measure("Engine killed to the phone ringing", phone.ringing_at - killed_at)
        await self._read_session_data(phone)
        self.phone_heard = await self.talk(call, phone)

    async def _read_session_data(self, phone: PhoneCall) -> None:
        assert phone.invite is not None
        uui = phone.invite.headers.get("User-to-User") or ""
        info = phone.invite.headers.get("Call-Info") or ""
        self.session_data = [("User-to-User", uui), ("", user_to_user(uui)), ("Call-Info", info)]
        self.check("The INVITE to the phone carries User-to-User and Call-Info", bool(uui and info))
        found = re.search(r"<(http[^>]+)>", info)
        detail = await self.lab.fetch_json(found.group(1)) if found else None
        detail = detail or {}
        heard = [line["text"] for line in detail.get("transcript", []) if line["role"] == "user"]
        reason = (detail.get("transfer") or {}).get("reason")
        self.session_data.append(("its transcript", "; ".join(heard) or "–"))
        self.session_data.append(("its reason", str(reason or "–")))
        self.check("Call-Info’s URL returns the transcript so far", TRANSCRIPTS["cards-001.wav"] in heard)
        self.check("Call-Info’s URL returns the reason", bool(reason))

    def judge(self) -> None:
        if self.phone is None or self.direct_from is None:
            return
        self.judge_direct_media()
        self.judge_nothing_passes_us(self.last_ack(self.direct_from + 1.0))
