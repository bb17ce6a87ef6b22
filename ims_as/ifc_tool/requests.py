"""Which captured messages are initial requests, whose they are, and in which session case an S-CSCF tests them.

A capture shows a request on every hop; it counts once for each served user and session case that it names.  A REGISTER
counts when it was answered 200, since the criteria are tested after that (TS 23.218 §6.3), and third-party REGISTERs
do not count: they are what comes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from ifc.model import RegistrationType, SessionCase
from ims_as.ifc_tool.capture import CapturedMessage
from ims_as.ifc_tool.reading import (
    Document,
    InitialRequest,
    asks_for_session_case,
    bare_identity,
    registration_type_of,
)
from ims_as.isc.session_case import session_case_by_header
from ims_as.isc.view import SipRequestView
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import PServedUser, parse_name_addr
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted

__all__ = ["ASSUMED", "FoundRequest", "find_initial_requests_untrusted", "interpret", "served_user_header"]

ASSUMED = ("caller's side", "called user's side")
"""Source of a session case that the request itself does not tell."""

_NEVER_INITIAL = frozenset({"ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO"})
MAX_HOPS_TOLD = 20


@attrs.define
class FoundRequest:
    """An initial request of a capture."""

    request: Request
    number: int
    """Packet that completed it first."""
    time_s: float
    source: str
    destination: str
    hops: list[int] = attrs.field(factory=list)
    """Packets with the same request on other hops, or sent again."""
    status: int | None = None
    """Final answer, of a REGISTER."""
    registration_type: RegistrationType | None = None

    @property
    def call(self) -> tuple[object, ...]:
        """What stays the same on every hop."""
        request = self.request
        return (request.method, request.call_id, request.from_tag, request.cseq.number)


def find_initial_requests_untrusted(
    messages: Iterable[CapturedMessage], *, to: str | None = None
) -> tuple[tuple[FoundRequest, ...], Counter[str]]:
    """(requests in order, what was left out by reason).  Never raises.

    Args:
        to: only what is sent to this address, or address:port.
    """
    found: dict[tuple[object, ...], FoundRequest] = {}
    registers: dict[tuple[str, int], list[FoundRequest]] = {}
    skipped: Counter[str] = Counter()
    for captured in messages:
        try:
            message = parse_message_untrusted(captured.data)
            if isinstance(message, Response):
                _note_answer(message, registers)
                continue
            reason = _why_not(message)
            key = _key(message)
        except SipParseError:
            skipped["messages that are no sound SIP"] += 1
            continue
        if reason is None and to is not None and not _is_at(captured.destination, to):
            reason = "requests sent elsewhere"
        if reason is not None:
            skipped[reason] += 1
            continue
        before = found.get(key)
        if before is not None:
            if len(before.hops) < MAX_HOPS_TOLD:
                before.hops.append(captured.number)
            continue
        one = FoundRequest(message, captured.number, captured.time_s, captured.source, captured.destination)
        found[key] = one
        if message.method == "REGISTER":
            registers.setdefault((message.call_id, message.cseq.number), []).append(one)
    return tuple(_answered(found.values(), skipped)), skipped


def _why_not(request: Request) -> str | None:
    if request.method in _NEVER_INITIAL or request.to_tag is not None:
        return "requests within dialogs"
    if request.method == "REGISTER" and bare_identity(request.from_.uri_text) != bare_identity(request.to.uri_text):
        return "third-party REGISTERs"
    return None


def _key(request: Request) -> tuple[object, ...]:
    key = (request.method, request.call_id, request.from_tag, request.cseq.number)
    if request.method == "REGISTER":
        return key
    served = tuple(request.headers.get_list("P-Served-User")[:1])
    return (*key, request.uri, served)


def _note_answer(response: Response, registers: dict[tuple[str, int], list[FoundRequest]]) -> None:
    if response.status < 200 or response.cseq.method != "REGISTER":
        return
    for one in registers.get((response.call_id, response.cseq.number), ()):
        one.status = one.status or response.status


def _answered(found: Iterable[FoundRequest], skipped: Counter[str]) -> Iterable[FoundRequest]:
    """Without REGISTERs that were refused; the others know whether the user was registered before."""
    registered: set[str] = set()
    for one in found:
        if one.request.method != "REGISTER":
            yield one
            continue
        if one.status is not None and one.status >= 300:
            skipped["REGISTERs challenged or refused"] += 1
            continue
        user = bare_identity(one.request.to.uri_text)
        one.registration_type = registration_type_of(one.request)
        if one.registration_type is RegistrationType.DE_REGISTRATION:
            registered.discard(user)
        elif user in registered:
            one.registration_type = RegistrationType.RE_REGISTRATION
        else:
            registered.add(user)
        yield one


def _is_at(endpoint: str, wanted: str) -> bool:
    return wanted in (endpoint, endpoint.rpartition(":")[0], endpoint.rpartition(":")[0].strip("[]"))


# ---------------------------------------------------------------- whose it is


def interpret(
    request: Request,
    document: Document,
    *,
    session_case: SessionCase | None = None,
    registration_type: RegistrationType | None = None,
    served_user: str | None = None,
) -> tuple[InitialRequest, ...]:
    """The tests that S-CSCFs make of the request: one, or where nothing tells the side, one for each side that the
    document has a user of, or for both sides.

    Args:
        session_case, registration_type, served_user: what counts instead of what the request says.
    """
    if request.method == "REGISTER":
        registration_type = registration_type or registration_type_of(request)
        case = session_case or SessionCase.ORIGINATING_REGISTERED
        readings: Sequence[_Reading] = [(case, request.to.uri_text, "REGISTER")]
    else:
        registration_type = None
        readings = _readings(request, document, session_case)
    return tuple(
        InitialRequest(
            SipRequestView(request, case, registration_type=registration_type), served_user or user, case, source
        )
        for case, user, source in readings
    )


_Reading = tuple[SessionCase | None, str, str]
"""(session case, served user, where they come from)."""


def _readings(request: Request, document: Document, session_case: SessionCase | None) -> Sequence[_Reading]:
    header = served_user_header(request)
    caller, callee = _caller(request), request.uri
    if header is not None:
        case = session_case or session_case_by_header(header)
        if case is not None:
            return [(case, header.uri_text, "given" if session_case is not None else "P-Served-User")]
    if session_case is not None:
        return [(session_case, caller if session_case.is_originating else callee, "given")]
    both: Sequence[_Reading] = [
        (SessionCase.ORIGINATING_REGISTERED, caller, ASSUMED[0]),
        (SessionCase.TERMINATING_REGISTERED, callee, ASSUMED[1]),
    ]
    if _has_orig_parameter(request):
        return [(SessionCase.ORIGINATING_REGISTERED, caller, "Route with orig")]
    if document.names_users:
        ours = [(case, user, source) for case, user, source in both if document.serves(user)]
        return ours or both
    if not asks_for_session_case(document.criteria):
        return [(None, callee, "unknown")]
    return both


def served_user_header(request: Request) -> PServedUser | None:
    """The first readable value."""
    for value in request.headers.get_list("P-Served-User"):
        try:
            return PServedUser.parse(value)
        except SipParseError:
            continue
    return None


def _caller(request: Request) -> str:
    for name in ("P-Asserted-Identity", "P-Preferred-Identity"):
        for value in request.headers.get_list(name):
            try:
                return parse_name_addr(value).uri_text
            except SipParseError:
                continue
    return request.from_.uri_text


def _has_orig_parameter(request: Request) -> bool:
    """The S-CSCF's own address in the topmost Route, as its Service-Route gave it (TS 24.229 §5.4.3.2)."""
    routes = request.routes
    if not routes:
        return False
    try:
        uri = parse_name_addr(routes[0]).uri
    except SipParseError:
        return False
    has_param = getattr(uri, "has_param", None)
    return has_param is not None and bool(has_param("orig"))
