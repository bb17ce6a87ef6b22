"""baresip calls the agent in the codecs that it has besides G.711: each understands the other.

Its payloads of AMR and AMR-WB are its own, in the bandwidth-efficient form that it offers unless it is told otherwise.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import trio

from conformance.lab.network import ALICE, CALLER, Lab
from conformance.lab.scenario import TRANSCRIPTS
from tests.conformance.test_baresip import DEADLINE_S, baresip, heard, loudness, prepare

PREFIX = "127.0.98"
SPEECH = "cards-005.wav"
ANSWER_S = 5.0

# audio_codecs of the account, module, what baresip's log says
WAYS = [
    ("AMR-WB/16000/1", "amr", "AMR-WB"),
    ("AMR/8000/1", "amr", "AMR"),
    ("G722/16000/1", "g722", "G722"),
    ("opus/48000/2", "opus", "opus"),
]


async def spoken_calls(lab: Lab) -> list[dict[str, Any]]:
    """In full, of those in which the agent has answered."""
    found = [await lab.fetch_call(each["id"]) or {} for each in (await lab.fetch_json("/calls") or {})["calls"]]
    return [call for call in found if any(line["role"] == "agent" for line in call.get("transcript", []))]


def test_baresip_and_the_agent_understand_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / f"baresip{number}" for number in range(len(WAYS))]

    async def main() -> list[dict[str, Any]]:
        lab = Lab(tmp_path, prefix=PREFIX)
        async with trio.open_nursery() as nursery:
            await nursery.start(lab.run)
            async with AsyncExitStack() as stack:
                for number, (folder, (codec, module, _)) in enumerate(zip(folders, WAYS, strict=True)):
                    outbound = f'outbound="sip:{lab.addresses.scscf}:5060;lr"'
                    account = f"<{CALLER}>;regint=0;{outbound};audio_codecs={codec}"
                    host = f"{PREFIX}.{50 + number}"
                    prepare(folder, host=host, account=account, speech=SPEECH, codec=module)
                    await stack.enter_async_context(baresip(folder, f"d {ALICE}"))
                while len(calls := await spoken_calls(lab)) < len(WAYS):
                    await trio.sleep(0.2)
                await trio.sleep(ANSWER_S)
                calls = await spoken_calls(lab)
            nursery.cancel_scope.cancel()
        return calls

    async def bounded() -> list[dict[str, Any]]:
        with trio.fail_after(DEADLINE_S):
            return await main()

    calls = trio.run(bounded)
    for call in calls:
        said = [line["text"] for line in call["transcript"] if line["role"] == "user"]
        assert said == [TRANSCRIPTS[SPEECH]], call
    for folder, (_, _, name) in zip(folders, WAYS, strict=True):
        log = (folder / "log").read_text(errors="replace")
        assert f"Set audio decoder: {name} " in log, log
        assert loudness(np.asarray(heard(folder))) > 1000
