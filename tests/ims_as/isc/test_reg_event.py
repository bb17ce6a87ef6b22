"""Following registrations by the reg event package; the S-CSCF at 10.0.0.2 is a `Notifier`."""

from __future__ import annotations

import pytest

from ims_as.isc.reg_event import RegEvents
from ims_as.isc.registration import RegistrationTable
from ims_as.sip.message import Request, build_response
from ims_as.sip.notifier import Notifier
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.ims_as.isc.test_reginfo import contact, document
from tests.ims_as.isc_messages import BOB, build_request
from tests.support.link import link_pair

TYPE = "application/reginfo+xml"
IDENTITY = "sip:as@10.0.0.1"


class Network:
    """The application server and an S-CSCF that can refuse."""

    def __init__(self, *, max_subscriptions: int = 10) -> None:
        self.link, ours, scscf = link_pair()
        agent = UserAgent(ours, on_invite=_unwanted, on_request=_unwanted, user_agent="", allow="NOTIFY")
        ours.user = agent
        self.table = RegistrationTable()
        self.events = RegEvents(
            agent,
            self.table,
            identity=IDENTITY,
            own_ioi="Type 3as",
            wall=self.link.clock,
            max_subscriptions=max_subscriptions,
        )
        self.scscf = UserAgent(
            scscf, on_invite=_unwanted, on_request=self._on_subscribe, user_agent="", allow="SUBSCRIBE"
        )
        scscf.user = self.scscf
        self.subscribes: list[Request] = []
        self.notifiers: list[Notifier] = []
        self.refusal: int | None = None
        self.first = document(0, "full", contact("a"))

    def _on_subscribe(self, request: Request, transaction: ServerTransaction) -> None:
        self.subscribes.append(request)
        if self.refusal is not None:
            self.scscf.endpoint.send_response(transaction, build_response(request, self.refusal))
            return
        notifier = Notifier.accept(self.scscf, request, transaction, longest_s=10_000, on_event=lambda *_: None)
        assert notifier is not None
        self.notifiers.append(notifier)
        notifier.notify(self.first, TYPE)

    def register(self, *, to: str = BOB, expires: int = 3600, headers: tuple[tuple[str, str], ...] = ()) -> None:
        items = [("Expires", str(expires)), ("Contact", "<sip:10.0.0.2:5060;transport=udp>"), *headers]
        request = build_request("REGISTER", "sip:10.0.0.1", items)
        request.headers.set("To", f"<{to}>")
        assert self.table.receive_register(request, now=self.link.clock()).status == 200
        self.events.note_register(request)
        self.link.run(1)

    def tell(self, xml: bytes, content_type: str = TYPE) -> None:
        self.notifiers[-1].notify(xml, content_type)
        self.link.run(1)

    def contacts(self, impu: str = BOB) -> list[str] | None:
        registration = self.table.get(impu, now=self.link.clock())
        return None if registration is None else [each.uri for each in registration.contacts]

    def finish(self) -> None:
        ended: list[bool] = []
        self.events.close(lambda: ended.append(True))
        self.link.run(100)
        assert ended == [True]
        assert len(self.events) == 0
        self.link.assert_clean()


def _unwanted(request: Request, transaction: ServerTransaction) -> None:
    raise AssertionError(request)


def test_a_registration_is_followed_to_its_end():
    net = Network()
    net.register(headers=(("P-Charging-Vector", "icid-value=7;orig-ioi=x"),))
    [request] = net.subscribes
    assert request.uri == BOB
    assert request.to.uri_text == BOB
    assert request.from_.uri_text == IDENTITY
    assert request.routes == ["<sip:10.0.0.2:5060;transport=udp;lr>"]
    assert request.headers.get("P-Asserted-Identity") == f"<{IDENTITY}>"
    assert request.headers.get("P-Charging-Vector") == 'icid-value=7;orig-ioi="Type 3as"'
    assert request.headers.get("Accept") == TYPE
    assert request.expires == 4200
    assert net.contacts() == ["sip:a@192.0.2.5"]
    net.register()
    assert len(net.subscribes) == 1, "a refreshed registration is the same subscription"
    net.tell(document(1, "partial", contact("b")))
    assert net.contacts() == ["sip:a@192.0.2.5", "sip:b@192.0.2.5"]
    net.tell(document(2, "partial", contact("a", "terminated")))
    assert net.contacts() == ["sip:b@192.0.2.5"]
    net.notifiers[-1].terminate(
        "noresource", document(3, "partial", contact("b", "terminated"), record_state="terminated"), TYPE
    )
    net.link.run(1)
    assert net.contacts() is None
    assert len(net.events) == 0
    net.finish()


def test_the_time_of_the_contacts_is_the_registrations():
    net = Network()
    net.register()
    net.link.run(50)
    assert net.contacts() is not None
    net.link.run(20)
    assert net.contacts() is None, "60 s were told"
    net.finish()


def test_a_de_registration_need_not_be_the_last_contacts():
    net = Network()
    net.register()
    net.register(expires=0)
    assert net.contacts() is None
    net.tell(document(1, "partial", contact("a", "terminated"), contact("b")))
    assert net.contacts() == ["sip:b@192.0.2.5"]
    net.finish()


def test_other_identities_of_the_set_need_no_subscription():
    net = Network()
    both = document(0, "full", contact("a")).replace(
        b"</reginfo>",
        b'<registration aor="tel:+15550100" id="r2" state="active">'
        + contact("a").encode()
        + b"</registration></reginfo>",
    )
    net.first = both
    net.register()
    assert net.contacts("tel:+1-555-0100") == ["sip:a@192.0.2.5"]
    net.register(to="tel:+15550100", headers=(("P-Associated-URI", f"<{BOB}>, <tel:+15550100>"),))
    assert len(net.subscribes) == 1
    net.register(to="sip:carol@example.net")
    assert len(net.subscribes) == 2
    net.finish()


def test_a_missing_version_is_asked_for():
    net = Network()
    net.register()
    net.tell(document(5, "partial", contact("b")))
    assert net.events.counts["gap"] == 2
    # the refresh was answered by the notifier with what it told last; now it tells everything
    assert net.link.messages().count("SUBSCRIBE") == 2
    net.tell(document(6, "full", contact("c")))
    assert net.contacts() == ["sip:c@192.0.2.5"]
    net.tell(document(9, "partial", contact("d")))
    assert net.events.counts["gap"] >= 3
    assert net.link.messages().count("SUBSCRIBE") == 2, "not more often than every 30 s"
    net.finish()


@pytest.mark.parametrize("status", [403, 489])
def test_an_s_cscf_that_refuses_is_left_alone(status: int):
    net = Network()
    net.refusal = status
    net.register()
    net.register()
    assert len(net.subscribes) == 1
    assert net.contacts() == []
    assert len(net.events) == 0
    net.link.run(3700)
    net.refusal = None
    net.register()
    assert len(net.subscribes) == 2
    assert net.contacts() == ["sip:a@192.0.2.5"]
    net.finish()


def test_a_passing_failure_is_tried_again_with_the_next_register():
    net = Network()
    net.refusal = 503
    net.register()
    net.refusal = None
    net.link.run(100)
    assert len(net.subscribes) == 1
    net.register()
    assert len(net.subscribes) == 2
    net.finish()


def test_a_subscription_ended_by_the_notifier_begins_anew_while_the_user_is_registered():
    net = Network()
    net.first = document(0, "full", contact("a").replace('"60"', '"3600"'))
    net.register()
    net.notifiers[-1].terminate("deactivated")
    net.link.run(5)
    assert len(net.subscribes) == 2
    net.notifiers[-1].terminate("probation", retry_after_s=100)
    net.link.run(50)
    assert len(net.subscribes) == 2
    net.link.run(60)
    assert len(net.subscribes) == 3, "with version 0 again"
    assert net.contacts() == ["sip:a@192.0.2.5"]
    net.notifiers[-1].terminate("giveup", retry_after_s=100)
    net.link.run(1)
    net.finish()


@pytest.mark.parametrize("body", [b"<x/>", b"", b'<!DOCTYPE x><reginfo version="1" state="full"/>'])
def test_hostile_bodies_change_nothing(body: bytes):
    net = Network()
    net.register()
    net.tell(body)
    net.tell(document(1, "full"), "text/plain")
    assert net.contacts() == ["sip:a@192.0.2.5"]
    assert net.events.counts["malformed"] == (2 if body else 1)
    net.finish()


def test_bounded_and_closed_in_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ims_as.isc.reg_event.UNSUBSCRIBE_BATCH", 2)
    net = Network(max_subscriptions=5)
    for n in range(7):
        net.register(to=f"sip:{n}@example.net")
    assert (len(net.events), net.events.counts["too-many"]) == (5, 2)
    ended: list[float] = []
    net.events.close(lambda: ended.append(net.link.clock()))
    assert not ended
    net.link.run(1)
    assert len(ended) == 1
    assert len(net.events) == 0
    net.register(to="sip:9@example.net")
    assert len(net.subscribes) == 5
    net.finish()


def test_an_s_cscf_without_an_address_costs_nothing():
    net = Network()
    request = build_request("REGISTER", "sip:10.0.0.1", [("Expires", "60"), ("Contact", "<tel:+1>")])
    net.table.receive_register(request, now=net.link.clock())
    net.events.note_register(request)
    assert net.events.counts["malformed"] == 1
    net.finish()
