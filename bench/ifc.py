"""What it costs to evaluate a profile of 10 initial filter criteria with 3 SPTs each, for one initial INVITE over ISC.

    python -m bench.ifc [--rounds N] [--json]

For each profile: µs per evaluation of a view that was read before, of a fresh view (headers and SDP are taken apart on
demand), and the ratio to the plain evaluator of the tests (straight from the text, `re` for each pattern) in the same
run.  Medians of rounds of process time, and the best round, for others share
the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ifc.engine import CriteriaPlan, evaluate
from ifc.model import (
    ApplicationServer,
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.isc.view import SipRequestView
from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted
from tests.ifc.reference import matching_criteria

__all__ = ["PROFILES", "measure"]

ROUND_S: Final = 0.02
INVITE: Final = (
    b"INVITE sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bK8164.2ef741172d97d9613f8ec85d5ecd33df.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.41:5060;branch=z9hG4bK-32200-1-0;rport=5060\r\n"
    b"Record-Route: <sip:192.0.2.20;lr=on;ftag=32200a1>\r\n"
    b"Route: <sip:192.0.2.30:5060;lr>, <sip:iscmark@192.0.2.20:5060;lr;s=2;h=0;d=1;a=7369703a31353535>\r\n"
    b"Max-Forwards: 68\r\n"
    b'From: "Alice" <sip:15550000001@ims.mnc001.mcc001.3gppnetwork.org>;tag=32200a1\r\n'
    b"To: <sip:15550000002@ims.mnc001.mcc001.3gppnetwork.org>\r\n"
    b"Call-ID: 1-32200@192.0.2.41\r\nCSeq: 1 INVITE\r\n"
    b'Contact: <sip:15550000001@192.0.2.41:5060>;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"\r\n'
    b'P-Asserted-Identity: "Alice" <sip:15550000001@ims.mnc001.mcc001.3gppnetwork.org>, <tel:+15550000001>\r\n'
    b"P-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel\r\n"
    b"P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001\r\n"
    b'P-Charging-Vector: icid-value="lab-call-32200-1"; orig-ioi=ims.mnc001.mcc001.3gppnetwork.org\r\n'
    b"P-Served-User: <sip:15550000002@ims.mnc001.mcc001.3gppnetwork.org>;sescase=term;regstate=reg\r\n"
    b'Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"\r\n'
    b"Supported: 100rel, timer, precondition\r\n"
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, MESSAGE, REFER, NOTIFY, INFO\r\n"
    b"User-Agent: ue/1.0\r\nContent-Type: application/sdp\r\n\r\n"
)
SDP: Final = (
    b"v=0\r\no=alice 1 1 IN IP4 192.0.2.41\r\ns=-\r\nc=IN IP4 192.0.2.41\r\nb=AS:41\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 96 97 8 0 101\r\na=rtpmap:96 AMR-WB/16000\r\na=rtpmap:97 AMR/8000\r\n"
    b"a=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:240\r\n"
    b"a=curr:qos local none\r\na=des:qos mandatory local sendrecv\r\na=sendrecv\r\n"
)


def _spt(condition: Condition, *groups: int, negated: bool = False) -> ServicePointTrigger:
    return ServicePointTrigger(condition, groups or (0,), negated)


def _method(name: str = "INVITE") -> MethodCondition:
    return MethodCondition(name)


def _case(number: int) -> SessionCaseCondition:
    return SessionCaseCondition(SessionCase(number))


def _header(name: str, content: str | None = None) -> SipHeaderCondition:
    return SipHeaderCondition(name, content)


def _sdp(line: str, content: str | None = None) -> SessionDescriptionCondition:
    return SessionDescriptionCondition(line, content)


def _criteria(
    three: Callable[[int], Sequence[tuple[Condition, bool]]], *, cnf: bool = True
) -> list[InitialFilterCriteria]:
    """Ten criteria of which each has the three conditions, one a group (CNF) or the first alone in a group (DNF)."""
    made = []
    for number in range(10):
        triggers = tuple(
            ServicePointTrigger(condition, (place if cnf else min(place, 1),), negated)
            for place, (condition, negated) in enumerate(three(number))
        )
        server = ApplicationServer(f"sip:as{number}.example.net")
        made.append(InitialFilterCriteria(number, TriggerPoint(cnf, triggers), server))
    return made


_HEADERS = ("P-Asserted-Identity", "Contact", "Allow", "Supported", "From", "To", "P-Asserted-Service",
            "Accept-Contact", "P-Charging-Vector", "User-Agent")  # fmt: skip
_CONTENTS = ("alice|1555", "mmtel", "^MESSAGE$", "^precondition$", "Alice", "0000002", "icsi", "urn", "icid", "^ue/")
_LOOSE = ("Content-Type|Accept", "P-.*", "P-Ass", "ontact", "Allow|Require", "(Record-)?Route", "[Ss]upported",
          "^P-.*$", "Asserted", "-ID")  # fmt: skip
_LINES = ("^audio", "AMR-WB", "telephone-event", "^sendrecv", "^ptime:20$", "^curr:qos local", "^des:qos", "PCMA|PCMU",
          "^fmtp:[0-9]+ 0-15", "^rtpmap:96 ")  # fmt: skip
_RARE = ("Priority", "Resource-Priority", "History-Info", "Diversion", "Replaces", "Join", "Event", "Refer-To",
         "X-Service", "Subject")  # fmt: skip

PROFILES: Final[dict[str, list[InitialFilterCriteria]]] = {
    "common": _criteria(
        lambda n: [
            (_method(("INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REGISTER")[n % 5]), False),
            (_case(n % 4), False),
            (_header("^Priority$", "psap-callback"), True),
        ]
    ),
    "method and case": _criteria(lambda n: [(_method(), False), (_case(1), False), (_case(4), True)]),
    "header literals": _criteria(
        lambda n: [
            (_method(), False),
            (_header(f"^{_HEADERS[n]}$", _CONTENTS[n]), False),
            (_header(f"^{_HEADERS[n - 5]}$"), False),
        ]
    ),
    "all headers": _criteria(
        lambda n: [(_header(f"^{_HEADERS[(n + k) % 10]}$", _CONTENTS[(n + k) % 10] + "." * k), False) for k in range(3)]
    ),
    "loose names": _criteria(
        lambda n: [
            (_header(_LOOSE[n]), False),
            (_header(_LOOSE[n - 3], "e"), False),
            (_header(_LOOSE[n - 6], "[ai]"), False),
        ]
    ),
    "negations": _criteria(
        lambda n: [(_header(f"^{_RARE[(n + k) % 10]}$", None if k else ".*"), True) for k in range(3)]
    ),
    "loose negations": _criteria(
        lambda n: [(_header(_RARE[(n + k) % 10] + ".?", "x" if k else ".*"), True) for k in range(3)]
    ),
    "request URIs": _criteria(
        lambda n: [
            (_method(), False),
            (RequestUriCondition(f"^ims\\.mnc00{n}"), n != 1),
            (RequestUriCondition(f"^(urn:)?service:sos{'.' * n}"), True),
        ]
    ),
    "SDP lines": _criteria(
        lambda n: [
            (_method(), False),
            (_sdp("^a$" if n else "m", _LINES[n]), False),
            (_sdp("[ma]", _LINES[n - 4]), False),
        ]
    ),
    "none matches": _criteria(
        lambda n: [
            (_header(f"^{_HEADERS[n]}$"), False),
            (_header(f"^{_HEADERS[n]}$", f"absent{n}"), False),
            (_method(), False),
        ]
    ),
    "DNF": _criteria(
        lambda n: [
            (_header(f"^{_HEADERS[n]}$", f"absent{n}"), False),
            (_header(f"^{_HEADERS[n - 4]}$", _CONTENTS[n - 4]), False),
            (_sdp("m", "^audio"), False),
        ],
        cnf=False,
    ),
}  # fmt: skip


def request() -> Request:
    message = parse_message_untrusted(INVITE + SDP)
    assert isinstance(message, Request)
    return message


def _per_call_us(call: Callable[[], Any]) -> float:
    call()
    count = 1
    while True:
        started = time.process_time()
        for _ in range(count):
            call()
        took = time.process_time() - started
        if took >= ROUND_S:
            return took / count * 1e6
        count = max(count * 2, int(count * ROUND_S / max(took, 1e-6)))


def measure(name: str, rounds: int) -> dict[str, Any]:
    criteria = tuple(PROFILES[name])
    message = request()
    view = SipRequestView(message, SessionCase.TERMINATING_REGISTERED)
    expected = matching_criteria(criteria, view, registered=True)
    assert [match.criterion for match in evaluate(criteria, view, registered=True)] == expected

    def ready() -> None:
        evaluate(criteria, view, registered=True)

    def fresh() -> None:
        evaluate(criteria, SipRequestView(message, SessionCase.TERMINATING_REGISTERED), registered=True)

    def naive() -> None:
        matching_criteria(criteria, view, registered=True)

    def first() -> None:
        CriteriaPlan(criteria).evaluate(view, registered=True)

    gc.collect()
    gc.disable()
    try:
        taken = {each.__name__: [_per_call_us(each) for _ in range(rounds)] for each in (ready, fresh, naive, first)}
    finally:
        gc.enable()
    medians = {key: statistics.median(times) for key, times in taken.items()}
    ratio = medians["naive"] / medians["ready"]
    best = min(taken["ready"])
    return {"profile": name, "matches": len(expected), **{f"{k}_us": round(v, 1) for k, v in medians.items()},
            "best_us": round(best, 1), "naive_ratio": round(ratio, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help="default: all of them")
    options = parser.parse_args()
    rows = [measure(name, options.rounds) for name in options.profiles or PROFILES]
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        return
    print(f"{'profile':16} matches  µs  best  fresh view  first time  plain evaluator  ratio")
    for row in rows:
        print(
            f"{row['profile']:16} {row['matches']:7} {row['ready_us']:4.1f} {row['best_us']:5.1f}"
            f" {row['fresh_us']:10.1f} {row['first_us']:11.1f} {row['naive_us']:16.1f} {row['naive_ratio']:6.1f}"
        )


if __name__ == "__main__":
    main()
