"""Requests other than INVITE through a real server: answered when they are for us, passed on when they are not."""

from __future__ import annotations

import pytest
import trio

from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.notifier import Notifier
from ims_as.sip.transaction import ResponseReceived, ServerTransaction
from tests.ims_as.isc.test_reginfo import contact, document
from tests.support.world import BOB, IDENTITY, World, until, world

CHARGING = ("P-Charging-Vector", "icid-value=7;orig-ioi=home1.net")


@pytest.mark.parametrize(
    ("method", "status", "header"),
    [
        ("OPTIONS", 200, "Accept"),
        ("OPTIONS", 200, "Allow-Events"),
        ("OPTIONS", 200, "Allow"),
        ("SUBSCRIBE", 489, "Allow-Events"),
        ("PUBLISH", 489, "Allow-Events"),
        ("NOTIFY", 481, None),
        ("INFO", 481, None),
        ("PRACK", 481, None),
        ("UPDATE", 481, None),
        ("MESSAGE", 405, "Allow"),
        ("REFER", 403, None),
        ("SING", 501, "Allow"),
    ],
)
def test_addressed_to_us(method: str, status: int, header: str | None):
    async def main() -> None:
        async with world() as here:
            response = await here.request(method, [CHARGING])
            assert response.status == status
            assert header is None or response.headers.get(header)
            vector = response.headers.get("P-Charging-Vector")
            assert vector == 'icid-value=7;orig-ioi=home1.net;term-ioi="Type 3ai-as.ims.example.net"'

    trio.run(main)


def test_an_extension_that_we_lack():
    async def main() -> None:
        async with world() as here:
            response = await here.request("OPTIONS", [("Require", "foo, bar")])
            assert (response.status, response.headers.get("Unsupported")) == (420, "foo, bar")

    trio.run(main)


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH", "OPTIONS", "REFER", "SING"])
def test_for_the_user_goes_on_by_its_route(method: str):
    async def main() -> None:
        async with world() as here:
            arrived: list[Request] = []

            def answer(request: Request, transaction: ServerTransaction) -> None:
                arrived.append(request)
                here.core.send_response(transaction, build_response(request, 204))

            here.agent._on_request = answer
            headers = [("Route", f"<{IDENTITY};lr>, {here.odi}"), ("Event", "presence"), ("X-Own", "1")]
            response = await request_for_bob(here, method, headers)
            assert response.status == 204
            [request] = arrived
            assert request.uri == BOB
            assert request.routes == [here.odi]
            assert request.headers.get("X-Own") == "1"

    trio.run(main)


async def request_for_bob(here: World, method: str, headers: list[tuple[str, str]]) -> Response:
    items = [("Max-Forwards", "70"), ("From", "<sip:a@ims.example.net>;tag=1"), ("To", f"<{BOB}>")]
    items += [("Call-ID", here.core.new_call_id()), ("CSeq", f"1 {method}"), *headers]
    done: list[Response] = []
    event = trio.Event()

    def on_event(each: object) -> None:
        if isinstance(each, ResponseReceived) and each.response.status >= 200:
            done.append(each.response)
            event.set()

    here.core.send_request(Request(method, BOB, items), on_event=on_event)
    with trio.fail_after(5):
        await event.wait()
    return done[0]


def test_register_is_answered_and_shown_and_its_user_followed():
    async def main() -> None:
        async with world("sip.reg_event=true") as here:
            notifiers: list[Notifier] = []

            def accept(request: Request, transaction: ServerTransaction) -> None:
                assert request.headers.get("Event") == "reg"
                assert request.uri == BOB
                notifier = Notifier.accept(here.agent, request, transaction, on_event=lambda *_: None)
                assert notifier is not None
                notifiers.append(notifier)
                notifier.notify(document(0, "full", contact("phone"), aor=BOB), "application/reginfo+xml")

            here.agent._on_request = accept
            scscf = ("Contact", f"<sip:{here.core_address}:5060>")
            response = await here.request("REGISTER", [("Expires", "600"), scscf, CHARGING])
            assert (response.status, response.headers.get("Expires")) == (200, "600")
            assert (response.headers.get("P-Charging-Vector") or "").startswith("icid-value=7;")

            def contacts() -> list[str]:
                shown = here.app.registration(BOB)
                return [] if shown is None else [each["uri"] for each in shown["contacts"]]

            await until(lambda: contacts() == ["sip:phone@192.0.2.5"])
            assert here.app.registration("sip:nobody@ims.example.net") is None
            assert len(here.app.registrations(10)) == 1
            shown = here.app.metrics.render(None)[0].decode()
            assert "ims_as_reg_subscriptions 1.0" in shown
            assert 'ims_as_reg_events_total{outcome="notified"} 1.0' in shown
            here.app.stop()
            await until(lambda: notifiers[0].is_over)
            await until(lambda: not here.app.endpoint.stats.dialogs)

    trio.run(main)


def test_register_is_answered_whatever_the_state():
    async def main() -> None:
        async with world(engine=False) as here:
            response = await here.request("REGISTER", [("Expires", "600"), ("Require", "foo")], body=b"junk")
            assert (response.status, response.headers.get("Expires")) == (200, "600")
            assert (await here.request("REGISTER", [("Expires", "0")])).status == 200
            assert here.app.registrations(10) == []

    trio.run(main)
