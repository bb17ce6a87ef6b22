from __future__ import annotations

import pytest

from ims_as.isc.originating import Origin, core_route, originating_headers
from ims_as.isc.session_id import SessionEnd
from ims_as.sip.errors import SipParseError


@pytest.mark.parametrize(
    ("uri", "originating", "route"),
    [
        ("sip:scscf.home.example:5060", True, "<sip:scscf.home.example:5060;lr;orig>"),
        ("sip:scscf.home.example;transport=tcp;orig;lr", False, "<sip:scscf.home.example;transport=tcp;lr>"),
        ("<sip:scscf@[2001:db8::1]:5060;lr>;expires=600", True, "<sip:scscf@[2001:db8::1]:5060;lr;orig>"),
        ("sip:scscf.home.example?Route=x", False, "<sip:scscf.home.example;lr>"),
    ],
)
def test_the_way_into_the_core(uri: str, originating: bool, route: str) -> None:
    assert core_route(uri, originating=originating) == route


@pytest.mark.parametrize("uri", ["tel:+1", "nonsense", ""])
def test_what_is_no_core_node(uri: str) -> None:
    with pytest.raises(SipParseError):
        core_route(uri, originating=True)


def test_headers_for_a_user_and_for_a_service() -> None:
    common = {"icid": "i", "node": "as.h", "own_ioi": "Type 3h", "session": SessionEnd("ab" * 16)}
    user = dict(originating_headers(Origin("sip:a@h", True, True), charging_addresses="ccf=x", **common))  # type: ignore[arg-type]
    assert user["P-Served-User"] == "<sip:a@h>;sescase=orig;regstate=reg"
    assert user["P-Charging-Vector"] == 'icid-value="i";icid-generated-at=as.h;orig-ioi="Type 3h"'
    assert user["P-Charging-Function-Addresses"] == "ccf=x"
    assert user["Session-ID"] == "ab" * 16 + ";remote=" + "0" * 32
    service = dict(originating_headers(Origin("sip:as.h", False), **common))  # type: ignore[arg-type]
    assert "P-Served-User" not in service
    assert service["P-Asserted-Identity"] == "<sip:as.h>"
