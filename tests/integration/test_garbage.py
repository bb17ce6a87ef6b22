"""Garbage at every port of a server that has a call up: the call goes on, the process lives, all is counted."""

import socket
from functools import partial

import trio

from ims_as.sip.invite_session import Answered
from ims_as.sip.sdp import parse_sdp_untrusted
from tests.support.garbage import INVITE, shoot_datagrams, shoot_streams
from tests.support.world import World, until, world


async def shoot_everything(here: World, rtp: tuple[str, int]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shoot_datagrams, f"{here.prefix}.66", (here.as_address, 5060))
        nursery.start_soon(shoot_datagrams, f"{here.prefix}.67", rtp)
        nursery.start_soon(shoot_streams, (here.as_address, 5060))
        nursery.start_soon(partial(shoot_streams, (here.as_address, 8080), every=3))


def test_a_call_goes_on_under_fire():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            await leg.wait(Answered)
            description = parse_sdp_untrusted(leg.session.remote_body)
            rtp = description.connection_of(description.media[0]), description.media[0].port
            heard = 0
            async with trio.open_nursery() as nursery:
                finished = trio.Event()

                async def fire() -> None:
                    await shoot_everything(here, rtp)
                    finished.set()

                nursery.start_soon(fire)
                while not finished.is_set():
                    here.caller_rtp.send(*rtp)
                    await trio.sleep(0.02)
            for _ in range(20):
                here.caller_rtp.send(*rtp)
                packet = await here.caller_rtp.receive()
                heard += len(packet) == 172
            assert heard == 20
            # engine garbage: neither malformed text nor odd PCM ends the call
            await here.engine.connections[0].send("{not json")
            await here.engine.connections[0].send(b"\x01\x02\x03")
            await here.engine.connections[0].send("[" * 5000)
            here.caller_rtp.send(*rtp)
            await here.caller_rtp.receive()
            counters = here.app.endpoint.counters
            assert counters.parse_errors.total() > 100
            assert not counters.guard_errors
            leg.session.bye()
            await until(lambda: not here.app.context.calls)
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["by"] == "caller"
            # and a new call is served as before
            again = here.call()
            await again.wait(Answered)
            again.session.bye()

    trio.run(main)


def test_a_peer_that_is_not_trusted_gets_no_answer():
    async def main() -> None:
        async with world('sip.trusted_peers=["10.0.0.0/8"]') as here:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((f"{here.prefix}.66", 0))
                stranger.setblocking(False)
                stranger.sendto(INVITE, (here.as_address, 5060))
                await until(lambda: here.app.endpoint.counters.drops["untrusted"])
                with trio.move_on_after(0.3):
                    await trio.lowlevel.wait_readable(stranger)
                    raise AssertionError("an answer to a stranger")

    trio.run(main)
