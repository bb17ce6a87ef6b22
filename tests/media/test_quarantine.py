"""An unforeseen error in the handling of one leg costs that leg, not its worker."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from media.control import StreamConfig, encode_line, to_wire
from media.leg import Leg
from media.quarantine import leg_behind
from media.worker import MAX_FAULTS, Worker, WorkerConfig

HOST = "127.0.0.77"
STREAM = StreamConfig("L16", 96, remote_host=HOST, remote_port=9, clock_rate=16000)


class Bench:
    """A worker in this process, turn by turn."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.worker = Worker(WorkerConfig(HOST, 23000, 23099), theirs)
        self.numbers = iter(range(1, 1000))
        self.messages: list[dict[str, object]] = []
        self.ours.setblocking(False)

    def command(self, cmd: str, **fields: object) -> None:
        self.ours.send(encode_line({"cmd": cmd, "id": next(self.numbers), **fields}))
        self.worker._control_ready(1)

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.worker._urgent.wait()
            with contextlib.suppress(BlockingIOError):
                self.messages += [json.loads(line) for line in self.ours.recv(1 << 20).splitlines()]

    def leg(self, name: str) -> Leg:
        return self.worker._director._calls[name].leg

    def events(self, name: str) -> list[dict[str, object]]:
        return [each for each in self.messages if each.get("ev") == name]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.worker._urgent.add(bench.worker._control.fileno(), 1, bench.worker._control_ready)
    bench.worker._urgent.add(bench.worker._timer.fileno(), 1, bench.worker._tick)
    yield bench
    worker = bench.worker
    worker._director.release_all("shutdown")
    worker._director.close()
    worker._timer.close()
    worker._plane.close()
    worker._urgent.close()
    worker._control.close()
    bench.ours.close()


class Poison:
    """A coder that nobody has tried enough."""

    def encode(self, line: object) -> bytes:
        raise RuntimeError("poison")

    def close(self) -> None:
        """As a codec."""


def test_a_leg_whose_coder_raises_is_given_up_and_the_others_go_on(bench):
    for name in ("good", "bad", "fine"):
        bench.command("reserve", leg=name, stream=to_wire(STREAM))
        bench.command("play", leg=name, clip="builtin:ringback", loop=True)
    bench.run(0.1)
    bench.leg("bad").receiver.coded = Poison()  # type: ignore[assignment]
    bench.run(0.3)
    (failed,) = bench.events("leg_failed")
    assert failed["leg"] == "bad"
    assert "Poison" in str(failed["detail"])
    assert bench.worker._is_running
    sent = [int(bench.worker._plane.table.packets_out[bench.leg(name).row]) for name in ("good", "fine")]
    bench.run(0.3)
    for name, before in zip(("good", "fine"), sent, strict=True):
        assert int(bench.worker._plane.table.packets_out[bench.leg(name).row]) >= before + 10
    assert len(bench.events("leg_failed")) == 1
    bench.command("reserve", leg="bad", stream=to_wire(STREAM))
    bench.run(0.05)
    assert bench.leg("bad").row >= 0, "name, row and port are free again"


def test_a_worker_that_fails_in_every_pass_ends(bench):
    bench.command("reserve", leg="one", stream=to_wire(STREAM))

    def fail(*_: object) -> None:
        raise RuntimeError("nobody's")

    bench.worker._plane.run = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="nobody's"):
        bench.run(MAX_FAULTS * 0.005 + 5)
    assert not bench.worker._is_running


def test_nothing_is_found_where_there_is_nothing():
    def leg_of(row: int) -> Leg:
        raise LookupError(row)

    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x")
    assert leg_behind(caught.value, leg_of) is None
