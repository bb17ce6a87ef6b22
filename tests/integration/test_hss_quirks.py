"""A whole server behind an HSS that deviates as real ones do: the user's own profile decides all the same."""

import itertools
import json
import os

import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from conformance.lab.quirks import PYHSS, Quirk
from ims_as.sip.invite_session import Answered
from tests.support.world import IDENTITY, World, until, world

_numbers = itertools.count(1)
CAROL = "sip:15550100@ims.example.net"
CRITERION = """<InitialFilterCriteria><Priority>{}</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint>
<ApplicationServer><ServerName>{}</ServerName><DefaultHandling>{}</DefaultHandling></ApplicationServer>
</InitialFilterCriteria>"""
# ours says SESSION_TERMINATED, that of the other server does not
IFCS = f"<IFCs>{CRITERION.format(0, 'sip:tas.ims.example.net', 0)}{CRITERION.format(1, IDENTITY, 1)}</IFCs>"
DOCUMENT = {Quirk.WHOLE_SH_DATA, Quirk.FOREIGN_ELEMENTS, Quirk.RESULT_LAST, Quirk.WRONG_APPLICATION, Quirk.BARE_5001}
SETS = {
    "document": DOCUMENT,
    "no-repository": DOCUMENT | {Quirk.NO_REPOSITORY},
    "silence": {Quirk.NO_PUR_ANSWER, Quirk.NO_SNR_ANSWER, Quirk.NO_PNR, Quirk.NO_DWR},
    "transport": {Quirk.NO_REASSEMBLY, Quirk.SLOW, Quirk.MANY_APPLICATIONS, Quirk.NUMBERS_ONLY},
    "pyhss": set(PYHSS),
}


def profile(language: str) -> bytes:
    return f"<AgentProfile><Enabled>true</Enabled><Language>{language}</Language></AgentProfile>".encode()


@pytest.mark.parametrize("name", SETS)
def test_calls_get_what_the_user_has_set(name: str):
    quirks = SETS[name]
    prefix = f"127.{20 + os.getpid() % 200}.{230 + next(_numbers)}"
    carol = Subscriber(
        impi="001010000000100@ims.example.net",
        impus=[CAROL, "tel:+15550100"],
        repository={b"other-service": profile("fr"), b"ai-voice-agent": profile("de")},
        ifcs=IFCS.encode(),
        scscf_name="sip:scscf.ims.example.net",
        state=1,
    )
    hss = LabHss(f"{prefix}.10", 3868, {CAROL: carol}, quirks=quirks)
    has_item = Quirk.NO_REPOSITORY not in quirks

    async def call(here: World) -> str | None:
        leg = here.call(to=CAROL)
        await leg.wait(Answered)
        language: str | None = (await here.engine.wait("start")).get("language")
        leg.session.bye()
        return language

    async def test(here: World) -> None:
        sh = here.app.sh
        assert sh is not None
        expected = "de" if has_item else None
        for _ in range(2):
            assert await call(here) == expected
        assert (sh.stats.pulls, sh.stats.timeouts) == (1, 0)
        if Quirk.NO_SNR_ANSWER in quirks:
            await until(lambda: sh.stats.subscriptions_failed == 1)
            # nobody tells us of the change: the profile is asked for again when it is due
            hss.set_repository(CAROL, b"ai-voice-agent", profile("it"))
            await until(lambda: sh.cached(CAROL) is None)
            assert await call(here) == ("it" if has_item else None)
            assert sh.stats.pulls == 2
            assert [each.command for each in hss.requests].count("SNR") == 1
        # without an engine our criterion's SESSION_TERMINATED wants the call passed on, not refused
        await until(lambda: not here.engine.connections)
        here.engine.die()
        here.answer_as_phone()
        leg = here.call(to=CAROL)
        await leg.wait(Answered)
        assert here.arrived[0].routes == [here.odi]
        leg.session.bye()

    async def run() -> None:
        poll_s = 2 if Quirk.NO_SNR_ANSWER in quirks else 300
        overrides = [
            "diameter.peers=" + json.dumps([{"address": f"tcp:{prefix}.10:3868"}]),
            f"diameter.sh.poll_s={poll_s}",
        ]
        async with trio.open_nursery() as nursery:
            await nursery.start(hss.run)
            async with world(*overrides) as here:
                assert here.app.node is not None
                with trio.fail_after(5):
                    await here.app.node.wait_open()
                await test(here)
            nursery.cancel_scope.cancel()

    trio.run(run)
