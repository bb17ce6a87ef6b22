from __future__ import annotations

import pytest

from ifc.view import PlainRequestView, request_uri_target


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:bob@example.net", "example.net"),
        ("SIP:bob@example.net:5080;transport=tcp?x=y", "example.net:5080"),
        ("sips:[2001:db8::1]:5061", "[2001:db8::1]:5061"),
        ("sip:a;b=c?d@example.net;lr", "example.net"),
        ("sip:example.net?to=a@b", "b"),
        ("tel:+15550100;phone-context=example.net", "+15550100;phone-context=example.net"),
        ("urn:service:sos.fire", "service:sos.fire"),
        ("nonsense", "nonsense"),
    ],
)
def test_request_uri_target(uri: str, target: str) -> None:
    assert request_uri_target(uri) == target


def test_plain_view() -> None:
    view = PlainRequestView("INVITE", "sip:a@b", header_map={"Subject": ["x"]})
    assert view.header_values("subject") == ["x"]
    assert view.header_values("priority") == ()
