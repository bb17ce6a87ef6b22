"""Calls recorded by a running server: what is heard, whose consent it needs, what engines wish, what is left over."""

from __future__ import annotations

import json
import os
import time
import wave
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soxr
import trio

from ims_as.recordings import find_recordings, recording_path, subscriber_key
from ims_as.sip.invite_session import Answered
from ims_as.sip.sdp import parse_sdp_untrusted
from media import g711
from media.record.files import create, open_sink
from tests.support.world import BOB, Leg, World, until, world

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "ims-as.v1.schema.json").read_text())
SPEECH = Path(__file__).parents[2] / "conformance" / "lab" / "audio"


def recorded_agent(directory: Path, **recording: Any) -> Any:
    """The overrides of a world whose agent records."""
    told = {"mode": "always", "needs_profile": False, "directory": str(directory), **recording}
    return lambda here: [
        "agents="
        + json.dumps({"default": {"engines": [{"type": "websocket", "url": here.engine.url}], "recording": told}})
    ]


async def answered(here: World) -> tuple[Leg, str, int]:
    """A call that is up; where our RTP is."""
    leg = here.call()
    answer = await leg.wait(Answered)
    description = parse_sdp_untrusted(answer.body)
    return leg, description.connection_of(description.media[0]), description.media[0].port


async def told(here: World, state: str) -> dict[str, Any]:
    """The next `recording` event, which is as the schema says."""
    event = await here.engine.wait("recording")
    jsonschema.validate(event, {**SCHEMA, "$ref": "#/$defs/toEngine"})
    assert event["state"] == state, event
    return event


async def recording_of(directory: Path, n: int = 1) -> Any:
    with trio.fail_after(10):
        while len(found := list(find_recordings([directory], BOB))) < n:
            await trio.sleep(0.02)
    return found


def nothing_in(directory: Path) -> bool:
    """Besides the prompt."""
    return not list(directory.glob("*/*"))


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2).astype(float)


def clip(path: Path, seconds: float = 0.4) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        t = np.arange(round(8000 * seconds)) / 8000
        writer.writeframes((9000 * np.sin(2 * np.pi * 600 * t)).astype("<i2").tobytes())
    return path


def speech(seconds: float) -> np.ndarray:
    with wave.open(str(SPEECH / "jfk.wav"), "rb") as reader:
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").astype(np.float32)
        rate = reader.getframerate()
    line = soxr.resample(samples, rate, 8000)
    return line[: round(8000 * seconds)]


async def talk(here: World, host: str, port: int, samples: np.ndarray) -> None:
    began = trio.current_time()
    for i in range(len(samples) // 160):
        codes = g711.encode(samples[None, 160 * i : 160 * (i + 1)].astype(np.float32), np.zeros(1, np.uint8))
        here.caller_rtp._send(host, port, 0, codes.tobytes(), 160 * i)
        await trio.sleep_until(began + 0.02 * (i + 1))


def found(heard: np.ndarray, said: np.ndarray) -> dict[int, tuple[int, float]]:
    """For each half second of speech how much later it is heard, in samples, and how alike; by where it begins."""
    places: dict[int, tuple[int, float]] = {}
    for start in range(0, len(said) - 3999, 4000):
        part = said[start : start + 4000]
        if np.abs(part).max() < 2000:
            continue
        power = np.convolve(heard**2, np.ones(len(part)), "valid")
        alike = np.correlate(heard, part, "valid") / np.sqrt((power + 1) * np.dot(part, part))
        at = int(np.argmax(alike))
        places[start] = at - start, float(alike[at])
    return places


def test_speech_is_in_both_channels_at_its_time(tmp_path: Path):
    async def main() -> None:
        async with world(make=recorded_agent(tmp_path)) as here:
            leg, host, port = await answered(here)
            await told(here, "started")
            said = speech(4.0)
            await talk(here, host, port, said)
            await trio.sleep(0.2)
            leg.session.bye()
            [recording] = await recording_of(tmp_path)
            await here.until_idle()
            samples = samples_of(recording.path)
            left, right = (found(samples[:, channel], said) for channel in (0, 1))
            # on a busy machine there are gaps in some half seconds: both are judged where it is whole
            start = max(left, key=lambda place: left[place][1] + right[place][1])
            assert left[start][1] > 0.98
            assert right[start][1] > 0.9  # to 16 kHz and back
            assert 0 <= right[start][0] - left[start][0] <= 8 * 250
            about = recording.about
            assert about["complete"]
            assert about["subscriber"] == BOB
            assert about["call"]["icid"] == "icid-1"
            assert about["consent"] == {"mode": "always", "profile": None}
            record = here.app.context.directory.find(recording.call_id)
            assert record is not None
            assert record.recordings == [f"{subscriber_key(BOB)}/{recording.path.name}"]
            counter = here.app.metrics.recordings.labels("complete")
            await until(lambda: counter._value.get() == 1)

    trio.run(main)


@pytest.mark.parametrize(("digit", "is_recorded"), [(1, True), (2, False)])
def test_consent_by_a_key(tmp_path: Path, digit: int, is_recorded: bool):
    async def main() -> None:
        options = {"mode": "consent", "prompt": str(clip(tmp_path / "prompt.wav"))}
        async with world(make=recorded_agent(tmp_path, **options)) as here:
            leg, host, port = await answered(here)
            await told(here, "asking")
            await here.engine.connections[-1].send(b"\x00\x10" * 16000)  # the engine greets at once: it has to wait
            loud = 0
            for _ in range(40):
                packet = await here.caller_rtp.receive()
                samples = g711.decode(np.frombuffer(packet[12:], np.uint8)[None, :], np.zeros(1, np.uint8))[0]
                loud += 8000 < np.abs(samples).max() < 10000
                if loud == 15:
                    break
            assert loud == 15  # of the prompt's 20 packets
            here.caller_rtp.send_digit(host, port, digit)
            state = await told(here, "started" if is_recorded else "refused")
            if not is_recorded:
                assert state["reason"] == "the caller refused"
                await here.engine.send(event="record_start")
                await told(here, "refused")
            await trio.sleep(0.3)
            assert not [event for event in here.engine.events if event["event"] == "dtmf"]
            here.caller_rtp.send_digit(host, port, 5)  # keys are the engine's again
            assert (await here.engine.wait("dtmf"))["digit"] == "5"
            leg.session.bye()
            await here.until_idle()
            if not is_recorded:
                assert nothing_in(tmp_path)
                return
            [recording] = await recording_of(tmp_path)
            assert recording.about["consent"]["digit"] == "1"
            # the greeting came behind the prompt, of which only the fade may be in it
            assert np.abs(samples_of(recording.path)[400:, 1]).max() == pytest.approx(4096, rel=0.1)

    trio.run(main)


def test_no_key_is_no_consent(tmp_path: Path):
    async def main() -> None:
        options = {"mode": "consent", "consent_s": 1, "prompt": str(clip(tmp_path / "prompt.wav", 0.1))}
        async with world(make=recorded_agent(tmp_path, **options)) as here:
            leg, _, _ = await answered(here)
            await told(here, "asking")
            assert (await told(here, "refused"))["reason"] == "no answer"
            leg.session.bye()
            await here.until_idle()
            assert nothing_in(tmp_path)

    trio.run(main)


def test_the_engine_starts_pauses_and_stops(tmp_path: Path):
    async def main() -> None:
        async with world(make=recorded_agent(tmp_path, mode="engine", format="ogg")) as here:
            leg, _, _ = await answered(here)
            for wish, state in (
                ("record_pause", None),  # nothing is recorded yet
                ("record_start", "started"),
                ("record_start", None),
                ("record_pause", "paused"),
                ("record_resume", "resumed"),
                ("record_stop", "stopped"),
                ("record_start", "started"),
            ):
                await here.engine.send(event=wish)
                if state is not None:
                    await told(here, state)
                await trio.sleep(0.05)
            leg.session.bye()
            first, second = await recording_of(tmp_path, 2)
            await here.until_idle()
            assert len(first.about["pauses"]) == 1
            assert second.about["pauses"] == []
            assert first.call_id == second.call_id
            assert first.path.suffix == ".opus"

    trio.run(main)


def test_without_consent_in_the_profile_nothing_is_recorded(tmp_path: Path):
    async def main() -> None:
        async with world(make=recorded_agent(tmp_path, needs_profile=True)) as here:
            leg, _, _ = await answered(here)
            assert (await told(here, "refused"))["reason"] == "no consent in the profile"
            leg.session.bye()
            await here.until_idle()
            assert nothing_in(tmp_path)

    trio.run(main)


def test_a_folder_that_cannot_be_written_costs_no_call(tmp_path: Path):
    async def main() -> None:
        place = tmp_path / "file"
        place.write_text("in the way")
        async with world(make=recorded_agent(place)) as here:
            leg, host, port = await answered(here)
            await told(here, "started")
            assert (await told(here, "failed"))["reason"] == "open"
            [alarm] = here.app.alarms()["alarms"]
            assert (alarm["alarm"], alarm["object"]) == ("recording-lost", str(place))
            here.engine.audio_bytes = 0
            here.caller_rtp.send(host, port, 5)
            await until(lambda: here.engine.audio_bytes > 0)
            leg.session.bye()
            await here.until_idle()

    trio.run(main)


def test_a_server_that_starts_completes_what_is_left_over_and_deletes_what_is_old(tmp_path: Path):
    left, old = (recording_path(tmp_path, BOB, name, time.time(), "wav") for name in ("left", "old"))
    for path in (left, old):
        fd = create(path)
        open_sink(fd, "wav", 8000).write(np.ones((8000, 2), np.int16))
        os.close(fd)
    old.with_name(old.name + ".part").rename(old)
    Path(f"{old}.json").write_text(json.dumps({"started_at": time.time() - 31 * 86400, "retention_days": 30}))

    async def main() -> None:
        async with world(make=recorded_agent(tmp_path)):
            await until(lambda: left.exists() and not old.exists())

    trio.run(main)
    assert json.loads(Path(f"{left}.json").read_text())["complete"] is False
    assert not Path(f"{old}.json").exists()
    assert "retention" in (tmp_path / "deleted.jsonl").read_text()
