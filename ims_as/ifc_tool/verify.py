"""Whether a user's live criteria would bring calls to us, and lose none when we fail: judged from the HSS's answers.

The judgement is by example: an INVITE in each session case is tested against the criteria, ours and, where the HSS
gives them, those of others that come before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from ifc.engine import evaluate
from ifc.model import InitialFilterCriteria, SessionCase
from ifc.parser import IfcError, Problem, parse_criteria_untrusted
from ifc.view import PlainRequestView, RequestView
from ifc.writer import write_criteria
from ims_as.ifc_tool.explain import explain_criteria, handling_of
from ims_as.ifc_tool.lint import Finding, Severity, lint_untrusted
from ims_as.ifc_tool.reading import Criteria
from ims_as.isc.session_case import session_case_by_address

__all__ = ["SIDES", "Answers", "Expectation", "Reached", "Status", "Verdict", "example_invite", "judge"]

Example = Callable[[str, SessionCase], RequestView]

SIDES = {
    "terminating": (SessionCase.TERMINATING_REGISTERED, SessionCase.TERMINATING_UNREGISTERED),
    "originating": (SessionCase.ORIGINATING_REGISTERED, SessionCase.ORIGINATING_UNREGISTERED),
}
"""Cases of each side of a call; the first must reach us, of the second it is told."""


_NOT_LINTED = ("session-terminated", "unregistered-nowhere")
"""The first is judged here; the second depends on criteria of others, which most HSSes do not show."""


class Status(Enum):
    SAFE = "safe"
    UNSAFE = "unsafe"
    REFUSED = "refused"
    """The HSS does not know the user, or does not give us the criteria."""
    NO_ANSWER = "no-answer"


@attrs.frozen
class Answers:
    """What the HSS said of one user; None: it did not say."""

    ifcs: tuple[bytes, ...] = ()
    """Each as XML, by the server names that were asked for."""
    asked: tuple[str, ...] = ()
    """Those server names; the first is `identity`."""
    user_state: int | None = None
    psi_activation: int | None = None
    dsai: tuple[tuple[str, int], ...] = ()


@attrs.frozen
class Expectation:
    """What is to be so.

    Args:
        hosts: by which we are reached, lower case.
        sides: keys of `SIDES` that must reach us.
        example: the request for a user in a case.
    """

    identity: str
    hosts: frozenset[str]
    sides: tuple[str, ...]
    example: Example


@attrs.frozen
class Reached:
    """A criterion of ours that the example matches."""

    session_case: str
    priority: int
    server_name: str
    default_handling: str


@attrs.frozen
class Verdict:
    impu: str
    status: Status
    reached: tuple[Reached, ...] = ()
    findings: tuple[Finding, ...] = ()
    answered: str | None = None
    """Whose criteria the HSS gave: ``ours``, ``all`` or ``none``."""
    user_state: int | None = None
    error: str | None = None
    """Why there is no verdict."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "impu": self.impu,
            "status": self.status.value,
            "reached": [attrs.asdict(each) for each in self.reached],
            "findings": [each.to_dict() for each in self.findings],
            "criteria_answered": self.answered,
            "user_state": self.user_state,
            "error": self.error,
        }


def example_invite(impu: str, case: SessionCase) -> RequestView:
    """A voice call to the user, or by the user to somebody else."""
    domain = impu.rpartition("@")[2].partition(";")[0] if "@" in impu else "example.invalid"
    other = f"sip:+15555550123@{domain};user=phone"
    caller, callee = (impu, other) if case.is_originating else (other, impu)
    side = "orig" if case.is_originating else "term"
    state = "reg" if case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.TERMINATING_REGISTERED) else "unreg"
    headers: Mapping[str, Sequence[str]] = {
        "Via": ("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKexample",),
        "Max-Forwards": ("68",),
        "From": (f"<{caller}>;tag=example",),
        "To": (f"<{callee}>",),
        "Call-ID": ("example",),
        "CSeq": ("1 INVITE",),
        "Contact": ("<sip:192.0.2.1>",),
        "P-Asserted-Identity": (f"<{caller}>",),
        "P-Served-User": (f"<{impu}>;sescase={side};regstate={state}",),
        "P-Asserted-Service": ("urn:urn-7:3gpp-service.ims.icsi.mmtel",),
        "Accept-Contact": ('*;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"',),
        "Supported": ("100rel", "timer"),
        "Content-Type": ("application/sdp",),
    }
    sdp = (("v", "0"), ("c", "IN IP4 192.0.2.1"), ("m", "audio 40000 RTP/AVP 8 0"), ("a", "sendrecv"))
    return PlainRequestView("INVITE", callee, case, headers, sdp)


def judge(impu: str, answers: Answers, expected: Expectation) -> Verdict:
    """The verdict on criteria that the HSS gave, or gave none of."""
    findings: list[Finding] = []
    criteria: list[InitialFilterCriteria] = []
    n_ours_by_first = 0
    for number, xml in enumerate(answers.ifcs):
        try:
            parsed = parse_criteria_untrusted(xml)
        except IfcError as error:
            findings.append(_unreadable(str(error), None))
            continue
        findings += [_unreadable(problem.text, problem) for problem in parsed.problems if problem.is_skipped]
        criteria += [each for each in parsed.criteria if each not in criteria]
        if number == 0:
            n_ours_by_first = sum(_is_ours(each, expected) for each in parsed.criteria)
    criteria.sort(key=lambda each: each.priority)
    ours = tuple(each for each in criteria if _is_ours(each, expected))
    reached: list[Reached] = []
    if not ours:
        asked = ", ".join(answers.asked)
        text = f"the HSS has no criteria for {asked}"
        if criteria:
            text += f", only for {', '.join(sorted({each.application_server.server_name for each in criteria}))}"
        findings.append(_error("no-criteria", text, "TS 29.328 §7.6.8", "no call reaches us"))
    else:
        findings += _lint(ours)
        if not n_ours_by_first:
            findings.append(
                _finding(
                    Severity.INFO,
                    "server-name-spelling",
                    f"asked for {answers.asked[0]} the HSS has none, though it has them for "
                    f"{ours[0].application_server.server_name}",
                    "TS 29.328 §7.6.8",
                    "the server asks by these names after `identity`; changes are noticed when it asks again",
                )
            )
        for side in SIDES:
            found, told = _judge_side(impu, side, tuple(criteria), ours, expected)
            reached += found
            findings += told
    findings += _activation(answers)
    is_unsafe = any(each.severity is Severity.ERROR for each in findings)
    answered = "none" if not criteria else "ours" if len(ours) == len(criteria) else "all"
    status = Status.UNSAFE if is_unsafe else Status.SAFE
    return Verdict(impu, status, tuple(reached), tuple(findings), answered, answers.user_state)


def _judge_side(
    impu: str, side: str, criteria: Criteria, ours: Criteria, expected: Expectation
) -> tuple[list[Reached], list[Finding]]:
    is_wanted = side in expected.sides
    reached: list[Reached] = []
    findings: list[Finding] = []
    for case in SIDES[side]:
        view = expected.example(impu, case)
        chain = [match.criterion for match in evaluate(criteria, view)]
        mine = next((each for each in chain if each in ours), None)
        is_main = case is SIDES[side][0]
        if mine is None:
            if is_wanted:
                findings.append(_not_reached(side, case, ours, view, is_main=is_main))
            continue
        if not is_wanted:
            if is_main:
                findings.append(_other_side(side, mine))
            continue
        handling = handling_of(mine)
        reached.append(Reached(case.name, mine.priority, mine.application_server.server_name, handling))
        if is_main:
            findings += _arrival(side, mine, chain[: chain.index(mine)])
    return reached, findings


def _not_reached(side: str, case: SessionCase, ours: Criteria, view: RequestView, *, is_main: bool) -> Finding:
    reasons = "; ".join(
        f"priority {each.priority}: {each.reason}{_failing(each)}" for each in explain_criteria(ours, view)
    )
    if is_main:
        text = f"an example INVITE in the case {case.name} does not reach us ({reasons})"
        return _error("not-reached", text, "TS 23.218 §5.2", f"the user's {side} calls do not come to us")
    return _finding(
        Severity.INFO,
        "not-reached-unregistered",
        f"an example INVITE in the case {case.name} does not reach us",
        "TS 23.218 §6.5.2",
        "while the user is not registered, calls do not come to us",
    )


def _failing(explained: Any) -> str:
    """The first trigger of a group that does not hold."""
    for group in explained.groups:
        if not group.holds:
            trigger = next(each for each in group.triggers if not each.holds)
            return f": {trigger.text} – {trigger.reason}"
    return ""


def _other_side(side: str, mine: InitialFilterCriteria) -> Finding:
    return _finding(
        Severity.WARNING,
        f"takes-{side}",
        f"priority {mine.priority} brings {side} calls as well",
        "TS 29.228 Annex B",
        f"the agent is called for the user's {side} calls too; name the session case in a trigger",
    )


def _arrival(side: str, mine: InitialFilterCriteria, before: Sequence[InitialFilterCriteria]) -> Iterator[Finding]:
    server = mine.application_server
    case = session_case_by_address(f"<{server.server_name}>")
    if case is not None and case.is_originating is not (side == "originating"):
        taken_for = "originating" if case.is_originating else "terminating"
        yield _error(
            "wrong-case",
            f"priority {mine.priority}: {side} calls come by {server.server_name}",
            "TS 24.229 §5.7.1.3A",
            f"where P-Served-User is missing, they are taken for {taken_for} calls",
        )
    if server.is_terminating_on_failure:
        yield _error(
            "session-terminated",
            f"priority {mine.priority}: DefaultHandling is 1 (SESSION_TERMINATED)",
            "TS 24.229 §5.4.3.2, §5.4.3.3",
            "while we are down, calls are rejected instead of going on to the user's phone",
        )
    for each in before:
        if each.application_server.is_terminating_on_failure:
            yield _finding(
                Severity.WARNING,
                "before-us",
                f"priority {each.priority}: {each.application_server.server_name} comes before us, SESSION_TERMINATED",
                "TS 23.218 §5.2.2",
                "while that server is down, calls do not come to us either",
            )


def _lint(ours: Criteria) -> Iterator[Finding]:
    """Of our own criteria; lines would be those of no document that anybody has."""
    for finding in lint_untrusted(write_criteria(ours)):
        if finding.rule not in _NOT_LINTED:
            yield attrs.evolve(finding, line=None)


def _activation(answers: Answers) -> Iterator[Finding]:
    if answers.psi_activation == 0:
        yield _error("psi-inactive", "PSIActivation is 0 (inactive)", "TS 29.328 §7.6.17", "calls to it are refused")
    for tag, value in answers.dsai:
        if value == 1:
            yield _error(
                "dsai-inactive",
                f"DSAI {tag} is 1 (INACTIVE)",
                "TS 29.328 §7.6.18",
                "the HSS keeps the criteria behind it from the S-CSCF: no call reaches us",
            )


def _is_ours(criterion: InitialFilterCriteria, expected: Expectation) -> bool:
    from ims_as.call.profile import host_of

    return host_of(criterion.application_server.server_name) in expected.hosts


def _unreadable(text: str, problem: Problem | None) -> Finding:
    where = "" if problem is None or problem.line is None else f"line {problem.line}: "
    consequence = "the S-CSCF leaves the criterion out, or refuses the whole profile"
    return _error("unreadable", f"{where}{text}", "TS 29.228 Annex E", consequence)


def _error(rule: str, text: str, clause: str, consequence: str) -> Finding:
    return _finding(Severity.ERROR, rule, text, clause, consequence)


def _finding(severity: Severity, rule: str, text: str, clause: str, consequence: str) -> Finding:
    return Finding(severity, rule, None, text, clause, consequence)
