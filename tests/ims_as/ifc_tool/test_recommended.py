"""The criteria that we recommend for a configuration, from the command to the call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ifc.engine import evaluate
from ifc.model import SessionCase
from ifc.parser import parse_criteria_untrusted
from ifc.view import PlainRequestView
from ims_as.call.bypass import BYPASS_HEADER
from ims_as.cli import main
from ims_as.ifc_tool.lint import Severity, lint_untrusted
from ims_as.ifc_tool.recommended import recommend
from ims_as.ifc_tool.render import Format, render
from ims_as.isc.server_names import CASES, server_name_for
from ims_as.isc.session_case import session_case_by_address

IDENTITY = "sip:ai-as.example.net:5060"
ALL = parse_criteria_untrusted(render(recommend(IDENTITY, CASES), Format.XML).text.encode()).criteria


def servers(method: str, case: SessionCase, uri: str = "sip:bob@example.net", **headers: str) -> list[str]:
    view = PlainRequestView(method, uri, case, {name.replace("_", "-"): (value,) for name, value in headers.items()})
    return [match.criterion.application_server.server_name for match in evaluate(ALL, view)]


@pytest.mark.parametrize("case", SessionCase)
def test_each_case_has_its_server_name(case: SessionCase):
    (expected, by_address) = {
        SessionCase.TERMINATING_REGISTERED: ("sip:term@ai-as.example.net:5060", SessionCase.TERMINATING_REGISTERED),
        SessionCase.TERMINATING_UNREGISTERED: ("sip:term@ai-as.example.net:5060", SessionCase.TERMINATING_REGISTERED),
        SessionCase.ORIGINATING_REGISTERED: ("sip:orig@ai-as.example.net:5060", SessionCase.ORIGINATING_REGISTERED),
        SessionCase.ORIGINATING_UNREGISTERED: ("sip:orig@ai-as.example.net:5060", SessionCase.ORIGINATING_REGISTERED),
        SessionCase.ORIGINATING_CDIV: (None, None),
    }[case]
    found = servers("INVITE", case)
    assert found == ([expected] if expected else [])
    assert [session_case_by_address(f"<{each}>") for each in found] == [by_address] * len(found)


def test_what_must_not_come_does_not():
    case = SessionCase.TERMINATING_REGISTERED
    assert servers("INVITE", case, "urn:service:sos.police") == []
    assert servers("INVITE", case, Priority="psap-callback") == []
    assert servers("INVITE", case, Resource_Priority="ets.0") == []
    assert servers("INVITE", case, **{BYPASS_HEADER.replace("-", "_"): "1.2.3"}) == []
    assert servers("INVITE", case, Priority="urgent") != []
    assert servers("MESSAGE", case) == []
    assert servers("REGISTER", SessionCase.ORIGINATING_REGISTERED) == [IDENTITY]


@pytest.mark.parametrize("identity", [IDENTITY, "sip:agent@[2001:db8::1];transport=tcp", "sips:as"])
def test_there_is_nothing_to_find_fault_with(identity: str):
    found = lint_untrusted(render(recommend(identity, CASES), Format.XML).text.encode(), identity=identity)
    assert [each for each in found if each.severity is not Severity.INFO] == []


def test_an_identity_with_a_user_part_keeps_it():
    assert server_name_for("sip:agent@as", "originating") == "sip:agent@as;orig"
    assert server_name_for("sip:agent@as", "terminating") == "sip:agent@as"
    assert session_case_by_address("<sip:agent@as;orig>") is SessionCase.ORIGINATING_REGISTERED


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("IMS_AS_CONFIG", raising=False)
    path = tmp_path / "as.yaml"
    path.write_text(f"identity: {IDENTITY}\ndiameter: {{origin_host: as.example.net}}\n")
    return str(path)


def render_command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["ifc", "render", *arguments])


def test_from_the_configuration_to_every_target(config: str):
    xml = render_command("--from-config", "-c", config)
    assert (xml.exit_code, xml.stderr) == (0, "")
    assert parse_criteria_untrusted(xml.stdout.encode()).criteria == ALL[:2]
    sql = render_command("--from-config", "-c", config, "--format", "fhoss", "--name", "agent")
    assert (sql.exit_code, sql.stderr) == (0, "")
    assert "'as.example.net'" in sql.stdout
    described = render_command("--from-config", "-c", config, "--format", "yaml", "--priority", "3")
    again = CliRunner().invoke(main, ["ifc", "render", "-"], input=described.stdout)
    assert "<Priority>3</Priority>" in again.stdout
    several = render_command("--from-config", "-c", config, "--format", "open5gs")
    assert several.exit_code == 1
    assert several.stderr.startswith("configuration: error: criteria[1]: 2 criteria, but only one works")
    one = render_command("--from-config", "-c", config, "--format", "open5gs", "--cases", "terminating", "--json")
    assert json.loads(one.stdout)["warnings"] == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 2, "give FILE or --from-config"),
        (("--from-config",), 2, "give -c FILE"),
        (("--from-config", "-c", "as.yaml", __file__), 2, "give FILE or --from-config"),
        (("--cases", "register", __file__), 2, "go with --from-config"),
        (("--from-config", "--set", "identity=sip:a", "--cases", "cdiv"), 1, "no cdiv"),
        (("--from-config", "--set", "identity=sip:a", "--cases", ","), 1, "none given"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], status: int, told: str, config: str):
    result = render_command(*arguments)
    assert result.exit_code == status
    assert told in result.stderr


def test_the_documented_description_is_one(config: str):
    text = (Path(__file__).parents[3] / "docs/ifc-render.md").read_text()
    described = text.split("```yaml\n")[1].split("```")[0]
    for output in ("xml", "pyhss", "fhoss", "yaml"):
        made = CliRunner().invoke(main, ["ifc", "render", "-c", config, "--format", output, "-"], input=described)
        assert made.exit_code == 0
        assert ("warning" in made.stderr) is (output == "fhoss")
