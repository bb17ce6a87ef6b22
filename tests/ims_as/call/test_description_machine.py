"""Any sequence of offers, answers, refusals and changes of mind keeps RFC 3264 §8 in what the caller gets from us."""

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ims_as.call.media_description import CallDescription
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.sdp import RtpMap, SessionDescription, parse_sdp_untrusted

FORMATS = st.lists(st.sampled_from(["0", "8", "97", "100", "101", "118"]), min_size=1, max_size=4, unique=True)
MEANINGS = st.fixed_dictionaries(
    {
        "100": st.sampled_from(["PCMA/8000", "telephone-event/8000", "AMR/8000"]),
        "101": st.sampled_from(["telephone-event/8000", "AMR-WB/16000", "PCMU/8000"]),
        "118": st.sampled_from(["PCMU/8000", "telephone-event/16000"]),
    }
)
DIRECTIONS = st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive"])


class DescriptionMachine(RuleBasedStateMachine):
    """Plays the caller; `sent` is what has gone out to it."""

    @initialize(meanings=MEANINGS, before=st.integers(0, 2))
    def begin(self, meanings: dict[str, str], before: int) -> None:
        self.meanings = dict(meanings)
        self.before = before
        """Lines in front of the audio line."""
        self.lines = before + 1
        self.description = CallDescription("192.0.2.30", 42)
        self.description.bind("192.0.2.30", 20000)
        self.sent: list[SessionDescription] = []
        self.known: dict[int, RtpMap] = {}
        self.stable = self.description.stream

    def body(self, formats: list[str], direction: str, port: int) -> bytes:
        lines = ["v=0", "o=ue 7 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"]
        for number in range(self.lines):
            if number == self.before:
                lines.append(f"m=audio {port} RTP/AVP {' '.join(formats)}")
                lines += [f"a=rtpmap:{number} {self.meanings[number]}" for number in formats if number in self.meanings]
                lines.append(f"a={direction}")
            else:
                lines.append("m=video 0 RTP/AVP 99")
        return ("\r\n".join(lines) + "\r\n").encode()

    def note(self, body: bytes) -> None:
        """It goes out to the caller."""
        description = parse_sdp_untrusted(body)
        if self.sent:
            before = self.sent[-1]
            assert description.origin.session_id == before.origin.session_id
            rise = int(description.origin.version) - int(before.origin.version)
            is_same = description.lines[2:] == before.lines[2:] and description.media == before.media
            assert rise == 0 if is_same else rise >= 1
            assert len(description.media) >= len(before.media)
        for number, meaning in description.media[self.before].payloads():
            assert self.known.setdefault(number, meaning).is_same(meaning)
            if str(number) in self.meanings:  # the caller keeps to it as well
                self.meanings[str(number)] = f"{meaning.name}/{meaning.clock_rate}"
        self.sent.append(description)

    @rule(formats=FORMATS, direction=DIRECTIONS, port=st.integers(1, 9), more=st.booleans(), goes_out=st.booleans())
    def offered(self, formats: list[str], direction: str, port: int, more: bool, goes_out: bool) -> None:
        grown = self.lines + more
        was, self.lines = self.lines, grown
        offer = self.body(formats, direction, port)
        before = self.description.stream
        try:
            answer = self.description.answer_untrusted(offer)
        except (SdpError, LocalProtocolError):
            self.lines = was
            assert self.description.stream == before
            return
        if not goes_out:
            self.lines = was
            self.description.withdraw_answer()
            assert self.description.stream == before
            return
        for number, meaning in parse_sdp_untrusted(offer).media[self.before].payloads():
            self.known.setdefault(number, meaning)
        self.note(answer)

    @precondition(lambda self: not self.description.is_offering)
    @rule(goes_out=st.booleans())
    def offer(self, goes_out: bool) -> None:
        body = self.description.offer()
        if not self.sent:
            self.before, self.lines = 0, 1
        if goes_out:
            self.note(body)
        else:
            self.description.withdraw_offer()

    @precondition(lambda self: self.description.is_offering)
    @rule(formats=FORMATS, direction=DIRECTIONS, is_refused=st.booleans())
    def answered(self, formats: list[str], direction: str, is_refused: bool) -> None:
        before = self.description.stream
        if is_refused:
            self.description.abandon_offer()
            assert self.description.stream == before
            return
        with contextlib.suppress(SdpError):
            self.description.take_answer_untrusted(self.body(formats, direction, 5))
        assert not self.description.is_offering

    @precondition(lambda self: self.sent and not self.description.is_offering)
    @rule(formats=st.sampled_from([["0"], ["8", "0"]]), is_refused=st.booleans())
    def relayed(self, formats: list[str], is_refused: bool) -> None:
        self.note(self.description.relay_untrusted(self.body(formats, "sendrecv", 7)))
        if is_refused:
            self.description.forget_relayed()

    @invariant()
    def the_stream_is_usable(self) -> None:
        stream = self.description.stream if hasattr(self, "description") else None
        if stream is not None:
            assert stream.codec in ("PCMA", "PCMU")
            assert stream.remote_port > 0


TestDescription = DescriptionMachine.TestCase
TestDescription.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
