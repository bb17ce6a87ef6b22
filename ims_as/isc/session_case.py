"""Originating, terminating, or originating after diversion: what a request on ISC is about.

Two sources, in this order: the parameters of P-Served-User (RFC 5502; ``orig-cdiv`` is RFC 8498), and the URI by which
the S-CSCF addressed us (operators provision one ServerName per case, ``sip:orig@…`` and ``sip:term@…``, or write the
``orig`` parameter into it).
"""

from __future__ import annotations

from ifc.model import SessionCase
from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import PServedUser, parse_name_addr
from ims_as.sip.uri import SipUri

__all__ = ["SessionCase", "session_case_by_address", "session_case_by_header"]


def session_case_by_header(header: PServedUser) -> SessionCase | None:
    """What P-Served-User says, or None where it names no case.  Without regstate the user counts as registered."""
    if header.orig_cdiv:
        return SessionCase.ORIGINATING_CDIV
    is_unregistered = header.regstate == "unreg"
    match header.sescase:
        case "orig":
            return SessionCase.ORIGINATING_UNREGISTERED if is_unregistered else SessionCase.ORIGINATING_REGISTERED
        case "term":
            return SessionCase.TERMINATING_UNREGISTERED if is_unregistered else SessionCase.TERMINATING_REGISTERED
    return None


def session_case_by_address(own: str | None) -> SessionCase | None:
    """What our own URI says, by which we were addressed (a Route value or the Request-URI).

    Its user part may be ``orig`` or ``term``; else an ``orig`` parameter means originating.  None: it says nothing.
    """
    if own is None:
        return None
    try:
        uri = parse_name_addr(own).uri
    except SipParseError:
        return None
    if not isinstance(uri, SipUri):
        return None
    match uri.user.lower():
        case "orig":
            return SessionCase.ORIGINATING_REGISTERED
        case "term":
            return SessionCase.TERMINATING_REGISTERED
    return SessionCase.ORIGINATING_REGISTERED if uri.has_param("orig") else None
