"""What becomes of a request when each application server of its chain answers, passes it on, refuses it or fails.

Rules: TS 23.218 §5.2.2, §6.4 and §6.5; TS 24.229 §5.4.3.2 and §5.4.3.3 (default handling), §5.4.1.7 (third-party
REGISTER).  A 408, a 5xx, silence or no connection is a failure; after a provisional response above 100 the S-CSCF does
not fall back any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from ifc.engine import evaluate
from ifc.model import InitialFilterCriteria, SessionCase
from ifc.view import RequestView
from ims_as.ifc_tool.explain import handling_of
from ims_as.ifc_tool.reading import Criteria, IfcToolError

__all__ = ["Chain", "End", "Outcome", "Step", "read_outcomes", "run_chain"]


class Outcome(Enum):
    """What an application server does with the request."""

    PASSES = "passes"
    """Sends it back by the Route with the original dialog identifier; the next criterion is tested."""
    ANSWERS = "answers"
    """2xx: the server has the call."""
    REJECTS = "rejects"
    """3xx, 4xx other than 408, or 6xx: final, no default handling."""
    FAILS = "fails"
    """408, 5xx, silence or no connection, with nothing above 100 before."""
    FAILS_LATE = "fails-late"
    """The same after a 18x, or after it has passed the request on: no default handling."""


class End(Enum):
    """Where the request ends."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    RELEASED = "released"
    """By SESSION_TERMINATED."""
    LOST = "lost"
    """The server failed too late for default handling."""
    ROUTED = "routed"
    """All criteria are done: ordinary routing."""
    NO_TARGET = "no-target"
    """All criteria are done, and the user is not registered."""
    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    """A REGISTER to a server failed whose handling is SESSION_TERMINATED."""


_ROUTED = {
    None: "ordinary routing",
    SessionCase.ORIGINATING_REGISTERED: "goes on to the called network",
    SessionCase.ORIGINATING_UNREGISTERED: "goes on to the called network",
    SessionCase.ORIGINATING_CDIV: "goes on to the new target",
    SessionCase.TERMINATING_REGISTERED: "reaches the user's own phones (legacy termination)",
}
_DONE = {
    Outcome.PASSES: "passed on",
    Outcome.ANSWERS: "answered",
    Outcome.REJECTS: "rejected: the rest is abandoned",
}


@attrs.frozen
class Step:
    priority: int
    server_name: str
    default_handling: str
    outcome: str
    then: str
    """In words, what the S-CSCF does."""


@attrs.frozen
class Chain:
    steps: tuple[Step, ...]
    end: End
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "application_servers": [attrs.asdict(step) for step in self.steps],
            "end": self.end.value,
            "end_text": self.text,
        }


def run_chain(
    criteria: Criteria,
    view: RequestView,
    outcome_of: Callable[[InitialFilterCriteria], Outcome] = lambda _: Outcome.PASSES,
) -> Chain:
    """The servers in order until one ends it.  Each test is of the request as it came: what a server that passes it on
    may have changed is not known."""
    matched = [match.criterion for match in evaluate(criteria, view)]
    if view.method == "REGISTER":
        return _registration(matched, outcome_of)
    steps: list[Step] = []
    for criterion in matched:
        outcome = outcome_of(criterion)
        terminates = criterion.application_server.is_terminating_on_failure
        name = criterion.application_server.server_name
        if outcome is Outcome.FAILS:
            told = "408 or 5xx to the caller" if terminates else "goes on with the request as it was before"
        elif outcome is Outcome.FAILS_LATE:
            told = "no default handling any more: the failure goes to the caller"
        else:
            told = _DONE[outcome]
        steps.append(_step(criterion, outcome, told))
        if outcome is Outcome.ANSWERS:
            return Chain(tuple(steps), End.ANSWERED, f"{name} has it")
        if outcome is Outcome.REJECTS:
            return Chain(tuple(steps), End.REJECTED, f"{name} rejects it")
        if outcome is Outcome.FAILS_LATE:
            return Chain(tuple(steps), End.LOST, f"lost with {name}, after its 18x")
        if outcome is Outcome.FAILS and terminates:
            return Chain(tuple(steps), End.RELEASED, f"released, since {name} failed: SESSION_TERMINATED")
    if view.session_case is SessionCase.TERMINATING_UNREGISTERED:
        return Chain(tuple(steps), End.NO_TARGET, "refused (480): the user is not registered, and no server is left")
    return Chain(tuple(steps), End.ROUTED, _ROUTED[view.session_case])


def _registration(
    matched: Sequence[InitialFilterCriteria], outcome_of: Callable[[InitialFilterCriteria], Outcome]
) -> Chain:
    """Each server gets a REGISTER of its own, whatever becomes of the others'."""
    steps: list[Step] = []
    fatal: str | None = None
    for criterion in matched:
        outcome = outcome_of(criterion)
        is_bad = outcome in (Outcome.FAILS, Outcome.FAILS_LATE, Outcome.REJECTS)
        if not is_bad:
            told = "third-party REGISTER answered"
        elif criterion.application_server.is_terminating_on_failure:
            told = "the S-CSCF may de-register the user"
            fatal = fatal or criterion.application_server.server_name
        else:
            told = "no harm: the user stays registered"
        steps.append(_step(criterion, outcome, told))
    if fatal is not None:
        return Chain(tuple(steps), End.DEREGISTERED, f"de-registered, since {fatal} failed: SESSION_TERMINATED")
    told = f"{len(steps)} told by third-party REGISTER" if steps else "no server is told"
    return Chain(tuple(steps), End.REGISTERED, told)


def _step(criterion: InitialFilterCriteria, outcome: Outcome, then: str) -> Step:
    server = criterion.application_server
    return Step(criterion.priority, server.server_name, handling_of(criterion), outcome.value, then)


def read_outcomes(
    told: Sequence[str], criteria: Criteria, *, default: Outcome = Outcome.PASSES
) -> Callable[[InitialFilterCriteria], Outcome]:
    """``SERVER=OUTCOME`` → what each server does.  SERVER: the ServerName, its part after ``sip:``, its host, or the
    priority of one criterion.

    Raises:
        IfcToolError: not of this form, or no criterion has such a server.
    """
    chosen: dict[str, Outcome] = {}
    names = {name for criterion in criteria for name in _names(criterion)}
    for each in told:
        server, _, word = each.rpartition("=")
        key = server.strip().lower()
        outcome = next((outcome for outcome in Outcome if outcome.value == word.strip()), None)
        if outcome is None or not key:
            words = ", ".join(outcome.value for outcome in Outcome)
            raise IfcToolError(f"--as {each}: expected SERVER=OUTCOME, with an outcome of {words}")
        if key not in names:
            has = ", ".join(sorted({criterion.application_server.server_name for criterion in criteria})) or "none"
            raise IfcToolError(f"--as {each}: no criterion has this server; the servers are {has}")
        chosen[key] = outcome
    return lambda criterion: _chosen(criterion, chosen, default)


def _names(criterion: InitialFilterCriteria) -> tuple[str, ...]:
    """The most exact one first."""
    full = criterion.application_server.server_name.lower()
    bare = full.partition(":")[2].partition(";")[0]
    hostport = bare.rpartition("@")[2]
    host = hostport.partition("]")[0] + "]" if hostport.startswith("[") else hostport.partition(":")[0]
    return (str(criterion.priority), full, bare, hostport, host)


def _chosen(criterion: InitialFilterCriteria, chosen: Mapping[str, Outcome], default: Outcome) -> Outcome:
    return next((chosen[name] for name in _names(criterion) if name in chosen), default)
