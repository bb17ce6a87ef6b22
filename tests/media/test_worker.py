"""The worker process as a whole: control channel, real UDP, a real WebSocket engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.media.support import CALLER, Caller, EngineServer, WorkerProcess, from_ulaw, peak_hz, sine, ulaw


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess()
    yield process
    assert process.close() == 0


@pytest.fixture
def caller() -> Iterator[Caller]:
    party = Caller()
    yield party
    party.close()


def open_call(worker: WorkerProcess, caller: Caller, leg: str, url: str | None, **engine: object) -> None:
    reply = worker.open(leg, caller.stream(), url, **engine)
    assert reply["ok"], reply
    caller.target = (reply["host"], reply["port"])


def test_audio_goes_both_ways(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer()
    try:
        open_call(worker, caller, "echo", engine.url, start={"call_id": "c1", "from": "sip:a@b"})
        start = engine.wait_text("start")
        assert start["call_id"] == "c1"
        assert start["rate"] == 16000
        assert start["encoding"] == "pcm_s16le"
        heard = bytearray()
        for i in range(40):
            caller.send(ulaw(sine(1000, 160, start=160 * i)))
            heard += caller.receive().payload
        engine.wait_audio(40)
        uplink = np.frombuffer(b"".join(engine.audio[5:35]), "<i2")
        assert {len(frame) for frame in engine.audio} == {640}
        assert peak_hz(uplink, 16000) == pytest.approx(1000, abs=10)
        assert np.abs(uplink).max() == pytest.approx(8000, rel=0.1)
        loud = from_ulaw(bytes(heard[20 * 160 :]))
        assert peak_hz(loud, 8000) == pytest.approx(1000, abs=20)
        assert worker.wait_event("first_rtp", "echo")["source"] == f"{CALLER}:{caller.port}"
        assert worker.wait_event("first_audio", "echo")["ttfb_ms"] >= 0
        stats = worker.command("release", leg="echo", reason="done")["stats"]
        assert stats["packets_in"] == 40
        assert stats["lost"] == stats["late"] == stats["concealed_ms"] == 0
        assert engine.wait_text("stop")["reason"] == "done"
    finally:
        engine.close()
