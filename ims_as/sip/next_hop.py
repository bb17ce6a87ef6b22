"""Where a request goes: the top Route, else the Request-URI (RFC 3261 §8.1.2, §16.6 items 6 and 7)."""

from __future__ import annotations

from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import DEFAULT_PORTS, Destination, Flow
from ims_as.sip.header_types import Via, parse_name_addr
from ims_as.sip.message import Request
from ims_as.sip.uri import SipUri, parse_uri

__all__ = ["next_hop", "response_flow", "uri_destination"]


def next_hop(request: Request) -> Destination:
    """The next hop of a request that is ready to be sent.

    Raises:
        SipParseError: the URI that decides has no host that SIP could reach (tel:, urn:, unknown transport).
    """
    route = request.headers.get_list("route")
    return uri_destination(parse_name_addr(route[0]).uri_text if route else request.uri)


def uri_destination(text: str) -> Destination:
    """Destination of one URI, before name resolution.

    ``maddr`` is not honoured: a peer's message must not choose a host besides the one that it names.

    Raises:
        SipParseError: as `next_hop`.
    """
    uri = parse_uri(text)
    if not isinstance(uri, SipUri):
        raise SipParseError("no SIP URI to send to", 416)
    named = uri.param("transport")
    transport = (named or "udp").upper()
    is_sips = uri.scheme == "sips"
    if is_sips and (named is None or transport == "TCP"):
        transport = "TLS"  # RFC 5630 §3.1.3: transport=tcp is that below TLS
    if transport not in DEFAULT_PORTS or (is_sips and transport != "TLS"):
        raise SipParseError("no such transport", 416)
    return Destination(transport, uri.host, uri.port or 0, named is None and not uri.port, is_sips=is_sips)


def response_flow(flow: Flow, via: Via) -> Flow:
    """Where responses to a request go that came over `flow` (RFC 3261 §18.2.2, RFC 3581 §4).

    Always the address that the packet came from, whatever the Via says; only the port is taken from the Via.
    """
    if flow.connection is not None or via.has_rport:
        return flow
    port = via.port or DEFAULT_PORTS["UDP"]
    return flow if port == flow.remote[1] else Flow(flow.transport, flow.local, (flow.remote[0], port))
