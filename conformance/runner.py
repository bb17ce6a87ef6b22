"""Runs cases against a server that speaks SIP, one after the other, and writes JUnit XML."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import attrs
from lxml import etree

from conformance.case import Case
from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, parse_uri

__all__ = ["Outcome", "RunnerError", "Target", "Verdict", "junit_xml", "run_case", "run_cases"]

SIPP = "sipp"
MAX_DETAIL_CHARS = 8000
"""Of SIPp's output in a verdict: the first error is what counts, later ones follow from it."""

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d\t[\d:.]+\t[\d.]+: ")
"""Before each event of SIPp's error log, which has no line ends between events."""
_NOISE = ("The following events occurred:", "Failed to delete FD from epoll")
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class RunnerError(Exception):
    """No case can be run; the text says why."""


class Outcome(Enum):
    """FAILED: the server behaved otherwise.  ERROR: the case could not be tried."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


@attrs.frozen
class Verdict:
    case: Case
    outcome: Outcome
    seconds: float
    detail: str = ""
    """What SIPp said; empty when passed."""


@attrs.frozen
class Target:
    """Where the server is, and from which address it is spoken to."""

    host: str
    port: int
    transport: str
    """``udp`` or ``tcp``."""
    local_host: str

    @classmethod
    def parse(cls, uri: str, local_host: str | None = None) -> Target:
        """Reads ``sip:host:port;transport=tcp``; without local_host, the address from which the target is reached.

        Raises:
            RunnerError: no SIP URI with a host, or no way there.
        """
        try:
            parsed = parse_uri(uri)
        except SipParseError as error:
            raise RunnerError(f"target {uri!r}: {error}") from error
        transport = parsed.param("transport") or "udp" if isinstance(parsed, SipUri) else ""
        if not isinstance(parsed, SipUri) or parsed.scheme != "sip" or transport.lower() not in ("udp", "tcp"):
            raise RunnerError(f"target {uri!r}: expected sip:host:port, with ;transport=tcp for TCP")
        host, port = parsed.host.strip("[]"), parsed.port or 5060
        return cls(host, port, transport.lower(), local_host or _address_towards(host, port))


def _address_towards(host: str, port: int) -> str:
    """Nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise RunnerError(f"{host} cannot be reached: {error}") from error


def _free_port(host: str) -> int:
    """A port that is free on UDP and TCP.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family, socket.SOCK_STREAM) as tcp:
        udp.bind((host, 0))
        port: int = udp.getsockname()[1]
        tcp.bind((host, port))
        return port


def run_case(case: Case, target: Target) -> Verdict:
    """One case to its end, within its time limit.  Blocks; never raises because of the server or SIPp."""
    from conformance.sipp import run_client

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ims-as-conformance-") as directory:
        try:
            result = run_client(
                case.scenario,
                target=(target.host, target.port),
                local=(target.local_host, _free_port(target.local_host)),
                calls=case.calls,
                timeout_s=case.timeout_s,
                transport="t1" if target.transport == "tcp" else "u1",
                directory=Path(directory),
            )
        except OSError as error:
            return Verdict(case, Outcome.ERROR, time.monotonic() - started, str(error))
    seconds = time.monotonic() - started
    if result.ok:
        return Verdict(case, Outcome.PASSED, seconds)
    ended = "was stopped: time limit" if result.returncode is None or result.returncode < 0 else "ended with status"
    status = "" if result.returncode is None or result.returncode < 0 else f" {result.returncode}"
    detail = f"SIPp {ended}{status}\n{result.command}\n{_events(result.errors)}".strip()
    return Verdict(case, Outcome.FAILED, seconds, detail[:MAX_DETAIL_CHARS])


def _events(errors: str) -> str:
    """SIPp's error log, one event per line and without what says nothing of the server."""
    events = (event.strip() for event in _TIMESTAMP.split(errors))
    return "\n".join(event for event in events if event and not event.startswith(_NOISE))


def run_cases(
    cases: Sequence[Case], target: Target, *, on_verdict: Callable[[Verdict], None] = lambda verdict: None
) -> list[Verdict]:
    """All of them, each told as soon as it is over.

    Raises:
        RunnerError: SIPp is not there.
    """
    if shutil.which(SIPP) is None:
        raise RunnerError("sipp is not installed (Debian: sip-tester)")
    verdicts = []
    for case in cases:
        verdict = run_case(case, target)
        verdicts.append(verdict)
        on_verdict(verdict)
    return verdicts


def junit_xml(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts as JUnit XML, one suite per area."""
    root = etree.Element("testsuites", {"name": "ims-as-conformance", **_counts(verdicts)})
    for area in dict.fromkeys(verdict.case.area for verdict in verdicts):
        members = [verdict for verdict in verdicts if verdict.case.area == area]
        suite = etree.SubElement(root, "testsuite", {"name": area, **_counts(members)})
        for verdict in members:
            name = verdict.case.name.partition("/")[2]
            seconds = f"{verdict.seconds:.3f}"
            element = etree.SubElement(suite, "testcase", classname=f"conformance.{area}", name=name, time=seconds)
            if verdict.outcome is not Outcome.PASSED:
                kind = "failure" if verdict.outcome is Outcome.FAILED else "error"
                told = etree.SubElement(element, kind, message=f"{verdict.case.summary} ({verdict.case.clause})")
                told.text = _NOT_XML.sub("·", verdict.detail)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.outcome is Outcome.FAILED for verdict in verdicts)),
        "errors": str(sum(verdict.outcome is Outcome.ERROR for verdict in verdicts)),
        "time": f"{sum(verdict.seconds for verdict in verdicts):.3f}",
    }
