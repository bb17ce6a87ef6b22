"""REFER both ways between two user agents on a fake network."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.invite_session import InviteSession, RequestReceived, SessionEvent
from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.refer import (
    ReferAccepted,
    ReferEvent,
    ReferFailed,
    ReferFinal,
    ReferProgress,
    ReferReceiver,
    ReferSender,
    format_refer_to,
    format_sipfrag,
    parse_refer_to_untrusted,
    parse_sipfrag_untrusted,
)
from ims_as.sip.transaction import ClientEvent, ResponseReceived
from tests.support.link import bad_link, link_pair
from tests.support.sip_agents import RecordingAgent

CAROL = "sip:carol@10.0.0.3"

# ---------------------------------------------------------------- Refer-To, sipfrag


@pytest.mark.parametrize(
    ("text", "uri", "method", "replaces"),
    [
        ("<sip:carol@h>", "sip:carol@h", "INVITE", None),
        ('"Carol" <sip:carol@h;user=phone;method=INVITE>;x=1', "sip:carol@h;user=phone", "INVITE", None),
        ("sip:carol@h", "sip:carol@h", "INVITE", None),
        ("tel:+1555", "tel:+1555", "INVITE", None),
        ("<sip:c@h;method=bye>", "sip:c@h", "BYE", None),
        (
            "<sip:c@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only>",
            "sip:c@h",
            "INVITE",
            "a@b;to-tag=1;from-tag=2;early-only",
        ),
        ("sip:c@h?replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2", "sip:c@h", "INVITE", "a;to-tag=1;from-tag=2"),
    ],
)
def test_refer_to(text: str, uri: str, method: str, replaces: str | None):
    target = parse_refer_to_untrusted(text)
    assert (target.uri, target.method, target.replaces) == (uri, method, replaces)


def test_headers_that_would_forge_a_request_are_left_out():
    target = parse_refer_to_untrusted(
        "<sip:c@h?Route=%3Csip%3Aevil%3E&P-Asserted-Identity=%3Csip%3Ax%3E&User-to-User=04aa%3Bencoding%3Dhex&From=x&body=y"
        "&Subject=a%0d%0aVia%3A%20x>"
    )
    assert target.headers == (("User-to-User", "04aa;encoding=hex"),)
    assert target.replaces is None


@pytest.mark.parametrize("text", ["", "<sip:a@h>, <sip:b@h>", "<>", "carol", "<sip:a b@h>"])
def test_malformed_refer_to(text: str):
    with pytest.raises(SipParseError):
        parse_refer_to_untrusted(text)


def test_refer_to_goes_there_and_back():
    replaces = "abc@10.0.0.1;to-tag=7;from-tag=8"
    text = format_refer_to(CAROL, replaces=replaces, headers=[("User-to-User", "04aa;encoding=hex")])
    target = parse_refer_to_untrusted(text)
    assert (target.uri, target.replaces) == (CAROL, replaces)
    assert target.headers == (("User-to-User", "04aa;encoding=hex"),)
    assert format_refer_to("tel:+1555") == "<tel:+1555>"
    for bad in ("carol", "sip:a b@h"):
        with pytest.raises(LocalProtocolError):
            format_refer_to(bad)
    with pytest.raises(LocalProtocolError):
        format_refer_to("tel:+1555", replaces=replaces)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"SIP/2.0 180 Ringing\r\n", (180, "Ringing")),
        (b"SIP/2.0 200 OK", (200, "OK")),
        (b"SIP/2.0 200\r\nTo: x\r\n", (200, "")),
        (b"\r\nSIP/2.0  486   Busy Here\r\nWarning: x\r\n", (486, "Busy Here")),
        (b"SIP/2.0 99 x\r\n", None),
        (b"SIP/2.0 2000 x\r\n", None),
        (b"INVITE sip:x SIP/2.0\r\n", None),
        (b"", None),
    ],
)
def test_sipfrag(body: bytes, found: tuple[int, str] | None):
    assert parse_sipfrag_untrusted(body) == found


def test_sipfrag_goes_there_and_back():
    assert parse_sipfrag_untrusted(format_sipfrag(603)) == (603, "Decline")
    assert format_sipfrag(500, "a\r\nb") == b"SIP/2.0 500 a  b\r\n"


@given(st.binary(max_size=300), st.text(max_size=200))
def test_readers_survive_anything(body: bytes, text: str):
    parse_sipfrag_untrusted(body)
    with contextlib.suppress(SipParseError):
        parse_refer_to_untrusted(text)


# ---------------------------------------------------------------- the two sides


class Referral:
    """Alice calls Bob and refers him to Carol; Bob accepts and tells by hand."""

    def __init__(self) -> None:
        self.network, a, b = link_pair()
        self.alice = RecordingAgent(a)
        self.bob = RecordingAgent(b, lambda _, session: _answer(session))
        self.bob.handlers[RequestReceived] = self._on_request
        self.events: list[ReferEvent] = []
        self.receivers: list[ReferReceiver] = []
        self.errors: list[SipParseError] = []
        self.is_willing = True
        self.caller = self.alice.call()
        self.network.run(1)

    def _on_request(self, session: InviteSession, event: SessionEvent) -> None:
        assert isinstance(event, RequestReceived)
        if event.request.method != "REFER":
            return
        try:
            receiver = ReferReceiver(session, event)
        except SipParseError as error:
            self.errors.append(error)
            session.respond(event, error.status_hint)
            return
        self.receivers.append(receiver)
        if self.is_willing:
            receiver.accept()
        else:
            receiver.reject(603)

    def refer(self, **options: object) -> ReferSender:
        sender = ReferSender(
            self.caller,
            format_refer_to(CAROL),
            on_event=lambda _, event: self.events.append(event),
            **options,  # type: ignore[arg-type]
        )
        self.network.run(1)
        return sender

    def tell(self, *statuses: int) -> None:
        for status in statuses:
            self.receivers[-1].notify(status)
            self.network.run(1)

    def lose(self, *methods: str) -> None:
        def fate(data: bytes, source: object, target: object) -> Sequence[float]:
            return () if parse_message_untrusted(data).cseq.method in methods else (0.001,)

        self.network.fate = fate

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def finish(self) -> None:
        self.caller.bye()
        self.network.run(500)
        self.network.assert_clean()
        finals = [event for event in self.events if isinstance(event, ReferFinal | ReferFailed)]
        assert len(finals) <= 1


def _answer(session: InviteSession) -> None:
    session.answer(b"v=0\r\n")


def notifies(referral: Referral) -> list[Request]:
    found = [parse_message_untrusted(data) for _, _, _, data in referral.network.sent]
    return [each for each in found if isinstance(each, Request) and each.method == "NOTIFY"]


def test_refer_with_its_whole_story():
    referral = Referral()
    referral.refer(referred_by="<sip:alice@10.0.0.1>")
    receiver = referral.receivers[0]
    assert (receiver.target.uri, receiver.wants_outcome) == (CAROL, True)
    assert receiver.referred_by is not None
    assert receiver.referred_by.uri_text == "sip:alice@10.0.0.1"
    assert referral.names == ["ReferAccepted"], "100 is no news"
    referral.tell(180, 200)
    assert referral.events[1:] == [ReferProgress(180, "Ringing"), ReferFinal(200, "OK")]
    assert not receiver.notify(200)
    sent = notifies(referral)
    assert [request.body for request in sent] == [
        b"SIP/2.0 100 Trying\r\n",
        b"SIP/2.0 180 Ringing\r\n",
        b"SIP/2.0 200 OK\r\n",
    ]
    assert [request.headers.get("Event") for request in sent] == ["refer"] * 3
    assert [request.headers.get("Subscription-State") for request in sent] == [
        "active;expires=360",
        "active;expires=359",
        "terminated;reason=noresource",
    ]
    assert sent[0].headers.get("Content-Type") == "message/sipfrag;version=2.0"
    assert referral.network.messages()[3:5] == ["REFER", "202 REFER"]
    referral.finish()


def test_refused():
    referral = Referral()
    referral.is_willing = False
    referral.refer()
    assert referral.events == [ReferFailed(603, "Decline")]
    assert notifies(referral) == []
    assert not referral.receivers[0].accept()
    referral.finish()


def test_without_outcome():
    """RFC 4488: neither side subscribes."""
    referral = Referral()
    referral.refer(wants_outcome=False)
    assert not referral.receivers[0].wants_outcome
    [event] = referral.events
    assert isinstance(event, ReferAccepted)
    assert not event.tells_outcome
    assert event.response.headers.get("Refer-Sub") == "false"
    assert not referral.receivers[0].notify(200)
    assert notifies(referral) == []
    referral.finish()


def test_the_call_may_end_before_the_outcome():
    """The referrer hangs up as soon as the REFER is accepted: the NOTIFYs come in what is left of the dialog."""
    referral = Referral()
    referral.refer()
    referral.caller.bye()
    referral.network.run(1)
    assert referral.alice.endpoint.stats.dialogs == 1
    referral.tell(180, 486)
    assert referral.events[-1] == ReferFinal(486, "Busy Here")
    assert all(request.cseq.number == n + 1 for n, request in enumerate(notifies(referral)))
    referral.finish()


def test_a_second_refer_names_itself():
    referral = Referral()
    referral.refer()
    other: list[ReferEvent] = []
    second = ReferSender(referral.caller, "<sip:dave@10.0.0.4>", on_event=lambda _, event: other.append(event))
    referral.network.run(1)
    cseq = referral.receivers[1].request.cseq.number
    referral.receivers[1].notify(404)
    referral.network.run(1)
    assert notifies(referral)[-1].headers.get("Event") == f"refer;id={cseq}"
    assert other[-1] == ReferFinal(404, "Not Found")
    assert second.is_done
    assert referral.names == ["ReferAccepted"]
    referral.receivers[0].notify(200)
    referral.network.run(1)
    assert referral.events[-1] == ReferFinal(200, "OK")
    referral.finish()


def test_no_outcome_in_time_and_late_ones_are_refused():
    referral = Referral()
    referral.refer(outcome_limit_s=20.0)
    referral.network.run(30)
    assert referral.events[-1] == ReferFailed(408, "no outcome in time")
    referral.receivers[0].notify(200)
    referral.network.run(1)
    assert referral.network.messages()[-2:] == ["NOTIFY", "481 NOTIFY"]
    referral.finish()


def test_the_referee_ends_it_without_an_outcome():
    referral = Referral()
    referral.refer()
    notifier = referral.receivers[0]._notifier
    assert notifier is not None
    notifier.terminate("giveup")
    referral.network.run(1)
    assert referral.events[-1] == ReferFailed(408, "no outcome: giveup")
    referral.finish()


def test_closing_tells_503_unless_told():
    referral = Referral()
    referral.refer()
    referral.receivers[0].close()
    referral.receivers[0].close()
    referral.network.run(1)
    assert referral.events[-1] == ReferFinal(503, "Service Unavailable")
    referral.finish()


def test_nobody_answers_the_refer():
    referral = Referral()
    referral.lose("REFER")
    referral.refer()
    referral.network.run(40)
    assert referral.events == [ReferFailed(408, "no answer")]
    referral.finish()


def test_given_up():
    referral = Referral()
    sender = referral.refer()
    sender.give_up()
    referral.tell(200)
    assert referral.names == ["ReferAccepted"]
    referral.finish()


def test_a_final_sipfrag_counts_though_the_subscription_goes_on():
    """Some referees send the outcome as ``active`` and end the subscription with another NOTIFY."""
    referral = Referral()
    referral.refer()
    notifier = referral.receivers[0]._notifier
    assert notifier is not None
    notifier.notify(format_sipfrag(200), "message/sipfrag")
    referral.network.run(1)
    assert referral.events[-1] == ReferFinal(200, "OK")
    notifier.terminate("noresource", format_sipfrag(200), "message/sipfrag")
    referral.network.run(1)
    assert referral.network.messages()[-1] == "200 NOTIFY"
    assert referral.names == ["ReferAccepted", "ReferFinal"]
    referral.finish()


def test_a_malformed_refer_is_refused():
    referral = Referral()
    referral.caller.send_request("REFER", headers=[("Refer-To", "<sip:a@h>"), ("Refer-To", "<sip:b@h>")])
    referral.caller.send_request("REFER")
    referral.network.run(1)
    assert len(referral.errors) == 2
    assert referral.network.messages().count("400 REFER") == 2
    referral.finish()


def test_a_refer_needs_a_call():
    referral = Referral()
    referral.finish()
    with pytest.raises(LocalProtocolError):
        referral.refer()


@pytest.mark.parametrize("seed", range(8))
def test_on_a_bad_network(seed: int):
    referral = Referral()
    referral.network.fate = bad_link(seed, loss=0.25, duplicate=0.2, jitter_s=0.3)
    referral.refer()
    referral.network.run(20)
    if referral.receivers:
        referral.tell(180)
        referral.tell(200)
    referral.network.run(60)
    assert referral.events[-1] in (ReferFinal(200, "OK"), ReferFailed(408, "no answer"))
    referral.finish()


def test_subscriptions_that_do_not_exist():
    referral = Referral()
    statuses: list[tuple[int, str | None]] = []

    def note(event: ClientEvent) -> None:
        assert isinstance(event, ResponseReceived)
        statuses.append((event.response.status, event.response.headers.get("Allow-Events")))

    for method in ("NOTIFY", "SUBSCRIBE"):
        referral.caller.send_request(method, headers=[("Event", "refer")], on_event=note)
    referral.network.run(1)
    assert statuses == [(481, None), (489, "refer")]
    referral.finish()
