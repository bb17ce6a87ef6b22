from __future__ import annotations

import pytest

from ims_as.isc.routing import IscRoute, addressed_uri, split_route
from tests.ims_as.isc_messages import BOB, build_request, from_wire, is_own_uri

ODI = (
    "<sip:iscmark@127.0.0.20:5060;lr;s=2;h=0;d=1;"
    "a=7369703a313535353030303030303240696d732e6d6e633030312e6d63633030312e336770706e6574776f726b2e6f7267>"
)


def test_odi_is_kept_byte_for_byte() -> None:
    route = split_route(from_wire("01-isc-invite-term-dh0.sip"), is_own_uri)
    assert route == IscRoute("<sip:127.0.0.30:5060;lr>", (ODI,))
    assert route.next_hop == ODI


@pytest.mark.parametrize(
    ("values", "own", "rest"),
    [
        ([], None, ()),
        (["<sip:127.0.0.30;lr>"], "<sip:127.0.0.30;lr>", ()),
        (["<sip:127.0.0.20;lr>, <sip:127.0.0.30;lr>"], None, ("<sip:127.0.0.20;lr>", "<sip:127.0.0.30;lr>")),
        (
            ["<sip:127.0.0.30;lr=on>", "<sip:a,b@127.0.0.20;lr>;x=y , <sip:c>"],
            "<sip:127.0.0.30;lr=on>",
            ("<sip:a,b@127.0.0.20;lr>;x=y", "<sip:c>"),
        ),
        (["<sip:127.0.0.30>,<sip:127.0.0.30>"], "<sip:127.0.0.30>", ("<sip:127.0.0.30>",)),
    ],
)
def test_split(values: list[str], own: str | None, rest: tuple[str, ...]) -> None:
    request = build_request(headers=[("Route", value) for value in values])
    assert split_route(request, is_own_uri) == IscRoute(own, rest)


@pytest.mark.parametrize(
    ("uri", "route", "expected"),
    [
        (BOB, [("Route", "<sip:term@127.0.0.30;lr>")], "<sip:term@127.0.0.30;lr>"),
        ("sip:agent@ai-as.example.net", [], "sip:agent@ai-as.example.net"),
        (BOB, [], None),
        (BOB, [("Route", "<sip:127.0.0.20;lr>")], None),
    ],
)
def test_addressed_uri(uri: str, route: list[tuple[str, str]], expected: str | None) -> None:
    assert addressed_uri(build_request(uri=uri, headers=route), is_own_uri) == expected
