"""What the lab S-CSCF remembers of a call: its criteria, the request before each AS, each AS asked (TS 23.218 §5.2)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ifc.model import InitialFilterCriteria, SessionCase
from ifc.parser import IfcError, parse_criteria_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request
from ims_as.sip.proxy import ProxyBranch
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = ["AsInvocation", "ProfileCache", "ServiceChain", "ServiceLeg", "public_identity", "served_user_header"]

MAX_CACHED_PROFILES = 256


def public_identity(uri: str) -> str:
    """A public user identity without parameters and port, host in lower case; other texts as they are."""
    try:
        parsed = parse_uri(uri)
    except SipParseError:
        return uri
    match parsed:
        case SipUri():
            return parsed.aor
        case TelUri():
            return f"tel:{parsed.digits}"
    return uri


@attrs.frozen(eq=False)
class ServiceChain:
    """The criteria of one served user for one session case: fixed when the request arrives (TS 23.218 §5.2.3)."""

    served_user: str
    session_case: SessionCase
    registered: bool
    criteria: tuple[InitialFilterCriteria, ...]


@attrs.frozen(eq=False)
class ServiceLeg:
    """An initial request at the point where the next criterion is to be tested."""

    request: Request
    """As it came, our own Route entries taken off: what "continue" starts from again."""
    transaction: ServerTransaction
    """Upstream: the caller's, or that of the AS that sent the request back."""
    chain: ServiceChain
    position: int = 0
    """Next criterion to test."""


@attrs.define(eq=False)
class AsInvocation:
    """One request to an AS; found again by the original dialog identifier while that request's transaction lives."""

    token: str
    leg: ServiceLeg
    criterion: InitialFilterCriteria
    next_position: int
    guard: TimerHandle | None = None
    branch: ProxyBranch | None = None
    has_provisional: bool = False
    """A 1xx above 100 came: no default handling any more."""
    is_returned: bool = False
    """The AS sent the request back on the ODI: no default handling any more."""
    is_over: bool = False
    """A final response, a failure or the guard has ended it."""
    is_abandoned: bool = False
    """The S-CSCF went on without it: what still comes is dropped."""

    @property
    def server_name(self) -> str:
        return self.criterion.application_server.server_name

    @property
    def is_terminating(self) -> bool:
        return self.criterion.application_server.is_terminating_on_failure

    @property
    def no_fallback_reason(self) -> str | None:
        """Why default handling does not apply to a failure; None when it does (TS 24.229 §5.4.3.2, §5.4.3.3)."""
        if self.has_provisional:
            return "after a provisional response"
        if self.is_returned:
            return "after the request came back on the ODI"
        if self.leg.transaction.is_cancelled:
            return "after the caller's CANCEL"
        return None


def served_user_header(chain: ServiceChain) -> str:
    """P-Served-User towards an AS (RFC 5502, RFC 8498)."""
    if chain.session_case is SessionCase.ORIGINATING_CDIV:
        return f"<{chain.served_user}>;orig-cdiv"
    case = "orig" if chain.session_case.is_originating else "term"
    return f"<{chain.served_user}>;sescase={case};regstate={'reg' if chain.registered else 'unreg'}"


class ProfileCache:
    """Criteria by public identity, each different XML read once.

    Args:
        profiles: iFC XML of an identity, None for a user it does not know.
        report: told of every problem in a document.
    """

    def __init__(self, profiles: Callable[[str], bytes | None], report: Callable[[str], None]) -> None:
        self._profiles = profiles
        self._report = report
        self._parsed: dict[bytes, tuple[InitialFilterCriteria, ...]] = {}

    def criteria_of(self, identity: str) -> tuple[InitialFilterCriteria, ...] | None:
        """In priority order; None for an unknown user."""
        xml = self._profiles(identity)
        if xml is None:
            return None
        criteria = self._parsed.get(xml)
        if criteria is None:
            if len(self._parsed) >= MAX_CACHED_PROFILES:
                self._parsed.clear()
            criteria = self._parsed[xml] = self._parse(identity, xml)
        return criteria

    def _parse(self, identity: str, xml: bytes) -> tuple[InitialFilterCriteria, ...]:
        if not xml:
            return ()
        try:
            parsed = parse_criteria_untrusted(xml)
        except IfcError as error:
            self._report(f"profile of {identity} cannot be read: {error}")
            return ()
        for problem in parsed.problems:
            self._report(f"profile of {identity}: {problem}")
        return parsed.criteria
