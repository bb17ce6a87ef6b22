"""P-Asserted-Identity and Privacy."""

from __future__ import annotations

import pytest

from ims_as.isc.identity import Identity, e164_number, read_asserted_identities_untrusted
from ims_as.isc.privacy import ANONYMOUS, read_privacy_untrusted, visible_caller
from tests.ims_as.isc_messages import ALICE, build_request, from_wire


def test_sip_and_tel_in_order_and_in_any_form():
    request = build_request(
        headers=[
            ("P-Asserted-Identity", '"Alice, A." <sip:+15550199@example.net;user=phone>, tel:+1-555-0199'),
            ("P-Asserted-Identity", "<<>, <sip:a@b>"),
        ]
    )
    found = read_asserted_identities_untrusted(request)
    assert found == (
        Identity("sip:+15550199@example.net;user=phone", "Alice, A."),
        Identity("tel:+1-555-0199"),
        Identity("sip:a@b"),
    )
    assert [identity.number for identity in found] == ["+15550199", "+15550199", None]
    assert str(found[0]) == '"Alice, A." <sip:+15550199@example.net;user=phone>'
    assert str(found[1]) == "<tel:+1-555-0199>", "a tel URI stays one"


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("tel:+49(30)123.45", "+493012345"),
        ("tel:112;phone-context=example.net", None),
        ("sip:%2B1555@h", "+1555"),
        ("sip:+1555;isub=1@h;user=phone", "+1555"),
        ("sip:alice@h", None),
        ("sip:+1234567890123456@h", None),
        ("urn:service:sos", None),
        ("x y", None),
    ],
)
def test_number(uri: str, number: str | None):
    assert e164_number(uri) == number


@pytest.mark.parametrize(
    ("values", "hides_identity", "hides_history"),
    [
        ([], False, False),
        (["id"], True, False),
        (["ID;critical"], True, False),
        (["user; header"], True, True),
        (["history"], False, True),
        (["session", "id"], True, False),
        (["id, history"], True, True),
        (["none"], False, False),
        (["none;id"], False, False),
        ([""], False, False),
    ],
)
def test_privacy(values: list[str], hides_identity: bool, hides_history: bool):
    privacy = read_privacy_untrusted(build_request(headers=[("Privacy", value) for value in values]))
    assert (privacy.hides_identity, privacy.hides_history) == (hides_identity, hides_history)


def test_who_may_be_shown():
    assert visible_caller(build_request()) == Identity(ALICE)
    assert visible_caller(from_wire("01-isc-invite-term-dh0.sip")) == Identity(ALICE, "Alice")
    asserted = ("P-Asserted-Identity", "<tel:+15550199>")
    assert visible_caller(build_request(headers=[asserted])) == Identity("tel:+15550199")
    assert visible_caller(build_request(headers=[asserted, ("Privacy", "id")])) == ANONYMOUS
    assert visible_caller(build_request(headers=[("Privacy", "user")])) == ANONYMOUS, "From names the user too"
