"""P-Access-Network-Info, Resource-Priority, Reason and P-Early-Media; and that no reader of ours ever raises."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ims_as.isc import (
    access_network,
    charging,
    early_media,
    features,
    history_info,
    identity,
    privacy,
    resource_priority,
    session_id,
)
from ims_as.isc import reason as reasons
from ims_as.isc.access_network import read_access_networks_untrusted
from ims_as.isc.early_media import EarlyMedia, early_media_response, read_early_media_untrusted
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.isc.reason import format_reasons, q850_cause, read_reasons_untrusted, reasons_for_response, sip_status
from ims_as.isc.resource_priority import has_priority, read_resource_priorities_untrusted
from tests.ims_as.isc_messages import build_request, from_wire


def one(name: str, *values: str):
    return build_request(headers=[(name, value) for value in values])


def test_access_network():
    [found] = read_access_networks_untrusted(from_wire("01-isc-invite-term-dh0.sip"))
    assert (found.access_type, found.place) == ("3GPP-E-UTRAN-FDD", "0010100010000001")
    assert not found.is_network_provided
    wifi, line = read_access_networks_untrusted(
        one("P-Access-Network-Info", 'GSTN, IEEE-802.11; i-wlan-node-id="0a1b";np;local-time-zone="x"')
    )
    assert (wifi.access_type, wifi.place, wifi.is_network_provided) == ("IEEE-802.11", "0a1b", True)
    assert (line.access_type, line.place) == ("GSTN", None)


@pytest.mark.parametrize(
    ("values", "is_priority"),
    [
        (["ets.0"], True),
        (["foo.1, WPS.3"], True),
        (["esnet.1"], True),
        (["dsn-000001.2"], True),
        (["q735.1"], True),
        (["foo.1"], False),
        (["ets"], False),
        (["ets."], False),
        ([""], False),
        ([], False),
    ],
)
def test_resource_priority(values: list[str], is_priority: bool):
    assert has_priority(one("Resource-Priority", *values)) is is_priority


def test_resource_priorities_are_read():
    assert read_resource_priorities_untrusted(one("Resource-Priority", "ETS.0 , wps.1", "x")) == (
        ("ets", "0"),
        ("wps", "1"),
    )


def test_reasons_in_and_out():
    request = one("Reason", 'SIP ;cause=486;text="Busy Here", Q.850;cause=17', "preemption;cause=1", ";;")
    found = read_reasons_untrusted(request)
    assert [(each.protocol, each.cause) for each in found] == [("SIP", 486), ("Q.850", 17), ("preemption", 1)]
    assert format_reasons(found) == 'SIP;cause=486;text="Busy Here", Q.850;cause=17, preemption;cause=1'
    assert format_reasons(reasons_for_response(found)) == "Q.850;cause=17"
    assert q850_cause(found) == 17
    assert q850_cause(found[:1]) == 17
    assert q850_cause((), 503) == 41
    assert q850_cause((), 200) == 16
    assert q850_cause((), 499) == 31
    assert q850_cause(()) is None
    assert (sip_status(17), sip_status(16)) == (486, 480)


def test_early_media():
    request = one("P-Early-Media", "supported")
    assert read_early_media_untrusted(request) == EarlyMedia((), True)
    assert str(early_media_response(request)) == "sendrecv"
    assert early_media_response(build_request()) is None
    assert early_media_response(one("P-Early-Media", "gated")) is None
    found = read_early_media_untrusted(one("P-Early-Media", "SendOnly, inactive", "gated, what"))
    assert found == EarlyMedia(("sendonly", "inactive"), False, True)
    assert [found.direction(line) for line in (0, 1, 2)] == ["sendonly", "inactive", "inactive"]
    assert EarlyMedia().direction(0) is None
    assert str(found) == "sendonly, inactive, gated"


READERS = [
    (name, getattr(module, reader))
    for module, reader, names in (
        (access_network, "read_access_networks_untrusted", ("P-Access-Network-Info",)),
        (charging, "read_charging_vector_untrusted", ("P-Charging-Vector",)),
        (charging, "read_charging_addresses_untrusted", ("P-Charging-Function-Addresses",)),
        (early_media, "read_early_media_untrusted", ("P-Early-Media",)),
        (features, "read_accept_contacts_untrusted", ("Accept-Contact",)),
        (features, "read_contact_features_untrusted", ("Contact",)),
        (features, "read_feature_caps_untrusted", ("Feature-Caps",)),
        (features, "read_services_untrusted", ("P-Asserted-Service", "Accept-Contact")),
        (history_info, "read_history_untrusted", ("History-Info",)),
        (history_info, "diversion_count", ("History-Info", "Diversion")),
        (history_info, "history_from_diversions", ("Diversion",)),
        (identity, "read_asserted_identities_untrusted", ("P-Asserted-Identity",)),
        (privacy, "visible_caller", ("Privacy", "P-Asserted-Identity", "From")),
        (reasons, "read_reasons_untrusted", ("Reason",)),
        (resource_priority, "has_priority", ("Resource-Priority",)),
        (session_id, "read_session_id_untrusted", ("Session-ID",)),
    )
    for name in names
]
POLICY = HeaderPolicy(own_ioi="x", host="h")
PIECES = st.sampled_from(
    [
        ";",
        ",",
        "=",
        '"',
        "<",
        ">",
        "*",
        "\\",
        "sip:a@h",
        "tel:+1",
        "index",
        "1.1",
        "?",
        "&",
        "%",
        "cause",
        "id",
        " ",
        "é",
    ]
)
TEXT = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join))


@given(TEXT)
@example('<sip:a@h?Privacy=history>;index=1, "')
def test_no_reader_raises(text: str):
    text = "".join(char for char in text if char not in "\r\n\0").strip(" \t")
    for name, read in READERS:
        request = build_request(headers=[(name, text)])
        for entry in [found] if not isinstance(found := read(request), tuple) else found:
            for attribute in ("cause", "reason", "place", "is_private", "number", "counter", "uri"):
                getattr(entry, attribute, None)
        POLICY.engine_headers(request, extra=[name])
        POLICY.copy_for_b2bua(request)
        POLICY.response_headers(request)
        POLICY.strip_for_untrusted(request)
