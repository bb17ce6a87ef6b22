"""History-Info and Diversion."""

from __future__ import annotations

from ims_as.isc.history_info import (
    diversion_count,
    history_from_diversions,
    read_diversions_untrusted,
    read_history_untrusted,
    retargeted_history,
)
from tests.ims_as.isc_messages import BOB, build_request


def with_history(*values: str):
    return build_request(headers=[("History-Info", value) for value in values])


def test_entries():
    request = with_history(
        "<sip:bob@h?Privacy=history&Reason=SIP%3Bcause%3D486%3Btext%3D%22Busy%22>;index=1, "
        '"C" <sip:c@h;cause=486>;index=1.1;mp=1',
        "<tel:+15;cause=302>;index=1.1.1",
        "<sip:x@h>",
        "<sip:y@h>;index=a.b",
        "<<",
    )
    first, second, third = read_history_untrusted(request)
    assert (first.uri, first.index, first.cause, first.is_private) == ("sip:bob@h", "1", None, True)
    assert first.reason == 'SIP;cause=486;text="Busy"'
    assert (second.index, second.cause, second.is_private, second.reason) == ("1.1", 486, False, None)
    assert (third.uri, third.cause) == ("tel:+15;cause=302", 302)
    assert diversion_count(request) == 2


def test_retargeting_begins_a_history():
    assert retargeted_history(build_request(), "sip:queue@h", cause=302) == [
        f"<{BOB}>;index=1",
        "<sip:queue@h;cause=302>;index=1.1;mp=1",
    ]


def test_retargeting_goes_on_with_one_byte_for_byte():
    request = with_history('"B"  <sip:b@h>;index=1;foo', "<sip:c@h;cause=486>;index=1.1;mp=1")
    values = retargeted_history(request, "tel:+1555", cause=480, reason="SIP;cause=302")
    assert values == [
        '"B"  <sip:b@h>;index=1;foo',
        "<sip:c@h;cause=486?Reason=SIP%3Bcause%3D302>;index=1.1;mp=1",
        "<tel:+1555;cause=480>;index=1.1.1;mp=1.1",
    ]
    assert [entry.index for entry in read_history_untrusted(with_history(*values))] == ["1", "1.1", "1.1.1"]
    assert diversion_count(with_history(*values)) == 2
    assert retargeted_history(request, "sip:d@h", tag="rc")[-1] == "<sip:d@h>;index=1.1.1;rc=1.1"


def test_diversions():
    request = build_request(
        headers=[
            ("Diversion", "<sip:c@h>;reason=no-answer;counter=2;privacy=full, <tel:+1>;reason=Unconditional"),
            ("Diversion", "<sip:x@h>;counter=99999999999"),
        ]
    )
    latest, second, last = read_diversions_untrusted(request)
    assert (latest.reason, latest.counter, latest.is_private) == ("no-answer", 2, True)
    assert (second.reason, second.counter, second.is_private) == ("unconditional", 1, False)
    assert (last.reason, last.counter) == ("unknown", 1)
    assert diversion_count(request) == 4


def test_diversion_becomes_history():
    """RFC 7544: the oldest is the first entry, and each cause stands where the call was diverted to."""
    request = build_request(
        headers=[("Diversion", "<sip:c@h>;reason=no-answer;privacy=full, <tel:+1>;reason=unconditional")]
    )
    values = history_from_diversions(request)
    assert values == [
        "<tel:+1>;index=1",
        "<sip:c@h;cause=302?Privacy=history>;index=1.1;mp=1",
        f"<{BOB};cause=408>;index=1.1.1;mp=1.1",
    ]
    assert diversion_count(with_history(*values)) == 2
    assert history_from_diversions(build_request()) == []
