from __future__ import annotations

import pytest

from ims_as.isc.served_user import ServedUser, determine_served_user, other_identities
from ims_as.isc.session_case import SessionCase
from tests.ims_as.isc_messages import ALICE, BOB, build_request, from_wire, is_own_uri

ORIG = ("Route", "<sip:orig@127.0.0.30;lr>, <sip:odi_1@127.0.0.20;lr>")
TERM = ("Route", "<sip:term@127.0.0.30;lr>, <sip:odi_1@127.0.0.20;lr>")
PLAIN = ("Route", "<sip:127.0.0.30;lr>, <sip:odi_1@127.0.0.20;lr>")
PARAM = ("Route", "<sip:127.0.0.30;lr;orig>")
IDENTITIES = ("P-Asserted-Identity", '"A, B" <sip:carol@example.net;user=phone>, <tel:+1555>')


@pytest.mark.parametrize(
    ("name", "uri", "case", "registered"),
    [
        ("01-isc-invite-term-dh0.sip", BOB, SessionCase.TERMINATING_REGISTERED, True),
        ("03-isc-invite-term-unregistered.sip", BOB, SessionCase.TERMINATING_UNREGISTERED, False),
        ("04-isc-invite-orig.sip", ALICE, SessionCase.ORIGINATING_REGISTERED, True),
        # two equal headers
        ("05-isc-invite-second-as.sip", BOB, SessionCase.TERMINATING_REGISTERED, True),
    ],
)
def test_wire(name: str, uri: str, case: SessionCase, registered: bool) -> None:
    served = determine_served_user(from_wire(name), is_own_uri=is_own_uri)
    assert served == ServedUser(uri, case, registered, "P-Served-User")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [ORIG, ("P-Served-User", "<tel:+1;a=b>;orig-cdiv")],
            ServedUser("tel:+1;a=b", SessionCase.ORIGINATING_CDIV, None, "P-Served-User"),
        ),
        # two different ones: the nearest hop's is on top
        (
            [("P-Served-User", "<sip:x@y>;sescase=orig"), ("P-Served-User", "<sip:z@y>;sescase=term")],
            ServedUser("sip:x@y", SessionCase.ORIGINATING_REGISTERED, None, "P-Served-User"),
        ),
        # the header names the user only: the address tells the case
        (
            [ORIG, ("P-Served-User", "<sip:x@y>")],
            ServedUser("sip:x@y", SessionCase.ORIGINATING_REGISTERED, None, "P-Served-User, address (orig)"),
        ),
        (
            [TERM, ("P-Served-User", "<sip:x@y>;regstate=unreg")],
            ServedUser("sip:x@y", SessionCase.TERMINATING_UNREGISTERED, False, "P-Served-User, address (term)"),
        ),
        (
            [PLAIN, ("P-Served-User", "<sip:x@y>;regstate=reg")],
            ServedUser("sip:x@y", SessionCase.TERMINATING_REGISTERED, True, "P-Served-User, terminating by default"),
        ),
        # the header contradicts the address: it knows more
        (
            [ORIG, ("P-Served-User", "<sip:x@y>;sescase=term;regstate=reg")],
            ServedUser("sip:x@y", SessionCase.TERMINATING_REGISTERED, True, "P-Served-User"),
        ),
        (
            [TERM, ("P-Served-User", "<<x"), ("P-Served-User", "<sip:x@y>;sescase=term")],
            ServedUser("sip:x@y", SessionCase.TERMINATING_REGISTERED, None, "P-Served-User"),
        ),
        ([TERM], ServedUser(BOB, SessionCase.TERMINATING_REGISTERED, None, "Request-URI, address (term)")),
        (
            [PLAIN, IDENTITIES],
            ServedUser(BOB, SessionCase.TERMINATING_REGISTERED, None, "Request-URI, terminating by default"),
        ),
        (
            [ORIG, IDENTITIES],
            ServedUser(
                "sip:carol@example.net;user=phone",
                SessionCase.ORIGINATING_REGISTERED,
                None,
                "P-Asserted-Identity, address (orig)",
            ),
        ),
        (
            [PARAM, ("P-Asserted-Identity", "<<x, <tel:+1555>")],
            ServedUser(ALICE, SessionCase.ORIGINATING_REGISTERED, None, "From, address (orig)"),
        ),
        ([ORIG], ServedUser(ALICE, SessionCase.ORIGINATING_REGISTERED, None, "From, address (orig)")),
        ([], ServedUser(BOB, SessionCase.TERMINATING_REGISTERED, None, "Request-URI, terminating by default")),
        (
            [TERM, ("P-Served-User", "")],
            ServedUser(BOB, SessionCase.TERMINATING_REGISTERED, None, "Request-URI, address (term)"),
        ),
    ],
)
def test_without_or_against_the_header(headers: list[tuple[str, str]], expected: ServedUser) -> None:
    assert determine_served_user(build_request(headers=headers), is_own_uri=is_own_uri) == expected


def test_service_identity_addressed_by_request_uri() -> None:
    served = determine_served_user(build_request(uri="sip:orig@ai-as.example.net"), is_own_uri=is_own_uri)
    assert served.session_case is SessionCase.ORIGINATING_REGISTERED
    assert served.uri == ALICE


@pytest.mark.parametrize(
    ("header", "others"),
    [
        ([("P-Served-User", "<tel:+1555>;sescase=orig"), IDENTITIES], ("sip:carol@example.net;user=phone",)),
        ([("P-Served-User", "<tel:+1555>;sescase=term;regstate=reg"), IDENTITIES], ()),
        # the one who is served has not asserted these
        ([("P-Served-User", "<tel:+1666>;sescase=orig;regstate=reg"), IDENTITIES], ()),
        ([("P-Served-User", "<tel:+1555>;sescase=orig;regstate=reg"), ("P-Asserted-Identity", "<tel:")], ()),
    ],
)
def test_other_identities(header: list[tuple[str, str]], others: tuple[str, ...]) -> None:
    request = build_request(headers=header)
    served = determine_served_user(request, is_own_uri=is_own_uri)
    assert other_identities(request, served) == others
