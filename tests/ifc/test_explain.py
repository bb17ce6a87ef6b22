from __future__ import annotations

from pathlib import Path

from ifc.explain import MAX_EVIDENCE_CHARS, describe_criterion, describe_trigger_point, explain_witness
from ifc.model import ServicePointTrigger, SipHeaderCondition
from ifc.parser import parse_criteria_untrusted

XML = Path(__file__).parents[1] / "vectors" / "ifc" / "subscription.xml"


def test_criteria_as_text() -> None:
    first, second, third = parse_criteria_untrusted(XML.read_bytes()).criteria
    assert describe_criterion(first) == (
        "priority 3: sip:term@ai-as.example.net:5060;transport=tcp (SESSION_CONTINUED) when "
        "(Method is INVITE) and (not (header ^Priority$ matches psap-callback)) and "
        "(SessionCase is TERMINATING_REGISTERED or not (header ^Priority$ matches psap-callback)) and "
        "(SDP line m matches ^audio), registered part of the profile only"
    )
    assert second.trigger_point is not None
    assert describe_trigger_point(second.trigger_point) == (
        "(Method is REGISTER of type INITIAL_REGISTRATION or DE_REGISTRATION) or "
        "(RequestURI matches ^[[:digit:]]+\\.example\\.net$)"
    )
    assert describe_criterion(third) == (
        "priority 20: sip:tas.example.net (SESSION_CONTINUED) always, unregistered part of the profile only"
    )


def test_long_evidence_is_cut() -> None:
    trigger = ServicePointTrigger(SipHeaderCondition("X"))
    text = explain_witness(3, trigger, "X: " + "y" * 5000)
    assert text.startswith("group 3: header X is present (X: yyy")
    assert len(text) < MAX_EVIDENCE_CHARS + 50
