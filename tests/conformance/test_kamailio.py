"""ims-as behind Kamailio's S-CSCF: a core that we did not write, over ISC; its Cx and our Sh meet in the lab's HSS."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from conformance.lab.kamailio import KamailioLab
from conformance.lab.network import ALICE, ANNA
from conformance.lab.registering import authorize
from conformance.lab.scenario import AUDIO, TRANSCRIPTS
from conformance.lab.ue import PhoneCall

DEADLINE_S = 60.0
SILENCE_MS = 800
"""How long Kamailio waits for a silent AS here."""


@asynccontextmanager
async def kamailio_lab(folder: Path, prefix: str, *, user: str = ALICE) -> AsyncIterator[KamailioLab]:
    """The network with both phones registered; the legacy phone is ``user``'s and answers soon."""
    lab = KamailioLab(folder, prefix=prefix, silence_ms=SILENCE_MS)
    lab.phone.impu = user
    lab.phone.answer_after_s = 0.1
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(lab.run)
            for phone in (lab.caller, lab.phone):
                assert await lab.register(phone) == 200
            yield lab
            nursery.cancel_scope.cancel()


async def dial(lab: KamailioLab, user: str = ALICE) -> PhoneCall:
    call = await lab.caller.start_call(user)
    await call.answered.wait()
    assert call.failure is None
    return call


async def record_of(lab: KamailioLab, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first call of ims-as for which the condition holds."""
    while True:
        for summary in (await lab.fetch_json("/calls") or {})["calls"]:
            if condition(summary):
                record = await lab.fetch_call(summary["id"])
                assert record is not None
                return record
        await trio.sleep(0.05)


def test_the_agent_answers_behind_kamailio(tmp_path: Path):
    async def main() -> dict[str, Any]:
        async with kamailio_lab(tmp_path, "127.0.80") as lab:
            call = await dial(lab)
            await trio.sleep(0.4)
            await call.play(AUDIO / "cards-001.wav")
            await record_of(lab, lambda summary: summary["ttfb_ms"] is not None)
            call.bye()
            return await record_of(lab, lambda summary: summary["state"] == "ended")

    record = trio.run(main)
    assert record["termination"] == {"result": "answered", "by": "caller", "reason": "bye", "cause": None}
    assert record["session_case"] == "terminating_registered"
    assert record["served_user"] == ALICE
    assert [line["text"] for line in record["transcript"] if line["role"] == "user"] == [TRANSCRIPTS["cards-001.wav"]]


def test_our_503_brings_legacy_termination(tmp_path: Path):
    async def main() -> tuple[PhoneCall, dict[str, Any]]:
        async with kamailio_lab(tmp_path, "127.0.81") as lab:
            await lab.stop_engine()
            call = await dial(lab)
            await talk_directly(lab, call)
            return call, await record_of(lab, lambda summary: summary["state"] == "ended")

    call, record = trio.run(main)
    assert record["termination"]["result"] == "rejected"
    assert record["termination"]["cause"] == 503
    assert call.ended.is_set()


def test_our_silence_brings_legacy_termination_after_its_timer(tmp_path: Path):
    async def main() -> float:
        async with kamailio_lab(tmp_path, "127.0.82") as lab:
            assert lab.server is not None
            os.kill(lab.server.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                call = await dial(lab)
                took = time.monotonic() - began
                await talk_directly(lab, call)
            finally:
                os.kill(lab.server.pid, signal.SIGCONT)
            return took

    assert SILENCE_MS / 1000 <= trio.run(main) < SILENCE_MS / 1000 + 2.0


def test_session_terminated_is_passed_on_by_the_route(tmp_path: Path):
    async def main() -> dict[str, Any]:
        async with kamailio_lab(tmp_path, "127.0.83", user=ANNA) as lab:
            await lab.stop_engine()
            call = await dial(lab, ANNA)
            await talk_directly(lab, call)
            return await record_of(lab, lambda summary: summary["state"] == "ended")

    record = trio.run(main)
    assert record["termination"]["result"] == "passed-on"


def test_a_caller_is_handed_back_through_kamailio(tmp_path: Path):
    async def main() -> dict[str, Any]:
        async with kamailio_lab(tmp_path, "127.0.86") as lab:
            call = await dial(lab)
            await trio.sleep(0.4)
            await call.play(AUDIO / "cards-002.wav")
            await call.moved.wait()
            await talk_directly(lab, call)
            return await record_of(lab, lambda summary: summary["state"] == "ended" and summary["answered_at"])

    record = trio.run(main)
    assert record["termination"]["result"] == "transferred"
    assert record["transfer"]["state"] == "joined"


def test_third_party_registers_arrive_and_are_understood(tmp_path: Path):
    async def main() -> list[float]:
        async with kamailio_lab(tmp_path, "127.0.87") as lab:
            seen = [await registrations(lab, lambda n: n == 1)]
            assert await lab.register(lab.phone, expires_s=0) == 200
            seen.append(await registrations(lab, lambda n: n == 0))
            return seen

    assert trio.run(main) == [1, 0]


async def registrations(lab: KamailioLab, condition: Callable[[float], bool]) -> float:
    """ims-as's gauge of registered users, when it is as wanted."""
    while True:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{lab.addresses.api_url}/metrics")).text
        values = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("ims_as_registrations ")]
        if values and condition(values[0]):
            return values[0]
        await trio.sleep(0.05)


async def talk_directly(lab: KamailioLab, call: PhoneCall) -> None:
    """RTP between the phones both ways, then the caller hangs up."""
    phone = await lab.phone.wait_for_call()
    await phone.answered.wait()
    while not (phone.rtp.sources().get(call.rtp.local) and call.rtp.sources().get(phone.rtp.local)):
        await trio.sleep(0.02)
    call.bye()
    await phone.ended.wait()


def test_digest_of_the_rfc():
    """RFC 2617 §3.5."""
    challenge = 'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    value = authorize(
        challenge,
        username="Mufasa",
        password="Circle Of Life",
        uri="/dir/index.html",
        cnonce="0a4f113b",
        method="GET",
    )
    assert value.endswith('response="6629fae49393a05397450978507c4ef1"')
