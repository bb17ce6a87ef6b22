"""The registrar of the lab S-CSCF: bindings without authentication, and third-party REGISTER (TS 23.218 §6.3)."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

import attrs

from conformance.lab.scscf_chain import ProfileCache, public_identity
from conformance.lab.scscf_view import view_of
from ifc.engine import Match, evaluate
from ifc.model import ApplicationServer, RegistrationType, SessionCase
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.transaction import ClientEvent, ResponseReceived
from ims_as.transport.endpoint import Endpoint

__all__ = ["LabRegistrar"]

DEFAULT_EXPIRES_S = 3600
BOUNDARY = "scscf-boundary"


@attrs.frozen
class _Embedded:
    """What bodies may carry: the user's REGISTER and our answer to it."""

    request: bytes | None = None
    response: bytes | None = None


class LabRegistrar:
    """Keeps one contact per public identity, and tells application servers of registrations.

    Args:
        uri: our own URI, for From, Contact and Service-Route.
        contacts: public identity → contact URI; shared with the proxy part, changed here.
        decide: takes one line for the report.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        profiles: ProfileCache,
        *,
        uri: Callable[[], str],
        contacts: dict[str, str],
        decide: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._profiles = profiles
        self._uri = uri
        self._contacts = contacts
        self._decide = decide

    def receive_register(self, request: Request) -> Response:
        """Bind or unbind the contact of a UE's REGISTER, send the third-party REGISTERs and build its answer."""
        identity = public_identity(request.to.uri_text)
        try:
            contact, expires_s = request.contact, request.expires
        except SipParseError as error:
            return build_response(request, 400, str(error))
        own_expires = "" if contact is None else contact.param("expires") or ""
        if own_expires.isascii() and own_expires.isdigit():
            expires_s = int(own_expires)
        if expires_s is None:
            expires_s = DEFAULT_EXPIRES_S
        if contact is None and request.headers.get("Contact") == "*":
            expires_s = 0
        was_known = identity in self._contacts
        if expires_s == 0:
            self._contacts.pop(identity, None)
            kind = RegistrationType.DE_REGISTRATION
        elif contact is None:
            return build_response(request, 200)  # a query, RFC 3261 §10.2.3
        else:
            self._contacts[identity] = contact.uri_text
            kind = RegistrationType.RE_REGISTRATION if was_known else RegistrationType.INITIAL_REGISTRATION
        headers = [("Service-Route", f"<{self._uri()};lr;orig>"), ("P-Associated-URI", f"<{identity}>")]
        if expires_s and contact is not None:
            headers.append(("Contact", f"<{contact.uri_text}>;expires={expires_s}"))
        response = build_response(request, 200, headers=headers)
        self._decide(f"{identity}: {kind.name} of {'nothing' if contact is None else contact.uri_text}, {expires_s} s")
        self._tell(identity, request, expires_s, kind, _Embedded(request.to_bytes(), response.to_bytes()))
        return response

    def register(self, impu: str, *, expires_s: int, kind: RegistrationType) -> int:
        """Send the third-party REGISTERs of a registration that came about otherwise; returns how many."""
        identity = public_identity(impu)
        stand_in = Request("REGISTER", self._uri(), [("To", f"<{identity}>"), ("Expires", str(expires_s))])
        return self._tell(identity, stand_in, expires_s, kind, _Embedded())

    def _tell(
        self, identity: str, request: Request, expires_s: int, kind: RegistrationType, embedded: _Embedded
    ) -> int:
        criteria = self._profiles.criteria_of(identity) or ()
        view = view_of(request, SessionCase.ORIGINATING_REGISTERED, kind)
        matches = evaluate(criteria, view, registered=True)
        for match in matches:
            self._send(identity, match, request, expires_s, embedded)
        return len(matches)

    def _send(self, identity: str, match: Match, request: Request, expires_s: int, embedded: _Embedded) -> None:
        server = match.criterion.application_server
        endpoint = self._endpoint
        headers = [
            ("Route", route_value(server.server_name)),
            ("Max-Forwards", "70"),
            ("From", f"<{self._uri()}>;tag={endpoint.new_tag()}"),
            ("To", f"<{identity}>"),
            ("Call-ID", endpoint.new_call_id()),
            ("CSeq", "1 REGISTER"),
            ("Contact", f"<{self._uri()}>"),
            ("Expires", str(expires_s)),
            ("Event", "registration"),
        ]
        for name in ("P-Access-Network-Info", "P-Visited-Network-ID", "P-Charging-Vector"):
            headers += [(name, value) for value in request.headers.get_all(name)]
        content_type, body = _build_body(server, embedded)
        if body:
            headers.append(("Content-Type", content_type))
        self._decide(f"{identity}: third-party REGISTER to {server.server_name}, {expires_s} s")

        def on_event(event: ClientEvent) -> None:
            if isinstance(event, ResponseReceived):
                status = event.response.status
                if status < 200:
                    return
                outcome = str(status)
                has_failed = status == 408 or 500 <= status < 600
            else:
                outcome, has_failed = "no answer", True
            self._decide(f"{identity}: {server.server_name} answered the third-party REGISTER: {outcome}")
            if has_failed and server.is_terminating_on_failure and self._contacts.pop(identity, None) is not None:
                self._decide(f"{identity}: de-registered (SESSION_TERMINATED, TS 24.229 §5.4.1.7)")

        endpoint.send_request(Request("REGISTER", server.server_name, headers, body), on_event=on_event)


def route_value(server_name: str) -> str:
    """A ServerName as Route value, with ``lr``."""
    has_lr = any(parameter.partition("=")[0] == "lr" for parameter in server_name.split(";")[1:])
    return f"<{server_name}>" if has_lr else f"<{server_name};lr>"


def _build_body(server: ApplicationServer, embedded: _Embedded) -> tuple[str, bytes]:
    """One part alone is bare, several are multipart/mixed (TS 24.229 §5.4.1.7)."""
    parts: list[tuple[str, bytes]] = []
    if server.service_info is not None:
        text = f'<ims-3gpp version="1"><service-info>{escape(server.service_info)}</service-info></ims-3gpp>'
        parts.append(("application/3gpp-ims+xml", text.encode()))
    if server.include_register_request and embedded.request is not None:
        parts.append(("message/sip", embedded.request))
    if server.include_register_response and embedded.response is not None:
        parts.append(("message/sip", embedded.response))
    if len(parts) <= 1:
        return parts[0] if parts else ("", b"")
    chunks = [f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + body + b"\r\n" for kind, body in parts]
    return f"multipart/mixed;boundary={BOUNDARY}", b"".join(chunks) + f"--{BOUNDARY}--\r\n".encode()
