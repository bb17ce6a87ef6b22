from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.isc.registration import (
    DEFAULT_EXPIRES_S,
    RegisteredContact,
    Registration,
    RegistrationTable,
    describe,
    impu_key,
)
from ims_as.isc.registration_reader import MAX_EMBEDDED_BYTES, read_service_info_untrusted
from ims_as.sip.message import Request
from tests.ims_as.isc_messages import BOB, build_request, from_wire

SERVICE_INFO = b'<ims-3gpp version="1"><service-info>agent &amp; more</service-info></ims-3gpp>'
UE_REGISTER = b"REGISTER sip:example.net SIP/2.0\r\nExpires: 3600\r\n\r\n"
UE_RESPONSE = b"SIP/2.0 200 OK\r\n\r\n"


def register(*headers: tuple[str, str], to: str = BOB, content_type: str | None = None, body: bytes = b"") -> Request:
    items = [*headers] if content_type is None else [*headers, ("Content-Type", content_type)]
    request = build_request("REGISTER", "sip:127.0.0.30", items, body)
    request.headers.set("From", "<sip:scscf.example.net:6060>;tag=1")
    request.headers.set("To", f"<{to}>")
    return request


def test_wire() -> None:
    table = RegistrationTable()
    response = table.receive_register(from_wire("09-third-party-register.sip"), now=100.0)
    assert response.status == 200
    assert response.headers.get("Expires") == "3720"
    assert response.to_tag
    registration = table.get(BOB, now=101.0)
    assert registration is not None
    assert registration.impu == BOB
    assert registration.scscf_uri == "sip:127.0.0.20:5060"
    assert registration.expires_at == 3820.0
    assert registration.icid == "lab-31178-1"
    assert registration.orig_ioi == "ims.mnc001.mcc001.3gppnetwork.org"
    assert registration.visited_network_id == '"ims.mnc001.mcc001.3gppnetwork.org"'
    # the malformed list that Kamailio writes
    assert "tel:+15550000002" in registration.associated_uris
    assert "sip:bob@ims.mnc001.mcc001.3gppnetwork.org" in registration.associated_uris
    assert registration.problems == ()


def test_keyed_by_to_alone() -> None:
    # every one has a new Call-ID and CSeq 10
    table = RegistrationTable()
    table.receive_register(from_wire("09-third-party-register.sip"), now=0.0)
    table.receive_register(from_wire("13-third-party-register-with-service-info.sip"), now=50.0)
    assert len(table) == 1
    registration = table.get(BOB, now=60.0)
    assert registration is not None
    assert registration.service_info == "lab-service-info"
    assert (registration.registered_at, registration.expires_at) == (0.0, 3770.0)
    response = table.receive_register(from_wire("10-third-party-register-expires-0.sip"), now=70.0)
    assert (response.status, response.headers.get("Expires")) == (200, "0")
    assert len(table) == 0
    # once more, for a user who is not there
    assert table.receive_register(from_wire("10-third-party-register-expires-0.sip"), now=71.0).status == 200


def test_embedded_messages() -> None:
    table = RegistrationTable()
    table.receive_register(from_wire("11-third-party-register-with-request.sip"), now=0.0)
    registration = table.get(BOB, now=1.0)
    assert registration is not None
    assert registration.register_request is not None
    assert registration.register_request.startswith(b"REGISTER sip:ims.mnc001")
    assert registration.register_response is None
    table.receive_register(from_wire("12-third-party-register-with-response.sip"), now=2.0)
    registration = table.get(BOB, now=3.0)
    assert registration is not None
    assert registration.register_request is None
    assert registration.register_response is not None
    assert registration.register_response.startswith(b"SIP/2.0 200 OK")


def test_all_three_parts() -> None:
    parts = [(b"application/3gpp-ims+xml", SERVICE_INFO), (b"message/sip", UE_REGISTER), (b"message/sip", UE_RESPONSE)]
    body = b"".join(b"--x\r\nContent-Type: %s\r\n\r\n%s\r\n" % part for part in parts) + b"--x--\r\n"
    table = RegistrationTable()
    table.receive_register(register(("Expires", "60"), content_type="multipart/mixed;boundary=x", body=body), now=0.0)
    registration = table.get(BOB, now=1.0)
    assert registration is not None
    assert registration.service_info == "agent & more"
    assert registration.register_request == UE_REGISTER
    assert registration.register_response == UE_RESPONSE


def test_expiry() -> None:
    table = RegistrationTable()
    table.receive_register(register(("Expires", "60")), now=0.0)
    assert table.get(BOB, now=59.9) is not None
    assert table.get(BOB, now=60.0) is None
    assert len(table) == 0


def test_those_that_ran_out_leave_by_themselves() -> None:
    table = RegistrationTable()
    for number in range(10):
        table.receive_register(register(("Expires", "60"), to=f"sip:{number}@example.net"), now=0.0)
    for number in range(5):
        table.receive_register(register(("Expires", "60"), to=f"sip:new{number}@example.net"), now=100.0)
    assert len(table) == 5


@pytest.mark.parametrize(
    ("headers", "expires"),
    [
        ([("Expires", "7")], 7),
        ([("Contact", "<sip:scscf.example.net>;expires=90")], 90),
        ([("Expires", "7"), ("Contact", "<sip:scscf.example.net>;expires=90")], 7),
        ([], DEFAULT_EXPIRES_S),
        ([("Expires", "soon")], DEFAULT_EXPIRES_S),
        ([("Expires", "-1")], DEFAULT_EXPIRES_S),
        ([("Contact", "<<")], DEFAULT_EXPIRES_S),
        ([("Contact", "<sip:a>;expires=x")], DEFAULT_EXPIRES_S),
        ([("Expires", "4294967295")], 4294967295),
    ],
)
def test_expires(headers: list[tuple[str, str]], expires: int) -> None:
    table = RegistrationTable()
    response = table.receive_register(register(*headers), now=0.0)
    assert (response.status, response.headers.get("Expires")) == (200, str(expires))
    registration = table.get(BOB, now=1.0)
    assert registration is not None
    assert registration.expires_s == expires
    assert registration.scscf_uri in ("sip:scscf.example.net:6060", "sip:scscf.example.net", "sip:a")


# ---------------------------------------------------------------- the user's own REGISTER and its 200

USER = (
    "REGISTER sip:example.net SIP/2.0",
    "Via: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK1",
    f"From: <{BOB}>;tag=1",
    f"To: <{BOB}>",
    "Call-ID: 1@ue",
    "CSeq: 2 REGISTER",
    "Max-Forwards: 70",
)
PHONE = (
    '<sip:bob@192.0.2.5;transport=tcp>;+sip.instance="<urn:gsma:imei:35-1>";q=0.5;expires=50;'
    '+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";audio'
)
MMTEL = "urn:urn-7:3gpp-service.ims.icsi.mmtel"


def of_user(*headers: str) -> bytes:
    return "\r\n".join((*USER, *headers, "", "")).encode()


def ok_for_user(*headers: str) -> bytes:
    return "\r\n".join(("SIP/2.0 200 OK", *USER[1:6], *headers, "", "")).encode()


def several(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\nContent-Type: message/sip\r\n\r\n%s\r\n" % part for part in parts) + b"--x--\r\n"


def registered(table: RegistrationTable, body: bytes, *, now: float = 0.0, expires: int = 100) -> Registration:
    content_type = "multipart/mixed;boundary=x" if body.startswith(b"--x") else "message/sip"
    request = register(("Expires", str(expires)), content_type=content_type, body=body)
    assert table.receive_register(request, now=now).status == 200
    registration = table.get(BOB, now=now)
    assert registration is not None
    return registration


def test_contacts_and_their_features_from_the_users_register() -> None:
    [contact] = registered(RegistrationTable(), of_user(f"Contact: {PHONE}")).contacts
    assert contact.uri == "sip:bob@192.0.2.5;transport=tcp"
    assert (contact.expires_at, contact.q, contact.instance) == (50.0, 0.5, "urn:gsma:imei:35-1")
    assert contact.features == {"+g.3gpp.icsi-ref": {MMTEL}, "audio": {"TRUE"}}


def test_the_wires_contact() -> None:
    table = RegistrationTable()
    table.receive_register(from_wire("11-third-party-register-with-request.sip"), now=0.0)
    registration = table.get(BOB, now=1.0)
    assert registration is not None
    assert [(contact.uri, contact.expires_at) for contact in registration.contacts] == [
        ("sip:15550000002@127.0.0.42:5060;transport=udp", 3600.0)
    ]
    shown = json.dumps(describe(registration))
    assert "15550000002@127.0.0.42" in shown
    assert "Digest" not in shown
    assert "nonce" not in shown


def test_the_200_lists_all_contacts_and_the_implicit_set() -> None:
    table = RegistrationTable()
    answer = ok_for_user(
        f"Contact: {PHONE}, <sip:bob@192.0.2.6>;expires=0",
        "Contact: <sip:bob@192.0.2.7>",
        "Expires: 80",
        "P-Associated-URI: <sip:bob@example.net>, <tel:+15550100>",
    )
    registration = registered(table, several(of_user("Contact: <sip:bob@192.0.2.7>"), answer))
    assert [(contact.uri, contact.expires_at) for contact in registration.contacts] == [
        ("sip:bob@192.0.2.5;transport=tcp", 50.0),
        ("sip:bob@192.0.2.7", 80.0),
    ]
    assert registration.associated_uris == ("sip:bob@example.net", "tel:+15550100")


def test_a_register_alone_changes_only_its_own_contact() -> None:
    table = RegistrationTable()
    registered(table, of_user("Contact: <sip:a@192.0.2.1>;expires=90"))
    registered(table, of_user("Contact: <sip:b@192.0.2.2>;expires=90"), now=1.0)
    registration = registered(table, of_user("Contact: <sip:a@192.0.2.1>;expires=0"), now=2.0)
    assert [contact.uri for contact in registration.contacts] == ["sip:b@192.0.2.2"]
    registration = registered(table, of_user("Contact: *"), now=3.0)
    assert [contact.uri for contact in registration.contacts] == ["sip:b@192.0.2.2"]
    registration = registered(table, of_user("Contact: <sip:c@192.0.2.3>"), now=95.0)
    assert [contact.uri for contact in registration.contacts] == ["sip:c@192.0.2.3"], "b has run out"


def test_the_implicit_set_leads_to_the_registration() -> None:
    table = RegistrationTable()
    table.receive_register(from_wire("09-third-party-register.sip"), now=0.0)
    for alias in ("tel:+1-555-000-0002", "sip:bob@ims.mnc001.mcc001.3gppnetwork.org;user=phone"):
        found = table.get(alias, now=1.0)
        assert found is not None
        assert found.impu == BOB
    assert table.get("tel:+15550000003", now=1.0) is None
    table.receive_register(register(("Expires", "60"), to="tel:+15550000002"), now=2.0)
    own = table.get("tel:+15550000002", now=3.0)
    assert own is not None
    assert own.impu == "tel:+15550000002", "one of its own comes first"
    table.receive_register(from_wire("10-third-party-register-expires-0.sip"), now=4.0)
    assert table.get("sip:bob@ims.mnc001.mcc001.3gppnetwork.org", now=5.0) is None
    assert table.get("tel:+15550000002", now=5.0) is own
    assert not table._aliases


def test_what_the_reg_event_package_adds() -> None:
    table = RegistrationTable()
    contact = RegisteredContact("sip:bob@192.0.2.9", 40.0)
    assert not table.update(BOB, now=0.0, contacts=[contact])
    table.receive_register(register(("Expires", "60")), now=0.0)
    assert table.update(BOB, now=1.0, contacts=[contact], identities=["tel:+15550100"], expires_at=40.0)
    registration = table.get("tel:+15550100", now=2.0)
    assert registration is not None
    assert (registration.contacts, registration.expires_at) == ((contact,), 40.0)
    assert table.update("tel:+15550100", now=3.0, contacts=[])
    assert [each.impu for each in table.all(now=3.0, limit=10)] == [BOB]
    table.remove(BOB)
    assert len(table) == 0
    assert table.all(now=3.0, limit=10) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*USER, f"Contact: {PHONE}", "Contact: <", "Expires: x", "", "SIP/2.0 200 OK"])))
def test_any_embedded_message_is_answered_200(lines: list[str]) -> None:
    table = RegistrationTable()
    registered(table, "\r\n".join(lines).encode() or b"x")


def test_same_tag_for_a_retransmission() -> None:
    table = RegistrationTable()
    first, second = (table.receive_register(register(), now=0.0) for _ in range(2))
    assert first.to_tag == second.to_tag


def test_number_is_bounded() -> None:
    table = RegistrationTable(max_registrations=3)
    for number in range(5):
        table.receive_register(register(to=f"sip:{number}@example.net"), now=0.0)
    table.receive_register(register(to="sip:2@example.net"), now=1.0)  # refreshed: now the youngest
    table.receive_register(register(to="sip:5@example.net"), now=1.0)
    assert len(table) == 3
    assert table.evicted == 3
    assert table.get("sip:3@example.net", now=2.0) is None
    assert table.get("sip:2@example.net", now=2.0) is not None


def test_kept_bytes_are_bounded() -> None:
    table = RegistrationTable(max_kept_bytes=250)
    for number in range(5):
        table.receive_register(register(to=f"sip:{number}@a", content_type="message/sip", body=b"R" * 100), now=0.0)
    assert len(table) == 2
    for number in range(5):
        table.receive_register(register(("Expires", "0"), to=f"sip:{number}@a"), now=0.0)
    table.receive_register(register(content_type="message/sip", body=b"R" * 250), now=0.0)
    assert len(table) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "problem"),
    [
        ("application/3gpp-ims+xml", b"<x/>", "service information"),
        ("application/3gpp-ims+xml", b"\xff", "service information"),
        ("message/sip", b"R" * (MAX_EMBEDDED_BYTES + 1), "too large"),
        ("multipart/mixed", b"x", "without readable parts"),
    ],
)
def test_bad_bodies_are_noted_and_answered_200(content_type: str, body: bytes, problem: str) -> None:
    table = RegistrationTable()
    assert table.receive_register(register(content_type=content_type, body=body), now=0.0).status == 200
    registration = table.get(BOB, now=1.0)
    assert registration is not None
    (text,) = registration.problems
    assert problem in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:bob@Example.NET;user=phone", "sip:bob@example.net"),
        ("sip:bob@example.net:5060", "sip:bob@example.net"),
        ("tel:+1-555-(0100)", "tel:+15550100"),
        ("tel:+15550100;phone-context=x", "tel:+15550100"),
    ],
)
def test_same_user(one: str, other: str) -> None:
    assert impu_key(one) == impu_key(other)


def test_different_users() -> None:
    users = ["sip:bob@a", "sip:Bob@a", "sip:bob@b", "tel:+1", "tel:1", "urn:x:y", "nonsense"]
    assert len({impu_key(user) for user in users}) == len(users)


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (SERVICE_INFO, "agent & more"),
        (b'<x:ims-3gpp xmlns:x="urn:x"><x:other/><x:service-info/></x:ims-3gpp>', ""),
        (b"<ims-3gpp/>", None),
        (b"<other><service-info>x</service-info></other>", None),
        (b'<!DOCTYPE ims-3gpp [<!ENTITY a "b">]><ims-3gpp><service-info>&a;</service-info></ims-3gpp>', None),
        (b"<ims-3gpp><service-info>" + b"x" * 20000 + b"</service-info></ims-3gpp>", None),
    ],
)
def test_service_info(xml: bytes, text: str | None) -> None:
    assert read_service_info_untrusted(xml) == text


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_service_info_never_raises(xml: bytes) -> None:
    assert read_service_info_untrusted(xml) is None
