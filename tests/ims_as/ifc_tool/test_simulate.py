"""Captures through criteria: which requests count, for whom, in which session case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ifc.model import SessionCase
from ims_as.cli import main
from ims_as.ifc_tool.reading import Document, is_identity, read_document_untrusted
from ims_as.ifc_tool.simulate import Simulated, Simulation
from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted
from tests.ims_as.ifc_tool.captures import ethernet, ip4, pcap, sip, tcp, udp
from tests.ims_as.ifc_tool.documents import INVITE, criterion, ifcs, message

SERVER = "sip:as.example.net"
TERMINATING = read_document_untrusted(ifcs(criterion(INVITE, "<SessionCase>1</SessionCase>", server=SERVER)))
OPEN = read_document_untrusted(ifcs(criterion(server=SERVER)))


def subscription(*users: str) -> Document:
    identities = "".join(f"<PublicIdentity><Identity>{user}</Identity></PublicIdentity>" for user in users)
    body = ifcs(criterion(INVITE, "<SessionCase>1</SessionCase>", server=SERVER)).decode()[7:-7]
    profile = f"<ServiceProfile>{identities}{body}</ServiceProfile>"
    return read_document_untrusted(f"<IMSSubscription><PrivateID>p</PrivateID>{profile}</IMSSubscription>".encode())


def capture(*messages: bytes) -> bytes:
    return pcap([ethernet(ip4(udp(each))) for each in messages])


def simulate(document: Document, *messages: bytes, to: str | None = None) -> tuple[list[Simulated], dict[str, int]]:
    simulated, report = Simulation(document, to=to).capture_untrusted("a.pcap", capture(*messages))
    return simulated, report.skipped


def register(number: int = 1, *, expires: int = 3600, to: str = "bob", contact: str = "<sip:b@192.0.2.9>") -> bytes:
    extra = f"Expires: {expires}\r\nContact: {contact}\r\n"
    made = sip("REGISTER", number, extra=extra)
    return made.replace(b"From: <sip:alice@", f"From: <sip:{to}@".encode())


def answer(to: bytes, status: int = 200) -> bytes:
    return to.replace(to.split(b"\r\n")[0], b"SIP/2.0 %d Whatever" % status)


def test_a_request_counts_once_for_each_case():
    served = "P-Served-User: <sip:bob@example.net>;sescase=term;regstate=reg\r\n"
    originating = "P-Served-User: <sip:alice@example.net>;sescase=orig;regstate=reg\r\n"
    found, skipped = simulate(TERMINATING, sip(extra=originating), sip(extra=served), sip(extra=served))
    assert [(each.request.served_user, len(each.chain.steps)) for each in found] == [
        ("sip:alice@example.net", 0),
        ("sip:bob@example.net", 1),
    ]
    assert found[1].found is not None
    assert (found[1].found.number, found[1].found.hops) == (2, [3])
    assert skipped == {}


def test_hops_of_one_call_are_one():
    # as Kamailio has it: from the UE, to the application server, to the phone
    served = "P-Served-User: <sip:bob@example.net>;sescase=term;regstate=unreg\r\n"
    to_phone = sip(extra=served).replace(b"INVITE sip:bob@example.net", b"INVITE sip:192.0.2.42:5060")
    found, skipped = simulate(TERMINATING, sip(), sip(extra=served), to_phone, sip(number=2))
    assert [(each.found and each.found.number, each.request.session_case) for each in found] == [
        (1, SessionCase.ORIGINATING_REGISTERED),
        (2, SessionCase.TERMINATING_UNREGISTERED),
        (4, SessionCase.ORIGINATING_REGISTERED),
        (4, SessionCase.TERMINATING_REGISTERED),
    ]
    assert found[1].found is not None
    assert (found[1].found.hops, skipped) == ([3], {})


def test_without_a_sign_both_sides_are_told():
    found, _ = simulate(TERMINATING, sip(extra="P-Asserted-Identity: <tel:+1555>\r\n"))
    assert [(each.request.session_case, each.request.served_user) for each in found] == [
        (SessionCase.ORIGINATING_REGISTERED, "tel:+1555"),
        (SessionCase.TERMINATING_REGISTERED, "sip:bob@example.net"),
    ]
    # nothing asks for the case
    (alone,) = simulate(OPEN, sip())[0]
    assert (alone.request.session_case, alone.chain.text) == (None, "ordinary routing")
    (routed,) = simulate(TERMINATING, sip(extra="Route: <sip:scscf.example.net;lr;orig>\r\n"))[0]
    assert routed.request.session_case is SessionCase.ORIGINATING_REGISTERED


def test_a_subscription_takes_the_side_of_its_users():
    (called,) = simulate(subscription("sip:bob@EXAMPLE.net;user=phone"), sip())[0]
    assert (called.request.session_case, len(called.chain.steps)) == (SessionCase.TERMINATING_REGISTERED, 1)
    (calling,) = simulate(subscription("sip:alice@example.net"), sip())[0]
    assert (calling.request.session_case, len(calling.chain.steps)) == (SessionCase.ORIGINATING_REGISTERED, 0)
    nobody, skipped = simulate(subscription("sip:eve@example.net"), sip())
    assert (nobody, skipped) == ([], {"requests of users that the document does not have": 2})
    forced, _ = Simulation(subscription("sip:eve@example.net"), user="sip:eve@example.net").capture_untrusted(
        "a", capture(sip())
    )
    assert len(forced) == 2


def test_wildcarded_identities():
    assert is_identity("sip:chat!.*!@example.net", "sip:chat1@example.net;x=y")
    assert not is_identity("sip:chat!.+!@example.net", "sip:chat@example.net")
    assert not is_identity("sip:chat!(!@example.net", "sip:chat1@example.net")
    assert not is_identity("sip:bob!@example.net", "sip:bob@example.net")


def test_a_register_counts_after_its_200():
    first, challenged, again, last = register(1), register(2), register(3), register(4, expires=0)
    found, skipped = simulate(
        OPEN, challenged, answer(challenged, 401), first, answer(first), again, answer(again), last, answer(last)
    )
    kinds = [each.request.view.registration_type for each in found]
    assert [kind.name for kind in kinds if kind is not None] == [
        "INITIAL_REGISTRATION",
        "RE_REGISTRATION",
        "DE_REGISTRATION",
    ]
    assert {each.request.served_user for each in found} == {"sip:bob@example.net"}
    assert skipped == {"REGISTERs challenged or refused": 1}


@pytest.mark.parametrize(
    ("contact", "expires", "is_end"),
    [
        ("*", 0, True),
        ("<sip:b@h>;expires=0", 3600, True),
        ("<sip:b@h>;expires=600", 0, False),
        ("<sip:b@h>;expires=0, <sip:c@h>", 60, False),
    ],
)
def test_the_expiry_of_contacts_counts(contact: str, expires: int, is_end: bool):
    (found,) = simulate(OPEN, register(expires=expires, contact=contact))[0]
    kind = found.request.view.registration_type
    assert kind is not None
    assert (kind.name == "DE_REGISTRATION") is is_end


def test_what_is_no_initial_request_is_counted():
    in_dialog = sip("BYE").replace(b"To: <sip:bob@example.net>", b"To: <sip:bob@example.net>;tag=t")
    broken = sip().replace(b"CSeq: 1", b"CSeq: x")
    found, skipped = simulate(OPEN, in_dialog, message("09"), message("19"), broken, answer(sip(), 486))
    assert found == []
    assert skipped == {"requests within dialogs": 2, "third-party REGISTERs": 1, "messages that are no sound SIP": 1}


def test_only_what_was_sent_to_one_address():
    segment = tcp(sip("MESSAGE", 2), 1)
    data = pcap([ethernet(ip4(udp(sip(), 5060, 5070))), ethernet(ip4(segment, 6))])
    for to, methods in (("192.0.2.30", ["INVITE", "MESSAGE"]), ("192.0.2.30:5070", ["INVITE"]), ("192.0.2.3", [])):
        found, _ = Simulation(OPEN, to=to).capture_untrusted("a", data)
        assert [each.request.view.method for each in found] == methods


def test_the_sides_of_a_file_are_told_too():
    parsed = parse_message_untrusted(sip())
    assert isinstance(parsed, Request)
    found = Simulation(TERMINATING).file_untrusted("a.sip", sip().replace(b"\r\n", b"\n"))
    assert [each.request.source for each in found] == ["caller's side", "called user's side"]


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["ifc", "simulate", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    criteria, made = tmp_path / "agent.xml", tmp_path / "call.pcap"
    criteria.write_bytes(ifcs(criterion(INVITE, "<SessionCase>1</SessionCase>", server=SERVER, handling=1)))
    served = "P-Served-User: <sip:bob@example.net>;sescase=term;regstate=reg\r\n"
    made.write_bytes(capture(sip(extra=served), answer(sip())) + b"cut")
    return str(criteria), str(made)


def test_the_command_with_a_capture(files: tuple[str, str]):
    status, output = command("--as-fails", *files)
    assert status == 0
    assert output.splitlines() == [
        "call.pcap:1  INVITE sip:bob@example.net   TERMINATING_REGISTERED (P-Served-User)",
        f"  1  {SERVER}  fails  SESSION_TERMINATED: 408 or 5xx to the caller",
        f"  → released, since {SERVER} failed: SESSION_TERMINATED",
        "",
        f"{files[1]}: 2 packets, cut short, 2 SIP messages, 1 initial request of the user",
    ]


def test_the_command_for_machines(files: tuple[str, str]):
    status, output = command("--json", "--as", "as.example.net=answers", *files)
    told = json.loads(output)
    assert status == 0
    assert told["captures"] == [{"file": files[1], "packets": 2, "messages": 2, "cut_short": True, "skipped": {}}]
    (row,) = told["requests"]
    assert (row["packet"], row["source"], row["destination"]) == (1, "192.0.2.20:5060", "192.0.2.30:5060")
    assert (row["end"], row["session_case"], row["registration_type"]) == ("answered", "TERMINATING_REGISTERED", None)
    assert row["application_servers"] == [
        {
            "priority": 1,
            "server_name": SERVER,
            "default_handling": "SESSION_TERMINATED",
            "outcome": "answers",
            "then": "answered",
        }
    ]


def test_the_command_says_what_is_wrong(files: tuple[str, str], tmp_path: Path):
    status, output = command("--as", "other=fails", *files)
    assert (status, "the servers are sip:as.example.net" in output) == (2, True)
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(b"\xd4\xc3\xb2\xa1")
    assert command(files[0], str(bad)) == (2, f"ims-as: {bad}: it ends within the file header\n")
