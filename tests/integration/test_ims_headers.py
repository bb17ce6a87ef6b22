"""IMS headers through a real server: what its answers and requests carry, and what an engine is told."""

from __future__ import annotations

import json

import trio

from ims_as.isc.history_info import read_history_untrusted
from ims_as.sip.invite_session import Answered, Ended, Rejected
from ims_as.sip.message import Message
from tests.support.world import ALICE, BOB, IDENTITY, Leg, World, world

SESSION = ("Session-ID", f"{'a' * 32};remote={'0' * 32}")
OWN_IOI = "Type 3ai-as.ims.example.net"


def own_uuid(message: Message) -> str:
    own, _, peer = (message.headers.get("Session-ID") or "").partition(";remote=")
    assert peer == "a" * 32
    assert len(own) == 32
    return own


def test_answers_and_our_own_bye():
    async def main() -> None:
        async with world() as here:
            leg = here.call(headers=[SESSION])
            response = (await leg.wait(Answered)).response
            expected = f'icid-value="icid-1";orig-ioi=home1.net;term-ioi="{OWN_IOI}"'
            assert response.headers.get("P-Charging-Vector") == expected
            assert '+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"' in (
                response.headers.get("Contact") or ""
            )
            await here.engine.wait("start")
            await here.engine.send(event="hangup", reason="done")
            bye = (await leg.wait(Ended)).request
            assert bye is not None
            assert bye.headers.get("P-Charging-Vector") == f'icid-value="icid-1";orig-ioi="{OWN_IOI}"'
            assert own_uuid(bye) == own_uuid(response)

    trio.run(main)


def test_a_failure_answers_the_charging_too():
    async def main() -> None:
        async with world("sip.ioi=own", engine=False) as here:
            rejected = await here.call(headers=[SESSION]).wait(Rejected)
            assert rejected.response is not None
            assert rejected.status == 503
            vector = rejected.response.headers.get("P-Charging-Vector")
            assert vector == 'icid-value="icid-1";orig-ioi=home1.net;term-ioi="own"'
            assert own_uuid(rejected.response)

    trio.run(main)


def test_a_cancelled_call_is_answered_like_the_others():
    async def main() -> None:
        async with world(engine=False) as here:
            listeners = await trio.open_tcp_listeners(9000, host=here.engine.host)  # connects, and says nothing
            leg = here.call()
            await trio.sleep(0.3)
            leg.session.cancel()
            rejected = await leg.wait(Rejected)
            assert rejected.response is not None
            assert rejected.status == 487
            assert f'term-ioi="{OWN_IOI}"' in (rejected.response.headers.get("P-Charging-Vector") or "")
            await listeners[0].aclose()

    trio.run(main)


async def start_of(here: World, leg: Leg) -> dict[str, object]:
    await leg.wait(Answered)
    start = await here.engine.wait("start")
    leg.session.bye()
    return start


def test_what_the_engine_is_told():
    async def main() -> None:
        own = [("Subject", "bill"), ("X-Account", "17"), ("P-Access-Network-Info", "x")]
        async with world() as here:
            start = await start_of(here, here.call(headers=own))
            assert start["headers"] == {"Subject": "bill"}
            assert start["from"] == ALICE
        async with world('agents.default.engine_headers=["X-Account","P-Access-Network-Info"]') as here:
            start = await start_of(here, here.call(headers=own))
            assert start["headers"] == {"Subject": "bill", "X-Account": "17"}
        async with world() as here:
            leg = here.call(headers=[("Privacy", "id"), ("Subject", "bill")])
            start = await start_of(here, leg)
            assert start["from"] == "sip:anonymous@anonymous.invalid"
            assert ALICE not in json.dumps(start)
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["from"] == ALICE, "charging knows who it was"

    trio.run(main)


async def handed_over(here: World, target: str, *headers: tuple[str, str]) -> Leg:
    phones = here.answer_as_phone()
    leg = here.call(headers=headers)
    await leg.wait(Answered)
    await here.engine.wait("start")
    await here.engine.send(event="transfer", target=target)
    with trio.fail_after(5):
        phone = await phones.receive()
    phone.session.bye()
    leg.session.bye()
    return leg


def test_a_transfer_keeps_identity_privacy_and_charging():
    async def main() -> None:
        async with world() as here:
            await handed_over(
                here,
                "served-user",
                ("Privacy", "id"),
                ("P-Asserted-Identity", "<tel:+15550199>"),
                ("X-Own", "1"),
                ("User-to-User", "aa;encoding=hex"),
                SESSION,
            )
            headers = here.arrived[0].headers
            assert headers.get_all("P-Asserted-Identity") == [f"<{ALICE}>", "<tel:+15550199>"]
            assert headers.get("Privacy") == "id"
            assert headers.get("P-Charging-Vector") == f'icid-value="icid-1";orig-ioi="{OWN_IOI}"'
            assert headers.get("X-Own") == "1"
            assert headers.get("P-Served-User") is None
            assert headers.get("History-Info") is None
            assert headers.get("Session-ID") == SESSION[1]
            assert len(headers.get_all("User-to-User")) == 1
            assert here.arrived[0].from_.uri_text == ALICE

    trio.run(main)


QUEUE = "sip:queue@ims.example.net"
TO_QUEUE = "agents.default.transfer=" + json.dumps({"allow": ["queue"], "queue": QUEUE})


def test_a_transfer_elsewhere_is_a_diversion():
    async def main() -> None:
        async with world(TO_QUEUE) as here:
            await handed_over(here, "queue", ("Diversion", "<tel:+15550177>;reason=user-busy"))
            entries = read_history_untrusted(here.arrived[0])
            assert [(entry.uri, entry.index, entry.cause) for entry in entries] == [
                ("tel:+15550177", "1", None),
                (f"{BOB};cause=486", "1.1", 486),
                (f"{QUEUE};cause=302", "1.1.1", 302),
            ]
            assert here.arrived[0].headers.get("Diversion") is None

    trio.run(main)


def test_nobody_is_diverted_for_ever():
    async def main() -> None:
        async with world(TO_QUEUE, "sip.max_diversions=2") as here:
            leg = here.call(headers=[("Diversion", "<tel:+15550177>;counter=2")])
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="queue")
            told = await here.engine.wait("transfer")
            assert (told["state"], told["cause"]) == ("failed", "diverted too often")
            assert not here.arrived
            leg.session.bye()

    trio.run(main)


def test_a_pbx_is_understood():
    """Header normalisation for a peer, from the configuration to what is passed on and what an engine is told."""
    peers = [{"match": "127.0.0.0/8", "preset": "generic-pbx", "rules": [{"do": "remove", "header": "X-Internal"}]}]

    async def main() -> None:
        async with world("sip.peers=" + json.dumps(peers)) as here:
            leg = here.agent.invite(
                uri="sip:0049-30-1234@ims.example.net",
                from_="<sip:0049-30-99@pbx.example.net>",
                to="<sip:0049-30-1234@ims.example.net>",
                route=[f"<{IDENTITY};lr>", here.odi],
                headers=[("X-Internal", "1")],
                body=here.caller_rtp.offer(),
                on_event=(events := Leg(None)).on_event,  # type: ignore[arg-type]
            )
            events.session = leg
            start = await start_of(here, events)
            assert start["from"] == "sip:+493099@pbx.example.net;user=phone"
            assert start["to"] == "sip:+49301234@ims.example.net;user=phone"
            assert leg.dialog is not None
            assert leg.dialog.local.startswith("<sip:0049-30-99@pbx.example.net>"), "our answer has the peer's own From"

    trio.run(main)


def test_agents_by_service():
    async def main() -> None:
        rule = {"agent": "other", "match": {"service": "icsi\\.mmtel$"}}
        async with world(
            "routing=" + json.dumps([rule]), 'agents.other={"engines":[{"url":"ws://127.0.0.1:1/"}]}'
        ) as here:
            asked = here.call(headers=[("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.mmtel")])
            assert (await asked.wait(Rejected)).status == 503
            plain = here.call()
            await plain.wait(Answered)
            plain.session.bye()
            agents = {call["sip_call_id"]: call["agent"] for call in here.app.calls()}
            assert agents[asked.session.request.call_id] == "other"
            assert agents[plain.session.request.call_id] == "default"

    trio.run(main)
