"""Feature tags, services and caller preferences."""

from __future__ import annotations

import pytest

from ims_as.isc.features import (
    ICSI_TAG,
    MMTEL,
    MMTEL_CONTACT_PARAM,
    accepts,
    is_service,
    read_accept_contacts_untrusted,
    read_contact_features_untrusted,
    read_feature_caps_untrusted,
    read_reject_contacts_untrusted,
    read_services_untrusted,
    rejects,
)
from tests.ims_as.isc_messages import build_request

OWN = {"audio": frozenset({"TRUE"}), ICSI_TAG: frozenset({MMTEL})}
ENCODED = "urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"


def test_contact_there_and_back():
    assert f';+g.3gpp.icsi-ref="{ENCODED}"' == MMTEL_CONTACT_PARAM
    request = build_request(
        headers=[
            (
                "Contact",
                f'<sip:a@192.0.2.5>;+G.3gpp.ICSI-ref="{ENCODED},urn%3Ax";audio;expires=7;+sip.instance="<urn:gsma:imei:1>"',
            )
        ]
    )
    assert read_contact_features_untrusted(request) == {
        ICSI_TAG: frozenset({MMTEL, "urn:x"}),
        "audio": frozenset({"TRUE"}),
        "+sip.instance": frozenset({"urn:gsma:imei:1"}),
    }
    assert read_contact_features_untrusted(build_request(headers=[("Contact", "*")])) == {}
    assert read_contact_features_untrusted(build_request(headers=[("Contact", "<<")])) == {}


@pytest.mark.parametrize(
    ("headers", "services"),
    [
        ([("P-Asserted-Service", MMTEL), ("P-Preferred-Service", "urn:x")], (MMTEL,)),
        ([("P-Preferred-Service", f"{MMTEL}, urn:y")], (MMTEL, "urn:y")),
        ([("Accept-Contact", f'*;+g.3gpp.icsi-ref="{ENCODED}";require')], (MMTEL,)),
        ([], ()),
    ],
)
def test_services(headers: list[tuple[str, str]], services: tuple[str, ...]):
    assert read_services_untrusted(build_request(headers=headers)) == services


def test_a_kind_of_a_service_is_that_service():
    assert is_service(f"{MMTEL}.gsma.x", MMTEL)
    assert not is_service(f"{MMTEL}x", MMTEL)
    assert not is_service(MMTEL, f"{MMTEL}.gsma.x")


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        (f'*;+g.3gpp.icsi-ref="{ENCODED}";require;explicit', True),
        (f'*;+g.3gpp.icsi-ref="{ENCODED}.gsma.x";require', True),
        ('*;+g.3gpp.icsi-ref="urn%3Aurn-7%3Aother";require', False),
        ('*;+g.3gpp.icsi-ref="urn%3Aurn-7%3Aother"', True),
        ("*;video;require", True),
        ("*;video;require;explicit", False),
        ('*;audio="FALSE";require', False),
        ('*;audio="!FALSE";require', True),
        ("*;audio;require", True),
        ("audio;require", True),
        ("*", True),
    ],
)
def test_accept_contact(value: str, is_accepted: bool):
    """Without ``explicit`` a tag that we do not name is no obstacle; without ``require`` nothing is."""
    preferences = read_accept_contacts_untrusted(build_request(headers=[("Accept-Contact", value)]))
    assert accepts(preferences, OWN) is is_accepted


@pytest.mark.parametrize(
    ("value", "is_rejected"),
    [("*;audio", True), ("*;audio;video", False), ("*;automata", False), ("*", False), ('*;audio="FALSE"', False)],
)
def test_reject_contact(value: str, is_rejected: bool):
    preferences = read_reject_contacts_untrusted(build_request(headers=[("j", value)]))
    assert rejects(preferences, OWN) is is_rejected


def test_feature_caps():
    request = build_request(
        headers=[
            ("Feature-Caps", '*;+g.3gpp.atcf="<tel:+1>";+g.3gpp.srvcc'),
            ("Feature-Caps", '*;+g.3gpp.registration-token="x", ;;'),
        ]
    )
    assert read_feature_caps_untrusted(request) == {
        "+g.3gpp.atcf": frozenset({"tel:+1"}),
        "+g.3gpp.srvcc": frozenset({"TRUE"}),
        "+g.3gpp.registration-token": frozenset({"x"}),
    }
