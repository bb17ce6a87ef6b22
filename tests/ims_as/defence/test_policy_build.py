"""The section ``policy``: what is wrong with it, what is worth a second look, and the command that explains it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ims_as.cli import main
from ims_as.config import ConfigError, parse_config

GOOD = """
identity: sip:ai-as.ims.example.net
agents:
  sales:
    engines: [{url: "ws://127.0.0.1:9000/"}]
    transfer: {allow: ["tel:\\\\+43.*"]}
    outbound: {allow: ["sip:.*@ims[.]example[.]net"]}
routing: [{agent: sales}]
policy:
  local_prefix: "+49"
  destinations:
    - {deny: {ranges: ["+4930666000-+4930666999"]}}
    - {allow: {prefixes: ["+4930"]}, agents: [sales]}
    - {allow: {countries: [AT, "NO"], groups: []}}
  incoming:
    - {action: reject, caller: {groups: [high-risk]}, status: 480}
    - {action: pass-on, called: {uri: "sip:vip@.*"}}
  limits: {per_agent_at_once: 5}
"""


def problems(policy: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse_config(f"policy: {policy}", environ={})
    return [str(problem) for problem in error.value.problems]


def warnings(policy: str) -> list[str]:
    return [str(w) for w in parse_config(f"policy: {policy}", environ={})[1] if str(w).startswith("policy")]


def test_a_good_one_has_no_warnings() -> None:
    config, found = parse_config(GOOD, environ={})
    assert not [each for each in found if each.path.startswith("policy")]
    assert config.policy.destinations[2].allow is not None
    assert config.policy.destinations[2].allow.countries == ("AT", "NO")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{local_prefix: '49'}", "policy.local_prefix: expected + and a calling code"),
        ("{national_prefix: 'x'}", "policy.national_prefix: expected digits"),
        ("{emergency_numbers: ['+112']}", "policy.emergency_numbers[0]: expected up to six digits"),
        ("{deny_groups: [cheap]}", "policy.deny_groups[0]: 'cheap' is not known (known: global"),
        ("{home_domains: ['a b']}", "policy.home_domains[0]: expected a domain"),
        ("{destinations: [{}]}", "policy.destinations[0]: expected either allow or deny"),
        ("{destinations: [{allow: {uri: a}, deny: {uri: b}}]}", "policy.destinations[0]: expected either"),
        ("{destinations: [{allow: {}}]}", "policy.destinations[0].allow: matches everything"),
        ("{destinations: [{allow: {uri: '('}}]}", "policy.destinations[0].allow.uri: not a regular expression"),
        ("{destinations: [{deny: {prefixes: ['0049']}}]}", "policy.destinations[0].deny.prefixes[0]: expected +"),
        ("{destinations: [{deny: {prefixes: [4930]}}]}", "policy.destinations[0].deny.prefixes[0]: expected a string"),
        (
            "{destinations: [{deny: {ranges: ['+5-+4']}}]}",
            "policy.destinations[0].deny.ranges[0]: expected two numbers",
        ),
        ("{destinations: [{deny: {countries: [Germany]}}]}", "policy.destinations[0].deny.countries[0]: 'Germany'"),
        ("{destinations: [{deny: {countries: [NO]}}]}", "policy.destinations[0].deny.countries[0]: expected a string"),
        ("{destinations: [{deny: {domains: ['-']}}]}", "policy.destinations[0].deny.domains[0]: expected a domain"),
        ("{destinations: [{deny: {uri: a}, agents: [x]}]}", "policy.destinations[0].agents[0]: no agent is called 'x'"),
        ("{incoming: [{action: agent, caller: {}}]}", "policy.incoming[0].caller: matches everything"),
        ("{incoming: [{action: drop}]}", "policy.incoming[0].action: expected agent or pass-on or reject"),
        ("{incoming: [{caller: {uri: x}}]}", "policy.incoming[0].action: is missing"),
        ("{incoming: [{action: reject, status: 200}]}", "policy.incoming[0].status: expected a value from 400"),
        ("{limits: {per_agent_at_once: -1}}", "policy.limits.per_agent_at_once: expected a value"),
    ],
)
def test_nonsense_is_told_with_its_place(policy: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(policy)), problems(policy)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            "{destinations: [{allow: {prefixes: ['+49']}}, {deny: {prefixes: ['+49900', '+4930']}}]}",
            ["policy.destinations[1]: is never reached: policy.destinations[0] decides all of it (line 1)"],
        ),
        ("{destinations: [{allow: {prefixes: ['+49900']}}]}", ["policy.destinations[0].allow.prefixes: +49900 is"]),
        ("{destinations: [{allow: {uri: '.*'}}]}", ["policy.destinations[0].allow.uri: lets agents call anybody"]),
        ("{destinations: [{deny: {countries: [DE, AT]}}, {allow: {countries: [AT]}}]}", ["policy.destinations[1]: is"]),
        ("{destinations: [{deny: {prefixes: ['+49'], domains: [a]}}, {allow: {prefixes: ['+4930']}}]}", []),
        ("{destinations: [{deny: {prefixes: ['+49']}, agents: [default]}, {allow: {prefixes: ['+4930']}}]}", []),
        ("{destinations: [{deny: {prefixes: ['+4930']}}, {allow: {prefixes: ['+49']}}]}", []),
    ],
)  # fmt: skip
def test_second_looks(policy: str, expected: list[str]) -> None:
    found = warnings(policy)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["tel:030-123456", "--agent", "sales"], 0, ["allowed: policy.destinations[1]", "+4930123456, Germany"]),
        (["tel:+4930666123", "--agent", "sales"], 1, ["refused: policy.destinations[0]"]),
        (["tel:+4789123456", "--agent", "sales"], 0, ["allowed: policy.destinations[2]", "Norway"]),
        (["tel:+439001234", "--agent", "sales"], 0, ["policy.destinations[2]", "Austria, premium"]),
        (["tel:112", "--agent", "sales"], 1, ["refused: emergency number", "112, no international form"]),
        (["sip:bob@ims.example.net", "--agent", "sales", "--for", "call"], 0, ["the agent's own", "no telephone"]),
        (["sip:bob@ims.example.net", "--agent", "sales"], 1, ["refused: no rule allows it"]),
        (["sip:bob@h", "--agent", "nobody"], 1, ["no agent is called 'nobody' (there are: sales)"]),
    ],
)
def test_check_explains_the_verdict(arguments: list[str], status: int, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "as.yaml").write_text(GOOD)
    result = CliRunner().invoke(main, ["policy", "check", "-c", str(tmp_path / "as.yaml"), *arguments])
    assert result.exit_code == status, result.output
    assert all(text in result.output for text in expected), result.output


def test_incoming_explains_what_becomes_of_a_call(tmp_path: Path) -> None:
    (tmp_path / "as.yaml").write_text(GOOD)
    base = ["policy", "incoming", "-c", str(tmp_path / "as.yaml")]
    result = CliRunner().invoke(main, [*base, "tel:+2521234567", "tel:+4930100"])
    assert result.output.startswith("reject with 480: policy.incoming[0]\ncaller:  +2521234567, Somalia, high-risk\n")
    result = CliRunner().invoke(main, [*base, "tel:+4930", "sip:vip@ims.example.net"])
    assert result.output.startswith("pass-on: policy.incoming[1]\n")
