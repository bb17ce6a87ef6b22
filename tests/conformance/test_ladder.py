from __future__ import annotations

from conformance.ladder import MAX_LINES, read_message_log, render_ladder


def entry(at: str, kind: str, text: str) -> str:
    return f"----------------------------------------------- {at}\nUDP message {kind}:\n\n{text}\n"


INVITE = "INVITE sip:bob@h SIP/2.0\r\nCSeq: 1 INVITE\r\nc: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
OK = "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"
LOG = entry("2026-01-01 12:00:00.000000", "sent (509 bytes)", INVITE) + entry(
    "2026-01-01 12:00:01.500500", "received [309] bytes ", OK
)
HOP = entry("2026-01-01 12:00:00.004000", "received [509] bytes ", INVITE) + entry(
    "2026-01-01 12:00:00.005000", "sent (20 bytes)", OK
)


def test_a_ladder_has_a_line_for_each_message():
    assert render_ladder(LOG) == (
        "      0.0 ms  case ──▶ target        INVITE (SDP)\n   1500.5 ms  case ◀── target        200 INVITE"
    )


def test_the_next_hop_is_in_the_same_ladder():
    lines = render_ladder(LOG, HOP).splitlines()
    assert [line.split("ms")[1].strip() for line in lines] == [
        "case ──▶ target        INVITE (SDP)",
        "target ──▶ hop INVITE (SDP)",
        "target ◀── hop 200 INVITE",
        "case ◀── target        200 INVITE",
    ]


def test_a_storm_is_cut_and_rubbish_left_out():
    assert render_ladder("") == ""
    assert render_ladder("garbage\n" + entry("yesterday", "sent (1 bytes)", OK)) == ""
    assert read_message_log(entry("2026-01-01 12:00:00.000000", "eaten (1 bytes)", OK)) == []
    assert len(render_ladder(LOG * MAX_LINES).splitlines()) == MAX_LINES + 1
    (message,) = read_message_log(entry("2026-01-01 12:00:00.000000", "sent (1 bytes)", ""))
    assert message.label == "?"
