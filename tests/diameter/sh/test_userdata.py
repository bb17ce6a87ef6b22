"""Sh-Data XML: what real HSSes send, what we write, what we refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.sh.userdata import (
    MAX_DEPTH,
    MAX_USER_DATA_BYTES,
    RepositoryData,
    ShData,
    parse_sh_data_untrusted,
    write_repository_data,
    write_sh_data,
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
    assert data.public_identities == ("sip:bob@example.net", "tel:+15550100", "sip:bobby@example.net")
    assert data.alias_identities == ("sip:bob@example.net", "sip:bobby@example.net")
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
    assert data == ShData(public_identities=("sip:1@x", "tel:+1"), scscf_name="sip:s")


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
ITEMS = st.builds(
    RepositoryData,
    TEXT.map(str.encode),
    st.integers(0, 65535),
    st.none() | st.builds(lambda text: b"<d>%b</d>" % text.encode(), st.text("abc äé", min_size=1, max_size=9)),
)
DATA = st.builds(
    ShData,
    msisdns=st.lists(st.text("0123456789", min_size=1, max_size=9), unique=True, max_size=2).map(tuple),
    deleted_identities=st.lists(TEXT, max_size=2).map(tuple),
    repository=st.lists(ITEMS, max_size=3).map(tuple),
    scscf_name=st.none() | TEXT,
    ifcs=st.none() | st.just(b"<IFCs><InitialFilterCriteria/></IFCs>"),
    user_state=st.none() | st.integers(0, 3),
    psi_activation=st.none() | st.integers(0, 1),
    dsai=st.lists(st.tuples(TEXT, st.integers(0, 1)), max_size=2).map(tuple),
)


@given(DATA)
def test_what_we_write_we_read(data: ShData) -> None:
    read = parse_sh_data_untrusted(write_sh_data(data))
    for name in (
        "msisdns",
        "deleted_identities",
        "repository",
        "scscf_name",
        "ifcs",
        "user_state",
        "psi_activation",
        "dsai",
    ):
        assert getattr(read, name) == getattr(data, name)


def test_order_is_that_of_the_schema() -> None:
    xml = write_sh_data(parse_sh_data_untrusted(COMBINED)).decode()
    names = ["PublicIdentifiers", "RepositoryData", "Sh-IMS-Data", "SCSCFName", "IFCs", "IMSUserState"]
    names += ["ChargingInformation", "PSIActivation", "DSAI", "AliasIdentities", "DeletedIdentities"]
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
        ShData(scscf_name="a\x00b"),
    ],
)
def test_wrong_values_of_our_own_are_refused(data: ShData) -> None:
    with pytest.raises(LocalDiameterError):
        write_sh_data(data)
