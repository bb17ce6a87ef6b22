"""What a third-party REGISTER says (TS 24.229 clauses 5.4.1.7 and 5.7.1.1).

Headers, service information, and the user's own REGISTER with its 200 where the criterion includes them, in several
parts or bare.  Nothing here raises: what cannot be read is noted in ``problems``.
"""

from __future__ import annotations

import hashlib
import re

import attrs
from lxml import etree

from ims_as.isc.charging import read_charging_vector_untrusted
from ims_as.isc.features import Features, read_features_untrusted
from ims_as.isc.params import read_addresses_untrusted
from ims_as.sip.body import read_parts_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Message, Request
from ims_as.sip.parser import parse_message_untrusted

__all__ = [
    "DEFAULT_EXPIRES_S",
    "MAX_EMBEDDED_BYTES",
    "RegisteredContact",
    "Registration",
    "read_expires_untrusted",
    "read_registration_untrusted",
    "read_service_info_untrusted",
    "tag_for",
]

DEFAULT_EXPIRES_S = 3600
"""Where the request names no time that we can read (RFC 3261 §10.2)."""
MAX_EMBEDDED_BYTES = 16_384
"""A larger embedded message is not kept."""
MAX_SERVICE_INFO_BYTES = 16_384
MAX_TEXT_CHARS = 2048
"""Of each header that is kept."""
MAX_ASSOCIATED_URIS = 50
MAX_CONTACTS = 16

# not the list grammar: with a tel URI, Kamailio writes <sip:+1555@example.net, tel:+1555>
_URI = re.compile(r"(?:sips?|tel):[^\s<>,;\"]{1,256}", re.IGNORECASE)


@attrs.frozen
class RegisteredContact:
    """One of the user's phones."""

    uri: str
    expires_at: float
    features: Features = attrs.Factory(dict)
    """Feature tags, such as the services that it takes (`isc.features`)."""
    instance: str | None = None
    """``+sip.instance``, a device's lasting name."""
    q: float | None = None


@attrs.frozen
class Registration:
    """What the last REGISTER for a user said, and what the reg event package told since."""

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
    """The implicit registration set: P-Associated-URI of the user's 200, or of the REGISTER itself."""
    contacts: tuple[RegisteredContact, ...] = ()
    """Empty where nobody told."""
    problems: tuple[str, ...] = ()
    """What could not be read."""

    @property
    def kept_bytes(self) -> int:
        """What it costs to keep, about."""
        messages = sum(len(part) for part in (self.register_request, self.register_response) if part is not None)
        texts = len(self.service_info or "") + sum(map(len, self.associated_uris))
        return messages + texts + 256 * len(self.contacts)


def read_expires_untrusted(request: Request) -> tuple[int, str | None]:
    """Seconds, and what was wrong with them."""
    try:
        if request.expires is not None:
            return request.expires, None
    except SipParseError as error:
        return DEFAULT_EXPIRES_S, str(error)
    contacts = read_addresses_untrusted(request, "Contact")
    if not contacts:
        return DEFAULT_EXPIRES_S, None
    return _seconds(contacts[0].param("expires"), DEFAULT_EXPIRES_S), None


def read_registration_untrusted(
    request: Request, expires_s: int, *, now: float, previous: Registration | None, problems: list[str]
) -> Registration:
    """The registration of a REGISTER that is not a de-registration.

    Args:
        previous: what was known; contacts that nobody speaks of now stay until they run out.
        problems: is added to.
    """
    charging = read_charging_vector_untrusted(request)
    service_info, embedded_request, embedded_response = _read_body(request, problems)
    own = _parse_embedded(embedded_request, "request", problems)
    answer = _parse_embedded(embedded_response, "response", problems)
    return Registration(
        impu=request.to.uri_text,
        scscf_uri=_scscf_uri(request),
        expires_s=expires_s,
        registered_at=now if previous is None else previous.registered_at,
        expires_at=now + expires_s,
        service_info=service_info,
        register_request=embedded_request,
        register_response=embedded_response,
        icid=None if charging is None else charging.icid,
        orig_ioi=None if charging is None else charging.orig_ioi,
        charging_function_addresses=_text(request, "P-Charging-Function-Addresses"),
        access_network_info=_text(request, "P-Access-Network-Info"),
        visited_network_id=_text(request, "P-Visited-Network-ID"),
        associated_uris=_associated_uris(request, answer),
        contacts=_contacts(own, answer, previous, now, expires_s),
        problems=tuple(problems),
    )


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


def tag_for(request: Request) -> str:
    """A To tag that is the same for a retransmission, without a random source (RFC 3261 §8.2.7)."""
    seed = f"{request.call_id}\n{request.from_tag}\n{request.cseq.number}"
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:16]


def _seconds(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _text(request: Request, name: str) -> str | None:
    value = request.headers.get(name)
    return None if value is None else value[:MAX_TEXT_CHARS]


def _scscf_uri(request: Request) -> str:
    contacts = read_addresses_untrusted(request, "Contact")
    return contacts[0].uri_text if contacts else request.from_.uri_text


def _read_body(request: Request, problems: list[str]) -> tuple[str | None, bytes | None, bytes | None]:
    service_info = embedded_request = embedded_response = None
    parts = read_parts_untrusted(request)
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


def _parse_embedded(data: bytes | None, kind: str, problems: list[str]) -> Message | None:
    if data is None:
        return None
    try:
        return parse_message_untrusted(data)
    except SipParseError as error:
        problems.append(f"embedded {kind}: {error}")
        return None


def _associated_uris(request: Request, answer: Message | None) -> tuple[str, ...]:
    sources = [request] if answer is None else [answer, request]
    uris = [
        uri
        for source in sources
        for value in source.headers.get_all("P-Associated-URI")
        for uri in _URI.findall(value[:65536])
    ]
    return tuple(dict.fromkeys(uris))[:MAX_ASSOCIATED_URIS]


def _contacts(
    own: Message | None, answer: Message | None, previous: Registration | None, now: float, expires_s: int
) -> tuple[RegisteredContact, ...]:
    """The 200 lists all contacts; the user's REGISTER only those that it changes."""
    bound = () if answer is None else _read_contacts(answer, now, expires_s)
    if bound:
        return tuple(each for each in bound if each.expires_at > now)[:MAX_CONTACTS]
    known = {each.uri: each for each in (() if previous is None else previous.contacts)}
    if own is not None:
        known |= {each.uri: each for each in _read_contacts(own, now, expires_s)}
    return tuple(each for each in known.values() if each.expires_at > now)[:MAX_CONTACTS]


def _read_contacts(message: Message, now: float, expires_s: int) -> tuple[RegisteredContact, ...]:
    try:
        default = message.expires
    except SipParseError:
        default = None
    found = []
    for address in read_addresses_untrusted(message, "Contact"):
        features = read_features_untrusted(address.params)
        instances = features.pop("+sip.instance", None)
        seconds = _seconds(address.param("expires"), expires_s if default is None else default)
        # the S-CSCF gives us longer than the phone: it speaks for the registration as long as this one is the last
        lasts = now + seconds if seconds else now
        quality = address.param("q") or ""
        q = float(quality) if re.fullmatch(r"[01](?:\.[0-9]{0,3})?", quality) else None
        instance = None if instances is None else next(iter(instances), None)
        found.append(RegisteredContact(address.uri_text, lasts, features, instance, q))
    return tuple(found)
