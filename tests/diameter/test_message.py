"""Messages: header, results, answers; and pycrate's decoder as a second opinion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrate_diameter.Diameter import DiameterGeneric
from pycrate_diameter.Diameter3GPP import Diameter3GPP

from diameter.avp import Avp, Avps
from diameter.base_commands import BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import BASE
from diameter.dictionary.sh import SH
from diameter.errors import FramingError, RemoteDiameterError
from diameter.message import Message, Result, decode_message_untrusted, mark_retransmitted
from diameter.sh.messages import UserDataRequest, UserIdentity
from tests.diameter.test_avp import AVPS

DWR = bytes.fromhex(
    "01000040 80000118 00000000 00000001 00000002"
    "00000108 40000016 61732e6578616d706c652e6e6574 0000"
    "00000128 40000013 6578616d706c652e6e6574 00"
)

MESSAGES = st.builds(
    Message,
    code=st.integers(0, 2**24 - 1),
    application_id=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([0x80, 0xC0, 0x90, 0xD0, 0x00, 0x40, 0x20, 0x60]),
    avps=st.lists(AVPS, max_size=6).map(Avps),
    hop_by_hop=st.integers(0, 2**32 - 1),
    end_to_end=st.integers(0, 2**32 - 1),
)


def build_udr() -> Message:
    return UserDataRequest(
        session_id="as;1;2",
        origin_host="as.example.net",
        origin_realm="example.net",
        destination_realm="example.net",
        user_identity=UserIdentity("sip:bob@example.net"),
        service_indications=[b"ai"],
        data_references=[0],
    ).to_message()


def test_device_watchdog_vector() -> None:
    message = BASE.command("DWR").message(
        [base.ORIGIN_HOST.avp("as.example.net"), base.ORIGIN_REALM.avp("example.net")]
    )
    message = message.with_ids(hop_by_hop=1, end_to_end=2)
    assert message.encode() == DWR
    assert decode_message_untrusted(DWR) == message


@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    assert decode_message_untrusted(message.encode()) == message


@given(MESSAGES)
def test_pycrate_reads_what_we_write(message: Message) -> None:
    theirs = DiameterGeneric()
    theirs.from_bytes(message.encode())
    header = theirs[0].get_val_d()
    assert (header["Cmd"], header["AppID"], header["HHID"], header["EEID"]) == (
        message.code,
        message.application_id,
        message.hop_by_hop,
        message.end_to_end,
    )
    assert [bool(header[bit]) for bit in "RPET"] == [bool(message.flags & bit) for bit in (0x80, 0x40, 0x20, 0x10)]
    read = [(avp[0][0].get_val(), avp[1].get_val()) for avp in theirs[1]]
    assert read == [(avp.code, avp.data) for avp in message.avps]


def test_pycrate_knows_every_avp_of_a_pull() -> None:
    theirs = Diameter3GPP()
    theirs.from_bytes(build_udr().encode())
    names = [avp[0][0]._dic[avp[0][0].get_val()] for avp in theirs[1]]
    assert names == [SH.avps_by_key[avp.key].name for avp in build_udr().avps]


@given(st.data())
def test_mutated_bytes_give_a_message_or_the_one_error(data: st.DataObject) -> None:
    wire = bytearray(build_udr().encode())
    for _ in range(data.draw(st.integers(1, 8))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    caught: RemoteDiameterError | None = None
    try:
        message = decode_message_untrusted(bytes(wire))
        UserDataRequest.read_untrusted(message)
        message.result()
        message.text(base.SESSION_ID)
    except RemoteDiameterError as error:
        caught = error
    assert caught is None or caught.result_code


@given(st.binary(max_size=120))
def test_garbage_gives_the_one_error(data: bytes) -> None:
    with pytest.raises(RemoteDiameterError):
        decode_message_untrusted(data)


@pytest.mark.parametrize("wire", [DWR[:-4], DWR + bytes(4), b"\x02" + DWR[1:], DWR[:19], b""])
def test_frame_that_is_not_one_message(wire: bytes) -> None:
    with pytest.raises(FramingError):
        decode_message_untrusted(wire)


def test_error_bit_in_a_request_can_be_answered() -> None:
    wire = DWR[:4] + b"\xa0" + DWR[5:]
    with pytest.raises(RemoteDiameterError) as caught:
        decode_message_untrusted(wire)
    assert caught.value.result_code == 3008
    request = caught.value.request
    assert request is not None
    assert (request.hop_by_hop, request.end_to_end, request.is_error) == (1, 2, False)


def test_bad_avp_in_a_request_can_be_answered() -> None:
    wire = bytearray(DWR)
    wire[27] = 7
    with pytest.raises(RemoteDiameterError) as caught:
        decode_message_untrusted(bytes(wire))
    assert caught.value.result_code == 5014
    assert caught.value.request is not None
    answer = BaseCommands("as", "realm", "p", 0, 1, ()).error_answer(caught.value.request, caught.value)
    failed = answer.group(base.FAILED_AVP)
    assert failed is not None
    assert failed[0].key == base.ORIGIN_HOST.key


def test_answer_keeps_session_identifiers_and_proxy_info() -> None:
    proxies = [
        BASE["Proxy-Info"].avp([BASE["Proxy-Host"].avp(host), BASE["Proxy-State"].avp(b"s")]) for host in ("b", "a")
    ]
    request = SH.command("UDR").message([base.SESSION_ID.avp("s"), *proxies]).with_ids(hop_by_hop=5, end_to_end=6)
    answer = request.build_answer([base.RESULT_CODE.avp(2001)])
    assert (answer.hop_by_hop, answer.end_to_end, answer.flags) == (5, 6, 0x40)
    assert answer.avps == (base.SESSION_ID.avp("s"), base.RESULT_CODE.avp(2001), *proxies)


def experimental(code: int, vendor: int = 10415) -> Avp:
    return base.EXPERIMENTAL_RESULT.avp([base.VENDOR_ID.avp(vendor), base.EXPERIMENTAL_RESULT_CODE.avp(code)])


@pytest.mark.parametrize(
    ("avps", "result"),
    [
        ([], None),
        ([base.RESULT_CODE.avp(2001)], Result(2001)),
        ([experimental(5001)], Result(5001, 10415)),
        ([base.RESULT_CODE.avp(5001)], Result(5001)),
        ([base.RESULT_CODE.avp(2001), experimental(5001)], Result(5001, 10415)),
        ([base.RESULT_CODE.avp(5012), experimental(2001)], Result(5012)),
        ([Avp(297, b"broken")], None),
        ([Avp(268, b"abc")], None),
    ],
)
def test_result_is_one_of_two_forms(avps: list[Avp], result: Result | None) -> None:
    assert Message(306, 16777217, 0x40, Avps(avps)).result() == result


def test_same_number_means_two_things() -> None:
    assert Result(5001) != Result(5001, 10415)
    assert str(Result(5001, 10415)) == "experimental 10415/5001"


def test_retransmission_changes_hop_by_hop_and_t_bit_only() -> None:
    message = build_udr().with_ids(hop_by_hop=1, end_to_end=77)
    again = decode_message_untrusted(mark_retransmitted(message.encode(), hop_by_hop=9))
    assert again.is_retransmitted
    assert (again.hop_by_hop, again.end_to_end, again.avps) == (9, 77, message.avps)
