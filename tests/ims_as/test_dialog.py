from __future__ import annotations

from ims_as.sip.dialog import Dialog, DialogId, DialogState
from ims_as.sip.message import Request, build_response
from tests.support.sip_messages import build_request

ROUTES = (("Record-Route", "<sip:p2@10.0.0.20;lr;ftag=1>"), ("Record-Route", "<sip:p1@10.0.0.21;lr>"))


def callee() -> Dialog:
    return Dialog.from_uas(build_request(headers=ROUTES), "local")


def caller(status: int = 200, *, contact: str = "<sip:bob@10.0.0.9:5070>") -> tuple[Request, Dialog]:
    request = build_request(headers=ROUTES)
    headers = [("Contact", contact)] if contact else []
    response = build_response(request, status, to_tag="remote", headers=headers)
    return request, Dialog.from_uac(request, response)


def test_callee_side() -> None:
    dialog = callee()
    assert dialog.id == DialogId("call-1", "local", "from-1")
    assert dialog.state is DialogState.EARLY
    assert dialog.remote_target == "sip:alice@10.0.0.1:5060"
    request = dialog.build_request("BYE", headers=[("Reason", "x")])
    assert request.uri == "sip:alice@10.0.0.1:5060"
    assert request.routes == ["<sip:p2@10.0.0.20;lr;ftag=1>", "<sip:p1@10.0.0.21;lr>"]
    assert (request.from_tag, request.to_tag) == ("local", "from-1")
    assert str(request.cseq) == "1 BYE"
    assert str(dialog.build_request("INFO").cseq) == "2 INFO"


def test_caller_side_reverses_the_route_set() -> None:
    _, dialog = caller()
    assert dialog.id == DialogId("call-1", "from-1", "remote")
    assert dialog.state is DialogState.CONFIRMED
    ack = dialog.build_request("ACK", cseq=1)
    assert ack.routes == ["<sip:p1@10.0.0.21;lr>", "<sip:p2@10.0.0.20;lr;ftag=1>"]
    assert str(ack.cseq) == "1 ACK"
    assert str(dialog.build_request("BYE").cseq) == "2 BYE"
    assert ack.uri == "sip:bob@10.0.0.9:5070"


def test_early_by_a_provisional_response() -> None:
    assert caller(183)[1].state is DialogState.EARLY


def test_peer_without_a_usable_contact() -> None:
    request, dialog = caller(contact="")
    assert dialog.remote_target == request.uri


def test_strict_router_gets_its_own_uri() -> None:
    dialog = callee()
    dialog.route_set = ["<sip:strict@10.0.0.20;method=INVITE?Subject=x>", "<sip:p1@10.0.0.21;lr>"]
    request = dialog.build_request("BYE")
    assert request.uri == "sip:strict@10.0.0.20"
    assert request.routes == ["<sip:p1@10.0.0.21;lr>", "<sip:alice@10.0.0.1:5060>"]


def test_unreadable_route_is_kept() -> None:
    dialog = callee()
    dialog.route_set = ["<<not a route"]
    assert dialog.build_request("BYE").headers.get("Route") == "<<not a route"


def test_order_of_requests() -> None:
    dialog = callee()
    assert dialog.accept_cseq(build_request("INFO", cseq="7 INFO"))
    assert not dialog.accept_cseq(build_request("INFO", cseq="6 INFO"))
    assert dialog.accept_cseq(build_request("BYE", cseq="8 BYE"))
    _, fresh = caller()
    assert fresh.accept_cseq(build_request("BYE", cseq="0 BYE"))


def test_target_refresh() -> None:
    dialog = callee()
    refresh = build_request()
    refresh.headers.set("Contact", "<sip:alice@10.0.0.1:6060>")
    dialog.update_target(refresh)
    assert dialog.remote_target == "sip:alice@10.0.0.1:6060"
    refresh.headers.remove("Contact")
    dialog.update_target(refresh)
    assert dialog.remote_target == "sip:alice@10.0.0.1:6060"
