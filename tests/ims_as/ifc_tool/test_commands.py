from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ims_as.cli import main
from ims_as.ifc_tool.findings import RULES
from tests.ims_as.ifc_tool.documents import IDENTITY, INVITE, REGISTER, SAFE, TERMINATING, VECTORS, criterion, ifcs

INVITES = [str(path) for path in sorted((VECTORS / "isc").glob("0[1-4]-*.sip"))]
SUBSCRIPTION = str(VECTORS / "ifc/subscription.xml")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMS_AS_CONFIG", raising=False)


def ifc(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["ifc", *arguments], input=stdin)


def test_lint_ends_with_1_for_errors_only(tmp_path: Path):
    result = ifc("lint", "-", stdin=ifcs(criterion(INVITE, TERMINATING, *SAFE)))
    assert (result.exit_code, result.stdout) == (0, "<stdin>: no findings\n")
    warned = ifc("lint", "-", stdin=ifcs(criterion(INVITE, TERMINATING)))
    assert warned.exit_code == 0
    assert "0 error, 1 warning, 0 info" in warned.stdout
    bad = tmp_path / "bad.xml"
    bad.write_bytes(ifcs(criterion(REGISTER, handling=1)))
    result = ifc("lint", str(bad))
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{bad}:2: error register-terminated: priority 1: ")


def test_lint_for_machines_compares_with_the_configuration():
    result = ifc("lint", "--json", "--set", f"identity={IDENTITY}", SUBSCRIPTION)
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["counts"]["error"] == 1
    rules = {finding["rule"]: finding["severity"] for finding in found["findings"]}
    assert (rules["foreign-server"], rules["register-terminated"]) == ("info", "error")


def test_a_configuration_that_is_none_is_a_usage_error(tmp_path: Path):
    (tmp_path / "as.yaml").write_text("identity: [")
    assert ifc("lint", "-c", str(tmp_path / "as.yaml"), SUBSCRIPTION).exit_code == 2
    assert ifc("lint", str(tmp_path / "missing.xml")).exit_code == 2


def test_explain_tells_trigger_by_trigger():
    result = ifc("explain", SUBSCRIPTION, INVITES[0])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0].endswith("TERMINATING_REGISTERED (P-Served-User)")
    assert "✓ priority 3: sip:term@ai-as.example.net:5060;transport=tcp matches" in lines
    assert "✗ priority 20: sip:tas.example.net does not match" in lines
    assert "✓ SDP line m matches ^audio  – m=audio 40000 RTP/AVP 96 8 0 101" in lines


def test_explain_for_machines():
    explained = json.loads(ifc("explain", "--json", SUBSCRIPTION, INVITES[2]).stdout)
    assert explained["session_case"] == "TERMINATING_UNREGISTERED"
    assert [each["matches"] for each in explained["criteria"]] == [False, False, True]
    assert explained["criteria"][0]["groups"][2]["triggers"][1]["holds"] is False


def test_the_session_case_must_be_known_when_it_counts():
    asks = ifcs(criterion(INVITE, "<SessionCase>1</SessionCase>"))
    (unmarked,) = (VECTORS / "isc").glob("07-*.sip")
    result = ifc("explain", "-", str(unmarked), stdin=asks)
    assert result.exit_code == 2
    assert "--session-case" in result.stderr
    told = ifc("explain", "--json", "--session-case", "terminating-registered", "-", str(unmarked), stdin=asks)
    assert json.loads(told.stdout)["criteria"][0]["matches"] is True
    assert ifc("explain", "-", str(unmarked), stdin=ifcs(criterion(INVITE))).exit_code == 0


def test_simulate_lists_the_servers_of_each_message():
    rows = json.loads(ifc("simulate", "--json", SUBSCRIPTION, *INVITES).stdout)["requests"]
    visited = [[each["server_name"] for each in row["application_servers"]] for row in rows]
    assert visited == [
        ["sip:term@ai-as.example.net:5060;transport=tcp"],
        ["sip:term@ai-as.example.net:5060;transport=tcp"],
        ["sip:tas.example.net"],
        # group 2 asks for the session case or for no Priority header: this one has none
        ["sip:term@ai-as.example.net:5060;transport=tcp"],
    ]


def test_simulate_prints_what_becomes_of_each_message():
    only_messages = ifcs(criterion("<Method>MESSAGE</Method>"))
    assert ifc("simulate", "-", INVITES[0], stdin=only_messages).stdout.splitlines() == [
        "01-isc-invite-term-dh0.sip  INVITE sip:15550000002@ims.mnc001.mcc001.3gppnetwork.org   "
        "TERMINATING_REGISTERED (P-Served-User)",
        "  → reaches the user's own phones (legacy termination)",
        "",
    ]
    lines = ifc("simulate", "--as-fails", SUBSCRIPTION, *INVITES).stdout.splitlines()
    assert lines[1:3] == [
        "   3  sip:term@ai-as.example.net:5060;transport=tcp  fails  "
        "SESSION_CONTINUED: goes on with the request as it was before",
        "  → reaches the user's own phones (legacy termination)",
    ]
    assert "  20  sip:tas.example.net                            fails  SESSION_CONTINUED" in "\n".join(lines)


def test_a_file_that_is_no_request_is_named():
    (response,) = (VECTORS / "isc").glob("17-*.sip")
    result = ifc("simulate", SUBSCRIPTION, str(response))
    assert result.exit_code == 2
    assert str(response) in result.stderr
    assert ifc("simulate", str(response), INVITES[0]).exit_code == 2


def test_render_writes_what_lint_accepts(tmp_path: Path):
    description = tmp_path / "agent.yaml"
    description.write_text(
        "criteria: [{priority: 1, server: 'sip:as', default_handling: continued, all: [{method: MESSAGE}]}]\n"
    )
    target = tmp_path / "agent.xml"
    assert ifc("render", "-o", str(target), str(description)).exit_code == 0
    assert ifc("lint", str(target)).stdout == f"{target}: no findings\n"
    template = ifc("render", "--format", "pyhss", str(description)).stdout
    assert "{{ iFC_vars['msisdn'] }}" in template
    as_json = json.loads(ifc("render", "--json", str(description)).stdout)
    assert as_json == {"format": "xml", "content": target.read_text(), "warnings": []}


def test_render_refuses_with_every_problem():
    result = ifc("render", "-", stdin=b"criteria: [{priority: x, server: y}]")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "<stdin>:1:23: error: criteria[0].priority: expected a whole number from 0, not 'x'",
        "<stdin>:1:34: error: criteria[0].server: expected a SIP URI, not 'y'",
    ]
    found = json.loads(ifc("render", "--json", "-", stdin=b"criteria: []").stdout)
    assert found["problems"][0]["path"] == "criteria"
    assert ifc("render", "-", stdin=b"\xff").exit_code == 1


def test_the_documented_description_renders_without_findings():
    text = (Path(__file__).parents[3] / "docs/commands.md").read_text()
    description = text.split("```yaml\n")[1].split("```")[0]
    rendered = ifc("render", "-", stdin=description.encode())
    assert rendered.exit_code == 0
    # an unregistered user has nowhere else to go: that is so, and told
    lines = ifc("lint", "-", stdin=rendered.stdout.encode()).stdout.splitlines()
    assert [line.split()[1:3] for line in lines[::2]] == [["info", "unregistered-nowhere:"], ["error,", "0"]]
    assert [line.partition(":")[2] for line in lines[:2]] == [
        line.partition(":")[2] for line in text.split("$ ims-as ifc lint agent.xml\n")[1].splitlines()[:2]
    ]


def test_shared_sets_count_where_the_table_is_given(tmp_path: Path):
    table = tmp_path / "shared.xml"
    shared = criterion(INVITE, TERMINATING, *SAFE, priority=1, server="sip:shared.example.net")
    table.write_text(f"<SharedIFCsSets><SharedIFCsSet><SetID>7</SetID>{shared}</SharedIFCsSet></SharedIFCsSets>")
    alone = ifc("explain", "--json", SUBSCRIPTION, INVITES[0])
    told = ifc("explain", "--json", "--shared", str(table), SUBSCRIPTION, INVITES[0])
    ours = "sip:term@ai-as.example.net:5060;transport=tcp"
    assert json.loads(alone.stdout)["application_servers"] == [ours]
    assert json.loads(told.stdout)["application_servers"] == ["sip:shared.example.net", ours]
    assert "shared-set:" in ifc("lint", "--shared", str(table), SUBSCRIPTION).stdout
    table.write_text("<SharedIFCsSets/>")
    assert "error shared-set-unknown" in ifc("lint", "--shared", str(table), SUBSCRIPTION).stdout
    unknown = ifc("explain", "--shared", str(table), SUBSCRIPTION, INVITES[0])
    assert "SharedIFCSetID 7 is not in the table" in unknown.stderr
    table.write_text("<IFCs/>")
    assert ifc("lint", "--shared", str(table), SUBSCRIPTION).exit_code == 2


def test_every_rule_is_documented():
    """As the code has it: name, severity, consequence, clause."""
    text = (Path(__file__).parents[3] / "docs/ifc.md").read_text()
    table = text.split("## What lint looks for")[1]
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines() if "| `" in line
    ]
    documented = {row[0].strip("`"): (row[1], row[3], row[4]) for row in rows}
    rules = {rule.name: (rule.severity.value, rule.consequence, rule.clause) for rule in RULES.values()}
    assert documented == rules
    assert all(row[2] for row in rows)
