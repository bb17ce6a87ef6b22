from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.model import RegistrationType, SessionCase
from ims_as.ifc_tool.reading import (
    IfcToolError,
    asks_for_session_case,
    read_document_untrusted,
    read_request_untrusted,
)
from tests.ims_as.ifc_tool.documents import INVITE, criterion, ifcs, message


def test_session_case_comes_from_p_served_user_or_the_caller():
    assert read_request_untrusted(message("01")).session_case is SessionCase.TERMINATING_REGISTERED
    assert read_request_untrusted(message("03")).session_case is SessionCase.TERMINATING_UNREGISTERED
    assert read_request_untrusted(message("04")).session_case is SessionCase.ORIGINATING_REGISTERED
    given_case = read_request_untrusted(message("01"), session_case=SessionCase.ORIGINATING_CDIV)
    assert (given_case.session_case, given_case.source) == (SessionCase.ORIGINATING_CDIV, "given")
    unknown = read_request_untrusted(message("07"))
    assert (unknown.session_case, unknown.source) == (None, "unknown")


def test_register_has_a_type_and_is_originating():
    first, last = read_request_untrusted(message("09")), read_request_untrusted(message("10"))
    assert first.view.registration_type is RegistrationType.INITIAL_REGISTRATION
    assert last.view.registration_type is RegistrationType.DE_REGISTRATION
    assert first.session_case is SessionCase.ORIGINATING_REGISTERED
    again = read_request_untrusted(message("09"), registration_type=RegistrationType.RE_REGISTRATION)
    assert again.view.registration_type is RegistrationType.RE_REGISTRATION
    assert read_request_untrusted(message("01")).view.registration_type is None


def test_a_file_saved_by_an_editor_reads_the_same():
    wire = read_request_untrusted(message("01")).view
    edited = read_request_untrusted(b"\n" + message("01").replace(b"\r\n", b"\n")).view
    assert list(edited.sdp_lines()) == list(wire.sdp_lines())
    assert len(wire.sdp_lines()) == 13
    names = [name for name, _ in edited.headers()]
    assert names == [name for name, _ in wire.headers() if name != "content-length"]


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: message("01")[:-150] + tail))
@settings(max_examples=100)
def test_reading_a_request_raises_one_error(data: bytes):
    with suppress(IfcToolError):
        read_request_untrusted(data)


def test_a_response_is_refused():
    with pytest.raises(IfcToolError, match="response"):
        read_request_untrusted(message("17"))


def test_the_profile_of_the_served_user_counts():
    def profile(impu: str, server: str) -> str:
        identity = f"<PublicIdentity><Identity>{impu}</Identity></PublicIdentity>"
        return f"<ServiceProfile>{identity}{criterion(INVITE, server=server)}</ServiceProfile>"

    profiles = profile("sip:a@x", "sip:one") + profile("sip:b@x", "sip:two")
    xml = f"<IMSSubscription><PrivateID>p@x</PrivateID>{profiles}</IMSSubscription>"
    document = read_document_untrusted(xml.encode())
    (found,) = document.criteria_of("sip:b@x")
    assert found.application_server.server_name == "sip:two"
    assert len(document.criteria) == 2
    for user in (None, "sip:c@x"):
        with pytest.raises(IfcToolError, match="--user"):
            document.criteria_of(user)


def test_one_profile_counts_for_everybody():
    assert len(read_document_untrusted(ifcs(criterion(INVITE))).criteria_of(None)) == 1
    # no PrivateID: no subscription by the schema, but its criteria can be read
    bare = f"<IMSSubscription><ServiceProfile>{criterion(INVITE)}</ServiceProfile></IMSSubscription>"
    assert len(read_document_untrusted(bare.encode()).criteria_of("sip:a@x")) == 1


def test_only_some_criteria_ask_for_the_session_case():
    plain, by_case = criterion(INVITE), criterion(INVITE, "<SessionCase>1</SessionCase>", priority=2)
    by_part = criterion().replace(
        "</ApplicationServer>", "</ApplicationServer><ProfilePartIndicator>0</ProfilePartIndicator>"
    )
    for xml, asks in ((plain, False), (by_case, True), (by_part, True)):
        assert asks_for_session_case(read_document_untrusted(ifcs(xml)).criteria) is asks
