"""Subscriptions between two user agents on a fake network: `Subscriber` at 10.0.0.1, `Notifier` at 10.0.0.2."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ims_as.sip.core import EndpointCore
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.event_headers import EventType
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, build_response
from ims_as.sip.notifier import Notifier, NotifierEvent
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.subscription import Notified, Subscriber, SubscriptionEnded, SubscriptionEvent, refresh_delay
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.support.link import bad_link, link_pair

REG = EventType("reg")
BODY = "application/reginfo+xml"


class Watcher:
    """Keeps what a subscriber says."""

    def __init__(self, endpoint: EndpointCore) -> None:
        self.agent = UserAgent(
            endpoint, on_invite=_unwanted, on_request=_unwanted, user_agent="w", allow="SUBSCRIBE, NOTIFY"
        )
        endpoint.user = self.agent
        self.events: list[SubscriptionEvent] = []

    def subscribe(self, **options: object) -> Subscriber:
        chosen: dict[str, object] = {
            "uri": "sip:bob@10.0.0.2",
            "from_": "<sip:as@10.0.0.1>",
            "to": "<sip:bob@example.net>",
            "event": REG,
            "expires_s": 600,
            "accept": BODY,
            "on_event": lambda _, event: self.events.append(event),
            **options,
        }
        return Subscriber.subscribe(self.agent, **chosen)  # type: ignore[arg-type]

    @property
    def bodies(self) -> list[bytes]:
        return [event.request.body for event in self.events if isinstance(event, Notified)]

    @property
    def end(self) -> SubscriptionEnded:
        ends = [event for event in self.events if isinstance(event, SubscriptionEnded)]
        assert len(ends) == 1
        assert self.events[-1] is ends[0]
        return ends[0]


class Watched:
    """Accepts subscriptions, or answers with the next of `answers`."""

    def __init__(self, endpoint: EndpointCore) -> None:
        self.agent = UserAgent(
            endpoint, on_invite=_unwanted, on_request=self._on_request, user_agent="", allow="SUBSCRIBE"
        )
        endpoint.user = self.agent
        self.endpoint = endpoint
        self.notifiers: list[Notifier] = []
        self.events: list[NotifierEvent] = []
        self.answers: list[tuple[int, tuple[tuple[str, str], ...]]] = []
        self.is_silent = False
        """Accepts, but never notifies."""
        self.longest_s = 3600
        self.requests: list[Request] = []

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.requests.append(request)
        if self.answers:
            status, headers = self.answers.pop(0)
            self.endpoint.send_response(transaction, build_response(request, status, headers=headers))
        elif self.is_silent:
            self.endpoint.send_response(transaction, build_response(request, 200, headers=[("Expires", "600")]))
        else:
            notifier = Notifier.accept(
                self.agent,
                request,
                transaction,
                on_event=lambda _, event: self.events.append(event),
                longest_s=self.longest_s,
            )
            if notifier is not None:
                self.notifiers.append(notifier)
                notifier.notify(b"first", BODY)


def _unwanted(request: Request, transaction: ServerTransaction) -> None:
    raise AssertionError(request)


class Pair:
    def __init__(self) -> None:
        self.network, a, b = link_pair()
        self.watcher = Watcher(a)
        self.watched = Watched(b)

    def run(self, seconds: float) -> Pair:
        self.network.run(seconds)
        return self

    def lose(self, *methods: str) -> None:
        """Loses requests of these methods, and their responses."""

        def fate(data: bytes, source: object, target: object) -> Sequence[float]:
            return () if parse_message_untrusted(data).cseq.method in methods else (0.001,)

        self.network.fate = fate

    def finish(self) -> None:
        self.run(40)
        self.network.assert_clean()


def test_subscribe_notify_and_unsubscribe():
    pair = Pair()
    subscriber = pair.watcher.subscribe()
    pair.run(1)
    assert pair.network.messages() == ["SUBSCRIBE", "200 SUBSCRIBE", "NOTIFY", "200 NOTIFY"]
    request = pair.watched.requests[0]
    assert request.headers.get("Event") == "reg"
    assert request.headers.get("Accept") == BODY
    assert request.expires == 600
    pair.watched.notifiers[0].notify(b"second", BODY)
    pair.run(1)
    assert pair.watcher.bodies == [b"first", b"second"]
    notified = pair.watcher.events[-1]
    assert isinstance(notified, Notified)
    assert notified.state.state == "active"
    assert notified.state.expires_s == 599
    subscriber.unsubscribe()
    subscriber.unsubscribe()
    pair.run(1)
    assert pair.network.messages()[6:] == ["SUBSCRIBE", "200 SUBSCRIBE", "NOTIFY", "200 NOTIFY"]
    assert pair.watcher.end.reason == "unsubscribed"
    assert [type(event).__name__ for event in pair.watched.events] == ["NotifierEnded"]
    assert not pair.watched.notifiers[0].notify(b"third", BODY)
    pair.finish()


def test_refreshed_at_half_until_the_notifier_ends_it():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1000)
    assert [type(event).__name__ for event in pair.watched.events] == ["Refreshed"] * 3
    assert len(pair.watcher.bodies) == 4, "each SUBSCRIBE is followed by the state"
    pair.watched.notifiers[0].terminate("probation", b"last", BODY, retry_after_s=30)
    pair.run(1)
    assert (pair.watcher.end.reason, pair.watcher.end.retry_after_s) == ("probation", 30)
    assert pair.watcher.bodies[-1] == b"last"
    pair.finish()


@pytest.mark.parametrize(("expires", "delay"), [(7200, 6600), (1200, 600), (600, 300), (4, 5)])
def test_when_it_is_refreshed(expires: float, delay: float):
    assert refresh_delay(expires) == delay


def test_the_notifier_may_grant_less_and_say_less_in_a_notify():
    pair = Pair()
    pair.watched.longest_s = 100
    pair.watcher.subscribe()
    pair.run(60)
    assert len(pair.watched.events) == 1, "refreshed at 50 s"
    pair.watched.agent.endpoint.dialog_gauges.clear()
    pair.watched.notifiers[0].terminate("rejected")
    pair.run(1)
    assert pair.watcher.end.retry_after_s is None
    pair.run(40)


def test_refused_for_good_and_for_now():
    for status, headers, retry in (
        (489, (), None),
        (403, (), None),
        (503, (("Retry-After", "12"),), 12),
        (480, (), 60),
    ):
        pair = Pair()
        pair.watched.answers = [(status, headers)]
        pair.watcher.subscribe()
        pair.run(1)
        assert (pair.watcher.end.reason, pair.watcher.end.status) == ("refused", status)
        assert pair.watcher.end.retry_after_s == retry
        pair.finish()


def test_too_brief_an_interval_is_raised_once():
    pair = Pair()
    pair.watcher.subscribe(expires_s=30)
    pair.run(1)
    assert [request.expires for request in pair.watched.requests] == [30, 60]
    assert [request.cseq.number for request in pair.watched.requests] == [1, 2]
    assert pair.watcher.bodies == [b"first"]
    pair.watched.notifiers[0].terminate("noresource")
    pair.finish()
    pair = Pair()
    pair.watched.answers = [(423, (("Min-Expires", "700"),)), (423, (("Min-Expires", "900"),))]
    pair.watcher.subscribe()
    pair.run(1)
    assert (pair.watcher.end.reason, pair.watcher.end.status) == ("refused", 423)
    pair.finish()


def test_no_notify_no_subscription():
    pair = Pair()
    pair.watched.is_silent = True
    pair.watcher.subscribe()
    pair.run(31)
    assert not any(isinstance(event, SubscriptionEnded) for event in pair.watcher.events)
    pair.run(2)
    assert pair.watcher.end.reason == "no-notify"
    pair.finish()


def test_nobody_answers():
    pair = Pair()
    pair.lose("SUBSCRIBE")
    pair.watcher.subscribe()
    pair.run(40)
    assert pair.watcher.end.reason == "no answer"
    pair.finish()
    pair.watcher.events.clear()
    pair.watcher.subscribe(uri="tel:+15550100")
    pair.run(1)
    assert pair.watcher.end.reason == "unreachable"
    pair.finish()


def test_a_failed_refresh_leaves_it_until_it_expires():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1)
    pair.lose("SUBSCRIBE", "NOTIFY")
    pair.run(590)
    assert not any(isinstance(event, SubscriptionEnded) for event in pair.watcher.events)
    pair.run(20)
    assert pair.watcher.end.reason == "expired"
    pair.finish()


def test_a_refused_refresh_is_tried_again_before_it_expires():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1)
    notifier = pair.watched.notifiers[0]
    receive, refused = notifier.receive_request, []

    def refuse_once(request: Request, transaction: ServerTransaction) -> bool:
        if refused:
            return receive(request, transaction)
        refused.append(request)
        pair.watched.endpoint.send_response(transaction, build_response(request, 503))
        return True

    notifier.receive_request = refuse_once  # type: ignore[method-assign]
    pair.run(590)
    assert refused
    assert [type(event).__name__ for event in pair.watched.events] == ["Refreshed"]
    assert not any(isinstance(event, SubscriptionEnded) for event in pair.watcher.events)
    notifier.terminate("noresource")
    pair.finish()


def test_a_refresh_that_is_answered_481_ends_it():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1)
    notifier = pair.watched.notifiers[0]
    pair.watched.agent.detach(*notifier._channel.key, notifier)
    pair.run(310)
    assert (pair.watcher.end.reason, pair.watcher.end.status) == ("refused", 481)
    notifier.terminate("giveup")
    pair.finish()
    assert pair.network.messages()[-2:] == ["NOTIFY", "481 NOTIFY"]


def test_the_notify_may_come_before_the_2xx_and_unsubscribe_before_both():
    pair = Pair()
    late = {"200 SUBSCRIBE"}

    def fate(data: bytes, source: object, target: object) -> Sequence[float]:
        message = parse_message_untrusted(data)
        name = "" if isinstance(message, Request) else f"{message.status} {message.cseq.method}"
        return (0.1,) if name in late else (0.001,)

    pair.network.fate = fate
    subscriber = pair.watcher.subscribe()
    subscriber.unsubscribe()
    pair.run(2)
    assert [type(event).__name__ for event in pair.watcher.events] == [
        "Notified",
        "SubscriptionAccepted",
        "Notified",
        "SubscriptionEnded",
    ]
    assert pair.watcher.end.reason == "unsubscribed"
    pair.finish()


def test_unsubscribing_where_no_notify_follows():
    """As Kamailio 5.6 does it."""
    pair = Pair()
    subscriber = pair.watcher.subscribe()
    pair.run(1)
    pair.lose("NOTIFY")
    subscriber.unsubscribe()
    pair.run(1)
    assert pair.watcher.end.reason == "unsubscribed"
    pair.run(40)
    pair.finish()


def test_other_forks_and_other_events_are_refused():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1)
    request = pair.watched.requests[0]

    def notify(event: str, from_tag: str, cseq: int, state: str = "active") -> str:
        text = (
            f"NOTIFY sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK{event}{from_tag}{cseq}\r\n"
            f"From: <sip:bob@example.net>;tag={from_tag}\r\nTo: <sip:as@10.0.0.1>;tag={request.from_tag}\r\n"
            f"Call-ID: {request.call_id}\r\nCSeq: {cseq} NOTIFY\r\nMax-Forwards: 70\r\nEvent: {event}\r\n"
            f"Subscription-State: {state}\r\nContact: <sip:10.0.0.2>\r\nContent-Length: 0\r\n\r\n"
        )
        a = pair.network.endpoints["10.0.0.1", 5060]
        a.receive_datagram_untrusted(text.encode(), Flow("UDP", a.address, ("10.0.0.2", 5060)))
        return pair.network.messages(a)[-1]

    own_tag = pair.watched.notifiers[0]._channel.dialog.id.local_tag
    assert notify("reg", "another", 50) == "481 NOTIFY"
    assert notify("presence", own_tag, 51) == "481 NOTIFY"
    assert notify("reg;id=1", own_tag, 52) == "481 NOTIFY"
    assert notify("reg", own_tag, 60, ";;") == "400 NOTIFY"
    assert notify("reg", own_tag, 61) == "200 NOTIFY"
    assert notify("reg", own_tag, 53) == "500 NOTIFY", "out of order"
    assert len(pair.watcher.bodies) == 2
    assert notify("reg", own_tag, 62, "terminated;reason=noresource") == "200 NOTIFY"
    assert pair.watcher.end.retry_after_s is None
    pair.watched.notifiers[0].terminate("noresource")
    pair.finish()


def test_states_do_not_overtake_each_other_and_the_latest_wins():
    network, a, b = link_pair(bad_link(7, loss=0.3, duplicate=0.2, jitter_s=0.4))
    watcher, watched = Watcher(a), Watched(b)
    watcher.subscribe(expires_s=3600)
    network.run(10)
    for n in range(50):
        watched.notifiers[0].notify(str(n).encode(), BODY)
        network.run(0.2)
    network.run(30)
    assert watcher.bodies[-1] == b"49"
    numbers = [int(body) for body in watcher.bodies if body != b"first"]
    assert numbers == sorted(numbers)
    assert len(numbers) < 50, "some were replaced while they waited"
    answered = 0
    for _, source, _, data in network.sent:
        message = parse_message_untrusted(data)
        if message.cseq.method == "NOTIFY" and source == a.address:
            answered = max(answered, message.cseq.number)
        elif message.cseq.method == "NOTIFY":
            assert message.cseq.number <= answered + 1, "one at a time"
    watched.notifiers[0].terminate("noresource")
    network.run(80)
    network.assert_clean()


def test_a_subscriber_that_is_gone_costs_nothing():
    pair = Pair()
    subscriber = pair.watcher.subscribe()
    pair.run(1)
    pair.lose("NOTIFY", "SUBSCRIBE")
    pair.watched.notifiers[0].notify(b"x", BODY)
    pair.run(40)
    assert [getattr(event, "reason", "") for event in pair.watched.events] == ["unreachable"]
    subscriber.unsubscribe()
    pair.run(80)
    pair.finish()


def test_the_notifier_lets_it_expire_and_a_fetch_is_one_notify():
    pair = Pair()
    pair.watcher.subscribe()
    pair.run(1)
    pair.lose("SUBSCRIBE")
    pair.run(605)
    assert [getattr(event, "reason", "") for event in pair.watched.events] == ["expired"]
    pair.run(40)
    pair.finish()
    pair = Pair()
    pair.watcher.subscribe(expires_s=0)
    pair.run(1)
    assert pair.watcher.bodies == [b"first"]
    assert pair.network.messages() == ["SUBSCRIBE", "200 SUBSCRIBE", "NOTIFY", "200 NOTIFY"]
    pair.finish()


def test_a_subscribe_without_event_is_malformed():
    pair = Pair()
    subscriber = pair.watcher.subscribe()
    subscriber.request.headers.set("Event", ";;")
    request = Request("SUBSCRIBE", "sip:bob@10.0.0.2", subscriber.request.headers.items())
    request.headers.remove("Via")
    request.headers.set("Call-ID", "other")
    statuses: list[int] = []
    pair.watcher.agent.endpoint.send_request(
        request, on_event=lambda event: statuses.append(getattr(event, "response", build_response(request, 999)).status)
    )
    pair.run(1)
    assert statuses == [400]
    subscriber.unsubscribe()
    pair.finish()


def test_our_own_mistakes_raise_and_leave_nothing():
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.watcher.subscribe(from_="<<")
    with pytest.raises(LocalProtocolError):
        pair.watcher.subscribe(headers=[("X", "a\r\nb")])
    pair.finish()
