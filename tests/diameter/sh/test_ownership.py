"""Whose data a document is."""

from __future__ import annotations

from typing import Any

import pytest

from diameter.sh.messages import UserIdentity
from diameter.sh.ownership import tells_of_another
from diameter.sh.userdata import ShData


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ("sip:bob@example.net", {"public_identities": ("sip:bob@example.net", "tel:+15550100")}),
        ("sip:Bob@Example.NET;user=phone", {"public_identities": ("sip:bob@example.net",)}),
        ("sip:bob@example.net", {"all_identities": ("sip:bobby@example.net", "sip:bob@example.net")}),
        ("sip:+15550100@example.net;user=phone", {"public_identities": ("tel:+1-555-0100",)}),
        ("tel:+15550100", {"public_identities": ("sip:bob@example.net",), "msisdns": ("15550100",)}),
        # an HSS with a domain of its own, asked by MSISDN and by IMSI
        ("sip:15550100@example.net", {"public_identities": ("sip:15550100@ims.mnc001.mcc001.3gppnetwork.org",)}),
        (
            "sip:001010000000100@example.net",
            {"public_identities": ("sip:1@x",), "private_identities": ("001010000000100@x",)},
        ),
        ("sip:001010000000100@example.net", {"public_identities": ("sip:1@x",), "imsi": "001010000000100"}),
        # nothing that could tell
        ("sip:bob@example.net", {}),
        ("sip:bob@example.net", {"user_state": 1}),
        ("sip:bob@example.net", {"msisdns": ("15550100",)}),
        ("sip:bob@example.net", {"registered_identities": ("sip:bobby@example.net",)}),
        ("sip:room7@example.net", {"public_identities": ("sip:!.*!@example.net",)}),
        ("sip:room7@example.net", {"public_identities": ("sip:x@example.net",), "wildcarded_psi": "sip:!.*!@x"}),
    ],
)
def test_may_be_the_one_that_was_asked_for(asked: str, fields: dict[str, Any]) -> None:
    assert not tells_of_another(UserIdentity(asked), ShData(**fields))


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ("sip:bob@example.net", {"public_identities": ("sip:eve@example.net",)}),
        ("sip:bob@example.net", {"public_identities": ("sip:bob@example.com",)}),
        ("sip:bob@example.net", {"implicit_identities": ("sip:eve@example.net", "tel:+15550199")}),
        ("tel:+15550100", {"public_identities": ("tel:+15550199",), "msisdns": ("15550199",)}),
        ("sip:100@example.net", {"public_identities": ("sip:100@example.com",)}),
        ("sip:bob@example.net", {"public_identities": ("sip:eve@example.net",), "private_identities": ("eve@x",)}),
    ],
)
def test_is_somebody_elses(asked: str, fields: dict[str, Any]) -> None:
    assert tells_of_another(UserIdentity(asked), ShData(**fields))


def test_asked_by_number() -> None:
    bob = ShData(public_identities=("sip:+15550100@x",), msisdns=("15550100",))
    assert not tells_of_another(UserIdentity(msisdn="15550100"), bob)
    assert tells_of_another(UserIdentity(msisdn="15550199"), bob)
    assert not tells_of_another(UserIdentity(external_identifier="bob@x"), bob)
