from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing

from conformance.lab.rtp_leg import RtpLeg
from conformance.lab.ue import CallFailedError, LabPhone, read_wav
from ims_as.sip.sdp import parse_sdp_untrusted

AUDIO = Path(__file__).parents[2] / "conformance" / "lab" / "audio"
PREFIX = "127.0.88."


def run(scenario: Callable[[LabPhone, LabPhone, trio.Nursery], Awaitable[None]], answer_after_s: float | None = 0.05):
    """Two phones that reach each other directly; both have let go of everything at the end."""

    async def main() -> tuple[LabPhone, LabPhone]:
        caller = LabPhone(name="caller", impu="sip:caller@ims.example", host=f"{PREFIX}51", port=0)
        phone = LabPhone(
            name="phone", impu="sip:alice@ims.example", host=f"{PREFIX}52", port=0, answer_after_s=answer_after_s
        )
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(caller.run)
                await nursery.start(phone.run)
                await scenario(caller, phone, nursery)
                for one in (caller, phone):
                    assert all(call.ended_at is not None for call in one.calls)
                nursery.cancel_scope.cancel()
        return caller, phone

    return trio.run(main)


def test_call_speak_hang_up():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        call = await caller.call(phone.contact)
        other = phone.calls[0]
        assert call.is_up
        _, ended = await call.play(AUDIO / "cards-001.wav")
        speech = await other.wait_for_speech_end(call.began_at)
        assert abs(speech.end - ended) < 0.3
        call.bye()
        await other.ended.wait()
        await call.ended.wait()

    caller, phone = run(scenario)
    call, other = caller.calls[0], phone.calls[0]
    assert (call.ended_by, other.ended_by) == ("local", "remote")
    assert call.began_at <= call.ringing_at <= call.answered_at <= call.ended_at
    assert other.ringing_at <= other.answered_at <= other.acked_at
    assert set(other.rtp.sources()) == {call.rtp.local}
    heard = other.rtp.heard_pcm()
    assert len(heard) > 8000
    assert np.abs(heard).max() > 3000
    methods = [event.data.split(b" ")[0] for event in caller.wire if event.direction == "out"]
    assert methods == [b"INVITE", b"ACK", b"BYE"]
    assert other.invite.from_.uri_text == "sip:caller@ims.example"


def test_media_moves_at_once_when_the_peer_moves_it():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        call = await caller.call(phone.contact)
        other = phone.calls[0]
        await other.rtp.wait_until(lambda: len(other.rtp.received) > 3)
        elsewhere = RtpLeg(f"{PREFIX}53")
        address = await elsewhere.bind()
        nursery.start_soon(elsewhere.run)
        moved = other.session.local_body.replace(
            f"c=IN IP4 {PREFIX}52".encode(), f"c=IN IP4 {PREFIX}53".encode()
        ).replace(f"m=audio {other.rtp.local[1]} ".encode(), f"m=audio {address[1]} ".encode())
        assert parse_sdp_untrusted(moved).media[0].port == address[1]
        other.session.reinvite(moved)
        await call.moved.wait()
        await elsewhere.wait_until(lambda: len(elsewhere.received) > 3)
        assert set(elsewhere.sources()) == {call.rtp.local}
        last_there = max(packet.at for packet in other.rtp.received)
        assert last_there < call.moved_at[0] + 0.04
        other.bye()
        await call.ended.wait()

    caller, _ = run(scenario)
    assert caller.calls[0].ended_by == "remote"


def test_a_phone_that_only_rings():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        call = await caller.start_call(phone.contact)
        ringing = await phone.wait_for_call()
        while call.ringing_at is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
        call.bye()
        await ringing.ended.wait()
        await call.ended.wait()
        assert (call.failure, ringing.failure) == (487, 487)

    run(scenario, answer_after_s=None)


def test_a_caller_who_stops_waiting_gives_the_call_up():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        with trio.move_on_after(0.2):
            await caller.call(phone.contact)
        await caller.calls[0].ended.wait()
        await phone.calls[0].ended.wait()

    run(scenario, answer_after_s=None)


def test_a_call_to_nobody_fails_with_its_status():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        phone._agent._on_invite = lambda request, transaction: phone._on_request(request, transaction)
        with pytest.raises(CallFailedError) as failure:
            await caller.call(phone.contact)
        assert failure.value.status == 405

    run(scenario)


def test_offer_without_a_codec_of_ours_is_refused():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        call = await caller.start_call(phone.contact)
        ringing = await phone.wait_for_call()
        ringing.invite.body = ringing.invite.body.replace(b"AVP 0", b"AVP 9").replace(b":0 PCMU", b":9 G722")
        await call.answered.wait()
        assert call.failure == 488

    run(scenario, answer_after_s=0.2)


def test_wav_is_resampled(tmp_path):
    pcm = read_wav(AUDIO / "cards-001.wav")
    assert len(pcm) == pytest.approx(17526 / 2, abs=2)
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    with pytest.raises(EOFError):
        read_wav(tmp_path / "no.wav")


def test_heard_since():
    async def scenario(caller: LabPhone, phone: LabPhone, nursery: trio.Nursery) -> None:
        call = await caller.call(phone.contact)
        await call.rtp.wait_until(lambda: len(call.rtp.received) > 10)
        assert len(call.heard_since(time.time() - 0.1)) == pytest.approx(800, abs=330)
        call.bye()
        await phone.calls[0].ended.wait()

    run(scenario)
