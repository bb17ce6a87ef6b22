"""What becomes of a call by who calls whom."""

from __future__ import annotations

from ims_as.config_policy import IncomingCallRule, NumberMatch, PolicyConfig
from ims_as.defence.incoming_policy import IncomingAction, IncomingPolicy
from ims_as.defence.policy_build import build_incoming_policy

HOME = "sip:+4930100@ims.example.net;user=phone"


def policy(*rules: IncomingCallRule) -> IncomingPolicy:
    return build_incoming_policy(PolicyConfig(local_prefix="+49", incoming=rules))


def decide(rules: IncomingPolicy, caller: str, called: str = HOME) -> tuple[str, int]:
    verdict = rules.decide(caller, called)
    return verdict.action.value, verdict.status


def test_without_rules_the_agent_takes_it() -> None:
    assert decide(policy(), "tel:+2521234567")[0] == "agent"
    assert decide(policy(), "anything")[0] == "agent"


def test_first_rule_by_caller_and_called() -> None:
    rules = policy(
        IncomingCallRule(IncomingAction.AGENT, caller=NumberMatch(prefixes=("+252999",))),
        IncomingCallRule(IncomingAction.REJECT, caller=NumberMatch(countries=("SO",)), status=486),
        IncomingCallRule(
            IncomingAction.PASS_ON,
            caller=NumberMatch(countries=("DE",)),
            called=NumberMatch(prefixes=("+4930",)),
        ),
        IncomingCallRule(IncomingAction.REJECT, caller=NumberMatch(uri="sip:anonymous@.*")),
    )
    assert decide(rules, "tel:+2529991234") == ("agent", 603)
    assert decide(rules, "sip:+252-1234567@h") == ("reject", 486)
    assert decide(rules, "tel:089123456") == ("pass-on", 603)
    assert decide(rules, "tel:089123456", "tel:+4989100")[0] == "agent"
    assert decide(rules, "sip:anonymous@anonymous.invalid") == ("reject", 603)
    assert decide(rules, "sip:bob@h")[0] == "agent"
    assert decide(rules, "\x00")[0] == "agent"
