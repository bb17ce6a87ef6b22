"""Sh-Data XML: what real HSSes send, what we write, what we refuse."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diameter.dictionary.sh import DataReference
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.sh.sh_data import FIELDS_OF
from diameter.sh.userdata import (
    MAX_DEPTH,
    MAX_USER_DATA_BYTES,
    Location,
    ReferenceLocation,
    RepositoryData,
    ShData,
    SmsRegistration,
    TadsInformation,
    find_deviations_untrusted,
    join_sh_data,
    parse_sh_data_untrusted,
    write_repository_data,
    write_sh_data,
)

IFCS = (
    b"<IFCs><InitialFilterCriteria><Priority>0</Priority><ApplicationServer><ServerName>sip:as</ServerName>"
    b"<DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria></IFCs>"
)
AGENT = b'<AgentProfile xmlns="urn:example:agent:1"><Enabled>true</Enabled></AgentProfile>'
COMBINED = (
    b"""<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment --><Sh-Data>
  <PublicIdentifiers>
    <IMSPublicIdentity>sip:bob@example.net</IMSPublicIdentity><IMSPublicIdentity>tel:+15550100</IMSPublicIdentity>
    <MSISDN>15550100</MSISDN><Extension><IdentityType>0</IdentityType></Extension>
  </PublicIdentifiers>
  <RepositoryData><ServiceIndication>agent</ServiceIndication><SequenceNumber>3</SequenceNumber>
    <ServiceData>%b</ServiceData></RepositoryData>
  <Sh-IMS-Data><SCSCFName> sip:scscf.example.net:6060 </SCSCFName>
    <IFCs><InitialFilterCriteria><Priority>0</Priority></InitialFilterCriteria></IFCs>
    <IMSUserState>1</IMSUserState>
    <ChargingInformation>
      <PrimaryChargingCollectionFunctionName>aaa://cdf:3868</PrimaryChargingCollectionFunctionName>
    </ChargingInformation>
    <Extension><PSIActivation>1</PSIActivation><Extension>
      <DSAI><DSAI-Tag>agent</DSAI-Tag><DSAI-Value>1</DSAI-Value></DSAI></Extension></Extension>
  </Sh-IMS-Data>
  <Extension><ImplicitIdentities><IMSPublicIdentity>sip:bob@example.net</IMSPublicIdentity>
    <IMSPublicIdentity>sip:bobby@example.net</IMSPublicIdentity></ImplicitIdentities>
    <Extension><DeletedIdentities><IMSPublicIdentity>sip:old@example.net</IMSPublicIdentity></DeletedIdentities>
    </Extension></Extension>
</Sh-Data>"""
    % AGENT
)


def test_combined_answer() -> None:
    data = parse_sh_data_untrusted(COMBINED)
    assert data.public_identities == ("sip:bob@example.net", "tel:+15550100")
    assert data.implicit_identities == ("sip:bob@example.net", "sip:bobby@example.net")
    assert data.identities == ("sip:bob@example.net", "tel:+15550100", "sip:bobby@example.net")
    assert data.identity_type == 0
    assert data.deleted_identities == ("sip:old@example.net",)
    assert data.msisdns == ("15550100",)
    assert data.repository == (RepositoryData(b"agent", 3, AGENT),)
    assert data.scscf_name == "sip:scscf.example.net:6060"
    assert data.ifcs == b"<IFCs><InitialFilterCriteria><Priority>0</Priority></InitialFilterCriteria></IFCs>"
    assert data.user_state == 1
    assert data.charging == (("PrimaryChargingCollectionFunctionName", "aaa://cdf:3868"),)
    assert (data.psi_activation, data.dsai) == (1, (("agent", 1),))


def test_document_of_a_poor_hss() -> None:
    data = parse_sh_data_untrusted(
        b"<Sh-Data><PublicIdentifiers><IMSPrivateUserIdentity>1@x</IMSPrivateUserIdentity>"
        b"<IMSPublicIdentity>sip:1@x</IMSPublicIdentity></PublicIdentifiers><Sh-IMS-Data>"
        b"<S-CSCFName>sip:s</S-CSCFName><IMSUserState>never</IMSUserState>"
        b"<InboundCommunicationBarred>x</InboundCommunicationBarred></Sh-IMS-Data>"
        b"<Sh-Data-Extension><RegisteredIdentites><IMSPublicIdentity>tel:+1</IMSPublicIdentity>"
        b"</RegisteredIdentites></Sh-Data-Extension></Sh-Data>"
    )
    assert data == ShData(
        public_identities=("sip:1@x",),
        registered_identities=("tel:+1",),
        private_identities=("1@x",),
        scscf_name="sip:s",
    )


@pytest.mark.parametrize(
    ("inner", "service_data"),
    [
        (b"<ServiceData><a>1</a></ServiceData>", b"<a>1</a>"),
        (b"<ServiceData>plain &amp; text</ServiceData>", b"plain & text"),
        (b"<ServiceData/>", None),
        (b"", None),
    ],
)
def test_forms_of_service_data(inner: bytes, service_data: bytes | None) -> None:
    xml = (
        b"<Sh-Data><RepositoryData><ServiceIndication>a</ServiceIndication><SequenceNumber>9</SequenceNumber>%b" % inner
    )
    data = parse_sh_data_untrusted(xml + b"</RepositoryData></Sh-Data>")
    assert data.find_repository(b"a") == RepositoryData(b"a", 9, service_data)
    assert data.find_repository(b"b") is None


def test_namespaces_of_service_data_are_kept() -> None:
    xml = (
        b'<Sh-Data xmlns:p="urn:p"><RepositoryData><ServiceIndication>a</ServiceIndication>'
        b"<SequenceNumber>0</SequenceNumber><ServiceData><p:x/></ServiceData></RepositoryData></Sh-Data>"
    )
    item = parse_sh_data_untrusted(xml).repository[0]
    assert item.service_data == b'<p:x xmlns:p="urn:p"/>'


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"no xml",
        b"<Sh-Data>",
        b"<IMSSubscription/>",
        b'<!DOCTYPE Sh-Data [<!ENTITY a "b">]><Sh-Data/>',
        b'<!DOCTYPE Sh-Data SYSTEM "file:///etc/passwd"><Sh-Data/>',
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Sh-Data>&b;</Sh-Data>',
        b"<Sh-Data>&undefined;</Sh-Data>",
        b"<Sh-Data>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</Sh-Data>",
        b"<Sh-Data>" + b"<a/>" * 25_000 + b"</Sh-Data>",
        b"<Sh-Data>" + b" " * MAX_USER_DATA_BYTES + b"</Sh-Data>",
        b"\xff\xfe<Sh-Data/>",
        b'<?xml version="1.0" encoding="nonsense"?><Sh-Data/>',
    ],
)
def test_hostile_documents_are_refused(xml: bytes) -> None:
    with pytest.raises(RemoteDiameterError) as caught:
        parse_sh_data_untrusted(xml)
    assert caught.value.result_code == 5100


@given(st.data())
def test_mutated_documents_give_data_or_the_one_error(data: st.DataObject) -> None:
    xml = bytearray(COMBINED)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(xml) - 1))
        xml[position : position + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=6))
    try:
        parse_sh_data_untrusted(bytes(xml))
    except RemoteDiameterError:
        return


TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20)
URIS = st.text("abcdefghij.0123456789", min_size=1, max_size=12).map(lambda text: f"sip:{text}@example.net")
DIGITS = st.text("0123456789", min_size=1, max_size=9)


def few(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, unique=True, max_size=2).map(tuple)


ITEMS = st.builds(
    RepositoryData,
    TEXT.map(str.encode),
    st.integers(0, 65535),
    st.none() | st.builds(lambda text: b"<d>%b</d>" % text.encode(), st.text("abc äé", min_size=1, max_size=9)),
)
LOCATIONS = (
    Location(
        "CSLocationInformation",
        b"<CSLocationInformation><CellGlobalId>AAECAwQFBgcI</CellGlobalId><VLRNumber><Address>491700</Address>"
        b"</VLRNumber><AgeOfLocationInformation>7</AgeOfLocationInformation></CSLocationInformation>",
        (("CellGlobalId", "AAECAwQFBgcI"), ("Address", "491700"), ("AgeOfLocationInformation", "7")),
    ),
    Location("PSLocationInformation", b"<PSLocationInformation/>"),
    Location(
        "EPSLocationInformation",
        b"<EPSLocationInformation><MMEName>mme</MMEName><Extension><VisitedPLMNID>00101</VisitedPLMNID></Extension>"
        b"</EPSLocationInformation>",
        (("MMEName", "mme"), ("VisitedPLMNID", "00101")),
    ),
    Location(
        "TWANLocationInformation",
        b"<TWANLocationInformation><TWAN-SSID>cafe</TWAN-SSID></TWANLocationInformation>",
        (("TWAN-SSID", "cafe"),),
    ),
    Location(
        "Sh-5GSLocationInformation",
        b"<Sh-5GSLocationInformation><NRCellGlobalId>AAECAwQFBgcICQ</NRCellGlobalId></Sh-5GSLocationInformation>",
        (("NRCellGlobalId", "AAECAwQFBgcICQ"),),
    ),
)
REACHABILITY = ("UEIPReachabilityMME", "UEIPReachabilitySGSN", "UEIPReachabilityAMF3GPP", "UEIPReachabilityAMFnon3GPP")
CHARGING = (
    ("PrimaryEventChargingFunctionName", "aaa://ocs:3868"),
    ("PrimaryChargingCollectionFunctionName", "aaa://cdf:3868"),
    ("SecondaryChargingCollectionFunctionName", "aaa://cdf2:3868"),
)


def some_of(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """A part of them, in their order."""
    return st.sets(st.sampled_from(values)).map(lambda chosen: tuple(each for each in values if each in chosen))


FLAG = st.none() | st.integers(0, 1)
DATA = st.builds(
    ShData,
    public_identities=few(URIS),
    registered_identities=few(URIS),
    implicit_identities=few(URIS),
    all_identities=few(URIS),
    alias_identities=few(URIS),
    deleted_identities=few(URIS),
    msisdns=few(DIGITS),
    extended_msisdns=few(st.tuples(DIGITS, st.integers(0, 1))),
    identity_type=st.none() | st.integers(0, 3),
    enhanced_identities=few(st.tuples(URIS, st.integers(0, 3))),
    wildcarded_psi=st.none() | st.just("sip:room-!.*!@example.net"),
    wildcarded_impu=st.none() | st.just("sip:pbx-!.*!@example.net"),
    repository=st.lists(ITEMS, max_size=3).map(tuple),
    scscf_name=st.none() | URIS | st.just(""),
    ifcs=st.none() | st.sampled_from([b"<IFCs/>", IFCS]),
    user_state=st.none() | st.integers(0, 3),
    charging=st.sampled_from([(), CHARGING, CHARGING[:1], CHARGING[1:]]),
    psi_activation=FLAG,
    dsai=st.lists(st.tuples(TEXT, st.integers(0, 1)), max_size=2).map(tuple),
    trace_info=st.none() | TEXT,
    ipv4_address=st.none() | st.just("192.0.2.7"),
    ipv6_prefix=st.none() | st.just("2001:db8::/64"),
    ipv6_interface_id=st.none() | st.just("::1"),
    service_priority=st.none() | st.integers(0, 4),
    ue_reachability=some_of(REACHABILITY),
    sms_registration=st.none() | st.builds(SmsRegistration, DIGITS, st.none() | DIGITS),
    stn_sr=st.none() | DIGITS,
    ue_srvcc=FLAG,
    extended_priorities=few(st.tuples(TEXT, TEXT)),
    csrn=st.none() | DIGITS,
    reference_locations=few(st.builds(ReferenceLocation, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT)),
    mtrr=st.none() | st.booleans(),
    ue_5g_srvcc=FLAG,
    cs_user_state=st.none() | st.integers(0, 3),
    ps_user_state=st.none() | st.integers(0, 6),
    eps_user_state=st.none() | st.integers(0, 6),
    fivegs_user_state=st.none() | st.integers(0, 6),
    locations=some_of(LOCATIONS),
    tads=st.none()
    | st.builds(
        TadsInformation,
        st.integers(0, 2),
        st.none() | st.integers(0, 2000),
        st.none() | st.just("2026-01-02T03:04:05Z"),
        FLAG,
    ),
    imsi=st.none() | DIGITS,
    imeisv=st.none() | DIGITS,
    private_identities=few(TEXT),
)


@given(DATA)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_we_write_we_read_and_the_schema_takes(data: ShData) -> None:
    xml = write_sh_data(data)
    assert find_deviations_untrusted(xml) == ()
    read = parse_sh_data_untrusted(xml)
    in_any_order = {"locations"}
    for name, value in attrs.asdict(data, recurse=False).items():
        if name in in_any_order:
            assert sorted(getattr(read, name), key=repr) == sorted(value, key=repr)
        else:
            assert getattr(read, name) == value, name


@given(DATA, st.sets(st.sampled_from(list(DataReference)), min_size=1))
def test_selection_keeps_what_was_asked_for(data: ShData, references: set[DataReference]) -> None:
    chosen = data.select(references)
    for reference in references:
        assert chosen.has(reference) == data.has(reference)
        assert chosen.select([reference]) == data.select([reference])
    shown = {name for reference in references for name in FIELDS_OF[reference]}
    for name, value in attrs.asdict(chosen, recurse=False).items():
        assert value == (getattr(data, name) if name in shown else getattr(ShData(), name))


def test_selection_of_items_and_tags() -> None:
    items = (RepositoryData(b"a", 1, b"<x/>"), RepositoryData(b"b", 2, b"<y/>"))
    data = ShData(repository=items, dsai=(("t", 0), ("u", 1)))
    references = [DataReference.REPOSITORY_DATA, DataReference.DSAI]
    assert data.select(references, service_indications=[b"b"], dsai_tags=[b"u"]) == ShData(
        repository=items[1:], dsai=(("u", 1),)
    )
    assert data.select(references) == data


@given(DATA, DATA)
def test_joining_takes_the_newer_value(first: ShData, second: ShData) -> None:
    joined = join_sh_data(first, second)
    empty = ShData()
    for name in attrs.asdict(joined, recurse=False):
        newer = getattr(second, name)
        assert getattr(joined, name) == (newer if newer != getattr(empty, name) else getattr(first, name))


def test_every_reference_has_its_fields() -> None:
    assert set(FIELDS_OF) == set(DataReference)
    names = {name for fields in FIELDS_OF.values() for name in fields}
    assert names == {attribute.name for attribute in attrs.fields(ShData)}


def test_deviations_are_named_with_their_line() -> None:
    xml = b"<Sh-Data>\n<Sh-IMS-Data>\n<S-CSCFName>sip:s</S-CSCFName>\n</Sh-IMS-Data></Sh-Data>"
    found = find_deviations_untrusted(xml)
    assert len(found) == 1
    assert found[0].startswith("line 3: ")
    assert "S-CSCFName" in found[0]
    wrong_place = b"<Sh-Data><Extension><CSUserState>0</CSUserState></Extension></Sh-Data>"
    assert find_deviations_untrusted(wrong_place)
    assert parse_sh_data_untrusted(wrong_place).cs_user_state == 0
    with pytest.raises(RemoteDiameterError):
        find_deviations_untrusted(b"<Sh-Data>")


def test_deviations_are_few_and_printable() -> None:
    xml = ("<Sh-Data>" + "<Sh-IMS-Data><IMSUserState>\u202e</IMSUserState></Sh-IMS-Data>" * 50 + "</Sh-Data>").encode()
    found = find_deviations_untrusted(xml)
    assert 0 < len(found) <= 10
    assert all(text.isprintable() and len(text) < 250 for text in found)


def test_location_tells_its_values() -> None:
    location = parse_sh_data_untrusted(write_sh_data(ShData(locations=LOCATIONS))).find_location(
        "EPSLocationInformation"
    )
    assert location is not None
    assert location.value("VisitedPLMNID") == "00101"
    assert location.value("VLRNumber") is None


def test_order_is_that_of_the_schema() -> None:
    xml = write_sh_data(parse_sh_data_untrusted(COMBINED)).decode()
    names = ["PublicIdentifiers", "RepositoryData", "Sh-IMS-Data", "SCSCFName", "IFCs", "IMSUserState"]
    names += ["ChargingInformation", "PSIActivation", "DSAI", "ImplicitIdentities", "DeletedIdentities"]
    positions = [xml.index(f"<{name}>") for name in names]
    assert positions == sorted(positions)


def test_deletion_has_no_service_data() -> None:
    xml = write_repository_data(b"agent", 5, None)
    assert b"ServiceData" not in xml
    assert parse_sh_data_untrusted(xml).repository == (RepositoryData(b"agent", 5, None),)


@pytest.mark.parametrize(
    "data",
    [
        ShData(repository=(RepositoryData(b"a", 65536, None),)),
        ShData(repository=(RepositoryData(b"a", -1, None),)),
        ShData(repository=(RepositoryData(b"a", 0, b"<a/><b/>"),)),
        ShData(repository=(RepositoryData(b"a", 0, b"text"),)),
        ShData(repository=(RepositoryData(b"\xff", 0, None),)),
        ShData(repository=(RepositoryData(b"a", 0, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),)),
        ShData(ifcs=b"<IFC/>"),
        ShData(user_state=4),
        ShData(charging=(("SecondaryEventChargingFunctionName", "aaa://x"),)),
        ShData(charging=(("ChargingFunctionName", "aaa://x"),)),
        ShData(ue_reachability=("UEIPReachabilityOther",)),
        ShData(locations=(Location("PSLocationInformation", b"<CSLocationInformation/>"),)),
        ShData(locations=(Location("HomeLocation", b"<HomeLocation/>"),)),
        ShData(locations=(Location("PSLocationInformation", b"<PSLocationInformation/>"),) * 2),
        ShData(tads=TadsInformation(3)),
        ShData(scscf_name="a\x00b"),
    ],
)
def test_wrong_values_of_our_own_are_refused(data: ShData) -> None:
    with pytest.raises(LocalDiameterError):
        write_sh_data(data)
