"""Header normalisation for peers: each rule by itself, their order, the presets and the hooks of the endpoint."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.config_model import PEER_ACTIONS, PEER_PRESETS, PeerConfig, PeerRule
from ims_as.isc.peer_presets import PRESETS
from ims_as.isc.peer_rules import PROTECTED_HEADERS, PeerRules, rule_problems
from ims_as.sip.message import Request
from tests.ims_as.isc_messages import BOB, build_request, from_wire
from tests.support.link import link_pair
from tests.support.sip_agents import RecordingAgent

HOST = "192.0.2.7"


def rules(*items: PeerRule, preset: str | None = None) -> PeerRules:
    peer = PeerConfig(ip_network("192.0.2.0/24"), preset, items)
    return PeerRules([peer], presets=PRESETS, supported=("100rel", "Timer"))


def incoming(request: Request, *items: PeerRule, preset: str | None = None) -> list[tuple[str, str]]:
    """The headers after the rules, without those of every request."""
    rules(*items, preset=preset).incoming(request, HOST)
    return request.headers.items()[6:]


def with_headers(*headers: tuple[str, str], uri: str = BOB, method: str = "INVITE") -> Request:
    return build_request(method, uri, headers)


def test_set_remove_rename():
    request = with_headers(("X-A", "1"), ("X-B", "2"), ("x-b", "3"), ("s", "old"), ("X-C", "4"))
    assert incoming(
        request,
        PeerRule("rename", header="X-B", to="X-New"),
        PeerRule("remove", header="X-C"),
        PeerRule("remove", header="X-None"),
        PeerRule("set", header="Subject", value="new"),
        PeerRule("set", header="X-Added", value="5"),
    ) == [("X-A", "1"), ("s", "new"), ("X-New", "2"), ("X-New", "3"), ("X-Added", "5")]


def test_each_rule_sees_what_the_one_before_left():
    request = with_headers(("X-Caller", "<sip:0049301234@pbx>"))
    assert incoming(
        request,
        PeerRule("rename", header="X-Caller", to="P-Preferred-Identity"),
        PeerRule("preferred-to-asserted"),
        PeerRule("numbers", user_phone=True),
    ) == [
        ("P-Preferred-Identity", "<sip:+49301234@pbx;user=phone>"),
        ("P-Asserted-Identity", "<sip:+49301234@pbx;user=phone>"),
    ]


def test_numbers_in_request_uri_and_identities():
    request = with_headers(
        ("P-Asserted-Identity", '"A, B" <sip:030-1234@h>;x=1, tel:0049-30-1234'),
        ("History-Info", "<sip:0301234@h;cause=302?Reason=x>;index=1"),
        ("Diversion", "<tel:0301234>;reason=user-busy"),
        uri="sip:004930555@h",
    )
    to, sender = request.headers.get("To"), request.headers.get("From")
    found = incoming(request, PeerRule("numbers", national_prefix="0", country="49"))
    assert request.uri == "sip:+4930555@h"
    assert found == [
        ("P-Asserted-Identity", '"A, B" <sip:+49301234@h>;x=1, <tel:+49301234>'),
        ("History-Info", "<sip:+49301234@h;cause=302?Reason=x>;index=1"),
        ("Diversion", "<tel:+49301234>;reason=user-busy"),
    ]
    assert (request.headers.get("To"), request.headers.get("From")) == (to, sender), "the peer must know its own again"


def test_numbers_that_are_fine_stay_byte_for_byte():
    value = '"A"  <sip:+49301234@h> ,<tel:+1>'
    request = with_headers(("P-Asserted-Identity", value))
    assert incoming(request, PeerRule("numbers")) == [("P-Asserted-Identity", value)]


@pytest.mark.parametrize(
    ("rule", "headers", "asserted", "privacy"),
    [
        ("preferred-to-asserted", [("P-Preferred-Identity", '"B" <sip:b@h>')], '"B" <sip:b@h>', None),
        ("preferred-to-asserted", [("P-Preferred-Identity", "<<")], None, None),
        ("remote-party-to-asserted", [("Remote-Party-ID", "<tel:+1>;party=calling;privacy=off")], "<tel:+1>", None),
        ("remote-party-to-asserted", [("Remote-Party-ID", "<sip:b@h>;privacy=full;screen=yes")], "<sip:b@h>", "id"),
        ("remote-party-to-asserted", [("Remote-Party-ID", "<sip:b@h>;party=called")], None, None),
        ("from-to-asserted", [], "<sip:15550000001@ims.mnc001.mcc001.3gppnetwork.org>", None),
        ("from-to-asserted", [("P-Asserted-Identity", "<tel:+2>")], "<tel:+2>", None),
        (
            "remote-party-to-asserted",
            [("P-Asserted-Identity", "<tel:+2>"), ("Remote-Party-ID", "<a:b>")],
            "<tel:+2>",
            None,
        ),
    ],
)
def test_identities(rule: str, headers: list[tuple[str, str]], asserted: str | None, privacy: str | None):
    request = with_headers(*headers)
    incoming(request, PeerRule(rule))
    assert request.headers.get_all("P-Asserted-Identity") == ([] if asserted is None else [asserted])
    assert request.headers.get("Privacy") == privacy


def test_nobody_is_not_asserted():
    request = with_headers()
    request.headers.set("From", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1')
    incoming(request, PeerRule("from-to-asserted"))
    assert "P-Asserted-Identity" not in request.headers


def test_diversion_becomes_history():
    request = with_headers(("Diversion", "<tel:+1>;reason=user-busy"))
    assert incoming(request, PeerRule("diversion-to-history")) == [
        ("History-Info", "<tel:+1>;index=1"),
        ("History-Info", f"<{BOB};cause=486>;index=1.1;mp=1"),
    ]
    both = [("Diversion", "<tel:+1>"), ("History-Info", "<tel:+2>;index=1")]
    assert incoming(with_headers(*both), PeerRule("diversion-to-history")) == both


def test_one_served_user():
    request = from_wire("05-isc-invite-second-as.sip")
    assert len(request.headers.get_all("P-Served-User")) == 2
    incoming(request, PeerRule("one-served-user"))
    [value] = request.headers.get_all("P-Served-User")
    assert value.endswith(";sescase=term;regstate=reg")
    assert len(request.headers.get_all("Record-Route")) == 2


@pytest.mark.parametrize(
    ("values", "left"),
    [(["foo, 100rel", "TIMER"], ["100rel, TIMER"]), (["foo"], []), ([], []), (["100rel"], ["100rel"])],
)
def test_unknown_require(values: list[str], left: list[str]):
    request = with_headers(*(("Require", value) for value in values))
    incoming(request, PeerRule("drop-unknown-require"))
    assert request.headers.get_all("Require") == left


def test_whom_and_what_it_is_for():
    rule = PeerRule("set", header="X-A", value="1", methods=("INVITE",))
    assert incoming(with_headers(), rule) == [("X-A", "1")]
    assert incoming(with_headers(method="OPTIONS"), rule) == []
    outgoing = PeerRule("set", header="X-A", value="1", direction="out")
    request = with_headers()
    both = rules(outgoing, PeerRule("set", header="X-B", value="2", direction="both"))
    both.incoming(request, HOST)
    assert "X-A" not in request.headers
    assert "X-B" in request.headers
    both.outgoing(request, HOST)
    both.outgoing(request, HOST)
    assert request.headers.items()[6:] == [("X-B", "2"), ("X-A", "1")]
    for stranger in ("198.51.100.1", "2001:db8::1", "fe80::1%eth0", "nonsense"):
        request = with_headers()
        both.incoming(request, stranger)
        assert request.headers.items()[6:] == []


def test_the_first_network_that_holds_the_address_counts():
    def peer(network: str, value: str) -> PeerConfig:
        return PeerConfig(ip_network(network), None, (PeerRule("set", header="X-A", value=value),))

    table = PeerRules([peer("192.0.2.7/32", "one"), peer("192.0.2.0/24", "net"), peer("::/0", "v6")], presets=PRESETS)
    for host, value in (("192.0.2.7", "one"), ("192.0.2.8", "net"), ("2001:db8::1", "v6")):
        request = with_headers()
        table.incoming(request, host)
        assert request.headers.get("X-A") == value


def test_inside_a_dialog_identities_and_numbers_are_left_alone():
    request = with_headers(("Require", "foo"), ("P-Preferred-Identity", "<sip:b@h>"), uri="sip:0049301234@h")
    request.headers.set("To", f"<{BOB}>;tag=1")
    found = incoming(
        request,
        PeerRule("numbers"),
        PeerRule("preferred-to-asserted"),
        PeerRule("drop-unknown-require"),
        PeerRule("set", header="X-A", value="1"),
    )
    assert request.uri == "sip:0049301234@h"
    assert found == [("P-Preferred-Identity", "<sip:b@h>"), ("X-A", "1")]


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_go_on_matching_their_invite(method: str):
    request = with_headers(method=method, uri="sip:0049301234@h")
    request.headers.set("To", f"<{BOB}>;tag=1")
    assert incoming(request, PeerRule("numbers"), PeerRule("set", header="X-A", value="1")) == []
    assert request.uri == "sip:+49301234@h"


# ---------------------------------------------------------------- presets


def test_presets_are_those_that_the_configuration_knows():
    assert set(PRESETS) == set(PEER_PRESETS)
    for name, items in PRESETS.items():
        for rule in items:
            assert rule.do in PEER_ACTIONS
            assert list(rule_problems(rule)) == [], name
    text = (Path(__file__).parents[3] / "docs" / "peers.md").read_text()
    for name in (*PEER_PRESETS, *PEER_ACTIONS):
        assert f"`{name}`" in text, name


RPID = ("Remote-Party-ID", '"B" <sip:b@h>;party=calling')
DIVERSION = ("Diversion", "<tel:+1>;reason=user-busy")


@pytest.mark.parametrize(
    ("preset", "headers", "names"),
    [
        ("kamailio", [("P-Served-User", "<sip:b@h>"), ("P-Served-User", "<sip:b@h>")], ["P-Served-User"]),
        ("asterisk", [RPID, DIVERSION], ["Remote-Party-ID", "P-Asserted-Identity", "History-Info", "History-Info"]),
        ("freeswitch", [RPID, ("X-FS-Support", "x")], ["Remote-Party-ID", "P-Asserted-Identity"]),
        ("cisco-cube", [RPID, DIVERSION], ["Remote-Party-ID", "P-Asserted-Identity", "History-Info", "History-Info"]),
        ("oracle-sbc", [RPID, DIVERSION], ["Remote-Party-ID", "Diversion"]),
        ("generic-pbx", [], ["P-Asserted-Identity"]),
    ],
)
def test_preset(preset: str, headers: list[tuple[str, str]], names: list[str]):
    request = with_headers(*headers)
    assert [name for name, _ in incoming(request, preset=preset)] == names


def test_a_pbx_as_it_dials():
    request = with_headers(uri="sip:0049-30-1234@ims.example.net")
    request.headers.set("From", '"Desk 7" <sip:0049-30-99@pbx.example.net>;tag=1')
    found = incoming(request, PeerRule("set", header="X-Trunk", value="7"), preset="generic-pbx")
    assert request.uri == "sip:+49301234@ims.example.net;user=phone"
    assert found == [
        ("P-Asserted-Identity", '"Desk 7" <sip:+493099@pbx.example.net;user=phone>'),
        ("X-Trunk", "7"),
    ]


# ---------------------------------------------------------------- configuration and endpoint


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (PeerRule("set", header="X"), "value"),
        (PeerRule("remove"), "header"),
        (PeerRule("rename", header="X"), "to"),
        (PeerRule("numbers", header="X"), "header"),
        (PeerRule("remove", header="v"), "header"),
        (PeerRule("set", header="From", value="x"), "header"),
        (PeerRule("rename", header="X", to="Call-ID"), "to"),
        (PeerRule("remove", header="a b"), "header"),
        (PeerRule("set", header="X", value="a\r\nVia: x"), "value"),
        (PeerRule("numbers", national_prefix="0"), "country"),
        (PeerRule("numbers", country="49x"), "country"),
        (PeerRule("numbers", international_prefix="0" * 9), "international_prefix"),
    ],
)
def test_rules_that_make_no_sense(rule: PeerRule, field: str):
    assert [path for path, _ in rule_problems(rule)] == [field]


ANY_RULE = st.sampled_from(
    [PeerRule(do) for do in PEER_ACTIONS if do not in ("set", "remove", "rename")]
    + [rule for items in PRESETS.values() for rule in items]
    + [PeerRule("numbers", national_prefix="0", country="49", user_phone=True)]
)
ANY_TEXT = st.text('<>";,=:@sipte l+0123456789-%?&', max_size=40).map(str.strip)
ANY_NAME = st.sampled_from(
    [
        "P-Asserted-Identity",
        "Remote-Party-ID",
        "P-Preferred-Identity",
        "Diversion",
        "History-Info",
        "Require",
        "P-Served-User",
    ]
)


@given(st.lists(ANY_RULE, max_size=6), st.lists(st.tuples(ANY_NAME, ANY_TEXT), max_size=6), ANY_TEXT)
def test_whatever_comes_the_message_keeps_its_identity(items: list[PeerRule], headers: list[tuple[str, str]], uri: str):
    request = with_headers(*headers, uri=uri)
    before = [item for item in request.headers.items() if item[0].lower() in PROTECTED_HEADERS]
    table = rules(*items)
    table.incoming(request, HOST)
    table.outgoing(request, HOST)
    assert [item for item in request.headers.items() if item[0].lower() in PROTECTED_HEADERS] == before
    once = (request.uri, request.headers.items())
    table.incoming(request, HOST)
    assert (request.uri, request.headers.items()) == once, "twice changes nothing more"


def test_the_endpoint_applies_them_both_ways():
    network, a, b = link_pair()
    alice, bob = RecordingAgent(a), RecordingAgent(b, lambda _, session: session.answer(b"v=0\r\n") and None)
    a.normaliser = PeerRules(
        [PeerConfig(ip_network("10.0.0.2/32"), None, (PeerRule("set", header="X-Out", value="1", direction="out"),))],
        presets=PRESETS,
    )
    b.normaliser = PeerRules(
        [PeerConfig(ip_network("10.0.0.1/32"), "generic-pbx", (PeerRule("set", header="X-In", value="2"),))],
        presets=PRESETS,
    )
    session = alice.call("sip:0049301234@10.0.0.2")
    network.run(1)
    received = bob.sessions[0].request
    assert received.uri == "sip:+49301234@10.0.0.2;user=phone"
    assert (received.headers.get("X-Out"), received.headers.get("X-In")) == ("1", "2")
    assert alice.names() == ["Answered"]
    session.bye()
    network.run(100)
    network.assert_clean()


def test_a_call_that_is_cancelled_or_refused_still_matches():
    network, a, b = link_pair()
    alice, bob = RecordingAgent(a), RecordingAgent(b, lambda _, session: session.provisional(180) and None)
    b.normaliser = PeerRules([PeerConfig(ip_network("10.0.0.1/32"), "generic-pbx")], presets=PRESETS)
    session = alice.call("sip:0049301234@10.0.0.2")
    network.run(1)
    session.cancel()
    network.run(1)
    assert bob.names() == ["Cancelled"]
    assert network.messages()[-3:] == ["487 INVITE", "ACK"] or network.messages()[-1] == "ACK"
    network.run(100)
    network.assert_clean()
