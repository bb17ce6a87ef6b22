"""A caller, a routeing B2BUA and a callee on a fake network: what goes across, message by message."""

from __future__ import annotations

import pytest

from ims_as.isc.b2bua_headers import CoupledHeaders
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.sip.coupling import Coupling, CouplingTable
from ims_as.sip.invite_session import InviteSession, ReinviteReceived, SessionState
from ims_as.sip.message import Request, Response
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.support.link import Fate, LinkNetwork, bad_link
from tests.support.scripted_party import Party
from tests.support.sip_agents import RecordingAgent

OWN, ODI = "<sip:term@10.0.0.9;lr>", "<sip:iscmark@10.0.0.2:5060;lr;s=2;h=0;a=7369703a31>"
OFFER = b"v=0\r\no=alice 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\n"
ANSWER = b"v=0\r\no=bob 5 5 IN IP4 10.0.0.2\r\ns=-\r\nt=0 0\r\n"


class Bridge:
    """10.0.0.1 → B2BUA 10.0.0.9 → 10.0.0.2; is the user of its couplings."""

    def __init__(self, *, passes_refer: bool = True, fate: Fate | None = None) -> None:
        self.network = LinkNetwork(timers=TimerConfig()) if fate is None else LinkNetwork(fate)
        self.alice = Party(self.network, "10.0.0.1")
        self.bob = Party(self.network, "10.0.0.2")
        self.core = self.network.add("10.0.0.9")
        self.table = CouplingTable(self.core)
        self.headers = CoupledHeaders(HeaderPolicy(own_ioi="Type 3own", host="as.h"), passes_refer=passes_refer)
        agent = UserAgent(self.core, on_invite=self._couple, on_request=self._refuse, user_agent="", allow="INVITE")
        agent.passthrough = self.table.receive_request
        agent.on_unhandled_ack = lambda ack, flow: self.table.receive_ack(ack) and None
        self.core.user = agent
        self.couplings: list[Coupling] = []
        self.told: list[tuple[object, ...]] = []

    def _couple(self, request: Request, transaction: ServerTransaction) -> None:
        coupling = Coupling(
            self.core,
            self.table,
            request,
            transaction,
            route=request.routes[1:],
            headers=self.headers,
            user=self,
            call_id=self.core.new_call_id(),
        )
        self.couplings.append(coupling)
        coupling.start()

    def _refuse(self, request: Request, transaction: ServerTransaction) -> None:
        raise AssertionError(request)

    def progress(self, status: int) -> None:
        self.told.append(("progress", status))

    def answered(self) -> None:
        self.told.append(("answered",))

    def failed(self, status: int, by: str) -> None:
        self.told.append(("failed", status, by))

    def ended(self, by: str, reason: str) -> None:
        self.told.append(("ended", by))

    def call(self, **options: object) -> Request:
        return self.alice.call("sip:bob@home.example", **{"route": [OWN, ODI], "body": OFFER, **options})  # type: ignore[arg-type]

    def talk(self, **options: object) -> None:
        """A call that is up."""
        self.call(**options)
        self.bob.respond(180)
        self.bob.respond(200, body=ANSWER)
        self.alice.ack(self.alice.dialog())

    def finish(self) -> None:
        self.network.run(400)
        self.network.assert_clean()
        assert not len(self.table)


def test_a_new_dialog_with_the_rest_of_the_route() -> None:
    bridge = Bridge()
    headers = [
        ("P-Asserted-Identity", "<tel:+1>"),
        ("P-Charging-Vector", 'icid-value=i1;orig-ioi="Type 3home"'),
        ("P-Served-User", "<sip:bob@home.example>;sescase=term"),
        ("X-Unknown", "a  b"),
        ("Supported", "100rel, gruu, timer"),
        ("Allow", "INVITE, ACK, BYE, PRACK, UPDATE, PUBLISH"),
        ("Session-ID", "ab" * 16 + ";remote=" + "0" * 32),
    ]
    sent = bridge.call(headers=headers, max_forwards=9)
    far = bridge.bob.latest()
    assert far.routes == [ODI]
    assert far.uri == "sip:bob@home.example"
    assert far.max_forwards == 8
    assert far.call_id != sent.call_id
    assert far.from_tag != sent.from_tag
    assert far.from_.uri_text == sent.from_.uri_text
    assert far.from_.display_name == "Alice"
    assert str(far.to) == str(sent.to)
    assert len(far.vias) == 1
    assert far.contact is not None
    assert far.contact.uri_text == "sip:10.0.0.9:5060"
    assert far.contact.has_param("+g.alice")
    assert far.body == OFFER
    assert far.content_type == "application/sdp"
    assert far.headers.get("P-Asserted-Identity") == "<tel:+1>"
    assert far.headers.get("P-Charging-Vector") == 'icid-value=i1;orig-ioi="Type 3own"'
    assert "P-Served-User" not in far.headers
    assert far.headers.get("X-Unknown") == "a  b"
    assert far.headers.get("Supported") == "100rel, timer"
    assert far.headers.get("Allow") == "INVITE, ACK, BYE, PRACK, UPDATE"
    assert far.headers.get("Session-ID") == "ab" * 16 + ";remote=" + "0" * 32
    bridge.bob.respond(180, headers=[("P-Asserted-Identity", "<sip:bob@home.example>"), ("X-Far", "1")])
    bridge.bob.respond(200, body=ANSWER)
    ringing, answered = bridge.alice.responses()
    assert ringing.to_tag != "bob"
    assert ringing.to_tag == answered.to_tag
    assert ringing.headers.get("X-Far") == "1"
    assert ringing.headers.get("P-Charging-Vector") == 'icid-value=i1;orig-ioi="Type 3home";term-ioi="Type 3own"'
    assert answered.body == ANSWER
    assert answered.contact is not None
    assert answered.contact.uri_text == "sip:10.0.0.9:5060"
    assert answered.contact.has_param("+g.bob")
    bridge.alice.ack(bridge.alice.dialog())
    (ack,) = bridge.bob.acks
    assert (ack.uri, ack.call_id, ack.to_tag, ack.cseq.number) == ("sip:bob@10.0.0.2", far.call_id, "bob", 1)
    assert bridge.told == [("progress", 180), ("answered",)]
    bridge.alice.say(bridge.alice.dialog(), "BYE", headers=[("Reason", "Q.850;cause=16"), ("X-Last", "words")])
    bye = bridge.bob.latest("BYE")
    assert (bye.call_id, bye.to_tag, bye.uri) == (far.call_id, "bob", "sip:bob@10.0.0.2")
    assert bye.headers.get("Reason") == "Q.850;cause=16"
    assert bye.headers.get("X-Last") == "words"
    assert bridge.told[-1] == ("ended", "caller")
    bridge.finish()


def test_the_callee_hangs_up() -> None:
    bridge = Bridge()
    bridge.talk()
    bridge.bob.say(bridge.bob.callee_dialog(), "BYE")
    assert bridge.alice.latest("BYE").uri == "sip:alice@10.0.0.1"
    assert bridge.told[-1] == ("ended", "callee")
    bridge.finish()


def test_both_hang_up_at_once() -> None:
    bridge = Bridge()
    bridge.talk()
    near, far = bridge.alice.dialog(), bridge.bob.callee_dialog()
    bridge.alice.endpoint.send_request(near.build_request("BYE"), on_event=bridge.alice._on_event)
    bridge.bob.say(far, "BYE")
    assert [each.status for each in bridge.alice.responses("BYE")] == [200]
    assert [each.status for each in bridge.bob.responses("BYE")] == [200]
    assert [each for each in bridge.told if each[0] == "ended"] in ([("ended", "caller")], [("ended", "callee")])
    bridge.finish()


@pytest.mark.parametrize(("status", "seen"), [(302, 302), (404, 404), (486, 486), (500, 500), (503, 500), (603, 603)])
def test_failures_come_back(status: int, seen: int) -> None:
    bridge = Bridge()
    bridge.call()
    contacts = [("Contact", "<sip:b2@x>, <sip:b3@x>;q=0.5")] if status == 302 else []
    bridge.bob.respond(status, headers=[*contacts, ("Reason", "Q.850;cause=17"), ("Retry-After", "9")])
    (response,) = bridge.alice.responses()
    assert response.status == seen
    assert response.headers.get("Reason") == "Q.850;cause=17"
    assert response.headers.get_all("Contact") == [value for _, value in contacts]
    assert ("Retry-After" in response.headers) == (status in (404, 486, 603))
    assert bridge.told == [("failed", status, "callee")]
    bridge.finish()


def test_nobody_there() -> None:
    bridge = Bridge()
    bridge.call(route=[OWN, "<sip:10.0.0.77;lr>"])
    bridge.network.run(40)
    assert [each.status for each in bridge.alice.responses()] == [408]
    assert bridge.told == [("failed", 408, "network")]
    bridge.finish()


def test_no_way_there() -> None:
    bridge = Bridge()
    bridge.call(route=[OWN, "<sip:10.0.0.77;transport=tcp;lr>"])
    assert [each.status for each in bridge.alice.responses()] == [500]
    bridge.finish()


def test_cancel() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180)
    bridge.alice.cancel([("Reason", "SIP;cause=200")])
    (cancel,) = bridge.bob.cancels
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    assert [each.status for each in bridge.alice.responses()] == [180, 487]
    assert bridge.told[-1] == ("failed", 487, "caller")
    bridge.finish()


def test_cancel_that_comes_too_late() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180)
    bridge.alice.endpoint.cancel(bridge.alice.client)  # type: ignore[arg-type]
    bridge.bob.respond(200, body=ANSWER)
    assert [each.status for each in bridge.alice.responses()] == [180, 200]
    bridge.alice.ack(bridge.alice.dialog())
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    assert bridge.bob.latest("BYE")
    bridge.finish()


def test_prack_goes_all_the_way() -> None:
    """RFC 3262: the far side's RSeq, the near side's PRACK, with the CSeq of each dialog's own INVITE."""
    bridge = Bridge()
    bridge.call(headers=[("Require", "100rel")])
    assert bridge.bob.latest().headers.get("Require") == "100rel"
    bridge.bob.respond(183, headers=[("Require", "100rel"), ("RSeq", "4711")], body=ANSWER)
    bridge.network.run(0.6)
    (progress,) = bridge.alice.responses()
    assert progress.headers.get("RSeq") == "4711"
    assert progress.headers.get("Require") == "100rel"
    dialog = bridge.alice.dialog()
    dialog.local_cseq = 41
    bridge.alice.say(dialog, "PRACK", headers=[("RAck", "4711 1 INVITE")], body=b"offer")
    prack = bridge.bob.latest("PRACK")
    assert prack.headers.get("RAck") == "4711 1 INVITE"
    assert (prack.to_tag, prack.cseq.number, prack.body) == ("bob", 2, b"offer")
    bridge.bob.respond(200, method="PRACK", body=b"answer")
    (done,) = bridge.alice.responses("PRACK")
    assert (done.status, done.body) == (200, b"answer")
    # an UPDATE in the early dialog, each way
    bridge.alice.say(dialog, "UPDATE", body=b"u1", contact=True)
    assert bridge.bob.latest("UPDATE").cseq.number == 3
    bridge.bob.respond(200, method="UPDATE", body=b"u2")
    assert bridge.alice.responses("UPDATE")[-1].body == b"u2"
    far = bridge.bob.callee_dialog()
    bridge.bob.say(far, "UPDATE", body=b"u3")
    assert bridge.alice.latest("UPDATE").uri == "sip:moved@10.0.0.1"
    bridge.alice.respond(200, method="UPDATE", body=b"u4")
    assert bridge.bob.responses("UPDATE")[-1].body == b"u4"
    bridge.bob.respond(200)
    bridge.alice.ack(bridge.alice.dialog())
    # the far dialog's CSeq goes on where the early one was
    bridge.alice.say(dialog, "INFO")
    assert bridge.bob.latest("INFO").cseq.number == 4
    bridge.bob.respond(200, method="INFO")
    bridge.alice.say(dialog, "BYE")
    bridge.finish()


@pytest.mark.parametrize("rack", ["4711 9 INVITE", "nonsense", None])
def test_prack_for_nothing(rack: str | None) -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(183, headers=[("Require", "100rel"), ("RSeq", "4711")])
    bridge.alice.say(bridge.alice.dialog(), "PRACK", headers=[] if rack is None else [("RAck", rack)])
    assert [each.status for each in bridge.alice.responses("PRACK")] == [481]
    bridge.bob.respond(480)
    bridge.finish()


def test_forks_are_dialogs_of_their_own() -> None:
    """Two callees ring, both are told of each other's end by 199 and by the answer of one."""
    bridge = Bridge()
    bridge.call(headers=[("Supported", "199")])
    bridge.bob.respond(180, tag="b1")
    bridge.bob.respond(183, tag="b2", body=b"early")
    bridge.bob.respond(180, tag="b3")
    tags = [each.to_tag for each in bridge.alice.responses()]
    assert len(set(tags)) == 3
    assert not set(tags) & {"b1", "b2", "b3"}
    # requests find their dialog
    bridge.alice.say(bridge.alice.dialog(tags[1]), "UPDATE", body=b"to b2")
    assert bridge.bob.latest("UPDATE").to_tag == "b2"
    bridge.bob.respond(200, method="UPDATE", tag="b2")
    bridge.bob.say(bridge.bob.callee_dialog("b1"), "INFO")
    assert bridge.alice.latest("INFO").from_tag == tags[0]
    bridge.alice.respond(200, method="INFO")
    bridge.bob.respond(199, tag="b3")
    assert bridge.alice.responses()[-1].to_tag == tags[2]
    bridge.bob.respond(200, tag="b2", body=ANSWER)
    answered = bridge.alice.responses()[-1]
    assert (answered.status, answered.to_tag) == (200, tags[1])
    bridge.alice.ack(bridge.alice.dialog(tags[1]))
    assert bridge.bob.acks[-1].to_tag == "b2"
    # another one picks up too: the caller hangs that up
    bridge.bob.respond(200, tag="b1", body=ANSWER)
    assert bridge.alice.responses()[-1].to_tag == tags[0]
    bridge.alice.ack(bridge.alice.dialog(tags[0]))
    bridge.alice.say(bridge.alice.dialog(tags[0]), "BYE")
    assert bridge.bob.latest("BYE").to_tag == "b1"
    assert ("ended", "caller") not in bridge.told
    bridge.alice.say(bridge.alice.dialog(tags[1]), "BYE")
    assert bridge.bob.latest("BYE").to_tag == "b2"
    assert bridge.told.count(("answered",)) == 1
    assert bridge.told.count(("ended", "caller")) == 1
    bridge.finish()


def test_a_199_ends_its_dialog_at_once() -> None:
    bridge = Bridge()
    bridge.call(headers=[("Supported", "199")])
    bridge.bob.respond(180, tag="b1")
    bridge.bob.respond(180, tag="b2")
    held = len(bridge.table)
    bridge.bob.respond(199, tag="b1")
    assert len(bridge.table) == held - 1
    bridge.alice.say(bridge.alice.dialog(bridge.alice.responses()[0].to_tag), "UPDATE")
    assert bridge.alice.responses("UPDATE")[-1].status == 481
    bridge.bob.respond(486, tag="b2")
    bridge.finish()


def test_a_fork_that_is_never_answered_is_forgotten() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180, tag="b1")
    bridge.bob.respond(200, tag="b2", body=ANSWER)
    bridge.alice.ack(bridge.alice.dialog())
    assert len(bridge.table) == 3  # ours with the far side, and two with the near one
    bridge.network.run(33)
    assert len(bridge.table) == 2
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    bridge.finish()


def test_forks_without_end() -> None:
    bridge = Bridge()
    bridge.call()
    for n in range(40):
        bridge.bob.respond(180, tag=f"b{n}")
    assert len(bridge.alice.responses()) == 16
    bridge.bob.respond(486, tag="b39")
    assert bridge.alice.responses()[-1].status == 486
    bridge.finish()


@pytest.mark.parametrize("offer", [b"new offer", b""])
def test_reinvites_both_ways(offer: bytes) -> None:
    """With an offer, and without one: then the answer goes with the ACK."""
    bridge = Bridge()
    bridge.talk()
    near, far = bridge.alice.dialog(), bridge.bob.callee_dialog()
    bridge.alice.say(near, "INVITE", body=offer, contact=True)
    request = bridge.bob.latest()
    assert (request.body, request.to_tag) == (offer, "bob")
    assert request.contact is not None
    assert request.contact.uri_text == "sip:10.0.0.9:5060"
    bridge.bob.respond(200, body=b"theirs")
    assert bridge.alice.responses()[-1].body == b"theirs"
    bridge.alice.ack(near, cseq=2, body=b"" if offer else b"answer")
    assert bridge.bob.acks[-1].cseq.number == 2
    assert bridge.bob.acks[-1].body == (b"" if offer else b"answer")
    far.local_cseq = 100
    bridge.bob.say(far, "INVITE", body=offer, contact=True)
    assert bridge.alice.latest().uri == "sip:moved@10.0.0.1"  # the target that the first one refreshed
    bridge.alice.respond(200, body=b"ours")
    assert bridge.bob.responses()[-1].body == b"ours"
    bridge.bob.endpoint.send_ack(far.build_request("ACK", cseq=101))
    bridge.network.run(0.1)
    assert bridge.alice.acks[-1].from_tag == bridge.alice.responses()[1].to_tag
    bridge.bob.say(far, "BYE")
    bridge.finish()


def test_glare_is_the_ends_own_affair() -> None:
    bridge = Bridge()
    bridge.talk()
    near = bridge.alice.dialog()
    bridge.alice.say(near, "INVITE", body=b"x")
    bridge.bob.respond(491)
    assert bridge.alice.responses()[-1].status == 491
    bridge.alice.say(near, "UPDATE", body=b"x")
    bridge.bob.respond(500, method="UPDATE", headers=[("Retry-After", "4")])
    assert bridge.alice.responses("UPDATE")[-1].headers.get("Retry-After") == "4"
    assert ("ended", "callee") not in bridge.told
    bridge.alice.say(near, "BYE")
    bridge.finish()


def test_a_reinvite_is_cancelled() -> None:
    bridge = Bridge()
    bridge.talk()
    near = bridge.alice.dialog()
    request = near.build_request("INVITE", body=b"x")
    client = bridge.alice.endpoint.send_request(request, on_event=bridge.alice._on_event)
    bridge.network.run(0.1)
    bridge.bob.respond(180)
    bridge.alice.endpoint.cancel(client)
    bridge.network.run(0.1)
    assert len(bridge.bob.cancels) == 1
    assert bridge.alice.responses()[-1].status == 487
    bridge.alice.say(near, "BYE")
    bridge.finish()


@pytest.mark.parametrize("method", ["INFO", "MESSAGE", "OPTIONS", "REFER", "NOTIFY", "WOBBLE"])
def test_other_requests_pass(method: str) -> None:
    bridge = Bridge()
    bridge.talk()
    body = [("Content-Type", "text/plain;charset=utf-8"), ("Content-Disposition", "render")]
    bridge.alice.say(bridge.alice.dialog(), method, headers=[*body, ("Refer-To", "<sip:carol@x>"), ("Event", "refer")])
    request = bridge.bob.latest(method)
    assert request.headers.get("Content-Type") == "text/plain;charset=utf-8"
    assert request.headers.get("Refer-To") == "<sip:carol@x>"
    bridge.bob.respond(202, method=method, headers=[("X-Told", "1")])
    (response,) = bridge.alice.responses(method)
    assert (response.status, response.headers.get("X-Told")) == (202, "1")
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    bridge.finish()


def test_refer_where_it_is_not_wanted() -> None:
    bridge = Bridge(passes_refer=False)
    bridge.talk(headers=[("Allow", "INVITE, REFER")])
    assert bridge.bob.latest().headers.get("Allow") == "INVITE"
    bridge.alice.say(bridge.alice.dialog(), "REFER", headers=[("Refer-To", "<sip:carol@x>")])
    assert [each.status for each in bridge.alice.responses("REFER")] == [403]
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    bridge.finish()


def test_one_side_has_lost_the_dialog() -> None:
    bridge = Bridge()
    bridge.talk()
    bridge.alice.say(bridge.alice.dialog(), "INFO")
    bridge.bob.respond(481, method="INFO")
    assert bridge.alice.responses("INFO")[-1].status == 481
    assert "481" in (bridge.alice.latest("BYE").headers.get("Reason") or "")
    assert not [request for request, _ in bridge.bob.requests if request.method == "BYE"]
    assert bridge.told[-1] == ("ended", "callee")
    bridge.finish()


def test_one_side_is_gone() -> None:
    bridge = Bridge()
    bridge.talk()
    del bridge.network.endpoints["10.0.0.2", 5060]
    bridge.alice.say(bridge.alice.dialog(), "INVITE", body=b"x")
    bridge.network.run(40)
    assert bridge.alice.responses()[-1].status == 408
    assert "408" in (bridge.alice.latest("BYE").headers.get("Reason") or "")
    bridge.finish()


def test_the_ack_is_lost_for_good() -> None:
    """The callee repeats its 200, gives up and hangs up; nothing is left."""
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(200, body=ANSWER)
    bridge.network.run(45)
    assert "no ACK" in (bridge.bob.latest("BYE").headers.get("Reason") or "")
    assert bridge.alice.latest("BYE")
    bridge.finish()


def test_bye_without_ack() -> None:
    """The caller's ACK was lost and it hangs up: the callee gets an ACK before the BYE."""
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(200, body=ANSWER)
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    assert len(bridge.bob.acks) == 1
    assert bridge.bob.latest("BYE")
    bridge.finish()


def test_hanging_up_ourselves_waits_for_the_ack() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(200, body=ANSWER)
    bridge.couplings[0].hang_up(503, "shutdown")
    bridge.network.run(0.1)
    assert bridge.bob.latest("BYE")
    assert not [request for request, _ in bridge.alice.requests if request.method == "BYE"]
    bridge.alice.ack(bridge.alice.dialog())
    assert "shutdown" in (bridge.alice.latest("BYE").headers.get("Reason") or "")
    assert bridge.told[-1] == ("ended", "ims-as")
    bridge.finish()


def test_giving_up_a_call_that_rings() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180)
    bridge.couplings[0].hang_up(503, "shutdown")
    bridge.network.run(0.1)
    assert bridge.alice.responses()[-1].status == 480
    assert bridge.told[-1] == ("failed", 480, "ims-as")
    bridge.finish()


def test_a_callee_that_rings_for_ever() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180)
    bridge.network.run(190)
    assert len(bridge.bob.cancels) == 1
    assert bridge.alice.responses()[-1].status == 408
    bridge.finish()


def test_session_timer_is_put_in_and_ends_a_dead_call() -> None:
    bridge = Bridge()
    bridge.talk(headers=[("Supported", "timer")])
    assert bridge.bob.latest().headers.get("Session-Expires") == "1800"
    answered = bridge.alice.responses()[-1]  # the callee knows no timers: the caller has to refresh
    assert answered.headers.get("Session-Expires") == "1800;refresher=uac"
    assert "timer" in answered.headers.get_list("Require")
    bridge.network.run(1000)
    bridge.alice.say(
        bridge.alice.dialog(), "UPDATE", headers=[("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")]
    )
    bridge.bob.respond(200, method="UPDATE")
    bridge.network.run(1000)
    assert ("ended", "network") not in bridge.told
    bridge.network.run(900)
    assert bridge.told[-1] == ("ended", "network")
    for party in (bridge.alice, bridge.bob):
        assert "session timer" in (party.latest("BYE").headers.get("Reason") or "")
    bridge.finish()


def test_a_session_timer_that_the_ends_agreed() -> None:
    bridge = Bridge()
    bridge.call(headers=[("Supported", "timer"), ("Session-Expires", "600"), ("Min-SE", "100")])
    far = bridge.bob.latest()
    assert far.headers.get_all("Session-Expires") == ["600"]
    assert far.headers.get("Min-SE") == "100"
    bridge.bob.respond(200, headers=[("Session-Expires", "300;refresher=uas")], body=ANSWER)
    assert bridge.alice.responses()[-1].headers.get_all("Session-Expires") == ["300;refresher=uas"]
    bridge.alice.ack(bridge.alice.dialog())
    bridge.network.run(290)
    assert ("ended", "network") not in bridge.told
    bridge.network.run(20)
    assert bridge.told[-1] == ("ended", "network")
    bridge.finish()


def test_a_timer_that_is_refused() -> None:
    bridge = Bridge()
    bridge.call(headers=[("Supported", "timer"), ("Session-Expires", "90")])
    bridge.bob.respond(422, headers=[("Min-SE", "600")])
    assert bridge.alice.responses()[-1].headers.get("Min-SE") == "600"
    bridge.finish()


def test_replaces_names_the_dialog_as_the_other_side_knows_it() -> None:
    bridge = Bridge()
    bridge.talk()
    near, far = bridge.alice.dialog().id, bridge.bob.callee_dialog().id
    told = f"{near.call_id};to-tag={near.remote_tag};from-tag={near.local_tag};early-only"
    assert bridge.table.translate_replaces(told) == (
        f"{far.call_id};to-tag={far.local_tag};from-tag={far.remote_tag};early-only"
    )
    back = f"{far.call_id};to-tag={far.remote_tag};from-tag={far.local_tag}"
    assert bridge.table.translate_replaces(back) == (
        f"{near.call_id};to-tag={near.local_tag};from-tag={near.remote_tag}"
    )
    for other in ("nonsense", "", "x;to-tag=1;from-tag=2", back.replace("from-tag=", "from-tag=x")):
        assert bridge.table.translate_replaces(other) == other
    bridge.alice.say(bridge.alice.dialog(), "BYE")
    bridge.finish()


def test_strangers_in_the_dialog() -> None:
    """A request with our tag and another's From tag, an old CSeq, an ACK of nothing."""
    bridge = Bridge()
    bridge.talk()
    near = bridge.alice.dialog()
    forged = near.build_request("BYE")
    forged.headers.set("From", "<sip:alice@10.0.0.1>;tag=forged")
    bridge.alice.endpoint.send_request(forged, on_event=bridge.alice._on_event)
    bridge.network.run(0.1)
    assert bridge.alice.responses("BYE")[-1].status == 481
    near.local_cseq = 50
    bridge.alice.say(near, "INFO")
    bridge.bob.respond(200, method="INFO")
    near.local_cseq = 20
    bridge.alice.say(near, "INFO")
    assert bridge.alice.responses("INFO")[-1].status == 500
    bridge.alice.ack(near, cseq=49)
    assert len(bridge.bob.acks) == 1
    near.local_cseq = 60
    bridge.alice.say(near, "BYE")
    assert bridge.told[-1] == ("ended", "caller")
    bridge.alice.say(near, "INFO")
    assert bridge.alice.responses("INFO")[-1].status == 481
    bridge.finish()


def test_max_forwards_are_counted_inside_the_dialog_too() -> None:
    bridge = Bridge()
    bridge.talk()
    near = bridge.alice.dialog()
    for value, status in ((1, 200), (0, 483)):
        request = near.build_request("INFO")
        request.headers.set("Max-Forwards", str(value))
        bridge.alice.endpoint.send_request(request, on_event=bridge.alice._on_event)
        bridge.network.run(0.1)
        if value:
            assert bridge.bob.latest("INFO").max_forwards == 0
            bridge.bob.respond(200, method="INFO")
        assert bridge.alice.responses("INFO")[-1].status == status
    bridge.alice.say(near, "BYE")
    bridge.finish()


def test_an_early_dialog_is_ended_by_the_caller() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180, tag="b1")
    bridge.bob.respond(180, tag="b2")
    first = bridge.alice.responses()[0].to_tag
    bridge.alice.say(bridge.alice.dialog(first), "BYE")
    assert bridge.bob.latest("BYE").to_tag == "b1"
    bridge.bob.respond(200, tag="b2", body=ANSWER)
    assert bridge.told[-1] == ("answered",)
    dialog = bridge.alice.dialog()
    bridge.alice.ack(dialog)
    bridge.alice.say(dialog, "BYE")
    bridge.finish()


def answer(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(180)
    session.answer(ANSWER)


@pytest.mark.parametrize("seed", range(8))
def test_calls_over_a_bad_network(seed: int) -> None:
    """Real user agents on both sides, and a network that loses, doubles and reorders."""
    bridge = Bridge(fate=bad_link(seed, loss=0.15))
    alice = RecordingAgent(bridge.alice.endpoint)
    bob = RecordingAgent(bridge.bob.endpoint, answer)
    calls = [alice.call("sip:bob@home.example", route=[OWN, ODI]) for _ in range(6)]
    bridge.network.run(40)
    assert sum(session.state is SessionState.CONFIRMED for session in calls) >= 5
    for session in calls[:3]:
        session.bye()
    for session in bob.sessions[3:]:
        session.bye()
    bridge.network.run(60)
    for session in calls:
        session.bye()
    bridge.finish()
    alice.assert_one_end()
    bob.assert_one_end()
    assert len([each for each in bridge.told if each[0] in ("ended", "failed")]) == 6


def test_both_offer_at_once() -> None:
    """Each end answers the other's with 491 and tries again by its own back-off; both get through."""
    bridge = Bridge()
    alice = RecordingAgent(bridge.alice.endpoint)
    bob = RecordingAgent(bridge.bob.endpoint, answer)
    session = alice.call("sip:bob@home.example", route=[OWN, ODI])
    bridge.network.run(1)
    for agent in (alice, bob):
        agent.handlers[ReinviteReceived] = lambda session, event: session.accept_reinvite(ANSWER) and None
    session.reinvite(OFFER)
    bob.sessions[0].reinvite(ANSWER)
    bridge.network.run(10)
    assert "ReinviteAnswered" in alice.names(session)
    assert "ReinviteAnswered" in bob.names(bob.sessions[0])
    assert bridge.network.messages().count("491 INVITE") >= 2
    session.bye()
    bridge.finish()


def test_responses_of_no_use() -> None:
    """Without To tag, and after the end."""
    bridge = Bridge()
    bridge.call()
    request, transaction = bridge.bob.requests[0]
    assert isinstance(request, Request)
    bare = Response(
        180, "Ringing", [(n, v) for n, v in request.headers.items() if n in ("Via", "From", "To", "Call-ID", "CSeq")]
    )
    transaction.to_tag = ""
    bridge.bob.endpoint._layer._output.transmit(transaction, bare.to_bytes())
    bridge.network.run(0.1)
    assert bridge.alice.responses()[-1].status == 180
    bridge.bob.respond(486)
    assert bridge.alice.responses()[-1].status == 486
    bridge.finish()


def test_a_call_that_we_give_up_while_it_is_answered_is_hung_up() -> None:
    bridge = Bridge()
    bridge.call()
    bridge.bob.respond(180)
    bridge.couplings[0].hang_up(200, "operator")  # the CANCEL crosses the 200
    bridge.bob.respond(200, body=ANSWER)
    bridge.alice.ack(bridge.alice.dialog())
    bridge.network.run(1)
    assert bridge.network.messages(bridge.core).count("BYE") == 2
    assert bridge.told == [("progress", 180), ("answered",), ("ended", "ims-as")]
