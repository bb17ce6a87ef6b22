"""Does a request inside a dialog come from where the dialog's requests come from?

Tags are secret enough for most networks: they are random, and only trusted peers reach us at all. Where several
trusted peers must not be able to end each other's calls, the source address is compared too: with the nearest hop of
the dialog (the top of its route set, else the Contact) and with where the INVITE came from. A hop that is known by name
only cannot be judged and is let through.
"""

from __future__ import annotations

from ipaddress import ip_address

from ims_as.sip.dialog import Dialog
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import Via, parse_name_addr
from ims_as.sip.uri import SipUri, parse_uri

__all__ = ["comes_from_dialog"]


def comes_from_dialog(dialog: Dialog, via: Via | None, host: str) -> bool:
    """Whether a request from that address may belong to the dialog.

    Args:
        via: the top Via of the INVITE where it came from the peer, with ``received`` as we noted it.
    """
    hosts = set()
    if via is not None:
        hosts.add(via.received or via.host)
    hosts.add(_nearest_hop(dialog))
    if host in hosts:
        return True
    return not all(_is_address(each) for each in hosts)


def _nearest_hop(dialog: Dialog) -> str:
    try:
        text = parse_name_addr(dialog.route_set[0]).uri_text if dialog.route_set else dialog.remote_target
        uri = parse_uri(text)
    except SipParseError:
        return ""
    return uri.host if isinstance(uri, SipUri) else ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
