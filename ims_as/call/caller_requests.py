"""Requests inside the caller's dialog that are no offers, and the INFOs that we send it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ims_as.call.digit_merger import DigitMerger, DigitSource, source_of
from ims_as.call.dtmf_info import (
    INFO_PACKAGES,
    RELAY_TYPE,
    InfoDigit,
    InfoRefusal,
    build_relay_body,
    read_info_untrusted,
)
from ims_as.call.referral import accept_refer
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.invite_session import RequestReceived
from ims_as.sip.message import Message
from ims_as.sip.transaction import ClientEvent, ResponseReceived
from media.dtmf import DIGITS

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallerDigits", "CallerRequests", "recv_info"]

PAUSE_S: Final = 0.1
"""Between the answer to an INFO and the next digit, so that a gateway can play them one after the other."""
MAX_QUEUED: Final = 64


def recv_info(message: Message) -> list[tuple[str, str]]:
    """Our Recv-Info for a peer that knows info packages (RFC 6086 §5.2.2); nothing for others."""
    return [("Recv-Info", ", ".join(INFO_PACKAGES))] if "Recv-Info" in message.headers else []


class CallerRequests:
    """Answers INFO and REFER at once, inside the session's callback; the session itself answers the others."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call

    def receive(self, event: RequestReceived) -> None:
        """A request as it arrives."""
        call = self._call
        if call.session is None:
            return
        if event.request.method == "REFER":
            receiver = accept_refer(call, call.session, event)
            if receiver is not None and not call.post("refer", receiver):
                receiver.close()
            return
        if event.request.method != "INFO":
            return
        found = read_info_untrusted(event.request)
        if isinstance(found, InfoRefusal):
            call.session.respond(event, found.status, headers=found.headers)
            return
        call.session.respond(event, 200)
        if isinstance(found, InfoDigit):
            call.post("info", found)


class CallerDigits:
    """Digits of the caller to the engine, each once, and digits of the agent to the caller."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self._merger = DigitMerger()
        self._queue: deque[str] = deque()
        self._is_sending = False
        self._sending = ""
        self._refuses_info = False

    def receive_rtp(self, event: dict[str, Any]) -> None:
        """The media worker has heard a digit."""
        duration_ms = event.get("duration_ms")
        source, digit = source_of(event.get("source")), str(event.get("digit", ""))
        self._take(source, digit, duration_ms if isinstance(duration_ms, int) else 0)

    def receive_info(self, digit: InfoDigit) -> None:
        """An INFO has brought one."""
        self._call.trace("media", "caller", "ims-as", f"DTMF {digit.digit} by INFO")
        self._take("info", digit.digit, digit.duration_ms)

    def _take(self, source: DigitSource, digit: str, duration_ms: int) -> None:
        call = self._call
        if not self._merger.is_new(source, digit, duration_ms, now=call.context.now()):
            call.trace("media", "ims-as", "ims-as", f"DTMF {digit} came another way before")
        elif call.handover is not None and call.handover.is_bridged:
            if source != "inband":  # tones are in the audio that the other party hears
                call.handover.take_digit(digit)
        elif call.recording.takes_digit(digit):
            call.trace("decision", "ims-as", "ims-as", f"DTMF {digit} answers for the recording")
        elif call.leg is not None and not call.engine_lost:
            call.leg.tell_engine({"event": "dtmf", "digit": digit, "duration_ms": duration_ms})

    def send(self, digits: str) -> None:
        """The agent dials: by telephone events where they are agreed, else by INFO, one digit at a time, and by tones
        in the audio once the caller has refused that."""
        call = self._call
        wanted = [digit for digit in digits.upper() if digit in DIGITS]
        stream = call.description.stream
        if call.leg is None or not wanted:
            return
        if self._refuses_info or (stream is not None and stream.dtmf_payload_type is not None):
            call.leg.send_dtmf("".join(wanted))
            return
        self._queue.extend(wanted[: MAX_QUEUED - len(self._queue)])
        if not self._is_sending:
            self._send_next()

    def _send_next(self) -> None:
        session = self._call.session
        self._is_sending = False
        if not self._queue or session is None or session.is_terminated:
            return
        self._sending = self._queue.popleft()
        body = build_relay_body(self._sending)
        try:
            session.send_request("INFO", body=body, content_type=RELAY_TYPE, on_event=self._on_info)
        except LocalProtocolError:
            self._queue.clear()
            return
        self._is_sending = True

    def _on_info(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived) and event.response.status < 200:
            return
        status = event.response.status if isinstance(event, ResponseReceived) else 408
        if status >= 300:
            self._call.trace("decision", "ims-as", "ims-as", f"the caller takes no digits by INFO: {status}; tones")
            self._refuses_info = True
            if self._call.leg is not None:
                self._call.leg.send_dtmf("".join([self._sending, *self._queue]))
            self._queue.clear()
        context = self._call.context
        if self._queue:
            context.endpoint.call_at(context.now() + PAUSE_S, self._send_next)
        else:
            self._is_sending = False
