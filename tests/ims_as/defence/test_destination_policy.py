"""Whom agents may call: spellings, order of rules, what nobody may call; and hypothesis looks for a way around."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.config_policy import DestinationRule, NumberMatch, PolicyConfig
from ims_as.defence.calling_codes import groups_of
from ims_as.defence.destination_policy import DestinationPolicy, compile_range
from ims_as.defence.phone_number import DialPlan, read_target_untrusted
from ims_as.defence.policy_build import build_destination_policy

IDENTITY = "sip:ai-as.ims.example.net"
ANYTHING = (".*",)


def policy(*rules: DestinationRule, **fields: Any) -> DestinationPolicy:
    fields = {"local_prefix": "+49", "destinations": rules, **fields}
    return build_destination_policy(PolicyConfig(**fields), IDENTITY)


def allow(*agents: str, **match: Any) -> DestinationRule:
    return DestinationRule(allow=NumberMatch(**match), agents=agents)


def deny(*agents: str, **match: Any) -> DestinationRule:
    return DestinationRule(deny=NumberMatch(**match), agents=agents)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("tel:+4930123456", "+4930123456"),
        ("tel:+49-(30)-123.456", "+4930123456"),
        ("tel:030123456", "+4930123456"),
        ("tel:004930123456", "+4930123456"),
        ("tel:30123456;phone-context=+49", "+4930123456"),
        ("tel:123456;phone-context=+49-30", "+4930123456"),
        ("tel:030123456;phone-context=ims.example.net", "+4930123456"),
        ("sip:+4930123456@ims.example.net;user=phone", "+4930123456"),
        ("sip:+4930123456@ims.example.net", "+4930123456"),
        ("sip:%2B49%33%30123456@h", "+4930123456"),
        ("sip:+49-30-123456;phone-context=x@h;user=phone", "+4930123456"),
        ("SIPS:030123456@h", "+4930123456"),
        ("sip:123456;phone-context=+4930@h;user=phone", "+4930123456"),
        ("tel:1001", None),
        ("sip:1001@pbx", None),
        ("tel:30123456", None),
        ("sip:bob@h", None),
        ("sip:2b@h", None),
        ("tel:*21*030123456#", None),
    ],
)
def test_one_spelling(uri: str, number: str | None) -> None:
    target = read_target_untrusted(uri, DialPlan("+49"))
    assert target.problem is None
    assert target.number == number


@pytest.mark.parametrize(
    ("plan", "dialled", "number"),
    [
        (DialPlan("+1", "011", "1"), "2125550100", "+12125550100"),
        (DialPlan("+1", "011", "1"), "12125550100", "+12125550100"),
        (DialPlan("+1", "011", "1"), "0114930123456", "+4930123456"),
        (DialPlan("+34", "00", ""), "912345678", "+34912345678"),
        (DialPlan("+34", "00", ""), "1001", None),
        (DialPlan(None), "030123456", None),
        (DialPlan(None), "004930123456", "+4930123456"),
    ],
)
def test_dialling_plans(plan: DialPlan, dialled: str, number: str | None) -> None:
    assert plan.to_e164(dialled) == number


# ---------------------------------------------------------------- what nobody may call


@pytest.mark.parametrize(
    "uri",
    [
        "tel:112", "tel:1-1-2", "tel:+49112", "tel:0112", "tel:00112", "tel:112;phone-context=+49", "tel:+1911",
        "tel:110;phone-context=ims.example.net", "sip:112@ims.example.net;user=phone", "sip:112@anywhere.example",
        "sip:1%312@h", "sip:112;phone-context=+49@h;user=phone", "tel:*31#112", "tel:%2311", "urn:service:sos",
        "urn:service:sos.fire", "tel:000", "tel:+44999",
    ],
)  # fmt: skip
def test_emergency_is_never_dialled(uri: str) -> None:
    verdict = policy(allow(uri=".*")).check(uri, also=ANYTHING)
    assert not verdict.allowed
    assert verdict.rule == "emergency number" or uri == "tel:%2311"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("sip:+4930123456@ims.example.net?Route=%3Csip:evil%3E", "headers in the URI"),
        ("sip:bob@h;method=REFER", "method"),
        ("sip:+4930123456@ims.example.net;maddr=192.0.2.1", "maddr"),
        ("tel:+4930123456;rn=+88216123456;npdi", "npdi"),
        ("sip:+4930123456;rn=+88216123456@ims.example.net;user=phone", "rn"),
        ("tel:+4930123456;cic=+49123", "cic"),
        ("sip:+4930123456;tgrp=x;trunk-context=y@ims.example.net", "tgrp"),
        ("sip:bob:secret@h", "password"),
        ("sip:alice@h;user=phone", "meant as a number, but none"),
        ("sip:+4930123456x103@ims.example.net", "meant as a number, but none"),
        ("tel:+04930123456", "no number of E.164"),
        ("tel:+49" + "1" * 20, "no number of E.164"),
        ("sip:0088216" + "1" * 20 + "@h", "no number of E.164"),
        ("tel:+4", "no number of E.164"),
        ("tel:+49*1234", "no number of E.164"),
        ("tel:123;phone-context=+0", "no number of E.164"),
        ("tel:00882161234;phone-context=+49", "a dialling prefix besides phone-context"),
        ("tel:0900123456;phone-context=+49", "a dialling prefix besides phone-context"),
        ("mailto:x@example.net", "neither a SIP nor a tel URI"),
        ("urn:service:counseling", "service"),
        ("not a uri", "malformed"),
        ("", "usable length"),
        ("tel:+" + "1" * 600, "usable length"),
    ],
)
def test_what_no_rule_can_allow(uri: str, why: str) -> None:
    verdict = policy(allow(uri=".*"), allow(prefixes=("+",))).check(uri, also=ANYTHING)
    assert not verdict.allowed
    assert why in verdict.rule


# ---------------------------------------------------------------- rules


def test_nothing_is_allowed_by_itself() -> None:
    assert policy().check("tel:+4930123456").rule == "no rule allows it"
    assert not policy().check("sip:bob@ims.example.net").allowed


def test_the_agents_own_patterns_come_after_the_rules() -> None:
    rules = policy(deny(prefixes=("+49301",)))
    assert rules.check("tel:+4930212345", also=[r"tel:\+49.*"]).allowed
    assert not rules.check("tel:+49-301-2345", also=[r"tel:\+49.*"]).allowed
    assert rules.check("tel:+49-302-2345", also=[r"tel:\+493022345"]).allowed  # without separators too
    assert not rules.check("tel:+4930212345", also=[r"tel:\+4930"]).allowed  # the whole URI


@pytest.mark.parametrize("uri", ["tel:+88216123456", "tel:+49900123456", "tel:0900-123456", "tel:+490900123456",
                                 "tel:+2521234567", "sip:+883510012345@ims.example.net"])  # fmt: skip
def test_a_wide_pattern_does_not_open_fraud_ranges(uri: str) -> None:
    verdict = policy().check(uri, also=ANYTHING)
    assert not verdict.allowed
    assert verdict.rule.startswith("policy.deny_groups")
    assert policy(deny_groups=()).check(uri, also=ANYTHING).allowed
    assert policy(allow(uri=".*")).check(uri).allowed  # somebody wrote it down as a rule


def test_numbers_nobody_can_place_are_not_opened_by_a_wide_pattern() -> None:
    nowhere = policy(local_prefix=None)
    assert not nowhere.check("tel:0900123456", also=ANYTHING).allowed
    assert not nowhere.check("tel:*21*0900123456#", also=ANYTHING).allowed
    assert not nowhere.check("tel:+0049900123", also=ANYTHING).allowed
    assert nowhere.check("tel:1001", also=["tel:1001"]).allowed
    assert nowhere.check("sip:1001@pbx.example", also=[r"sip:1\d\d\d@pbx\.example"]).allowed


def test_the_first_rule_that_matches_decides() -> None:
    rules = policy(
        deny(prefixes=("+4930666",)),
        allow(prefixes=("+4930",)),
        deny(countries=("DE",)),
        allow(countries=("DE", "AT")),
    )
    assert rules.check("tel:+4930123456").rule == "policy.destinations[1]"
    assert not rules.check("tel:+4930666777").allowed
    assert rules.check("tel:+4989123456").rule == "policy.destinations[2]"
    assert rules.check("tel:+431234567").rule == "policy.destinations[3]"


def test_rules_of_an_agent() -> None:
    rules = policy(allow("sales", prefixes=("+4930",)), deny("sales", countries=("DE",)), allow(countries=("DE",)))
    assert rules.check("tel:+4930123456", agent="sales").allowed
    assert not rules.check("tel:+4989123456", agent="sales").allowed
    assert rules.check("tel:+4989123456", agent="support").rule == "policy.destinations[2]"
    assert rules.check("tel:+4930123456").rule == "policy.destinations[2]"


def test_ranges_end_where_they_say() -> None:
    rules = policy(allow(ranges=("+4930000-+4930199", "+43100-+43100")))
    for number, allowed in {
        "+4930000": True, "+4930199": True, "+493019955": True, "+4930200": False, "+492999999": False,
        "+493019": False, "+4310012": True, "+4310112": False,
    }.items():  # fmt: skip
        assert rules.check(f"tel:{number}").allowed == allowed, number


@pytest.mark.parametrize("text", ["+49", "+49-", "49-50", "+49-+4", "+50-+49", "+4a-+4b", "-", "", "+-+"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        compile_range(text)


def test_a_number_at_a_foreign_host_is_no_telephone_call() -> None:
    rules = policy(allow(prefixes=("+4930",)))
    assert rules.check("sip:+4930123456@ims.example.net;user=phone").allowed
    assert rules.check("sip:+4930123456@AI-AS.ims.example.net").allowed
    assert not rules.check("sip:+4930123456@evil.example;user=phone").allowed
    assert not rules.check("sip:+4930123456@ims.example.net.evil.example").allowed
    named = policy(allow(prefixes=("+4930",), domains=(".partner.example",)))
    assert named.check("sip:+4930123456@sbc.partner.example").allowed
    assert not named.check("sip:+4930123456@xpartner.example").allowed
    assert not named.check("tel:+4930123456").allowed
    homes = policy(allow(prefixes=("+4930",)), home_domains=("home.example",))
    assert homes.check("sip:+4930123456@home.example").allowed
    assert not homes.check("sip:+4930123456@ims.example.net").allowed


def test_a_denied_number_is_denied_at_any_host() -> None:
    rules = policy(deny(countries=("SO",)), allow(uri=".*"))
    assert not rules.check("sip:%2b252-1234567@any.example").allowed
    assert rules.check("sip:+4930123456@any.example").allowed


def test_domains_and_groups() -> None:
    rules = policy(allow(domains=("pbx.example",)), allow(groups=("satellite",), prefixes=("+8816",)))
    assert rules.check("sip:anybody@PBX.example").allowed
    assert not rules.check("sip:anybody@other.example").allowed
    assert rules.check("tel:+8816123456").allowed
    assert not rules.check("tel:+88216123456").allowed


# ---------------------------------------------------------------- hypothesis

PLAN = DialPlan("+49")
DIGITS = st.text("0123456789", min_size=1, max_size=13)
SEPARATORS = st.sampled_from(["", "-", ".", "(", ")", "-."])


@given(st.text(max_size=60))
def test_any_text_gets_a_verdict(text: str) -> None:
    verdict = policy(allow(prefixes=("+4930",)), deny(countries=("FR",))).check(text, also=ANYTHING)
    assert verdict.rule


@given(digits=DIGITS, separators=st.lists(SEPARATORS, min_size=15, max_size=15), form=st.integers(0, 5))
def test_no_spelling_gets_past_a_denied_number(digits: str, separators: list[str], form: int) -> None:
    number = f"+49{digits}"
    spelt = "".join(separator + char for char, separator in zip(number[1:], separators, strict=False))
    uri = [
        f"tel:+{spelt}",
        f"tel:00{spelt}",
        f"sip:+{spelt}@any.example;user=phone",
        f"sip:%2B{spelt}@any.example",
        f"tel:{digits};phone-context=+4-9",  # with a prefix in front it is refused for that
        f"sip:{''.join(f'%{ord(char):02x}' for char in number)}@h",
    ][form]
    rules = policy(deny(ranges=(f"{number}-{number}",)), allow(uri=".*"))
    assert not rules.check(uri, also=ANYTHING).allowed


@given(DIGITS)
def test_what_is_allowed_by_prefix_has_that_prefix(digits: str) -> None:
    rules = policy(allow(prefixes=("+4930", "+431")))
    for uri in (f"tel:{digits}", f"tel:+{digits}", f"sip:{digits}@ims.example.net"):
        verdict = rules.check(uri)
        if verdict.allowed:
            assert verdict.number is not None
            assert verdict.number.startswith(("+4930", "+431"))


@given(st.sampled_from(["112", "110", "911", "999"]), st.sampled_from(["", "0", "00", "+49", "0049", "*31#", "+1"]))
def test_no_prefix_makes_an_emergency_number_callable(number: str, prefix: str) -> None:
    rules = policy(allow(uri=".*"))
    assert not rules.check(f"tel:{prefix}{number}").allowed
    user = re.sub(r"[+#*]", lambda found: f"%{ord(found[0]):02X}", prefix)
    assert not rules.check(f"sip:{user}{number}@any.example").allowed


@given(DIGITS)
def test_wide_patterns_open_no_group(digits: str) -> None:
    verdict = policy().check(f"tel:+{digits}", also=ANYTHING)
    if verdict.allowed:
        assert not groups_of(f"+{digits}")
