"""Our roles behind a real S-CSCF of the lab: filter criteria, original dialog identifiers, ``orig``."""

import json
from typing import Any

import trio

from conformance.lab.scscf import LabScscf
from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    TriggerPoint,
)
from ifc.writer import write_criteria
from ims_as.sip.invite_session import Acked, Answered, Ended, Provisional, ReinviteAnswered, ReinviteReceived
from tests.support.world import ALICE, BOB, Leg, World, until, world


def criterion(server: str, case: SessionCase) -> bytes:
    triggers = (
        ServicePointTrigger(MethodCondition("INVITE"), (0,)),
        ServicePointTrigger(SessionCaseCondition(case), (1,)),
    )
    handling = DefaultHandling.SESSION_CONTINUED
    return write_criteria([InitialFilterCriteria(0, TriggerPoint(True, triggers), ApplicationServer(server, handling))])


def run(test: Any, *overrides: str) -> None:
    """A world whose S-CSCF is the lab's at .50; Alice's and Bob's contacts are the core at .20."""

    def make(here: World) -> list[str]:
        agent = {
            "engines": [{"type": "websocket", "url": here.engine.url}],
            "outbound": {"allow": ["sip:.*"], "identities": ["sip:.*"]},
        }
        return [f"sip.core=sip:{here.prefix}.50:5060", "agents=" + json.dumps({"default": agent}), *overrides]

    async def main() -> None:
        async with world(make=make) as here:
            server = f"sip:{here.as_address}:5060"
            profiles = {
                ALICE: criterion(server, SessionCase.ORIGINATING_REGISTERED),
                BOB: criterion(server, SessionCase.TERMINATING_REGISTERED),
            }
            contacts = {user: f"sip:{user[4:].split('@')[0]}@{here.core_address}:5060" for user in profiles}
            scscf = LabScscf(host=f"{here.prefix}.50", profiles=profiles.get, contacts=contacts)
            async with trio.open_nursery() as nursery:
                await nursery.start(scscf.run)
                with trio.fail_after(10):
                    await test(here, scscf)
                assert scscf.open_invocations == 0
                assert not scscf.endpoint.counters.guard_errors
                nursery.cancel_scope.cancel()

    trio.run(main)


def decisions(scscf: LabScscf) -> str:
    return "\n".join(text for _, text in scscf.decisions)


def test_an_outbound_call_passes_our_own_criteria_on_both_sides():
    async def test(here: World, scscf: LabScscf) -> None:
        phones = here.answer_as_phone()
        call_id, _ = here.app.place_call({"to": BOB, "on_behalf_of": ALICE}, None)
        phone = await phones.receive()
        await phone.wait(Acked)
        seen = decisions(scscf)
        assert "ORIGINATING_REGISTERED" in seen
        assert seen.count("criterion of priority 0 matches") == 2
        assert seen.count(f"sip:{here.as_address}:5060 sent INVITE back") == 2
        (invite,) = here.arrived
        assert not any("orig" in value for value in invite.routes)

        def record() -> dict[str, Any]:
            found = here.app.call(invite.call_id)
            assert found is not None
            return found

        await until(lambda: record()["state"] == "talking")
        assert record()["id"] == call_id  # not the record of a pass, though the Call-ID is the same
        passed = here.app.metrics.registry.get_sample_value
        assert passed("ims_as_passed_on_total", {"reason": "own-transfer"}) == 2
        assert len(here.engine.connections) == 1
        phone.session.bye()
        await until(lambda: record()["state"] == "ended")
        assert "BYE" in {event["label"] for event in record()["trace"]}

    run(test)


def test_a_b2bua_call_goes_back_on_its_odi():
    async def test(here: World, scscf: LabScscf) -> None:
        phones = here.answer_as_phone()
        caller = Leg(None)  # type: ignore[arg-type]
        caller.session = here.agent.invite(
            uri=BOB,
            from_=f"<{ALICE}>",
            to=f"<{BOB}>",
            route=[f"<sip:{here.prefix}.50:5060;lr>"],
            headers=[("P-Asserted-Identity", f"<{ALICE}>")],
            body=here.caller_rtp.offer(),
            on_event=caller.on_event,
        )
        await caller.wait(Provisional)
        await caller.wait(Answered)
        phone = await phones.receive()
        await phone.wait(Acked)
        seen = decisions(scscf)
        assert seen.count("sent INVITE back") == 2  # Alice's criteria and Bob's, each by a new dialog
        assert phone.session.request.body == here.caller_rtp.offer()
        assert phone.session.request.call_id != caller.session.request.call_id
        assert len(here.app.context.couplings) == 4
        caller.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
        held = await phone.wait(ReinviteReceived)
        assert b"sendonly" in held.request.body
        phone.session.accept_reinvite(here.phone_rtp.offer(direction="recvonly", version=2))
        await caller.wait(ReinviteAnswered)
        phone.session.bye()
        await caller.wait(Ended)
        await until(lambda: not len(here.app.context.couplings))

    run(test, "routing=[{role: b2bua}]")
