"""Every text frame that a real call sends to the engine is as the published schema says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio

from ims_as.sip.invite_session import Answered, ReinviteAnswered
from media.engines.ims_as_v1 import ImsAsV1
from tests.support.world import world

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "ims-as.v1.schema.json").read_text())


def check(side: str, event: dict[str, Any]) -> None:
    jsonschema.validate(event, {**SCHEMA, "$ref": f"#/$defs/{side}"})


def test_a_call():
    async def main() -> None:
        async with world() as here:
            seen: list[dict[str, Any]] = here.engine.events
            leg = here.call()
            await leg.wait(Answered)
            leg.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
            await leg.wait(ReinviteAnswered)
            await here.engine.send(event="mark", name="m1")
            await here.engine.send(event="clear")
            await here.engine.send(event="tool_call", id="1", name="lookup", arguments={})
            await here.engine.send(event="transfer", target="sip:nobody@example.net")
            wanted = {"start", "hold", "mark", "cleared", "tool_result", "transfer"}
            with trio.fail_after(5):
                while not wanted <= {event["event"] for event in seen}:
                    await trio.sleep(0.005)
            leg.session.bye()
            await here.until_idle()
            with trio.fail_after(5):
                while "stop" not in {event["event"] for event in seen}:
                    await trio.sleep(0.005)
            for event in seen:
                check("toEngine", event)

    trio.run(main)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ({"event": "ready"}, True),
        ({"event": "record_start"}, True),
        ({"event": "transfer", "target": "served-user", "data": {"why": 1}}, True),
        ({"event": "transfer"}, False),
        ({"event": "transcript", "role": "user", "text": "hello", "final": True}, True),
        ({"event": "dtmf", "digits": ""}, False),
        ({"event": "tool_call", "id": "1"}, False),
    ],
)
def test_the_schema_and_the_reader_agree(text: dict[str, Any], valid: bool):
    protocol = ImsAsV1(start={}, rate_hz=16000)
    assert bool(protocol.receive_text_untrusted(json.dumps(text))) is valid
    if valid:
        check("fromEngine", text)
    else:
        with pytest.raises(jsonschema.ValidationError):
            check("fromEngine", text)
