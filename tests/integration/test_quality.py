"""What was measured of a call comes into its record and the metrics."""

from __future__ import annotations

import json

import trio

from ims_as.call.record import CallRecord
from ims_as.sip.invite_session import Answered
from ims_as.sip.sdp import parse_sdp_untrusted
from tests.support.world import Leg, World, until, world


async def talking(here: World, leg: Leg) -> tuple[str, int]:
    """Where our RTP is, once the call is up."""
    answered = await leg.wait(Answered)
    await here.engine.wait("start")
    description = parse_sdp_untrusted(answered.response.body)
    return description.connection_of(description.media[0]), description.media[0].port


def only_record(here: World) -> CallRecord:
    directory = here.app.context.directory
    (record,) = [*directory.active.values(), *directory.ended.values()]
    return record


def silenced_locally(here: World) -> list[str]:
    default = {"engines": [{"type": "websocket", "url": here.engine.url}], "barge_in": "local"}
    return ["agents=" + json.dumps({"default": default})]


def sample(here: World, name: str, **labels: str) -> float:
    return here.app.metrics.registry.get_sample_value(f"ims_as_{name}", labels) or 0.0


def test_a_caller_who_is_not_heard_is_known_after_a_second() -> None:
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            host, port = await talking(here, leg)
            record = only_record(here)
            await until(lambda: record.one_way)
            assert (record.one_way[0]["direction"], record.one_way[0]["reason"]) == ("receive", "no-packets")
            assert record.answered_at is not None
            assert 0.9 < record.one_way[0]["at"] - record.answered_at < 2
            assert sample(here, "one_way_audio_total", direction="receive", reason="no-packets") == 1
            here.caller_rtp.send(host, port)
            await until(lambda: len(record.one_way) == 2)
            assert record.one_way[1]["over"]
            leg.session.bye()
            await until(lambda: record.ended_at)
            assert record.fields()["one_way"] == record.one_way

    trio.run(main)


def test_the_record_says_how_the_call_sounded() -> None:
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            host, port = await talking(here, leg)
            for _ in range(20):
                here.caller_rtp.send(host, port, sample=b"\x90")
                await trio.sleep(0.02)
            record = only_record(here)
            leg.session.bye()
            await until(lambda: record.ended_at)
            quality = record.media["quality"]
            assert quality["receive"]["scale"] == "nb"
            assert quality["receive"]["mos_cq"] > 4
            assert quality["send"] is None, "no RTCP"
            assert not record.one_way
            assert sample(here, "call_mos_count", direction="receive", scale="nb") == 1
            assert record.summary()["mos"] == {"receive": quality["receive"]["mos_cq"]}
            assert any(each["label"].startswith("heard: MOS 4.") for each in record.trace.as_dicts())
            info = record.fields()["media"]
            assert info["levels"]["receive"]["clipped"] == 0

    trio.run(main)


def test_a_caller_silences_an_agent_that_is_set_so() -> None:
    async def main() -> None:
        async with world(make=silenced_locally) as here:
            here.engine.echo = False
            leg = here.call()
            host, port = await talking(here, leg)
            record = only_record(here)
            await here.engine.connections[-1].send((b"\x00\x20" * 8 + b"\x00\xe0" * 8) * 2000)  # two seconds of 1 kHz
            await until(lambda: record.ttfb_ms)
            await trio.sleep(0.3)
            for _ in range(10):
                here.caller_rtp.send(host, port, sample=b"\x90")
                await trio.sleep(0.02)
            cleared = await here.engine.wait("cleared")
            assert cleared["by"] == "speech"
            assert 100 < cleared["played_ms"] < 1500
            await until(lambda: sample(here, "barge_in_seconds_count", by="local"))
            leg.session.bye()
            await until(lambda: record.ended_at)
            assert record.media["talk"]["barge_ins"] == 1

    trio.run(main)
