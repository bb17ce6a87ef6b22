"""The runner against small servers of the tests' own: one that behaves, and ones that do not."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner
from lxml import etree

from conformance import runner
from conformance.case import Case, find_cases, load_case
from conformance.cli import main
from conformance.fault import parse_fault
from conformance.junit import junit_xml
from conformance.runner import Outcome, RunnerError, Target, Targets, Trial, Verdict, run_case, run_cases, try_cases
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint

HOST, LOCAL = "127.0.92.1", "127.0.92.2"
ANSWER = b"v=0\r\no=- 1 1 IN IP4 127.0.92.1\r\ns=-\r\nc=IN IP4 127.0.92.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"

NAMES = ("isc/answered", "isc/max-forwards-zero", "isc/third-party-register", "sip/bye-of-no-call", "sip/options")
CASES = {case.name: case for case in find_cases() if case.name in NAMES}


class Responder:
    """A server that does what the cases ask for; `faults` names what it gets wrong."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        listen = [ListenAddress(transport, HOST, 0) for transport in ("udp", "tcp")]
        self.endpoint = Endpoint(listen=listen, server_name="responder")
        self.agent = UserAgent(
            self.endpoint, on_invite=self.on_invite, on_request=self.on_request, user_agent="", allow="INVITE, BYE"
        )
        self.endpoint.user = self.agent

    def target(self, transport: str = "udp") -> Target:
        address = next(each for each in self.endpoint.addresses if each.transport.lower() == transport)
        return Target(HOST, address.port, transport, LOCAL)

    def on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        if request.max_forwards == 0:
            self.endpoint.send_response(transaction, build_response(request, 483, to_tag=transaction.to_tag))
            return
        session: InviteSession = self.agent.accept(request, transaction, on_event=lambda session, event: None)
        if "busy" in self.faults:
            session.reject(486)
        else:
            session.answer(ANSWER.replace(b"4000 RTP/AVP 8", b"0 RTP/AVP 8") if "no media" in self.faults else ANSWER)

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        if "silent" in self.faults:
            return
        expires = "60" if "expires" in self.faults else request.headers.get("Expires") or "0"
        headers = [("Expires", expires)] if request.method == "REGISTER" else [("Allow", "INVITE")]
        response = build_response(request, 200, to_tag=transaction.to_tag, headers=headers)
        self.endpoint.send_response(transaction, response)


@contextmanager
def responder(*faults: str) -> Iterator[Responder]:
    """In a thread of its own: SIPp is waited for by blocking."""
    started = threading.Event()
    shared: list[Any] = []

    async def serve() -> None:
        server = Responder(*faults)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.endpoint.run)
            shared.extend((server, trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(5)
    server, token, scope = shared
    try:
        yield server
    finally:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join(5)


def uri(target: Target) -> str:
    return f"sip:{target.host}:{target.port}"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_every_case_passes_on_a_server_that_behaves(transport: str):
    with responder() as server:
        verdicts = run_cases(list(CASES.values()), server.target(transport))
    assert {verdict.case.name: verdict.detail for verdict in verdicts if verdict.detail} == {}
    assert {verdict.outcome for verdict in verdicts} == {Outcome.PASSED}


@pytest.mark.parametrize(
    ("fault", "name", "reason"),
    [
        ("busy", "isc/answered", "486"),
        ("no media", "isc/answered", "m=audio 0 RTP/AVP 8"),
        ("expires", "isc/third-party-register", "looking in ' 60', with regexp '^ *3720'\n"),
    ],
)
def test_a_server_that_errs_fails_and_sipp_says_why(fault: str, name: str, reason: str):
    with responder(fault) as server:
        verdict = run_case(CASES[name], server.target())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.detail.startswith("SIPp ended with status 1\n")
    assert reason in verdict.detail
    assert "epoll" not in verdict.detail
    method = "REGISTER" if "register" in name else "INVITE"
    assert re.match(rf" +0\.0 ms  case ──▶ target +{method}", verdict.ladder)
    assert re.search(rf"\n +\d+\.\d ms  case ◀── target +\d+ {method}", verdict.ladder)


def test_a_silent_server_is_given_up_in_time(tmp_path: Path):
    case = CASES["sip/options"]
    hasty = attrs.evolve(case, timeout_s=0.5)
    with responder("silent") as server:
        verdict = run_case(hasty, server.target())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.detail.startswith("SIPp was stopped: time limit")
    assert verdict.seconds < 4


def test_a_case_that_cannot_be_tried_is_an_error():
    verdict = run_case(CASES["sip/options"], Target(HOST, 5060, "udp", "192.0.2.1"))
    assert verdict.outcome is Outcome.ERROR
    assert "assign" in verdict.detail


def test_a_scenario_that_sipp_cannot_play_is_an_error(tmp_path: Path):
    (tmp_path / "uac.xml").write_text("<scenario>")
    verdict = run_case(
        attrs.evolve(CASES["sip/options"], scenario=tmp_path / "uac.xml"), Target(HOST, 5060, "udp", LOCAL)
    )
    assert verdict.outcome is Outcome.ERROR
    assert "Unable to load or parse" in verdict.detail


def test_target():
    assert Target.parse("sip:127.0.92.1") == Target("127.0.92.1", 5060, "udp", "127.0.0.1")
    assert Target.parse("sip:127.0.92.1:5070;transport=tcp", LOCAL) == Target("127.0.92.1", 5070, "tcp", LOCAL)
    assert Target.parse("sip:[::1]:5070", "::1") == Target("::1", 5070, "udp", "::1")
    assert Target.parse("sip:127.0.92.1;transport=TLS", LOCAL) == Target("127.0.92.1", 5061, "tls", LOCAL)
    for wrong in ("127.0.92.1", "tel:+1", "sips:127.0.92.1", "sip:127.0.92.1;transport=sctp", ""):
        with pytest.raises(RunnerError):
            Target.parse(wrong)


def test_targets_are_one_server_at_several_places():
    targets = Targets.parse(["ipv6=sip:[::1]:5070", "sip:127.0.92.1;transport=tcp", "tls=sip:127.0.92.1"], LOCAL)
    options = CASES["sip/options"]
    assert targets.of(options) == Target("127.0.92.1", 5060, "tcp", LOCAL)
    assert targets.of(attrs.evolve(options, transport="udp")) == Target("127.0.92.1", 5060, "udp", LOCAL)
    assert targets.of(attrs.evolve(options, at="ipv6")) == Target("::1", 5070, "udp", "::1")
    assert targets.of(attrs.evolve(options, at="limited")) is None
    for wrong in ((), ("ipv6=sip:[::1]",), ("nowhere=sip:127.0.0.1", "sip:127.0.0.1")):
        with pytest.raises(RunnerError):
            Targets.parse(wrong)


# ---------------------------------------------------------------- wrong servers, next hops, what is left out


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_server_made_wrong_fails_the_case(transport: str):
    case = CASES["isc/answered"]
    with responder() as server:
        good = run_case(case, server.target(transport), [parse_fault("delay 200/INVITE 30")])
        wrong = run_case(case, server.target(transport), [parse_fault("status 200/INVITE 486")])
        idle = run_case(case, server.target(transport), [parse_fault("drop PRACK")])
    assert (good.outcome, good.detail, good.unused) == (Outcome.PASSED, "", ())
    assert wrong.outcome is Outcome.FAILED
    assert wrong.has_noticed
    assert "486 Changed" in wrong.detail
    assert not good.has_noticed
    assert idle.unused == ("drop PRACK",)


def write_case(folder: Path, peer: str) -> Case:
    """One that asks nothing of the server, and has a next hop."""
    folder.mkdir(parents=True)
    settings = 'summary = "s"\nclause = "c"\nscenario = "uac.xml"\ntimeout_s = 5\npeer = "uas.xml"\n'
    (folder / "case.toml").write_text(settings)
    (folder / "uac.xml").write_text((CASES["sip/options"].scenario).read_text().replace("monitor@", "[next_hop]@"))
    (folder / "uas.xml").write_text(f'<?xml version="1.0"?><scenario name="next hop">{peer}</scenario>')
    return load_case(folder)


def test_a_next_hop_that_is_never_asked_fails_the_case(tmp_path: Path):
    case = write_case(tmp_path / "area" / "name", '<recv request="INVITE"/>')
    with responder() as server:
        verdict = run_case(case, server.target())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.detail.startswith("next hop: SIPp was stopped: time limit")
    assert "OPTIONS" in verdict.ladder


def test_what_the_target_has_not_got_is_left_out():
    options, answered = CASES["sip/options"], CASES["isc/answered"]
    trials = [Trial(attrs.evolve(options, at="tls")), Trial(answered), Trial(CASES["sip/bye-of-no-call"])]
    told: list[Verdict] = []
    with responder() as server:

        async def main() -> list[Verdict]:
            targets = Targets(server.target())
            return await try_cases(trials, targets, lacks=["voice agent"], on_verdict=told.append)

        verdicts = trio.run(main)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.LEFT_OUT, Outcome.LEFT_OUT, Outcome.PASSED]
    assert [verdict.detail for verdict in verdicts] == ["no target at tls", "no voice agent", ""]
    assert len(told) == 3


def verdict(name: str, outcome: Outcome, detail: str = "") -> Verdict:
    case = Case(name, "must be so", "RFC 1", Path("uac.xml"), 1.0)
    return Verdict(case, outcome, 1.5, detail, "ladder" if outcome is Outcome.FAILED else "")


def test_junit_counts_and_tells():
    verdicts = [
        verdict("isc/one", Outcome.PASSED),
        verdict("isc/two", Outcome.FAILED, "got <486>\x1b[2J & \x00"),
        verdict("sip/one", Outcome.ERROR, "no address"),
        verdict("sip/two", Outcome.LEFT_OUT, "no agent"),
    ]
    root = etree.fromstring(junit_xml(verdicts))
    assert dict(root.attrib) == {
        "name": "ims-as-conformance", "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
        "time": "6.000",
    }  # fmt: skip
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("isc", "2", "1"),
        ("sip", "2", "0"),
    ]
    (failure,) = root.iter("failure")
    assert failure.get("message") == "must be so (RFC 1)"
    assert failure.text == "got <486>·[2J & ·\n\nladder"
    assert [element.text for element in root.iter("error")] == ["no address"]


# ---------------------------------------------------------------- the program


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def test_list_names_the_cases():
    output = invoke("list").output
    for case in find_cases():
        assert f"{case.name} " in output
        assert case.summary in output
    assert "sip/options" not in invoke("list", "isc").output
    assert invoke("list", "--area", "isc").output == invoke("list", "isc").output
    rows = json.loads(invoke("list", "--json", "sip/options").output)
    assert [(row["name"], row["needs"], row["at"]) for row in rows] == [("sip/options", ["voice agent"], "")]


def test_run_tells_each_verdict_and_writes_junit(tmp_path: Path):
    junit = tmp_path / "junit.xml"
    with responder("expires") as server:
        target = uri(server.target())
        result = invoke(
            "run", "--target", target, "--local", LOCAL, "--jobs", "1", "--without", "voice agent",
            "--junit", str(junit), "isc/third-party-register", "sip/options", "sip/bye-of-no-call",
        )  # fmt: skip
        good = invoke("run", "--target", target, "--local", LOCAL, "sip/bye-of-no-call")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("isc/third-party-register  FAILED  ")
    assert "    Failed regexp match: looking in ' 60', with regexp '^ *3720'" in lines
    assert any("case ──▶ target" in line and line.endswith("REGISTER") for line in lines)
    assert lines[-1] == "1 of 2 passed, 1 left out"
    assert [each.get("name") for each in etree.parse(junit).iter("testcase")] == [
        "third-party-register",
        "bye-of-no-call",
        "options",
    ]
    assert good.exit_code == 0
    assert good.output.splitlines()[-1] == "1 of 1 passed"


def test_without_a_target_a_server_of_our_own_is_tried():
    result = invoke("run", "sip/options", "transport/tls-keep-alive")
    assert result.output.splitlines()[-1] == "2 of 2 passed"
    assert result.exit_code == 0


def test_prove_says_which_fault_goes_unnoticed(tmp_path: Path):
    folder = tmp_path / "sip" / "options"
    shutil.copytree(CASES["sip/options"].scenario.parent, folder)
    settings = (folder / "case.toml").read_text()
    kept = "\n".join(line for line in settings.splitlines() if not line.startswith("wrong"))
    (folder / "case.toml").write_text(kept + '\nwrong = ["status 200 503", "header 200 X-New: 1", "drop 183"]\n')
    with responder() as server:
        where = ("--cases", str(tmp_path), "--target", uri(server.target()), "--local", LOCAL, "--jobs", "1")
        result = invoke("prove", *where)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("sip/options  status 200 503  ok ")
    assert any(line.startswith("sip/options  header 200 X-New: 1  FAILED") for line in lines)
    assert "    the case did not notice" in lines
    assert lines[-1] == "1 of 3 faults noticed"


def test_what_cannot_be_run_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert invoke("run", "nonsense").exit_code == 2
    assert invoke("run", "--target", "nonsense").exit_code == 2
    assert invoke("run", "--target", "sip:127.0.92.1", "--key", "nobody=sip:x@y").exit_code == 2
    assert invoke("run", "--target", "sip:127.0.92.1", "--without", "money").exit_code == 2
    assert invoke("list", "--cases", str(tmp_path)).exit_code == 2
    found: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(runner.shutil, "which", found)
    result = invoke("run", "--target", "sip:127.0.92.1")
    assert result.exit_code == 2
    assert "sipp is not installed" in result.output
