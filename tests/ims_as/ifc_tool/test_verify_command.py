"""``ims-as ifc verify`` against the lab's HSS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from conformance.lab.hss import LabHss, Subscriber
from conformance.lab.quirks import Quirk
from diameter.dictionary.sh import DataReference
from ims_as.cli import main
from ims_as.ifc_tool import live_criteria
from ims_as.ifc_tool.live_criteria import verify_users
from ims_as.ifc_tool.recommended import recommend
from ims_as.ifc_tool.render import Format, render
from ims_as.ifc_tool.verify import Expectation, Verdict, example_invite
from tests.ims_as.ifc_tool.documents import INVITE, SAFE, criterion, ifcs, message
from tests.ims_as.sh_network import HOST, SERVER, ThreadedHss, build_config, config_text, run_in_thread

GOOD = render(recommend(SERVER, ["terminating"]), Format.XML).text.encode()
BAD = ifcs(criterion(INVITE, "<SessionCase>1</SessionCase>", *SAFE, server=SERVER, handling=1))


class LiteralSubscriber(Subscriber):
    """Of an HSS that compares Server-Name as text."""

    def ifcs_for(self, server_name: str) -> bytes:
        found = super().ifcs_for(server_name)
        return found if f"<ServerName>{server_name}<".encode() in found else b"<IFCs/>"


def user(name: str, xml: bytes, kind: type[Subscriber] = Subscriber, **more: Any) -> Subscriber:
    return kind(f"{name}@example.net", (f"sip:{name}@example.net",), {}, xml, "", 1, **more)


def build_hss(**more: Any) -> LabHss:
    users = {
        "good": user("good", GOOD),
        "bad": user("bad", BAD),
        "none": user("none", b"<IFCs/>"),
        "off": user("off", GOOD, psi_activation=0, dsai={"agent": 1}),
        "literal": user("literal", GOOD, LiteralSubscriber),
    }
    return LabHss(HOST, 0, users, origin_host="hss.example.net", origin_realm="example.net", **more)


@contextmanager
def running(hss: LabHss, folder: Path) -> Iterator[tuple[ThreadedHss, str]]:
    with run_in_thread(hss) as threaded:
        path = folder / "as.yaml"
        path.write_text(config_text(threaded.port))
        yield threaded, str(path)


def verify(config: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["ifc", "verify", "-c", config, *arguments], input=stdin)


def test_one_user(tmp_path: Path):
    with running(build_hss(), tmp_path) as (_, config):
        good = verify(config, "sip:good@example.net")
        assert good.exit_code == 0
        assert good.stdout.splitlines()[:3] == [
            "sip:good@example.net: safe",
            "    TERMINATING_REGISTERED: priority 10 sip:term@as.example.net SESSION_CONTINUED",
            "    TERMINATING_UNREGISTERED: priority 10 sip:term@as.example.net SESSION_CONTINUED",
        ]
        assert good.stdout.endswith("    the HSS gives our criteria only; the user is registered\n")
        bad = verify(config, "sip:bad@example.net", "--sides", "terminating,originating")
        assert bad.exit_code == 1
        assert bad.stdout.startswith("sip:bad@example.net: unsafe\n")
        assert "error session-terminated: priority 1: DefaultHandling is 1" in bad.stdout
        assert "error not-reached: an example INVITE in the case ORIGINATING_REGISTERED" in bad.stdout
        unknown = verify(config, "sip:nobody@example.net")
        assert (unknown.exit_code, unknown.stdout.startswith("sip:nobody@example.net: refused: ")) == (4, True)


def test_a_file_of_users_for_machines(tmp_path: Path):
    users = "# all of them\nsip:good@example.net\n\nsip:none@example.net  # new\nsip:nobody@example.net\n"
    with running(build_hss(), tmp_path) as (_, config):
        result = verify(config, "--json", "--parallel", "2", "--file", "-", "sip:literal@example.net", stdin=users)
        told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told["counts"] == {"safe": 2, "unsafe": 1, "no-answer": 0, "refused": 1}
    assert [each["impu"].partition("@")[0] for each in told["users"]] == [
        "sip:literal", "sip:good", "sip:none", "sip:nobody"
    ]  # fmt: skip
    literal, _, none, nobody = told["users"]
    assert "server-name-spelling" in [finding["rule"] for finding in literal["findings"]]
    assert (none["criteria_answered"], none["findings"][0]["rule"]) == ("none", "no-criteria")
    assert nobody["status"] == "refused"
    assert told["error"] is None


def test_what_is_switched_off(tmp_path: Path):
    with running(build_hss(), tmp_path) as (hss, config):
        result = verify(config, "--json", "--dsai-tag", "agent", "sip:off@example.net")
        found = {each["rule"] for each in json.loads(result.stdout)["users"][0]["findings"]}
        assert {"psi-inactive", "dsai-inactive"} <= found
        assert result.exit_code == 1
        # what the HSS does not want to tell of that is not held against the user
        hss.hss.sh.denied = {DataReference.PSI_ACTIVATION, DataReference.DSAI}
        assert verify(config, "--dsai-tag", "agent", "sip:off@example.net").exit_code == 0
        hss.hss.sh.denied = set(DataReference)
        denied = verify(config, "sip:good@example.net")
        assert (denied.exit_code, "5102" in denied.stdout) == (4, True)


def test_an_hss_that_gives_everything(tmp_path: Path):
    hss = build_hss(quirks=frozenset({Quirk.WHOLE_SH_DATA}))
    hss._users["sip:good@example.net"].ifcs = ifcs(
        criterion(INVITE, server="sip:tas.example.net", handling=1, priority=0),
        criterion(INVITE, "<SessionCase>1</SessionCase>", *SAFE, server=SERVER),
    )
    with running(hss, tmp_path) as (_, config):
        result = verify(config, "sip:good@example.net")
    assert result.exit_code == 0
    assert "warning before-us: priority 0: sip:tas.example.net" in result.stdout
    assert "the HSS gives the criteria of other servers too" in result.stdout


def test_an_example_of_ones_own(tmp_path: Path):
    own = tmp_path / "call.sip"
    own.write_bytes(
        message("01").replace(b"\r\nP-Asserted-Identity", b"\r\nResource-Priority: ets.0\r\nP-Asserted-Identity")
    )
    with running(build_hss(), tmp_path) as (_, config):
        assert verify(config, "--message", str(own), "sip:good@example.net").exit_code == 1
        own.write_bytes(message("01"))
        assert verify(config, "--message", str(own), "sip:good@example.net").exit_code == 0
        own.write_bytes(b"SIP/2.0 200 OK\r\n\r\n")
        assert verify(config, "--message", str(own), "sip:good@example.net").exit_code == 2


def test_no_hss_and_no_answer(tmp_path: Path):
    path = tmp_path / "as.yaml"
    path.write_text(config_text(9))
    nobody = verify(str(path), "--wait", "0.3", "sip:good@example.net")
    assert (nobody.exit_code, "no HSS took the connection" in nobody.stderr) == (3, True)
    told = verify(str(path), "--wait", "0.3", "--json", "sip:good@example.net")
    assert (told.exit_code, json.loads(told.stdout)["users"]) == (3, [])
    with running(build_hss(), tmp_path) as (hss, config):
        hss.hss.silent = True
        silent = verify(config, "--wait", "0.2", "sip:good@example.net")
    assert (silent.exit_code, "no-answer" in silent.stdout) == (3, True)


def test_a_silent_hss_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_criteria, "MAX_SILENCES", 3)
    expected = Expectation(SERVER, frozenset({"as.example.net"}), ("terminating",), example_invite)
    verdicts: list[Verdict] = []

    async def main_() -> None:
        async with trio.open_nursery() as nursery:
            hss = build_hss()
            await nursery.start(hss.run)
            hss.silent = True
            config = build_config(hss.address[1])
            users = [f"sip:u{number}@example.net" for number in range(30)]
            with pytest.raises(live_criteria.ShToolError, match=r"in a row without an answer: [3-6] of 30"):
                await verify_users(config, users, expected, on_verdict=verdicts.append, parallel=3, wait_s=0.2)
            nursery.cancel_scope.cancel()

    trio.run(main_)
    assert len(verdicts) >= 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give IMPUs or --file"),
        (("bob",), "begins with sip: or tel:"),
        (("--sides", "up", "sip:a"), "--sides: of terminating and originating"),
        (("--file", "USERS"), "users.txt:2: a public identity begins"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], told: str, tmp_path: Path):
    path, users = tmp_path / "as.yaml", tmp_path / "users.txt"
    path.write_text(config_text(9))
    users.write_text("sip:a\nbob\n")
    result = verify(str(path), *(str(users) if each == "USERS" else each for each in arguments))
    assert result.exit_code == 2
    assert told in result.stderr
