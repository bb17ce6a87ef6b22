"""What RTCP costs the media plane: ``python -m bench.rtcp [300] [--rounds 6] [--seconds 5]``.

Legs without engines, in this process, in made-up time: every 20 ms a packet of G.711 each way, reports as they fall
due, and for each report of ours one of the peer's. CPU of the plane alone (the peers' is not counted), in rounds
with and without RTCP by turns, since the machine's speed changes; one JSON line.
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import statistics
import time
from typing import Final

import attrs

from media.call import CommandError
from media.control import StreamConfig
from media.director import Director
from media.io import PortPool, UrgentPoll, raise_descriptor_limit
from media.plane import MediaPlane
from media.rtcp import ReceiverReport, ReportBlock, build_rtcp
from media.rtp import build_rtp
from media.table import FRAME_TICKS, TICK_MS

HOST, PEER = "127.0.0.70", "127.0.0.71"
SSRC: Final = 77
REPORT_S: Final = 5.0


class Bench:
    """The legs and their peers: one socket for all RTP and one for all RTCP."""

    def __init__(self, legs: int) -> None:
        self.plane = MediaPlane(legs)
        self.director = Director(self.plane, PortPool(HOST, 30000, 30000 + 4 * legs), UrgentPoll(), lambda _: None)
        self.rtp, self.rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.rtp.bind((PEER, 40000))
        self.rtcp.bind((PEER, 40001))
        self.tick, self.sequence, self.now, self.own_s = 0, 0, 0.0, 0.0
        """The last: CPU within the RTCP plane itself."""
        self._handle_rtcp = self.director._rtcp.handle_timers
        self.director._rtcp.handle_timers = self._timed  # type: ignore[method-assign]
        self.director._rtcp.clock = lambda: self.now
        self.names = [f"leg{n}" for n in range(legs)]
        self.config = StreamConfig("PCMU", 0, PEER, 40000)
        self.ports: list[int] = []
        for name in self.names:
            self.director.open(name, self.config, None, False, self._opened)

    def _opened(self, reply: dict[str, object] | CommandError) -> None:
        assert isinstance(reply, dict)
        assert isinstance(reply["port"], int)
        self.ports.append(reply["port"])

    def _timed(self) -> None:
        began = time.process_time()
        self._handle_rtcp()
        self.own_s += time.process_time() - began

    def switch(self, is_on: bool) -> None:
        config = self.config if is_on else attrs.evolve(self.config, rtcp_rs_bps=0, rtcp_rr_bps=0)
        for name in self.names:
            self.director.modify(name, config)

    def run(self, seconds: float, *, reports: bool) -> float:
        """CPU of the plane for so long, in seconds."""
        spent = 0.0
        legs, every = len(self.names), round(REPORT_S * 1000 / TICK_MS)
        for n in range(round(seconds * 1000 / TICK_MS)):
            self.tick += 1
            self.now += TICK_MS / 1000
            if self.tick % FRAME_TICKS == 0:
                self._speak()
            if reports:
                for at in range(n % every * legs // every, (n % every + 1) * legs // every):
                    self._report(at)
            began = time.process_time()
            self.plane.run(self.tick, 0)
            self.director.handle_timers(self.tick, self.now)
            spent += time.process_time() - began
        return spent

    def _speak(self) -> None:
        self.sequence += 1
        packet = build_rtp(
            payload_type=0,
            marker=False,
            sequence=self.sequence,
            timestamp=self.sequence * 160,
            ssrc=SSRC,
            payload=b"\x55" * 160,
        )
        for port in self.ports:
            self.rtp.sendto(packet, (HOST, port))

    def _report(self, at: int) -> None:
        row = self.director._calls[self.names[at]].leg.row
        block = ReportBlock(int(self.plane.table.ssrc[row]), 0, 0, self.sequence, 8, 0, 0)
        self.rtcp.sendto(build_rtcp([ReceiverReport(SSRC, (block,))]), (HOST, self.ports[at] + 1))

    def close(self) -> None:
        self.director.release_all("over")
        self.plane.close()
        self.rtp.close()
        self.rtcp.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rtcp")
    parser.add_argument("legs", type=int, nargs="?", default=300)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    raise_descriptor_limit()
    bench = Bench(options.legs)
    bench.run(1.0, reports=False)
    gc.collect()
    gc.freeze()
    gc.disable()
    cores: dict[bool, list[float]] = {True: [], False: []}
    own: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(options.rounds):
        for is_on in (True, False):
            bench.switch(is_on)
            bench.own_s = 0.0
            cores[is_on].append(bench.run(options.seconds, reports=is_on) / options.seconds)
            own[is_on].append(bench.own_s / options.seconds)
    session = [bench.director.stats(name) for name in bench.names]
    on, off = (statistics.median(cores[is_on]) for is_on in (True, False))
    more = statistics.median(a - b for a, b in zip(cores[True], cores[False], strict=True))
    line = {
        "legs": options.legs,
        "core_percent": round(100 * on, 2),
        "without_rtcp": round(100 * off, 2),
        "rtcp_percent_of_plane": round(100 * more / off, 2),
        "rtcp_core_percent": round(100 * more, 2),
        "rtcp_itself_core_percent": round(100 * statistics.median(own[True]), 2),
        "rtcp_itself_off": round(100 * statistics.median(own[False]), 2),
        "reports_out": sum(int(one["rtcp_out"]) for one in session),
        "reports_in": sum(int(one["rtcp_in"]) for one in session),
    }
    print(json.dumps(line))
    bench.close()


if __name__ == "__main__":
    main()
