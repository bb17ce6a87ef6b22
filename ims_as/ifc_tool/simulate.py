"""Requests of SIP files and captures through a user's criteria: which servers they visit, and where they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from ifc.model import InitialFilterCriteria, RegistrationType, SessionCase
from ims_as.ifc_tool.capture import read_capture_untrusted
from ims_as.ifc_tool.chain import Chain, Outcome, read_outcomes, run_chain
from ims_as.ifc_tool.reading import (
    Document,
    IfcToolError,
    InitialRequest,
    bare_identity,
    read_message_untrusted,
)
from ims_as.ifc_tool.requests import ASSUMED, MAX_HOPS_TOLD, FoundRequest, find_initial_requests_untrusted, interpret
from ims_as.sip.errors import SipParseError

__all__ = ["CaptureReport", "Simulated", "Simulation"]


@attrs.frozen
class Simulated:
    """One request in one session case."""

    name: str
    """Of the file."""
    request: InitialRequest
    chain: Chain
    found: FoundRequest | None = None
    """Where it stands in a capture."""


@attrs.frozen
class CaptureReport:
    name: str
    n_packets: int
    n_messages: int
    is_cut_short: bool
    skipped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.name,
            "packets": self.n_packets,
            "messages": self.n_messages,
            "cut_short": self.is_cut_short,
            "skipped": self.skipped,
        }


@attrs.define
class Simulation:
    """What counts for all requests.

    Args:
        session_case, registration_type, user: instead of what a request says.
        told: ``SERVER=OUTCOME``, see `ims_as.ifc_tool.chain.read_outcomes`.
        default: outcome of every other server.
        to: of captures, only requests to this address, or address:port.

    Raises:
        IfcToolError: an outcome cannot be read, or is for a server that no criterion has.
    """

    document: Document
    session_case: SessionCase | None = None
    registration_type: RegistrationType | None = None
    user: str | None = None
    told: Sequence[str] = ()
    default: Outcome = Outcome.PASSES
    to: str | None = None
    _outcome_of: Callable[[InitialFilterCriteria], Outcome] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outcome_of = read_outcomes(self.told, self.document.criteria, default=self.default)

    def file_untrusted(self, name: str, message: bytes) -> list[Simulated]:
        """A file with one SIP request.  Raises IfcToolError."""
        request = read_message_untrusted(message)
        try:
            return [self._run(name, each, None) for each in self._interpret(FoundRequest(request, 0, 0.0, "", ""))]
        except SipParseError as error:
            raise IfcToolError(f"not a SIP request: {error}") from error

    def capture_untrusted(self, name: str, data: bytes) -> tuple[list[Simulated], CaptureReport]:
        """Every initial request of a capture that is about a user of the document.  Raises PcapError."""
        capture = read_capture_untrusted(data)
        requests, skipped = find_initial_requests_untrusted(capture.messages, to=self.to)
        skipped += Counter(capture.skipped)
        simulated = list(self._run_all(name, requests, skipped))
        n_messages = len(capture.messages)
        return simulated, CaptureReport(name, capture.n_packets, n_messages, capture.is_cut_short, dict(skipped))

    def _interpret(self, found: FoundRequest) -> Sequence[InitialRequest]:
        return interpret(
            found.request,
            self.document,
            session_case=self.session_case,
            registration_type=self.registration_type or found.registration_type,
            served_user=self.user,
        )

    def _run_all(self, name: str, requests: Sequence[FoundRequest], skipped: Counter[str]) -> Iterator[Simulated]:
        """One test for each call, case and user, on however many hops it is seen; a case that some hop tells is not
        assumed on another."""
        readings: list[tuple[FoundRequest, InitialRequest]] = []
        for found in requests:
            try:
                readings += ((found, request) for request in self._interpret(found))
            except SipParseError:
                skipped["messages that are no sound SIP"] += 1
        told = {(found.call, _side(request)) for found, request in readings if request.source not in ASSUMED}
        seen: dict[tuple[object, ...], FoundRequest] = {}
        for found, request in readings:
            if request.source in ASSUMED and (found.call, _side(request)) in told:
                continue
            if self.user is None and not self.document.serves(request.served_user or ""):
                skipped["requests of users that the document does not have"] += 1
                continue
            key = (found.call, request.session_case, bare_identity(request.served_user or ""))
            before = seen.setdefault(key, found)
            if before is found:
                yield self._run(name, request, found)
            elif len(before.hops) < MAX_HOPS_TOLD:
                before.hops.append(found.number)

    def _run(self, name: str, request: InitialRequest, found: FoundRequest | None) -> Simulated:
        criteria = self.document.criteria_of(request.served_user)
        return Simulated(name, request, run_chain(criteria, request.view, self._outcome_of), found)


def _side(request: InitialRequest) -> bool | None:
    """Whether the case is an originating one."""
    return None if request.session_case is None else request.session_case.is_originating
