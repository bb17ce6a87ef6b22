"""The runner against small servers of the tests' own: one that behaves, and ones that do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from lxml import etree

from conformance import runner
from conformance.case import Case, find_cases
from conformance.cli import main
from conformance.runner import Outcome, RunnerError, Target, Verdict, junit_xml, run_case, run_cases
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint

HOST, LOCAL = "127.0.92.1", "127.0.92.2"
ANSWER = b"v=0\r\no=- 1 1 IN IP4 127.0.92.1\r\ns=-\r\nc=IN IP4 127.0.92.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"

CASES = {case.name: case for case in find_cases()}


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


def test_a_silent_server_is_given_up_in_time(tmp_path: Path):
    case = CASES["sip/options"]
    hasty = Case(case.name, case.summary, case.clause, case.scenario, timeout_s=0.5)
    with responder("silent") as server:
        verdict = run_case(hasty, server.target())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.detail.startswith("SIPp was stopped: time limit")
    assert verdict.seconds < 4


def test_a_case_that_cannot_be_tried_is_an_error():
    verdict = run_case(CASES["sip/options"], Target(HOST, 5060, "udp", "192.0.2.1"))
    assert verdict.outcome is Outcome.ERROR
    assert "assign" in verdict.detail


def test_target():
    assert Target.parse("sip:127.0.92.1") == Target("127.0.92.1", 5060, "udp", "127.0.0.1")
    assert Target.parse("sip:127.0.92.1:5070;transport=tcp", LOCAL) == Target("127.0.92.1", 5070, "tcp", LOCAL)
    assert Target.parse("sip:[::1]:5070", "::1") == Target("::1", 5070, "udp", "::1")
    for wrong in ("127.0.92.1", "tel:+1", "sips:127.0.92.1", "sip:127.0.92.1;transport=tls", ""):
        with pytest.raises(RunnerError):
            Target.parse(wrong)


def verdict(name: str, outcome: Outcome, detail: str = "") -> Verdict:
    case = Case(name, "must be so", "RFC 1", Path("uac.xml"), 1.0)
    return Verdict(case, outcome, 1.5, detail)


def test_junit_counts_and_tells():
    verdicts = [
        verdict("isc/one", Outcome.PASSED),
        verdict("isc/two", Outcome.FAILED, "got <486>\x1b[2J & \x00"),
        verdict("sip/one", Outcome.ERROR, "no address"),
    ]
    root = etree.fromstring(junit_xml(verdicts))
    assert dict(root.attrib) == {
        "name": "ims-as-conformance", "tests": "3", "failures": "1", "errors": "1", "time": "4.500",
    }  # fmt: skip
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("isc", "2", "1"),
        ("sip", "1", "0"),
    ]
    (failure,) = root.iter("failure")
    assert failure.get("message") == "must be so (RFC 1)"
    assert failure.text == "got <486>·[2J & ·"
    assert [element.text for element in root.iter("error")] == ["no address"]


# ---------------------------------------------------------------- the program


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def test_list_names_the_cases():
    output = invoke("list").output
    for case in CASES.values():
        assert f"{case.name} " in output
        assert case.summary in output
    assert "sip/options" not in invoke("list", "isc").output


def test_run_tells_each_verdict_and_writes_junit(tmp_path: Path):
    junit = tmp_path / "junit.xml"
    with responder("expires") as server:
        target = uri(server.target())
        result = invoke(
            "run", "--target", target, "--local", LOCAL, "--junit", str(junit), "isc/third-party-register", "sip"
        )
        good = invoke("run", "--target", target, "--local", LOCAL, "sip/*")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("isc/third-party-register  FAILED  ")
    assert "    Failed regexp match: looking in ' 60', with regexp '^ *3720'" in lines
    assert lines[-1] == "2 of 3 passed"
    assert [each.get("name") for each in etree.parse(junit).iter("testcase")] == [
        "third-party-register",
        "bye-of-no-call",
        "options",
    ]
    assert good.exit_code == 0
    assert good.output.splitlines()[-1] == "2 of 2 passed"


def test_what_cannot_be_run_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert invoke("run", "nonsense").exit_code == 2
    assert invoke("run", "--target", "nonsense").exit_code == 2
    assert invoke("list", "--cases", str(tmp_path)).exit_code == 2
    found: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(runner.shutil, "which", found)
    result = invoke("run", "--target", "sip:127.0.92.1")
    assert result.exit_code == 2
    assert "sipp is not installed" in result.output
