"""The header table and what applies it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims_as.isc.header_policy import HeaderPolicy, next_max_forwards
from ims_as.isc.header_table import COLUMNS, DROP, KEEP, REWRITES, TABLE, UNKNOWN, as_markdown, rule_for
from ims_as.isc.session_id import NIL
from ims_as.sip.headers import COMPACT_NAMES
from ims_as.sip.invite_session import InviteSession, ReinviteReceived
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.ims_as.isc_messages import ALICE, build_request, from_wire
from tests.support.link import link_pair
from tests.support.sip_agents import RecordingAgent

POLICY = HeaderPolicy(own_ioi="Type 3as.example.net", host="as.example.net")


def test_the_document_is_the_table():
    path = Path(__file__).parents[3] / "docs" / "headers.md"
    assert path.read_text() == as_markdown(), "python -m ims_as.isc.header_table > docs/headers.md"


def test_every_cell_says_something_known():
    known = {KEEP, DROP, *REWRITES}
    for rule in (*TABLE.values(), UNKNOWN):
        assert {getattr(rule, column) for column in COLUMNS} <= known, rule
        assert rule.note
    used = {getattr(rule, column) for rule in TABLE.values() for column in COLUMNS}
    assert set(REWRITES) <= used
    assert set(COMPACT_NAMES.values()) <= set(TABLE), "what is common enough for a compact form is known"


def test_what_the_trust_domain_keeps_for_itself():
    for name in (
        "P-Access-Network-Info", "P-Charging-Vector", "P-Charging-Function-Addresses", "P-Served-User",
        "P-Asserted-Service", "Resource-Priority", "P-Early-Media", "Feature-Caps", "Response-Source",
        "Attestation-Info", "Origination-Id", "P-Whatever-Comes",
    ):  # fmt: skip
        assert rule_for(name).untrusted == DROP, name
        assert rule_for(name).engine == DROP, name
    assert rule_for("X-Whatever").untrusted == KEEP
    assert rule_for("x-whatever").engine == DROP
    assert rule_for("k").name == "Supported"


def test_b2bua_copies_what_is_not_of_the_dialog():
    request = from_wire("01-isc-invite-term-dh0.sip")
    for name, value in (
        ("X-Own", "1"),
        ("s", "hello"),
        ("Geolocation", "<cid:a>"),
        ("History-Info", "<sip:b@h>;index=1"),
    ):
        request.headers.add(name, value)
    assert POLICY.copy_for_b2bua(request) == [
        ("P-Asserted-Identity", f'"Alice" <{ALICE}>'),
        ("P-Access-Network-Info", "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001"),
        ("P-Charging-Vector", 'icid-value="lab-call-32200-1";orig-ioi="Type 3as.example.net"'),
        ("X-Own", "1"),
        ("s", "hello"),
        ("Geolocation", "<cid:a>"),
        ("History-Info", "<sip:b@h>;index=1"),
    ]


def test_b2bua_response():
    response = Response(
        486,
        "Busy Here",
        [
            ("Via", "x"),
            ("To", "<sip:b@h>;tag=1"),
            ("Reason", "Q.850;cause=17"),
            ("Retry-After", "7"),
            ("P-Charging-Vector", "icid-value=1"),
            ("P-Asserted-Identity", "<tel:+1>"),
            ("Session-ID", "a" * 32),
            ("Server", "x"),
        ],
    )
    assert [name for name, _ in POLICY.copy_response_for_b2bua(response)] == [
        "Reason",
        "P-Asserted-Identity",
        "Session-ID",
    ]


@pytest.mark.parametrize(("value", "after"), [("70", 69), ("1", 0), ("0", None), (None, 70)])
def test_max_forwards(value: str | None, after: int | None):
    request = build_request()
    request.headers.remove("Max-Forwards")
    if value is not None:
        request.headers.add("Max-Forwards", value)
    assert next_max_forwards(request) == after


def test_our_answers():
    request = from_wire("01-isc-invite-term-dh0.sip")
    request.headers.add("Session-ID", f"{'a' * 32};remote={NIL}")
    charging, session = POLICY.response_headers(request)
    assert charging == (
        "P-Charging-Vector",
        'icid-value="lab-call-32200-1";orig-ioi=ims.mnc001.mcc001.3gppnetwork.org;term-ioi="Type 3as.example.net"',
    )
    own, _, remote = session[1].partition(";remote=")
    assert (len(own), remote) == (32, "a" * 32)
    assert POLICY.response_headers(request) == [charging, session], "all answers of a call say the same"
    assert POLICY.dialog_headers(request) == [
        ("P-Charging-Vector", 'icid-value="lab-call-32200-1";orig-ioi="Type 3as.example.net"'),
        session,
    ]
    assert POLICY.response_headers(build_request()) == []
    assert POLICY.dialog_headers(build_request()) == []


def test_nothing_leaves_that_should_not():
    request = build_request(
        headers=[
            ("P-Asserted-Identity", "<tel:+1555;cpc=ordinary;oli=0>"),
            ("P-Served-User", "<sip:b@h>"),
            ("Priority", "psap-callback"),
            ("History-Info", "<sip:b@h?Privacy=history>;index=1, <sip:c@h>;index=1.1"),
            ("Diversion", "<sip:b@h>;privacy=full, <sip:c@h>;privacy=off"),
            ("P-Charging-Vector", "icid-value=1"),
            ("X-Own", "1"),
        ]
    )
    hidden = request.copy()
    hidden.headers.add("Privacy", "id;history")
    POLICY.strip_for_untrusted(request)
    assert request.headers.items()[6:] == [
        ("P-Asserted-Identity", "<tel:+1555>"),
        ("History-Info", "<sip:c@h>;index=1.1"),
        ("Diversion", "<sip:c@h>;privacy=off"),
        ("X-Own", "1"),
    ]
    POLICY.strip_for_untrusted(hidden)
    assert hidden.headers.items()[6:] == [("X-Own", "1"), ("Privacy", "id;history")]


def test_what_an_engine_is_told():
    request = build_request(
        headers=[
            ("P-Asserted-Identity", "<tel:+1555>"),
            ("P-Access-Network-Info", "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1"),
            ("Subject", "bill\x07"),
            ("History-Info", "<sip:b@h>;index=1"),
            ("History-Info", "<sip:c@h>;index=1.1"),
            ("User-to-User", "00" * 2000),
            ("X-Account", "17"),
            ("Geolocation", "<cid:a>"),
            ("P-Own", "secret"),
            ("Priority", "psap-callback"),
        ]
    )
    told = POLICY.engine_headers(request)
    assert list(told) == ["Subject", "History-Info", "User-to-User"]
    assert told["Subject"] == "bill\ufffd"
    assert told["History-Info"] == "<sip:b@h>;index=1, <sip:c@h>;index=1.1"
    assert len(told["User-to-User"]) == 1024
    more = POLICY.engine_headers(request, extra=["x-account", "p-own", "geolocation", "P-Asserted-Identity"])
    assert set(more) - set(told) == {"X-Account"}, "what the table keeps from engines cannot be asked for"
    for n in range(100):
        request.headers.add(f"X-{n}", "1")
    assert len(POLICY.engine_headers(request, extra=[f"X-{n}" for n in range(100)])) == 32


def test_our_session_id_follows_a_peer_that_was_exchanged():
    network, a, b = link_pair()
    alice = RecordingAgent(a)
    first, second = (f"{letter * 32}" for letter in "ab")

    def accept(request: Request, transaction: ServerTransaction) -> None:
        session = bob.accept(
            request,
            transaction,
            on_event=lambda session, event: (
                session.accept_reinvite(b"v=0\r\n") if isinstance(event, ReinviteReceived) else None
            ),
            response_headers=POLICY.response_headers(request),
            request_headers=POLICY.dialog_headers(request),
        )
        POLICY.follow_session(session, request)
        sessions.append(session)
        session.answer(b"v=0\r\n")

    bob = UserAgent(b, on_invite=accept, on_request=lambda *_: None, user_agent="", allow="INVITE")
    b.user = bob
    sessions: list[InviteSession] = []
    caller = alice.call(headers=[("Session-ID", f"{first};remote={NIL}"), ("P-Charging-Vector", "icid-value=1")])
    network.run(1)
    own = POLICY.session_end(caller.request).local
    caller.reinvite(b"v=0\r\n", headers=[("Session-ID", f"{second};remote={own}")])
    network.run(1)
    sessions[0].bye()
    network.run(100)
    sent = [parse_message_untrusted(data) for _, source, _, data in network.sent if source == b.address]
    told = [message.headers.get("Session-ID") for message in sent if message.cseq.method in ("INVITE", "BYE")]
    assert told == [f"{own};remote={first}", f"{own};remote={second}", f"{own};remote={second}"]
    assert sent[-1].headers.get("P-Charging-Vector") == 'icid-value=1;orig-ioi="Type 3as.example.net"'
    network.assert_clean()
