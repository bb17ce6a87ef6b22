from __future__ import annotations

import pytest

from conformance.fault import Emission, FaultError, FaultyLink, describe_message, parse_fault

REQUEST = (
    b"INVITE sip:bob@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nt: <sip:bob@h>\r\nFrom: <sip:a@h>;tag=1\r\n"
    b"Call-ID: c\r\nCSeq: 1 INVITE\r\nX-Folded: one\r\n two\r\nContent-Type: application/sdp\r\nl: 5\r\n\r\nv=0\r\n"
)
RESPONSE = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nTo: <sip:bob@h>;tag=2\r\nCSeq: 7 BYE\r\nAllow: INVITE\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def strike(text: str, data: bytes = RESPONSE, side: str = "from") -> list[Emission]:
    return FaultyLink([parse_fault(text)]).pass_on(side, data)


def changed(text: str, data: bytes = RESPONSE, side: str = "from") -> bytes:
    (emission,) = strike(text, data, side)
    assert emission.delay_s == 0
    return emission.data


def test_messages_are_described():
    assert describe_message(REQUEST) == ("INVITE", "INVITE")
    assert describe_message(b"\r\n\r\n" + RESPONSE) == ("200", "BYE")
    assert describe_message(b"SIP/2.0 100 Trying\r\ncseq : 9  INVITE\r\n\r\n") == ("100", "INVITE")
    assert describe_message(b"\xff\x00") == ("\ufffd\x00", "")
    assert describe_message(b"") == ("", "")


@pytest.mark.parametrize(
    ("selector", "side", "data", "is_met"),
    [
        ("200", "from", RESPONSE, True),
        ("200/BYE", "from", RESPONSE, True),
        ("2xx", "from", RESPONSE, True),
        ("*", "from", RESPONSE, True),
        ("200/INVITE", "from", RESPONSE, False),
        ("486", "from", RESPONSE, False),
        ("200", "to", RESPONSE, False),
        ("to:INVITE", "to", REQUEST, True),
        ("to:INVITE", "peer", REQUEST, False),
        ("peer:INVITE", "peer", REQUEST, True),
        ("from-peer:200", "from-peer", RESPONSE, True),
        ("200#1", "from", RESPONSE, True),
        ("200#2", "from", RESPONSE, False),
        ("200#2-", "from", RESPONSE, False),
        ("200#1-3", "from", RESPONSE, True),
    ],
)
def test_selectors(selector: str, side: str, data: bytes, is_met: bool):
    assert (strike(f"drop {selector}", data, side) == []) is is_met


def test_counts():
    link = FaultyLink([parse_fault("drop 200#2-3"), parse_fault("drop 486#2")])
    assert [len(link.pass_on("from", RESPONSE)) for _ in range(4)] == [1, 0, 0, 1]
    assert link.unused == ["drop 486#2"]
    link.pass_on("from", RESPONSE.replace(b"200", b"486"))
    assert link.unused == ["drop 486#2"]
    link.pass_on("from", RESPONSE.replace(b"200", b"486"))
    assert link.unused == []


def test_changes():
    assert changed("status 200 486").startswith(b"SIP/2.0 486 Changed\r\nVia")
    assert b"Allow" not in changed("without 200 Allow")
    assert changed("header 200 Allow: BYE").split(b"\r\n")[4] == b"Allow: BYE"
    assert changed("header 200 X-New: a: b").endswith(b"\r\nX-New: a: b\r\n\r\n")
    assert b"INVITE, BYE" in changed(r"sub 200 /^Allow: (\w+)$/Allow: \1, BYE/")
    assert changed("sub 200 |UDP h|TCP/h|").count(b"TCP/h") == 1
    emptied = changed("empty to:INVITE", REQUEST, "to")
    assert emptied.endswith(b"X-Folded: one\r\n two\r\nContent-Length: 0\r\n\r\n")
    assert b"t:" not in changed("without to:INVITE To", REQUEST, "to")
    assert b"two" not in changed("without to:INVITE x-folded", REQUEST, "to")
    grown = changed("sub to:INVITE /v=0/v=0\\ns=-/", REQUEST, "to")
    assert grown.endswith(b"Content-Length: 10\r\n\r\nv=0\r\ns=-\r\n")


def test_copies_delays_and_pieces():
    assert strike("double 200") == [Emission(0.0, RESPONSE), Emission(0.02, RESPONSE)]
    assert strike("double 200 500")[1].delay_s == 0.5
    assert strike("delay 200 300") == [Emission(0.3, RESPONSE)]
    pieces = strike("split 200 50")
    assert b"".join(piece.data for piece in pieces) == RESPONSE
    assert [len(piece.data) for piece in pieces[:-1]] == [50] * (len(RESPONSE) // 50)
    assert [piece.delay_s for piece in pieces[:3]] == [0.0, 0.005, 0.01]
    assert [piece.data for piece in strike(r"before 200 \x00\r\n")] == [b"\x00\r\n", RESPONSE]
    both = FaultyLink([parse_fault("double 200"), parse_fault("delay 200 100")])
    assert [round(emission.delay_s, 3) for emission in both.pass_on("from", RESPONSE)] == [0.1, 0.12]


def test_pings_are_counted():
    link = FaultyLink([parse_fault(r"before to:* \r\n\r\n")])
    assert link.pass_on("to", REQUEST)[0].data == b"\r\n\r\n"
    assert link.n_pings == 1


def test_somebody_else_answers():
    (emission,) = strike("answer to:INVITE 500", REQUEST, "to")
    assert emission.back
    assert emission.data == (
        b"SIP/2.0 500 Wrong\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nCall-ID: c\r\n"
        b"CSeq: 1 INVITE\r\nt: <sip:bob@h>;tag=wrong\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "spoil 200", "drop", "drop invite", "drop 200 now", "drop nowhere:200", "drop 700", "double 200 x",
        "delay 200",
        "status 200 OK", "without 200", "without 200 a b", "header 200 Allow", "sub 200 /a/", "sub 200 /(/x/",
        r"sub 200 /a/\1/", "sub 200", "empty 200 x", "before 200", "split 200 x",
    ],
)  # fmt: skip
def test_what_is_no_fault_says_so(text: str):
    with pytest.raises(FaultError):
        parse_fault(text)
