"""Requests that the application server begins: for a user towards that user's S-CSCF, or as itself (TS 24.229 §5.7.3).

For a user, the top Route is the S-CSCF's URI with the parameter ``orig``: it selects originating handling; without it
the request would be a terminating one.  The served user is asserted, and named in P-Served-User.
"""

from __future__ import annotations

import attrs

from ims_as.isc.charging import new_charging_vector
from ims_as.isc.features import MMTEL, MMTEL_CONTACT_PARAM
from ims_as.isc.session_id import SessionEnd
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import parse_name_addr
from ims_as.sip.uri import SipUri

__all__ = ["Origin", "core_route", "originating_headers"]


@attrs.frozen
class Origin:
    """As whom a request is sent."""

    uri: str
    """The asserted identity, without brackets."""
    is_served_user: bool
    """A user whose S-CSCF handles the request; else a service of ours or the network."""
    is_registered: bool = False
    """Known to be registered."""


def core_route(uri: str, *, originating: bool) -> str:
    """The Route value for a core node's URI (an address of a Contact, Sh or the configuration).

    Raises:
        SipParseError: it is no SIP URI.
    """
    parsed = parse_name_addr(uri if "<" in uri else f"<{uri}>").uri
    if not isinstance(parsed, SipUri):
        raise SipParseError("a core node has a SIP URI")
    plain = attrs.evolve(parsed, headers="").without_params("lr", "orig", "method").with_params(lr=None)
    return f"<{plain.with_params(orig=None) if originating else plain}>"


def originating_headers(
    origin: Origin, *, icid: str, node: str, own_ioi: str, session: SessionEnd, charging_addresses: str | None = None
) -> list[tuple[str, str]]:
    """The IMS headers of an initial INVITE that we begin.

    Args:
        icid: a new charging identifier; it stays with every request of the dialog.
        node: our host name, that generated it.
        own_ioi: our inter-operator identifier of type 3.
        charging_addresses: P-Charging-Function-Addresses, where the user's are known.
    """
    headers = [("P-Asserted-Identity", f"<{origin.uri}>")]
    if origin.is_served_user:
        state = ";regstate=reg" if origin.is_registered else ""
        headers.append(("P-Served-User", f"<{origin.uri}>;sescase=orig{state}"))
    headers += [
        ("P-Asserted-Service", MMTEL),
        ("Accept-Contact", f"*{MMTEL_CONTACT_PARAM}"),
        ("P-Charging-Vector", str(new_charging_vector(icid, generated_at=node, own_ioi=own_ioi))),
    ]
    if charging_addresses:
        headers.append(("P-Charging-Function-Addresses", charging_addresses))
    headers.append(("Session-ID", str(session)))
    return headers
