"""baresip, a telephone that we did not write, as UE of the lab: it calls the agent, and is who a caller goes to."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import trio

from conformance.lab.network import ALICE, CALLER, DOMAIN, Lab
from conformance.lab.scenario import AUDIO, TRANSCRIPTS
from conformance.lab.ue import read_wav

DEADLINE_S = 60
RATE = 8000
RTP_PORTS = range(21000, 21100)
LEAD_S, TAIL_S = 1.0, 20.0
"""Silence around what baresip says: it hangs up when its file is over."""

CONFIG = """\
poll_method epoll
sip_listen {host}:5060
net_interface {host}
audio_path {folder}
audio_player aufile,{folder}/unused.wav
audio_source aufile,{folder}/said.wav
audio_alert aufile,{folder}/unused.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports {ports.start}-{ports.stop}
module_path {modules}
module {codec}.so
module srtp.so
module aufile.so
module sndfile.so
snd_path {folder}
module_tmp account.so
module_app menu.so
"""


def write_wav(path: Path, pcm: npt.NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.astype("<i2").tobytes())


def prepare(folder: Path, *, host: str, account: str, speech: str, codec: str = "g711") -> None:
    """Configuration, account and what is said."""
    folder.mkdir()
    modules = next(path for path in Path("/usr/lib").glob("**/baresip/modules") if path.is_dir())
    config = CONFIG.format(host=host, folder=folder, modules=modules, ports=RTP_PORTS, codec=codec)
    (folder / "config").write_text(config)
    (folder / "accounts").write_text(account + "\n")
    pcm = read_wav(AUDIO / speech)
    silence = (np.zeros(int(seconds * RATE), np.int16) for seconds in (LEAD_S, TAIL_S))
    write_wav(folder / "said.wav", np.concatenate([next(silence), pcm, next(silence)]))


@asynccontextmanager
async def baresip(folder: Path, *commands: str) -> AsyncIterator[None]:
    """The program, ended by SIGTERM: it hangs up."""
    options = [word for command in commands for word in ("-e", command)]
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            ["baresip", "-f", str(folder), "-v", "-s", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            with trio.move_on_after(5, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()


def heard(folder: Path) -> npt.NDArray[np.int16]:
    """What baresip decoded, as its own recorder wrote it."""
    (path,) = folder.glob("dump-*-dec.wav")
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def loudness(pcm: npt.NDArray[np.int16]) -> float:
    """Root mean square of the loudest half second."""
    size = RATE // 2
    blocks = pcm[: len(pcm) // size * size].reshape(-1, size).astype(np.float64)
    return float(np.sqrt((blocks**2).mean(axis=1)).max()) if len(blocks) else 0.0


async def answered_call(lab: Lab) -> dict[str, Any]:
    """The one call that the agent answered, in full; what was passed on is left out."""
    calls = [call for call in (await lab.fetch_json("/calls") or {})["calls"] if call["answered_at"]]
    if len(calls) != 1:
        return {}
    return await lab.fetch_call(calls[0]["id"]) or {}


async def wait_for(lab: Lab, condition: Any) -> dict[str, Any]:
    while True:
        call = await answered_call(lab)
        if call and condition(call):
            return call
        await trio.sleep(0.1)


@pytest.mark.parametrize(("prefix", "encryption"), [("127.0.84", ""), ("127.0.86", "srtp-mand")])
def test_baresip_calls_the_agent(tmp_path: Path, prefix: str, encryption: str):
    folder = tmp_path / "baresip"

    async def main() -> dict[str, Any]:
        lab = Lab(tmp_path, prefix=prefix)
        host = f"{prefix}.43"
        account = f'<{CALLER}>;regint=0;outbound="sip:{lab.addresses.scscf}:5060;lr";audio_codecs=PCMU/8000/1'
        account += f";mediaenc={encryption}" if encryption else ""
        prepare(folder, host=host, account=account, speech="cards-005.wav")
        async with trio.open_nursery() as nursery:
            await nursery.start(lab.run)
            lab.scscf.contacts[CALLER] = f"sip:{host}:5060"
            async with baresip(folder, f"d {ALICE}"):
                await wait_for(lab, lambda call: any(line["role"] == "agent" for line in call["transcript"]))
                await trio.sleep(4.0)  # the answer is spoken
            call = await wait_for(lab, lambda call: call["state"] == "ended")
            nursery.cancel_scope.cancel()
        return call

    record = trio.run(_within, main)
    said = [line["text"] for line in record["transcript"] if line["role"] == "user"]
    assert said == [TRANSCRIPTS["cards-005.wav"]]
    assert record["termination"] == {"result": "answered", "by": "caller", "reason": "bye", "cause": None}
    assert loudness(heard(folder)) > 1000
    log = (folder / "log").read_bytes()
    assert b"SIP/2.0 200 OK" in log
    # of its offer and of our answer
    assert log.count(b" RTP/SAVP ") >= 2 * bool(encryption)
    assert (b"inline:" in log) == bool(encryption)


def test_baresip_is_the_phone_that_a_caller_is_handed_to(tmp_path: Path):
    folder = tmp_path / "baresip"
    host = "127.0.85.43"

    async def main() -> tuple[dict[str, Any], int]:
        lab = Lab(tmp_path, prefix="127.0.85")
        account = f"<sip:alice@{DOMAIN}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1"
        prepare(folder, host=host, account=account, speech="jfk.wav")
        async with trio.open_nursery() as nursery:
            await nursery.start(lab.run)
            lab.scscf.contacts[ALICE] = f"sip:alice@{host}:5060"
            async with baresip(folder):
                call = await lab.caller.start_call(ALICE)
                await call.answered.wait()
                assert call.failure is None
                await trio.sleep(0.5)
                await call.play(AUDIO / "cards-002.wav")
                await call.moved.wait()
                await trio.sleep(LEAD_S + 3.0)
                await call.play(AUDIO / "cards-001.wav")
                # baresip sends from any address of the machine, but from the ports that it was given
                direct = sum(1 for packet in call.rtp.received if packet.source[1] in RTP_PORTS)
            record = await wait_for(lab, lambda call: call["state"] == "ended")
            assert call.ended_by == "remote"
            nursery.cancel_scope.cancel()
        return record, direct

    record, direct = trio.run(_within, main)
    assert record["termination"]["result"] == "transferred"
    assert record["transfer"]["state"] == "joined"
    assert direct > 100  # packets of 20 ms straight from baresip
    assert loudness(heard(folder)) > 500


async def _within(main: Any) -> Any:
    with trio.fail_after(DEADLINE_S):
        return await main()
