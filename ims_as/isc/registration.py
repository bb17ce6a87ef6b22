"""Third-party REGISTER: the S-CSCF tells us of a user's registration (TS 24.229 clauses 5.4.1.7 and 5.7.1.1).

From and Contact are the S-CSCF, To is the user.  Each one may come with a new Call-ID and the same CSeq, so To is the
only key.  The answer is 200 with the same Expires whatever happens: an error, or none, would make the S-CSCF
de-register the user where the criterion says SESSION_TERMINATED.
"""

from __future__ import annotations

import hashlib
import re

import attrs
from lxml import etree

from ims_as.isc.body import BodyPart, read_parts_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = ["DEFAULT_EXPIRES_S", "Registration", "RegistrationTable", "impu_key", "read_service_info_untrusted"]

DEFAULT_EXPIRES_S = 3600
"""Where the request names no time that we can read (RFC 3261 §10.2)."""
MAX_REGISTRATIONS = 200_000
MAX_KEPT_BYTES = 256 * 1024 * 1024
"""Of service information and embedded messages, all registrations together."""
MAX_EMBEDDED_BYTES = 16_384
"""A larger embedded message is not kept."""
MAX_SERVICE_INFO_BYTES = 16_384
MAX_TEXT_CHARS = 2048
"""Of each header that is kept."""
MAX_ASSOCIATED_URIS = 50

# not the list grammar: with a tel URI, Kamailio writes <sip:+1555@example.net, tel:+1555>
_URI = re.compile(r"(?:sips?|tel):[^\s<>,;\"]{1,256}", re.IGNORECASE)


@attrs.frozen
class Registration:
    """What the last REGISTER for a user said."""

    impu: str
    """The registered public identity, as in To."""
    scscf_uri: str
    """The S-CSCF that serves the user: Contact, else From.  The way in for requests on the user's behalf."""
    expires_s: int
    registered_at: float
    """Of the first REGISTER of this registration, on the caller's clock."""
    expires_at: float
    service_info: str | None = None
    """From the criterion's ServiceInfo."""
    register_request: bytes | None = None
    """The user's own REGISTER, where the criterion includes it."""
    register_response: bytes | None = None
    icid: str | None = None
    orig_ioi: str | None = None
    charging_function_addresses: str | None = None
    access_network_info: str | None = None
    visited_network_id: str | None = None
    associated_uris: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be read."""

    @property
    def kept_bytes(self) -> int:
        parts = (self.register_request, self.register_response)
        return len(self.service_info or "") + sum(len(part) for part in parts if part is not None)


class RegistrationTable:
    """Registrations by public identity.  Bounded: beyond the limits those refreshed longest ago go first."""

    def __init__(self, *, max_registrations: int = MAX_REGISTRATIONS, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_registrations = max_registrations
        self._max_kept_bytes = max_kept_bytes
        self._registrations: dict[str, Registration] = {}
        self._kept_bytes = 0
        self.evicted = 0
        """Registrations dropped for want of room."""

    def __len__(self) -> int:
        return len(self._registrations)

    def receive_register(self, request: Request, *, now: float) -> Response:
        """Store what the REGISTER says and build its answer, always 200.

        Args:
            now: seconds, on any clock that the caller also uses for `get`.
        """
        problems: list[str] = []
        expires_s = _read_expires(request, problems)
        key = impu_key(request.to.uri_text)
        previous = self.get(request.to.uri_text, now=now)
        self._remove(key)
        if expires_s > 0:
            self._drop_expired(now)
            registered_at = now if previous is None else previous.registered_at
            self._store(key, _read_registration(request, expires_s, registered_at, now, problems))
        return build_response(request, 200, to_tag=_tag_for(request), headers=[("Expires", str(expires_s))])

    def get(self, impu: str, *, now: float) -> Registration | None:
        """The registration of a public identity, unless it has run out."""
        key = impu_key(impu)
        registration = self._registrations.get(key)
        if registration is not None and registration.expires_at <= now:
            self._remove(key)
            return None
        return registration

    def _store(self, key: str, registration: Registration) -> None:
        self._registrations[key] = registration
        self._kept_bytes += registration.kept_bytes
        while len(self._registrations) > self._max_registrations or self._kept_bytes > self._max_kept_bytes:
            self._remove(next(iter(self._registrations)))
            self.evicted += 1

    def _remove(self, key: str) -> None:
        registration = self._registrations.pop(key, None)
        if registration is not None:
            self._kept_bytes -= registration.kept_bytes

    def _drop_expired(self, now: float) -> None:
        """Look at the two oldest at each REGISTER: what has run out leaves faster than new ones come."""
        oldest = [key for key, _ in zip(self._registrations, range(2), strict=False)]
        for key in oldest:
            if self._registrations[key].expires_at <= now:
                self._remove(key)


def impu_key(uri: str) -> str:
    """A public identity for comparison: no parameters, host in lower case, telephone numbers without separators."""
    try:
        parsed = parse_uri(uri)
    except SipParseError:
        return uri[:MAX_TEXT_CHARS]
    match parsed:
        case SipUri():
            return parsed.aor
        case TelUri():
            return f"tel:{parsed.digits}"
    return str(parsed)


def read_service_info_untrusted(xml: bytes) -> str | None:
    """Text of ``<ims-3gpp><service-info>`` (TS 24.229 clause 7.6); None when the document is something else."""
    if len(xml) > MAX_SERVICE_INFO_BYTES:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    if root.getroottree().docinfo.internalDTD is not None or etree.QName(root).localname != "ims-3gpp":
        return None
    for child in root:
        if isinstance(child.tag, str) and etree.QName(child).localname == "service-info":
            return "".join(text for text in child.itertext() if isinstance(text, str))
    return None


def _read_expires(request: Request, problems: list[str]) -> int:
    try:
        if request.expires is not None:
            return request.expires
        contact = request.contact
    except SipParseError as error:
        problems.append(str(error))
        return DEFAULT_EXPIRES_S
    text = "" if contact is None else contact.param("expires") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else DEFAULT_EXPIRES_S


def _read_registration(
    request: Request, expires_s: int, registered_at: float, now: float, problems: list[str]
) -> Registration:
    charging = _charging_vector(request)
    service_info, embedded_request, embedded_response = _read_body(request, problems)
    uris = [uri for value in request.headers.get_all("P-Associated-URI") for uri in _URI.findall(value[:65536])]
    return Registration(
        impu=request.to.uri_text,
        scscf_uri=_scscf_uri(request),
        expires_s=expires_s,
        registered_at=registered_at,
        expires_at=now + expires_s,
        service_info=service_info,
        register_request=embedded_request,
        register_response=embedded_response,
        icid=charging.get("icid-value"),
        orig_ioi=charging.get("orig-ioi"),
        charging_function_addresses=_text(request, "P-Charging-Function-Addresses"),
        access_network_info=_text(request, "P-Access-Network-Info"),
        visited_network_id=_text(request, "P-Visited-Network-ID"),
        associated_uris=tuple(dict.fromkeys(uris))[:MAX_ASSOCIATED_URIS],
        problems=tuple(problems),
    )


def _scscf_uri(request: Request) -> str:
    try:
        contact = request.contact
    except SipParseError:
        contact = None
    return (contact or request.from_).uri_text


def _text(request: Request, name: str) -> str | None:
    value = request.headers.get(name)
    return None if value is None else value[:MAX_TEXT_CHARS]


def _charging_vector(request: Request) -> dict[str, str]:
    """Parameters of P-Charging-Vector (RFC 7315 §4.6), names in lower case."""
    values = {}
    for parameter in (_text(request, "P-Charging-Vector") or "").split(";"):
        name, _, value = parameter.partition("=")
        values[name.strip().lower()] = value.strip().strip('"')
    return values


def _read_body(request: Request, problems: list[str]) -> tuple[str | None, bytes | None, bytes | None]:
    service_info = embedded_request = embedded_response = None
    parts: tuple[BodyPart, ...] = read_parts_untrusted(request)
    if request.body and not parts:
        problems.append("body without readable parts")
    for part in parts:
        if part.content_type == "application/3gpp-ims+xml":
            service_info = read_service_info_untrusted(part.body)
            if service_info is None:
                problems.append("service information is not an ims-3gpp document")
        elif part.content_type == "message/sip":
            if len(part.body) > MAX_EMBEDDED_BYTES:
                problems.append("embedded message too large")
            elif part.body.startswith(b"SIP/2.0 "):
                embedded_response = part.body
            else:
                embedded_request = part.body
    return service_info, embedded_request, embedded_response


def _tag_for(request: Request) -> str:
    """A To tag that is the same for a retransmission, without a random source (RFC 3261 §8.2.7)."""
    seed = f"{request.call_id}\n{request.from_tag}\n{request.cseq.number}"
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:16]
