"""What the tools read: criteria from XML of any of the usual kinds, SIP requests from files."""

from __future__ import annotations

import re

import attrs

from ifc.ere import Ere, EreError
from ifc.model import InitialFilterCriteria, RegistrationType, SessionCase, SessionCaseCondition
from ifc.parser import IfcError, Problem, parse_criteria_untrusted, parse_subscription_untrusted
from ifc.shared import SharedSets, resolve_shared_sets
from ims_as.errors import ImsAsError
from ims_as.isc.session_case import session_case_by_header
from ims_as.isc.view import SipRequestView
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import PServedUser
from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted

__all__ = [
    "Criteria",
    "Document",
    "IfcToolError",
    "InitialRequest",
    "asks_for_session_case",
    "bare_identity",
    "is_identity",
    "read_document_untrusted",
    "read_message_untrusted",
    "read_request_untrusted",
    "registration_type_of",
]

Criteria = tuple[InitialFilterCriteria, ...]

_CONTACT_EXPIRES = re.compile(r";[ \t]*expires[ \t]*=[ \t]*([0-9]{1,10})\b", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(rb"(?im)^(?:content-length|l)[ \t]*:.*\r?\n")


class IfcToolError(ImsAsError):
    """The input cannot be used; the text says why."""


@attrs.frozen
class Document:
    """Criteria as an HSS holds them."""

    profiles: tuple[tuple[tuple[str, ...], Criteria], ...]
    """(public identities, criteria) of each service profile; without identities where the document names none."""
    problems: tuple[Problem, ...]

    @property
    def criteria(self) -> Criteria:
        """Those of all profiles."""
        return tuple(criterion for _, criteria in self.profiles for criterion in criteria)

    @property
    def names_users(self) -> bool:
        return any(identities for identities, _ in self.profiles)

    def serves(self, user: str) -> bool:
        """Whether the identity is one of the document's, or the document names none."""
        identities = (each for identities, _ in self.profiles for each in identities)
        return not self.names_users or any(is_identity(each, user) for each in identities)

    def criteria_of(self, served_user: str | None) -> Criteria:
        """Those that count for this user.  Raises IfcToolError for several profiles of which none is the user's."""
        if len(self.profiles) == 1:
            return self.profiles[0][1]
        for identities, criteria in self.profiles:
            if served_user is not None and any(is_identity(each, served_user) for each in identities):
                return criteria
        who = "the request names no served user" if served_user is None else f"{served_user} is in none of them"
        raise IfcToolError(f"{len(self.profiles)} service profiles, and {who}: give --user with a public identity")


def is_identity(provisioned: str, user: str) -> bool:
    """Whether a URI means the public identity: parameters do not count, a wildcarded one has its ERE between two ``!``
    (TS 23.003 §13.5)."""
    wanted, written = bare_identity(user), bare_identity(provisioned)
    before, mark, rest = written.partition("!")
    pattern, end, after = rest.rpartition("!")
    if not mark or not end:
        return wanted == written
    if len(wanted) < len(before) + len(after) or not (wanted.startswith(before) and wanted.endswith(after)):
        return False
    try:
        return Ere(f"^({pattern})$").matches(wanted[len(before) : len(wanted) - len(after)])
    except EreError:
        return False


def bare_identity(uri: str) -> str:
    """To compare identities: without parameters, the scheme and host in lower case."""
    text = uri.partition(";")[0].partition("?")[0].strip()
    user, at, host = text.rpartition("@")
    if not at:
        return text.lower()
    scheme, _, name = user.partition(":")
    return f"{scheme.lower()}:{name}@{host.lower()}"


def read_document_untrusted(xml: bytes, shared: SharedSets | None = None) -> Document:
    """<IMSSubscription> profile by profile; of everything else that holds criteria, all of them together.

    Args:
        shared: the S-CSCF's table of shared sets, whose criteria count with those of the profiles that refer to them;
            sets that it does not have are problems.

    Raises:
        IfcError: the document as a whole cannot be used.
    """
    try:
        parsed = parse_subscription_untrusted(xml)
    except IfcError:
        # no subscription, or one without its frame: its criteria may be good all the same
        found = parse_criteria_untrusted(xml)
        return Document((((), found.criteria),), found.problems)
    problems = list(parsed.problems)
    profiles = []
    for profile in parsed.subscription.service_profiles:
        criteria = profile.criteria
        if shared is not None:
            # their lines are those of another document
            table = {
                number: tuple(attrs.evolve(each, line=None) for each in each_set) for number, each_set in shared.items()
            }
            resolved = resolve_shared_sets(profile, table)
            criteria = resolved.criteria
            problems += (
                Problem(None, f"SharedIFCSetID {number} is not in the table of shared sets", is_skipped=False)
                for number in resolved.unknown_set_ids
            )
        profiles.append((tuple(each.identity for each in profile.public_identities), criteria))
    return Document(tuple(profiles) or (((), ()),), tuple(problems))


@attrs.frozen
class InitialRequest:
    """A request with what the S-CSCF knows besides."""

    view: SipRequestView
    served_user: str | None
    session_case: SessionCase | None
    """None: neither the request nor the caller of the tool says."""
    source: str
    """Where the session case comes from."""


def asks_for_session_case(criteria: Criteria) -> bool:
    """Whether the outcome hangs on the session case."""
    for criterion in criteria:
        triggers = () if criterion.trigger_point is None else criterion.trigger_point.triggers
        if criterion.profile_part is not None:
            return True
        if any(isinstance(trigger.condition, SessionCaseCondition) for trigger in triggers):
            return True
    return False


def read_request_untrusted(
    message: bytes,
    *,
    session_case: SessionCase | None = None,
    registration_type: RegistrationType | None = None,
    served_user: str | None = None,
) -> InitialRequest:
    """One SIP request as a file holds it: lines may end with LF alone, Content-Length is then not looked at.

    Args:
        session_case, registration_type, served_user: what counts instead of what the request says.

    Raises:
        IfcToolError: no SIP request.
    """
    request = read_message_untrusted(message)
    header = _served_user_header(request)
    source = "given"
    if session_case is None and header is not None:
        session_case, source = session_case_by_header(header), "P-Served-User"
    if session_case is None and request.method == "REGISTER":
        session_case, source = SessionCase.ORIGINATING_REGISTERED, "REGISTER"
    if session_case is None:
        source = "unknown"
    if request.method != "REGISTER":
        registration_type = None
    elif registration_type is None:
        registration_type = registration_type_of(request)
    view = SipRequestView(request, session_case, registration_type=registration_type)
    named = header.uri_text if header is not None else None
    return InitialRequest(view, served_user or named, session_case, source)


def read_message_untrusted(message: bytes) -> Request:
    """The request in a file, as `read_request_untrusted` reads it.  Raises IfcToolError."""
    try:
        request = parse_message_untrusted(_on_the_wire(message))
    except SipParseError as error:
        raise IfcToolError(f"not a SIP request: {error}") from error
    if not isinstance(request, Request):
        raise IfcToolError("a SIP response, not a request")
    return request


def _on_the_wire(message: bytes) -> bytes:
    message = message.lstrip(b"\r\n")
    head, separator, body = message.partition(b"\n\n")
    if b"\r\n" in message or not separator:
        return message
    return (_CONTENT_LENGTH.sub(b"", head + b"\n") + b"\n" + body).replace(b"\n", b"\r\n")


def _served_user_header(request: Request) -> PServedUser | None:
    for value in request.headers.get_list("P-Served-User"):
        try:
            return PServedUser.parse(value)
        except SipParseError:
            continue
    return None


def registration_type_of(request: Request) -> RegistrationType:
    """De-registration where everything expires at 0; a re-registration cannot be told from the first one by its looks.

    The expiry of a Contact counts before that of the Expires header (RFC 3261 §10.2.1.1).
    """
    expires: set[int | None] = set()
    try:
        general = request.expires
    except SipParseError:
        general = None
    for value in request.headers.get_list("Contact"):
        own = None if value == "*" else _CONTACT_EXPIRES.search(value)
        expires.add(general if own is None else int(own[1]))
    is_end = (expires or {general}) == {0}
    return RegistrationType.DE_REGISTRATION if is_end else RegistrationType.INITIAL_REGISTRATION
