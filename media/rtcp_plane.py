"""RTCP of all legs of a worker: one poll and one heap of deadlines, both looked at every 50 ms.

A leg reports every few seconds, so everything here is done leg by leg, and several at a time, which costs less than one
by one between the passes of the plane.  When a datagram came the kernel has noted, so that the round trip is exact.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import random
import secrets
import select
import time
from collections.abc import Callable
from typing import Final

import attrs

from media.control import ControlError, StreamConfig
from media.leg import Leg
from media.party import Party
from media.plane import MediaPlane
from media.rtcp import MAX_RTCP_BYTES
from media.rtcp_figures import sender_figures, stream_figures
from media.rtcp_session import Bandwidth, RtcpSession, SenderFigures, StreamFigures

__all__ = ["RtcpPlane", "bandwidth_of"]

NOTHING_SENT: Final = SenderFigures(0, 0, 0)
MAX_DATAGRAMS: Final = 128
"""At a time: of 1,000 legs ten come.  A flood is left in the kernel, which drops it."""
CNAME_BYTES: Final = 12
"""96 random bits, RFC 7022 §4.2."""


def bandwidth_of(config: StreamConfig) -> Bandwidth:
    """Raises ControlError: not a number of bits per second."""
    for value in (config.rtcp_rs_bps, config.rtcp_rr_bps):
        if value is not None and not (isinstance(value, int) and value >= 0):
            raise ControlError(f"RTCP bandwidth {value!r}")
    return Bandwidth(config.rtcp_rs_bps, config.rtcp_rr_bps)


@attrs.define(eq=False)
class _RtcpLeg:
    """One leg as it stands in the heap.

    Attributes:
        deadline: of the entry that counts; others are left over.
        base: what was sent with former SSRCs.
    """

    leg: Leg
    party: Party
    session: RtcpSession
    deadline: float | None = None
    base: SenderFigures = NOTHING_SENT


class RtcpPlane:
    """All legs' sessions.

    Args:
        on_report: told with each report of a party whether it hears anything of us.
        clock: seconds, never set back.
    """

    def __init__(
        self, plane: MediaPlane, on_report: Callable[[Leg, bool], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plane = plane
        self._on_report = on_report
        self._poll = plane.rtcp_poll
        self._legs: dict[int, _RtcpLeg] = {}
        """By row."""
        self._by_fd: dict[int, _RtcpLeg] = {}
        self._heap: list[tuple[float, int, _RtcpLeg]] = []
        self._count = itertools.count()
        self._buffer = memoryview(bytearray(MAX_RTCP_BYTES + 64))
        self.clock = clock
        self.guarded = 0
        """Datagrams dropped because of an error of ours."""

    def __len__(self) -> int:
        return len(self._legs)

    # ---- legs come and go
    def open(self, leg: Leg, party: Party) -> None:
        """A leg whose party is configured."""
        session = RtcpSession(
            ssrc=int(self._plane.table.ssrc[leg.row]),
            cname=base64.b64encode(secrets.token_bytes(CNAME_BYTES)).decode(),
            random=random.random,
            now=self.clock(),
            unix_s=time.time(),
        )
        one = _RtcpLeg(leg, party, session)
        self._legs[leg.row] = one
        leg.rtcp = session
        party.on_rtcp = self._receiver(one)
        leg.receiver.on_collision = lambda: self._change_ssrc(one)
        if party.rtcp is not None:
            fd = party.rtcp.sock.fileno()
            self._by_fd[fd] = one
            self._poll.register(fd, select.EPOLLIN)
        self.configure(leg)

    def configure(self, leg: Leg) -> None:
        """Its stream has changed."""
        one, config = self._legs[leg.row], leg.receiver.config
        if one.session.ssrc != (ssrc := int(self._plane.table.ssrc[leg.row])):  # a new key came with a new source
            self._move(one, ssrc)
        one.session.configure(
            bandwidth_of(config), clock_rate=config.clock_rate, sends_xr=bool(config.rtcp_xr), now=self.clock()
        )
        self._schedule(one)

    def close(self, leg: Leg) -> None:
        """Says good-bye and forgets the leg; the party's sockets are closed by their owner, afterwards."""
        one = self._legs.pop(leg.row, None)
        if one is None:
            return
        one.deadline = None
        self._send(one, one.session.bye(self.clock(), self._figures(one)))
        if one.party.rtcp is not None:
            fd = one.party.rtcp.sock.fileno()
            del self._by_fd[fd]
            self._poll.unregister(fd)
        one.party.on_rtcp = leg.receiver.on_collision = None

    # ---- time
    def handle_timers(self) -> None:
        """Takes what has come and sends what is due."""
        ready = self._poll.poll(0, MAX_DATAGRAMS)
        for fd, _ in ready:
            if (one := self._by_fd.get(fd)) is not None:
                self._receive(one)
        heap, now = self._heap, self.clock()
        while heap and heap[0][0] <= now:
            deadline, _, one = heapq.heappop(heap)
            if one.deadline == deadline:
                one.deadline = None
                self._report(one, now)
                self._schedule(one)

    def _schedule(self, one: _RtcpLeg) -> None:
        deadline = one.session.next_deadline()
        if deadline != one.deadline:
            one.deadline = deadline
            if deadline is not None:
                heapq.heappush(self._heap, (deadline, next(self._count), one))

    def _report(self, one: _RtcpLeg, now: float) -> None:
        if not one.party.has_rtcp_target:
            one.session.postpone(now)
            return
        self._send(one, one.session.handle_timer(now, self._sent(one), lambda: self._figures(one)))

    def _send(self, one: _RtcpLeg, packet: bytes | None) -> None:
        if packet is None:
            return
        try:
            one.party.send_rtcp(packet)
        except OSError:  # the report is lost like any other datagram
            one.leg.counters.send_errors += 1

    # ---- receiving
    def _receive(self, one: _RtcpLeg) -> None:
        try:
            if not one.party.receive_rtcp_untrusted(self._buffer):
                one.session.counters.stranger += 1
        except OSError:  # an ICMP error on its way back, or nothing there after all
            self._plane.stray_errors += 1
        except Exception:  # the guard: what we did not foresee in one datagram must not end the calls
            self.guarded += 1

    def _receiver(self, one: _RtcpLeg) -> Callable[[memoryview, float], bool]:
        def receive_untrusted(datagram: memoryview, age_s: float) -> bool:
            """Whether it was RTCP."""
            received = one.session.receive_untrusted(datagram, now=self.clock() - age_s, sent=self._sent(one))
            if received.is_collision:
                self._change_ssrc(one)
            elif received.is_valid and self._sent(one):
                self._on_report(one.leg, not one.session.remote.hears_nothing)
            return received.is_valid

        return receive_untrusted

    def _change_ssrc(self, one: _RtcpLeg) -> None:
        """The peer has our number; the stream goes on with another, and its counters begin anew (RFC 3550 §8.2)."""
        if not one.session.may_change_ssrc:
            return
        table, row = self._plane.table, one.leg.row
        table.ssrc[row] = ssrc = secrets.randbits(32)
        table.marker[row] = True
        self._move(one, ssrc)

    def _move(self, one: _RtcpLeg, ssrc: int) -> None:
        """Good-bye for the former number; what is counted begins anew."""
        self._send(one, one.session.change_ssrc(ssrc, self.clock(), self._figures(one)))
        one.base = sender_figures(one.leg, self._plane.table, self._plane.tick)
        self._schedule(one)

    def _sent(self, one: _RtcpLeg) -> int:
        return int(self._plane.table.packets_out[one.leg.row]) - one.base.packets

    def _figures(self, one: _RtcpLeg) -> StreamFigures:
        return stream_figures(one.leg, self._plane.table, self._plane.tick, one.base)
