"""The SIP stack without sockets, in this process: what parsing, a call, a refusal and a held dialog cost by themselves.

    python -m bench.stack parse       µs per 1.6 KB INVITE as an S-CSCF sends it, to what routing needs
    python -m bench.stack calls       µs CPU per call (INVITE, 200, ACK, BYE, 200)
    python -m bench.stack memory      KiB (PSS) per held dialog
    python -m bench.stack refusals    µs CPU per INVITE that the gate refuses (INVITE, 503, ACK)

One JSON line each; times are the best of some rounds of process time, for others share the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ims_as.sip.core import EndpointCore, Targets, WireEvent
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.stateless import Refusal
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent

__all__ = ["calls", "memory", "parse", "refusals"]

OURS, PEER = ("10.0.0.2", 5060), ("10.0.0.1", 5060)
FLOW: Final = Flow("UDP", OURS, PEER)
SDP: Final = b"v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
MIN_ROUND_S: Final = 0.2

# INVITE over ISC as TS 24.229 has it: two Vias, the ODI Route, Record-Route, the charging and identity headers
ISC_INVITE: Final = (
    "INVITE sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%(n)s.s;rport\r\n"
    "Via: SIP/2.0/UDP 10.0.0.20:4060;rport=4060;received=10.0.0.20;branch=z9hG4bK%(n)s.p\r\n"
    "Via: SIP/2.0/UDP 172.16.4.21:5060;branch=z9hG4bK%(n)s.u;rport=5060\r\n"
    "Max-Forwards: 67\r\n"
    "Route: <sip:ai-as.example.net;lr>, <sip:odi-%(n)s@10.0.0.1:5060;lr;orig-dialog=1>\r\n"
    "Record-Route: <sip:mo@10.0.0.1:5060;lr=on;ftag=t%(n)s;did=644.7a11>\r\n"
    "Record-Route: <sip:mo@10.0.0.20:4060;lr=on;ftag=t%(n)s;nat=yes>\r\n"
    'From: "+1555%(n)s" <sip:+1555%(n)s@ims.mnc001.mcc001.3gppnetwork.org>;tag=t%(n)s\r\n'
    "To: <sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org;user=phone>%(to_tag)s\r\n"
    "Call-ID: %(n)s@172.16.4.21\r\n"
    "CSeq: 1 INVITE\r\n"
    'Contact: <sip:+1555%(n)s@172.16.4.21:5060>;+g.3gpp.icsi-ref="urn%%3Aurn-7%%3A3gpp-service.ims.icsi.mmtel"\r\n'
    "P-Asserted-Identity: <sip:+1555%(n)s@ims.mnc001.mcc001.3gppnetwork.org>, <tel:+1555%(n)s>\r\n"
    "P-Served-User: <sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org>;sescase=term;regstate=reg\r\n"
    "P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=00101000101000001\r\n"
    "P-Charging-Vector: icid-value=%(n)s;icid-generated-at=10.0.0.20;orig-ioi=home1.example\r\n"
    'Accept-Contact: *;+g.3gpp.icsi-ref="urn%%3Aurn-7%%3A3gpp-service.ims.icsi.mmtel"\r\n'
    "Supported: 100rel, timer, precondition, histinfo\r\n"
    "Session-Expires: 1800;refresher=uac\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, UPDATE, PRACK, OPTIONS, REFER, MESSAGE, NOTIFY\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: %(length)s\r\n"
    "\r\n"
)
OFFER: Final = (
    "v=0\r\no=- 1 1 IN IP4 172.16.4.21\r\ns=-\r\nc=IN IP4 172.16.4.21\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
)
IN_DIALOG: Final = (
    "%(method)s sip:10.0.0.2:5060 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%(n)s.%(method)s;rport\r\n"
    "Via: SIP/2.0/UDP 172.16.4.21:5060;branch=z9hG4bK%(n)s.u%(method)s;rport=5060\r\n"
    "Max-Forwards: 67\r\n"
    'From: "+1555%(n)s" <sip:+1555%(n)s@ims.mnc001.mcc001.3gppnetwork.org>;tag=t%(n)s\r\n'
    "To: <sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org;user=phone>;tag=%(to_tag)s\r\n"
    "Call-ID: %(n)s@172.16.4.21\r\n"
    "CSeq: %(cseq)s %(method)s\r\n"
    "Content-Length: 0\r\n"
    "\r\n"
)


def invite_bytes(n: object) -> bytes:
    """The INVITE of call `n`."""
    return (ISC_INVITE % {"n": n, "to_tag": "", "length": len(OFFER)} + OFFER).encode()


def in_dialog_bytes(method: str, n: object, to_tag: str) -> bytes:
    cseq = 1 if method == "ACK" else 2
    return (IN_DIALOG % {"method": method, "n": n, "to_tag": to_tag, "cseq": cseq}).encode()


def hop_ack_bytes(n: object, to_tag: str) -> bytes:
    """The ACK that the S-CSCF sends for a refusal: in the transaction of its INVITE."""
    text = IN_DIALOG % {"method": "ACK", "n": n, "to_tag": to_tag, "cseq": 1}
    lines = text.replace(".ACK;", ".s;").split("\r\n")
    return "\r\n".join([*lines[:2], *lines[3:]]).encode()


class SilentEndpoint(EndpointCore):
    """An endpoint whose datagrams go nowhere and whose clock is turned by hand."""

    def __init__(self, on_wire: Callable[[WireEvent], None] | None = None) -> None:
        self.time = 1000.0
        self.sent: list[bytes] = []
        self._count = 0
        super().__init__(clock=lambda: self.time, wall_clock=lambda: self.time, token=self._next_token, on_wire=on_wire)

    def _next_token(self) -> str:
        self._count += 1
        return f"{self._count:016x}"

    @property
    def n_connections(self) -> int:
        return 0

    def _transmit_bytes(self, flow: Flow, data: bytes) -> str | None:
        self.sent.append(data)
        return None

    def _flow_to(self, destination: Destination) -> Flow | None:
        return FLOW

    def _look_up(self, destination: Destination, callback: Callable[[Targets | str], None]) -> None:
        raise AssertionError("nothing is looked up")

    def _listener(self, transport: str, host: str) -> tuple[str, int]:
        return OURS


def answering_endpoint() -> tuple[SilentEndpoint, UserAgent, list[str]]:
    """An endpoint that answers each INVITE; the list gets the To tags."""
    endpoint = SilentEndpoint()
    tags: list[str] = []

    def ignore(_: InviteSession, event: SessionEvent) -> None:
        del event

    def answer(request: Request, transaction: ServerTransaction) -> None:
        tags.append(transaction.to_tag)
        agent.accept(request, transaction, on_event=ignore).answer(SDP)

    def other(request: Request, transaction: ServerTransaction) -> None:
        endpoint.send_response(transaction, build_response(request, 200))

    agent = UserAgent(endpoint, on_invite=answer, on_request=other, user_agent="", allow="INVITE, ACK, BYE")
    endpoint.user = agent
    return endpoint, agent, tags


def _best_us(rounds: list[Any], work: Callable[[Any], None], size: Callable[[Any], int] = len) -> float:
    """The best round's µs of process time for each thing of it."""
    best = float("inf")
    for each in rounds:
        gc.collect()
        started = time.process_time()
        work(each)
        best = min(best, (time.process_time() - started) / size(each) * 1e6)
    return round(best, 2)


def parse(rounds: int = 10, per_round: int = 2000) -> dict[str, Any]:
    """Parsing alone, and with all that the dispatcher asks of an INVITE.

    No two messages are from the same caller, so that nothing is remembered of one for the next.
    """

    def messages(kind: int, number: int) -> list[bytes]:
        return [invite_bytes(f"{kind}{number:02}{n:04}") for n in range(per_round)]

    def only_parse(data: list[bytes]) -> None:
        for each in data:
            parse_message_untrusted(each)

    def route(data: list[bytes]) -> None:
        for each in data:
            message = parse_message_untrusted(each)
            assert isinstance(message, Request)
            _ = message.method, message.uri, message.via.branch, message.from_tag, message.to_tag, message.call_id
            _ = message.cseq, message.max_forwards, message.routes, message.headers.get("P-Served-User")
            _ = message.headers.get("Content-Type")

    return {
        "what": "parse",
        "bytes": len(messages(0, 0)[0]),
        "parse_us": _best_us([messages(1, number) for number in range(rounds)], only_parse),
        "parse_and_route_us": _best_us([messages(2, number) for number in range(rounds)], route),
        "accessed": "method, Request-URI, top Via, From tag, To tag, Call-ID, CSeq, Max-Forwards, Route list, "
        "P-Served-User, Content-Type",
    }


def calls(rounds: int = 8, per_round: int = 2000) -> dict[str, Any]:
    """Whole calls without the kernel: INVITE, 200, ACK, BYE, 200, and the transactions' timers."""
    endpoint, agent, tags = answering_endpoint()

    def messages(number: int) -> list[tuple[bytes, str]]:
        names = (f"{number:02}{n:05}" for n in range(per_round))
        return [(invite_bytes(name), name) for name in names]

    def run(data: list[tuple[bytes, str]]) -> None:
        for invite, name in data:
            endpoint.receive_datagram_untrusted(invite, FLOW)
            endpoint.receive_datagram_untrusted(in_dialog_bytes("ACK", name, tags[-1]), FLOW)
            endpoint.receive_datagram_untrusted(in_dialog_bytes("BYE", name, tags[-1]), FLOW)
            endpoint.time += 0.001
            endpoint.handle_timers(endpoint.time)
        endpoint.sent.clear()
        endpoint.time += 33
        endpoint.handle_timers(endpoint.time)

    def make(data: list[tuple[bytes, str]]) -> None:
        for _, name in data:
            in_dialog_bytes("ACK", name, name)
            in_dialog_bytes("BYE", name, name)

    data = [messages(number) for number in range(rounds)]
    whole = _best_us(data, run)
    assert endpoint.stats.is_idle, endpoint.stats
    assert not endpoint.counters.guard_errors, endpoint.counters.guard_errors
    assert not agent.sessions
    return {"what": "calls", "cpu_us_per_call": round(whole - _best_us(data, make), 1)}


def refusals(rounds: int = 8, per_round: int = 2000) -> dict[str, Any]:
    """INVITEs that the gate refuses, and the ACKs of the 503s, without the kernel."""
    endpoint, _, _ = answering_endpoint()
    refusal = Refusal("latency", 503, (("Retry-After", "10"), ("Reason", 'X-IMS-AS;cause=503;text="overload"')))
    endpoint.gate = lambda request, flow: refusal

    def refuse(data: list[bytes]) -> None:
        for each in data:
            endpoint.receive_datagram_untrusted(each, FLOW)

    invites, acks = [], []
    for number in range(rounds):
        names = [f"{number:02}{n:05}" for n in range(per_round)]
        messages = [invite_bytes(name) for name in names]
        invites.append(_best_us([messages], refuse))
        tags = [re.search(rb"\r\nTo: [^\r]*;tag=([^\r;]+)", answer) for answer in endpoint.sent]
        messages = [hop_ack_bytes(name, tag[1].decode()) for name, tag in zip(names, tags, strict=True) if tag]
        endpoint.sent.clear()
        acks.append(_best_us([messages], refuse))
    assert endpoint.counters.refusals["latency"] == rounds * per_round == endpoint.counters.responses_out[503]
    assert not endpoint.counters.drops, endpoint.counters.drops  # no ACK was for nobody
    assert endpoint.stats.is_idle
    return {
        "what": "refusals",
        "invite_us": min(invites),
        "ack_us": min(acks),
        "cpu_us_per_refusal": round(min(invites) + min(acks), 1),
    }


def pss_kib() -> int:
    """Proportional set size of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def memory(dialogs: int = 10_000) -> dict[str, Any]:
    """PSS per dialog that is held: right after the ACK, and when its transactions have ended 32 s later."""
    endpoint, agent, tags = answering_endpoint()

    def hold(number: int, first: int) -> None:
        for n in range(first, first + number):
            name = f"{n:07}"
            endpoint.receive_datagram_untrusted(invite_bytes(name), FLOW)
            endpoint.receive_datagram_untrusted(in_dialog_bytes("ACK", name, tags[-1]), FLOW)
            endpoint.sent.clear()

    hold(2000, 0)  # what is remembered by its text is full, tables have grown
    endpoint.time += 33
    endpoint.handle_timers(endpoint.time)
    gc.collect()
    idle = pss_kib()
    hold(dialogs, 2000)
    gc.collect()
    early = pss_kib()
    endpoint.time += 33
    endpoint.handle_timers(endpoint.time)
    gc.collect()
    assert len(agent.sessions) == dialogs + 2000
    assert endpoint.stats.server_transactions == 0
    return {
        "what": "memory",
        "dialogs": dialogs,
        "kib_per_dialog": round((pss_kib() - idle) / dialogs, 2),
        "kib_with_transactions": round((early - idle) / dialogs, 2),
    }


PIECES: Final = {"parse": parse, "calls": calls, "refusals": refusals, "memory": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(PIECES))
    options = parser.parse_args()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    print(json.dumps(PIECES[options.what]()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
