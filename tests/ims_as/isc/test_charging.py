"""P-Charging-Vector and P-Charging-Function-Addresses."""

from __future__ import annotations

import pytest

from ims_as.isc.charging import (
    ChargingAddresses,
    new_charging_vector,
    read_charging_addresses_untrusted,
    read_charging_vector_untrusted,
)
from tests.ims_as.isc_messages import build_request, from_wire

OWN = "Type 3ai-as.example.net"


def vector(text: str):
    found = read_charging_vector_untrusted(build_request(headers=[("P-Charging-Vector", text)]))
    assert found is not None
    return found


def test_as_an_s_cscf_sends_it():
    found = read_charging_vector_untrusted(from_wire("01-isc-invite-term-dh0.sip"))
    assert found is not None
    assert (found.icid, found.orig_ioi) == ("lab-call-32200-1", "ims.mnc001.mcc001.3gppnetwork.org")
    assert found.term_ioi is None
    assert str(found.for_response(OWN)) == (
        'icid-value="lab-call-32200-1";orig-ioi=ims.mnc001.mcc001.3gppnetwork.org;term-ioi="Type 3ai-as.example.net"'
    )


def test_a_response_gives_the_iois_back_and_nothing_of_the_access():
    text = (
        'icid-value="a;b=\\"";icid-generated-at=192.0.2.1;orig-ioi="Type 3home1.net";ggsn=1.2.3.4;pdp-info="x"'
        ';transit-ioi="t";term-ioi=forged'
    )
    found = vector(text)
    assert (found.icid, found.generated_at) == ('a;b="', "192.0.2.1")
    assert str(found.for_response(OWN)) == (
        'icid-value="a;b=\\"";icid-generated-at=192.0.2.1;orig-ioi="Type 3home1.net";term-ioi="Type 3ai-as.example.net"'
    )
    assert str(found.for_request(OWN)) == (
        'icid-value="a;b=\\"";icid-generated-at=192.0.2.1;ggsn=1.2.3.4;pdp-info="x";orig-ioi="Type 3ai-as.example.net"'
    )
    assert str(found.in_dialog(OWN)) == (
        'icid-value="a;b=\\"";icid-generated-at=192.0.2.1;orig-ioi="Type 3ai-as.example.net"'
    )


@pytest.mark.parametrize("text", ["", ";;", "orig-ioi=x", "icid-value=", '"', "icid-value"])
def test_without_an_icid_it_is_none(text: str):
    assert read_charging_vector_untrusted(build_request(headers=[("P-Charging-Vector", text)])) is None
    assert read_charging_vector_untrusted(build_request()) is None


def test_one_bad_parameter_hides_no_other():
    assert vector('icid-value=7;;(=x;orig-ioi="h').icid == "7"


def test_our_own():
    made = new_charging_vector("abc@as", generated_at="as.example.net", own_ioi=OWN)
    assert str(made) == ('icid-value="abc@as";icid-generated-at=as.example.net;orig-ioi="Type 3ai-as.example.net"')
    assert vector(str(made)) == made


@pytest.mark.parametrize(
    ("text", "ccf", "ecf"),
    [
        (
            'ccf="aaa://cdf1.example.net";ecf="aaa://ocs1.example.net"',
            ("aaa://cdf1.example.net",),
            ("aaa://ocs1.example.net",),
        ),
        ("ccf=192.0.2.1; ccf=192.0.2.2; ecf=a", ("192.0.2.1", "192.0.2.2"), ("a",)),
        ("ccf=[2001:db8::1], ccf-2=b;ecf-2=c", ("[2001:db8::1]", "b"), ("c",)),
    ],
)
def test_charging_addresses(text: str, ccf: tuple[str, ...], ecf: tuple[str, ...]):
    request = build_request(headers=[("P-Charging-Function-Addresses", text)])
    assert read_charging_addresses_untrusted(request) == ChargingAddresses(ccf, ecf)


def test_no_charging_addresses():
    assert read_charging_addresses_untrusted(build_request()) is None
    assert read_charging_addresses_untrusted(build_request(headers=[("P-Charging-Function-Addresses", "x=y")])) is None
