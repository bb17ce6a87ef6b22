"""A probe tells a listener from a refusal, and keeps the belief fresh."""

import trio

from ims_as.call.engine_health import EngineHealth, EngineState
from ims_as.call.probe import keep_probing, probe


def test_probe():
    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.61.1")
        port = listeners[0].socket.getsockname()[1]
        assert await probe(f"ws://127.0.61.1:{port}/") is None
        await listeners[0].aclose()
        assert await probe(f"ws://127.0.61.1:{port}/") == "engine_refused"

    trio.run(main)


def test_the_first_round_is_done_before_it_counts_as_started():
    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.61.2")
        up = f"ws://127.0.61.2:{listeners[0].socket.getsockname()[1]}/"
        down = "ws://127.0.61.3:9/"
        health = EngineHealth()
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_probing, health, lambda: frozenset({up, down}))
            assert health.state(up) is EngineState.UP
            assert health.state(down) is EngineState.DOWN
            nursery.cancel_scope.cancel()
        await listeners[0].aclose()

    trio.run(main)
