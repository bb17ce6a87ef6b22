"""Whom a request on ISC is served for: P-Served-User, and what to do without it (TS 24.229 clause 5.7.1.3A).

P-Served-User is optional in practice (one S-CSCF sends it only when configured to), so the case may have to come from
how we were addressed, and the user from P-Asserted-Identity (originating) or the Request-URI (terminating).

Only for requests of trusted peers: anybody can write these headers.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ims_as.isc.routing import addressed_uri
from ims_as.isc.session_case import SessionCase, session_case_by_address, session_case_by_header
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import PServedUser, parse_name_addr, parse_name_addrs
from ims_as.sip.message import Request

__all__ = ["ServedUser", "determine_served_user", "other_identities"]


@attrs.frozen
class ServedUser:
    uri: str
    """The public identity as written, parameters included, without brackets."""
    session_case: SessionCase
    registered: bool | None
    """None: nobody said."""
    source: str
    """Where user and case come from, for the trace: ``P-Served-User``, ``P-Asserted-Identity, address (orig)`` …"""


def determine_served_user(request: Request, *, is_own_uri: Callable[[str], bool]) -> ServedUser:
    """The served user and session case of an initial request.  Never fails: with no better sign the call is
    terminating at its Request-URI.

    Args:
        is_own_uri: says of a Route value or URI whether it means this server.
    """
    by_address = session_case_by_address(addressed_uri(request, is_own_uri))
    header = _read_header(request)
    if header is not None:
        session_case, source = session_case_by_header(header), "P-Served-User"
        if session_case is None:
            session_case, said = _or_terminating(by_address)
            source = f"P-Served-User, {said}"
        registered = {"reg": True, "unreg": False}.get(header.regstate or "")
        if registered is False and by_address is not None:
            session_case = _unregistered(session_case)
        return ServedUser(header.uri_text, session_case, registered, source)
    session_case, said = _or_terminating(by_address)
    if session_case.is_originating:
        uri, field = _caller(request)
    else:
        uri, field = request.uri, "Request-URI"
    return ServedUser(uri, session_case, None, f"{field}, {said}")


def other_identities(request: Request, served: ServedUser) -> tuple[str, ...]:
    """Further public identities of the served user: of a caller all that are asserted, if the served one is of them."""
    if not served.session_case.is_originating:
        return ()
    asserted = []
    for value in request.headers.get_list("P-Asserted-Identity"):
        try:
            asserted += [each.uri_text for each in parse_name_addrs([value])]
        except SipParseError:
            continue
    return tuple(each for each in asserted if each != served.uri) if served.uri in asserted else ()


def _read_header(request: Request) -> PServedUser | None:
    """The first readable value: after a failed AS Kamailio sends the header twice, with equal values."""
    for value in request.headers.get_list("P-Served-User"):
        try:
            return PServedUser.parse(value)
        except SipParseError:
            continue
    return None


def _or_terminating(by_address: SessionCase | None) -> tuple[SessionCase, str]:
    if by_address is None:
        return SessionCase.TERMINATING_REGISTERED, "terminating by default"
    return by_address, "address (orig)" if by_address.is_originating else "address (term)"


def _unregistered(session_case: SessionCase) -> SessionCase:
    match session_case:
        case SessionCase.TERMINATING_REGISTERED:
            return SessionCase.TERMINATING_UNREGISTERED
        case SessionCase.ORIGINATING_REGISTERED:
            return SessionCase.ORIGINATING_UNREGISTERED
    return session_case


def _caller(request: Request) -> tuple[str, str]:
    for value in request.headers.get_list("P-Asserted-Identity"):
        try:
            return parse_name_addr(value).uri_text, "P-Asserted-Identity"
        except SipParseError:
            continue
    return request.from_.uri_text, "From"
