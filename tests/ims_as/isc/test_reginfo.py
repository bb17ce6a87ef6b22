"""Registration information documents."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.isc.reginfo import Applied, RegInfo, RegInfoState, parse_reginfo_untrusted
from ims_as.sip.errors import SipParseError
from tests.ims_as.isc_messages import BOB, from_wire

CONTACT = (
    '<contact id="{0}" state="{1}" event="registered" expires="60" q="0.5"><uri> sip:{0}@192.0.2.5 </uri></contact>'
)


def document(version: int, state: str, *contacts: str, aor: str = BOB, record_state: str = "active") -> bytes:
    return (
        f'<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="{version}" state="{state}">'
        f'<registration aor="{aor}" id="r1" state="{record_state}">{"".join(contacts)}</registration></reginfo>'
    ).encode()


def contact(name: str, state: str = "active") -> str:
    return CONTACT.format(name, state)


def test_as_an_s_cscf_sends_it():
    found = parse_reginfo_untrusted(from_wire("24-reg-event-notify.sip").body)
    assert (found.version, found.is_full, len(found.records)) == (2, True, 5)
    assert [record.aor for record in found.records][:3] == [
        BOB,
        f"sip:+{BOB.removeprefix('sip:')}",
        "tel:+15550000002",
    ]
    [only] = found.records[0].active_contacts
    assert (only.uri, only.event, only.expires_s, only.q) == (
        "sip:15550000002@127.0.0.42:5060;transport=udp",
        "registered",
        3599,
        0.0,
    )


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<reginfo/>",
        b'<reginfo version="1" state="whole"/>',
        b'<reginfo version="-1" state="full"/>',
        b'<reginfo version="99999999999" state="full"/>',
        b'<other version="1" state="full"/>',
        b'<reginfo version="1" state="full"><registration state="active"/></reginfo>',
        b'<reginfo version="1" state="full"><registration aor="a" state="what"/></reginfo>',
        b'<!DOCTYPE reginfo [<!ENTITY a "b">]><reginfo version="1" state="full"/>',
        b'<!DOCTYPE reginfo SYSTEM "file:///etc/passwd"><reginfo version="1" state="full"/>',
        b'<reginfo version="1" state="full">' + b'<registration aor="a" state="active"/>' * 101 + b"</reginfo>",
        document(1, "full", *[contact("a")] * 33),
        b"<a>" * 100_000,
        b"x" * 200_000,
    ],
)
def test_malformed_or_hostile(xml: bytes):
    with pytest.raises(SipParseError):
        parse_reginfo_untrusted(xml)


def test_what_is_not_known_is_left_out():
    found = parse_reginfo_untrusted(
        b'<r:reginfo xmlns:r="urn:x" version="0" state="partial"><!-- c --><r:other/>'
        b'<r:registration aor="sip:a" state=" ACTIVE "><r:contact state="active" q="9" expires="x"/></r:registration>'
        b"</r:reginfo>"
    )
    [record] = found.records
    assert (record.id, record.state) == ("sip:a", "active")
    assert (record.contacts[0].q, record.contacts[0].expires_s, record.contacts[0].uri) == (None, None, "")


def test_full_and_partial_documents_are_put_together():
    state = RegInfoState()

    def apply(*arguments: object, **options: object) -> Applied:
        return state.apply(parse_reginfo_untrusted(document(*arguments, **options)))  # type: ignore[arg-type]

    assert apply(0, "partial", contact("a")) is Applied.GAP, "there was no full one"
    assert apply(3, "full", contact("a"), contact("b")) is Applied.DONE
    assert apply(3, "full", contact("c")) is Applied.STALE
    assert apply(2, "partial", contact("c")) is Applied.STALE
    assert apply(4, "partial", contact("b", "terminated"), contact("c")) is Applied.DONE
    assert [each.id for each in state.records[0].active_contacts] == ["a", "c"]
    assert apply(6, "partial", contact("a", "terminated")) is Applied.GAP
    assert [each.id for each in state.records[0].active_contacts] == ["a", "c"]
    state.expect_anew()
    assert apply(0, "full", contact("d")) is Applied.DONE
    assert [each.id for each in state.records[0].active_contacts] == ["d"]
    assert apply(1, "partial", record_state="terminated") is Applied.DONE
    assert state.records[0].state == "terminated"


def test_partial_documents_cannot_grow_it_for_ever():
    state = RegInfoState()
    state.apply(RegInfo(0, True, ()))
    for version in range(1, 200):
        xml = document(version, "partial", contact(f"c{version}"), aor=f"sip:{version}@h")
        xml = xml.replace(b'id="r1"', b'id="r%d"' % (version % 150))
        state.apply(parse_reginfo_untrusted(xml))
    assert len(state.records) == 100
    for version in range(200, 300):
        state.apply(parse_reginfo_untrusted(document(version, "partial", contact(f"c{version}"))))
    assert max(len(record.contacts) for record in state.records) == 32


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_one_error_type(junk: bytes, position: int, byte: int):
    good = bytearray(document(1, "full", contact("a")))
    good[position % len(good)] = byte
    for xml in (junk, bytes(good)):
        with contextlib.suppress(SipParseError):
            parse_reginfo_untrusted(xml)
