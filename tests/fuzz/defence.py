"""Targets of the defence: URIs that an agent names, requests that are refused without state, feedback in Via."""

from __future__ import annotations

import re
from urllib.parse import unquote

from ims_as.config_policy import DestinationRule, NumberMatch, PolicyConfig
from ims_as.defence.incoming_policy import IncomingAction
from ims_as.defence.oc import OverloadControl
from ims_as.defence.policy_build import build_destination_policy, build_incoming_policy
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import parse_via
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.stateless import Refusal, StatelessResponder
from tests.fuzz.seeds import MESSAGES, SIP_TOKENS, URIS
from tests.fuzz.target import Target

__all__ = ["DEFENCE_TARGETS"]

_POLICY = PolicyConfig(
    local_prefix="+49", destinations=(DestinationRule(deny=NumberMatch(ranges=("+4930666-+4930666",))),)
)
_DESTINATIONS = build_destination_policy(_POLICY, "sip:as.home.example")
_INCOMING = build_incoming_policy(_POLICY)
_FORBIDDEN = ("882", "8816", "870", "979", "49900", "4930666")
_EMERGENCY = {"112", "110", "911", "999"}


def read_destination(data: bytes) -> None:
    """What a wide pattern lets through must be neither a fraud range nor an emergency number in any spelling."""
    text = data.decode("utf-8", "replace")
    verdict = _DESTINATIONS.check(text, also=(".*", "(?s).*"))
    assert verdict.rule
    assert _INCOMING.decide(text, text).action is IncomingAction.AGENT
    if not verdict.allowed:
        return
    scheme, _, rest = text.strip().partition(":")
    user = unquote(rest.rpartition("@")[0] if scheme.lower() != "tel" else rest).partition(";")[0]
    digits = re.sub(r"[-.() ]", "", user)
    assert digits not in _EMERGENCY
    if digits.startswith("+"):
        assert not digits[1:].startswith(_FORBIDDEN)
    elif digits.startswith("00"):
        assert not digits[2:].startswith(_FORBIDDEN)
    elif digits.startswith("0") and digits.isdigit() and len(digits) > 6:
        assert not f"49{digits[1:]}".startswith(_FORBIDDEN)


_REFUSAL = Refusal("full", headers=(("Retry-After", "2"), ("Reason", "Q.850;cause=41")))


def refuse_statelessly(data: bytes) -> None:
    """The answer to what can be read can be read, and its ACK is known again."""
    request = parse_message_untrusted(data)
    if not isinstance(request, Request):
        return
    responder = StatelessResponder(b"secret")
    response = parse_message_untrusted(responder.build(request, _REFUSAL))
    assert isinstance(response, Response)
    assert response.status == 503
    assert response.call_id == request.call_id
    assert len(response.headers.get_all("reason")) == 1
    if request.to_tag is None:
        assert response.to_tag == responder.tag(request)
        ack = Request("ACK", request.uri, [("Via", str(request.via)), ("From", request.headers.get("from") or "")])
        ack.headers.add("To", response.headers.get("to") or "")
        ack.headers.add("Call-ID", request.call_id)
        ack.headers.add("CSeq", f"{request.cseq.number} ACK")
        assert responder.absorbs_ack(ack)


def read_feedback(data: bytes) -> None:
    """A Via as request and as response: what is told is well-formed, what is obeyed is bounded."""
    via = parse_via(data.decode("utf-8", "replace"))
    control = OverloadControl(is_exempt=lambda request: False)
    control.set_loss(0.25, now=0.0, wall=1.0)
    answered = parse_via(str(control.answer(via)))
    assert (answered.host, answered.branch) == (via.host, via.branch)
    control.receive(("h", 1), via, now=0.0)
    request = Request("OPTIONS", "sip:x", [("To", "<sip:x>")])
    kept = sum(control.keeps_back(request, ("h", 1), now=0.1) for _ in range(10))
    assert 0 <= kept <= 10
    assert not control.keeps_back(request, ("h", 1), now=1000.0)


_NUMBERS = (
    b"tel:+4930123456",
    b"tel:030-123.456",
    b"tel:00882161234",
    b"sip:+4930666123@home.example;user=phone",
    b"sip:%2B49%3900123@as.home.example",
    b"tel:112",
    b"tel:123;phone-context=+49-30",
    b"tel:*31#0900123456",
    b"sip:bob@home.example",
)
_VIAS = (
    b'SIP/2.0/UDP h:5060;branch=z9hG4bKx;oc=20;oc-algo="loss";oc-validity=1000;oc-seq=1282321615.782',
    b'SIP/2.0/TCP [2001:db8::1]:5061;branch=z9hG4bKx;OC;oc-algo="loss,rate";rport',
    b"SIP/2.0/UDP h;branch=z9hG4bKx;oc=100;oc-seq=1.0",
)
_NUMBER_TOKENS = (b"tel:", b"sip:", b"+", b"00", b"%2B", b"-", b"(", b")", b";phone-context=+49", b";rn=+882", b"@h")

DEFENCE_TARGETS = (
    Target("destination", read_destination, (), (*_NUMBERS, *URIS), _NUMBER_TOKENS),
    Target("refusal", refuse_statelessly, (SipParseError,), MESSAGES, SIP_TOKENS),
    Target("overload-feedback", read_feedback, (SipParseError,), _VIAS, SIP_TOKENS),
)
