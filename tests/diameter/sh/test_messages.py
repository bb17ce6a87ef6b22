"""Typed Sh messages: round trips, the notation, pycrate's view of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrate_diameter.Diameter3GPP import Diameter3GPP

from diameter.avp import Avp, Avps
from diameter.dictionary import base
from diameter.dictionary.sh import SH
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.message import Message, Result, decode_message_untrusted
from diameter.sh import messages
from diameter.sh.messages import (
    CallReferenceInfo,
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationAnswer,
    PushNotificationRequest,
    RepositoryDataId,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)

IDENTITIES = st.one_of(
    st.builds(UserIdentity, public_identity=st.sampled_from(["sip:bob@example.net", "tel:+15550100"])),
    st.builds(UserIdentity, msisdn=st.text("0123456789", min_size=1, max_size=15)),
    st.builds(UserIdentity, external_identifier=st.just("bob@example.net")),
)
HEAD: dict[str, Any] = {
    "session_id": st.just("as;1;2"),
    "origin_host": st.just("as.example.net"),
    "origin_realm": st.just("example.net"),
}
ASK: dict[str, Any] = HEAD | {
    "destination_realm": st.just("example.net"),
    "destination_host": st.none() | st.just("hss.example.net"),
    "user_identity": IDENTITIES,
    "supported_features": st.lists(st.builds(SupportedFeatures, st.integers(0, 15)), max_size=1),
    "wildcarded_public_identity": st.none() | st.just("sip:room-!.*!@example.net"),
    "wildcarded_impu": st.none() | st.just("sip:pbx-!.*!@example.net"),
    "user_name": st.none() | st.just("bob@example.net"),
}
NUMBER = st.none() | st.integers(0, 1)
REFERENCES = st.lists(st.integers(0, 35), min_size=1, max_size=4)
REQUESTS = st.one_of(
    st.builds(
        UserDataRequest,
        **ASK,
        server_name=st.none() | st.just("sip:as.example.net"),
        service_indications=st.lists(st.binary(min_size=1, max_size=8), max_size=2),
        data_references=REFERENCES,
        identity_sets=st.lists(st.integers(0, 3), max_size=2),
        requested_domain=NUMBER,
        current_location=NUMBER,
        dsai_tags=st.lists(st.binary(min_size=1, max_size=8), max_size=2),
        session_priority=st.none() | st.integers(0, 4),
        requested_nodes=st.none() | st.integers(0, 15),
        serving_node_indication=st.none() | st.just(0),
        pre_paging_supported=NUMBER,
        local_time_zone_indication=NUMBER,
        udr_flags=st.none() | st.integers(0, 3),
        call_reference_info=st.none() | st.builds(CallReferenceInfo, st.binary(min_size=1), st.binary(min_size=1)),
    ),
    st.builds(ProfileUpdateRequest, **ASK, data_references=REFERENCES, user_data=st.binary(max_size=50)),
    st.builds(
        SubscribeNotificationsRequest,
        **ASK,
        data_references=REFERENCES,
        subs_req_type=st.integers(0, 1),
        service_indications=st.lists(st.binary(min_size=1, max_size=8), max_size=2),
        dsai_tags=st.lists(st.binary(min_size=1, max_size=8), max_size=2),
        one_time_notification=st.none() | st.just(0),
        send_data_indication=st.none() | st.integers(0, 1),
        expiry_time=st.none() | st.integers(1_700_000_000, 1_900_000_000),
    ),
    st.builds(
        PushNotificationRequest,
        **ASK | {"destination_host": st.just("as.example.net")},
        user_data=st.binary(max_size=50),
    ),
)
RESULTS = st.sampled_from([Result(2001), Result(5012), Result(5001, 10415), Result(4101, 10415)])
TOLD: dict[str, Any] = HEAD | {"result": RESULTS}
ANSWERS = st.one_of(
    st.builds(UserDataAnswer, **TOLD, user_data=st.none() | st.binary(max_size=40)),
    st.builds(
        ProfileUpdateAnswer,
        **TOLD,
        repository_data_id=st.none() | st.builds(RepositoryDataId, st.binary(min_size=1), st.integers(0, 65535)),
        data_reference=st.none() | st.integers(0, 35),
    ),
    st.builds(
        SubscribeNotificationsAnswer,
        **TOLD,
        user_data=st.none() | st.binary(max_size=40),
        expiry_time=st.none() | st.integers(1_700_000_000, 1_900_000_000),
    ),
    st.builds(PushNotificationAnswer, **TOLD),
)


def build_udr(**changes: Any) -> UserDataRequest:
    values: dict[str, Any] = {
        "session_id": "as;1;2",
        "origin_host": "as",
        "origin_realm": "r",
        "destination_realm": "r",
        "user_identity": UserIdentity("sip:bob@example.net"),
        "data_references": (0,),
    }
    return UserDataRequest(**values | changes)


@given(REQUESTS)
def test_requests_survive_the_wire(request: Any) -> None:
    message = decode_message_untrusted(request.to_message().encode())
    assert type(request).read_untrusted(message) == request
    assert message.avps[0].key == base.SESSION_ID.key
    decoder = Diameter3GPP()
    decoder.from_bytes(message.encode())
    assert decoder.to_bytes() == message.encode()


@given(ANSWERS)
def test_answers_survive_the_wire(answer: Any) -> None:
    request = build_udr().to_message().with_ids(hop_by_hop=3, end_to_end=4)
    message = decode_message_untrusted(answer.to_answer(request).encode())
    assert type(answer).read_untrusted(message) == answer
    has_result = message.avps.find(base.RESULT_CODE.key) is not None
    has_experimental = message.avps.find(base.EXPERIMENTAL_RESULT.key) is not None
    assert (has_result, has_experimental) == (answer.result.vendor == 0, answer.result.vendor != 0)


def test_m_bits_as_sent() -> None:
    message = build_udr(supported_features=[SupportedFeatures(1)], identity_sets=[2]).to_message()
    flags = {SH.avps_by_key[avp.key].name: avp.is_mandatory for avp in message.avps}
    assert flags["Supported-Features"] is False
    assert flags["Identity-Set"] is False
    assert flags["Data-Reference"] is True


def test_every_request_carries_what_sh_wants() -> None:
    message = build_udr().to_message()
    group = message.group(base.VENDOR_SPECIFIC_APPLICATION_ID)
    assert group == (base.VENDOR_ID.avp(10415), base.AUTH_APPLICATION_ID.avp(16777217))
    assert message.number(base.AUTH_SESSION_STATE) == 1
    assert message.flags == 0xC0


@pytest.mark.parametrize("identity", [UserIdentity(), UserIdentity("sip:a@b", "155"), UserIdentity(msisdn="+1")])
def test_exactly_one_identity_is_written(identity: UserIdentity) -> None:
    with pytest.raises(LocalDiameterError):
        build_udr(user_identity=identity).to_message()


def without(message: Message, name: str) -> Message:
    key = SH[name].key
    return Message(message.code, message.application_id, message.flags, Avps(a for a in message.avps if a.key != key))


@pytest.mark.parametrize("name", ["User-Identity", "Data-Reference", "Origin-Host", "Session-Id"])
def test_missing_avps_are_refused(name: str) -> None:
    with pytest.raises(RemoteDiameterError) as caught:
        UserDataRequest.read_untrusted(without(build_udr().to_message(), name))
    assert caught.value.result_code == 5005
    assert caught.value.failed_avp is not None
    assert caught.value.failed_avp.key == SH[name].key


def test_empty_identity_is_refused() -> None:
    message = without(build_udr().to_message(), "User-Identity")
    message = Message(
        message.code, message.application_id, message.flags, Avps((*message.avps, SH["User-Identity"].avp([])))
    )
    with pytest.raises(RemoteDiameterError):
        UserDataRequest.read_untrusted(message)


def test_answer_in_any_order_with_unknown_mandatory_avps_is_read() -> None:
    avps = Avps(
        [
            base.SESSION_ID.avp("s"),
            Avp(9999, b"x", 10415, 0x40),
            SH["User-Data"].avp(b"<Sh-Data/>"),
            base.RESULT_CODE.avp(2001),
        ]
    )
    answer = UserDataAnswer.read_untrusted(Message(306, 16777217, 0x40, avps))
    assert answer.user_data == b"<Sh-Data/>"
    assert answer.result.is_success


def test_answer_without_result_is_refused() -> None:
    with pytest.raises(RemoteDiameterError):
        UserDataAnswer.read_untrusted(Message(306, 16777217, 0x40, Avps()))


def test_features_of_an_answer() -> None:
    answer = UserDataAnswer(supported_features=[SupportedFeatures(8, 2), SupportedFeatures(3)])
    assert answer.features == 3
    assert UserDataAnswer().features == 0


def test_avps_are_written_in_the_order_of_the_fields_whatever_is_remembered() -> None:
    def build(number: int, references: tuple[int, ...], *features: SupportedFeatures) -> list[tuple[str, Any]]:
        message = UserDataRequest(
            session_id=f"as;1;{number}",
            origin_host="as",
            origin_realm="realm",
            destination_realm="realm",
            supported_features=features,
            user_identity=UserIdentity(f"sip:{number}@realm"),
            wildcarded_impu=f"sip:!{number}!",
            server_name="sip:as",
            service_indications=(b"one", b"two"),
            data_references=references,
            dsai_tags=(b"tag",),
            session_priority=1,
            user_name=f"{number}@realm",
            udr_flags=1,
        ).to_message()
        names = {each.key: each for each in SH.avps_by_name.values()}
        return [(names[avp.key].name, names[avp.key].value(avp)) for avp in message.avps[3:]]

    for number, references in ((1, (0, 13)), (2, (13, 0)), (1, (0,)), (1, (0, 13))):
        identity = Avps([SH["Public-Identity"].avp(f"sip:{number}@realm")])
        assert build(number, references) == [
            ("Origin-Host", "as"),
            ("Origin-Realm", "realm"),
            ("Destination-Realm", "realm"),
            ("User-Identity", identity),
            ("Wildcarded-IMPU", f"sip:!{number}!"),
            ("Server-Name", "sip:as"),
            ("Service-Indication", b"one"),
            ("Service-Indication", b"two"),
            *(("Data-Reference", each) for each in references),
            ("DSAI-Tag", b"tag"),
            ("Session-Priority", 1),
            ("User-Name", f"{number}@realm"),
            ("UDR-Flags", 1),
        ]
    assert [name for name, _ in build(1, (0, 13), SupportedFeatures(1))[3:5]] == ["Supported-Features", "User-Identity"]


def test_condition_and_offer_of_a_feature_are_not_mixed_up() -> None:
    for is_required in (False, True, False):
        request = ProfileUpdateRequest(
            user_identity=UserIdentity("sip:bob"), supported_features=(SupportedFeatures(2, is_required=is_required),)
        )
        (avp,) = request.to_message().avps.find_all(SH["Supported-Features"].key)
        assert avp.is_mandatory is is_required


def test_what_is_remembered_is_bounded() -> None:
    for number in range(2 * messages._MAX_KNOWN):
        item = b"item %d" % number
        request = UserDataRequest(user_identity=UserIdentity("sip:bob"), service_indications=(item,))
        assert request.to_message().octets(SH["Service-Indication"]) == item
        assert len(messages._slots(UserDataRequest).known) <= messages._MAX_KNOWN


def test_values_read_before_are_bounded_and_not_mixed_up() -> None:
    slots = messages._slots(PushNotificationRequest)
    for number in range(2 * messages._MAX_KNOWN):
        sent = PushNotificationRequest(
            session_id=f"hss;1;{number}",
            origin_host=f"hss{number}",
            origin_realm="x" * (number % 3 * 200 + 1),
            destination_realm="realm",
            destination_host="as",
            user_identity=UserIdentity(f"sip:{number}@realm"),
            user_data=b"<Sh-Data/>",
        )
        for _ in range(2):
            assert PushNotificationRequest.read_untrusted(sent.to_message()) == sent
    for slot in slots.by_key.values():
        assert len(slot.read_before) <= messages._MAX_KNOWN
        assert all(len(data) <= messages._MAX_KNOWN_BYTES for data in slot.read_before)
        assert slot.is_steady or not slot.read_before
