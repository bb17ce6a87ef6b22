"""What is known of a stream that is received, for the reports on it (RFC 3550 A.3, RFC 3611 §4.7.2).

Nothing here runs for a packet that comes in its turn: losses are told when they are given up, and everything else
follows from two counters at the time of a report.

Bursts are those of RFC 3611: from a lost packet to a lost packet, with fewer than `GMIN` good ones in a row between.  A
packet that came too late to be played is discarded, and counts as lost here.
"""

from __future__ import annotations

from typing import Final

import attrs

from media.unwrap import unwrap_sequence

__all__ = ["GMIN", "Bursts", "LossSummary", "Reception"]

GMIN: Final = 16


@attrs.frozen(slots=True)
class Bursts:
    """Shares (0 to 1) lost within and outside bursts, and mean lengths in packets."""

    burst_density: float
    gap_density: float
    burst_packets: float
    gap_packets: float


@attrs.frozen(slots=True)
class LossSummary:
    """Since the stream began.

    Attributes:
        highest: extended sequence number of the newest packet.
        expected, received: packets; duplicates and late ones are received.
        fraction_lost: since the summary before, 0 to 1.
        given_up: packets that were not there when their turn came.
        late: those of them that came afterwards.
    """

    highest: int
    expected: int
    received: int
    fraction_lost: float
    given_up: int
    late: int
    bursts: Bursts


@attrs.define
class Reception:
    """One source, from its first packet or the last jump of its sequence numbers."""

    late: int = 0
    given_up: int = 0
    _first: int = 0
    _highest: int = -1
    _received: int = 0
    """The counter of packets when ``_highest`` was set."""
    _received_before: int = 0
    _reported: tuple[int, int] = (0, 0)
    """Packets expected and received at the time of the last report."""
    _n_bursts: int = 0
    _burst_packets: int = 0
    _burst_losses: int = 0
    _run_first: int = 0
    _run_last: int = 0
    _run_losses: int = 0

    @classmethod
    def starting(cls, sequence: int, received: int) -> Reception:
        """With a first packet.

        Args:
            sequence: of it, 16 bits.
            received: counter of packets, this one included.
        """
        return cls(first=sequence, highest=sequence, received=received, received_before=received - 1)

    def lost(self, sequence: int, count: int, received: int) -> None:
        """Packets are given up.

        Args:
            sequence: of the first of them, 16 bits.
            count: how many follow one another.
            received: counter of packets.
        """
        first = self._place(sequence, received)
        last = first + count - 1
        self.given_up += count
        if self._run_losses and first - self._run_last - 1 < GMIN:
            self._run_last = last
            self._run_losses += count
            return
        self._end_run()
        self._run_first, self._run_last, self._run_losses = first, last, count

    def summarise(self, highest: int, received: int) -> LossSummary:
        """As of now.

        Args:
            highest: sequence number of the newest packet, 16 bits.
            received: counter of packets.
        """
        self._highest = max(self._highest, self._place(highest, received))
        self._received = received
        expected = self._highest - self._first + 1
        got = received - self._received_before
        new_expected, new_received = expected - self._reported[0], got - self._reported[1]
        lost = new_expected - new_received
        fraction = lost / new_expected if new_expected > 0 and lost > 0 else 0.0
        self._reported = expected, got
        return LossSummary(self._highest, expected, got, fraction, self.given_up, self.late, self._bursts(expected))

    def _place(self, sequence: int, received: int) -> int:
        """The extended number: nearest to where so many packets lead."""
        return unwrap_sequence(self._highest + received - self._received, sequence)

    def _end_run(self) -> None:
        if self._run_losses > 1:  # a single one belongs to the gap around it
            self._n_bursts += 1
            self._burst_packets += self._run_last - self._run_first + 1
            self._burst_losses += self._run_losses

    def _bursts(self, expected: int) -> Bursts:
        """The run that is under way counts as if it ended here."""
        n, packets, losses = self._n_bursts, self._burst_packets, self._burst_losses
        if self._run_losses > 1:
            n, losses = n + 1, losses + self._run_losses
            packets += self._run_last - self._run_first + 1
        outside = max(0, expected - packets)
        return Bursts(
            burst_density=losses / packets if packets else 0.0,
            gap_density=min(1.0, (self.given_up - losses) / outside) if outside else 0.0,
            burst_packets=packets / n if n else 0.0,
            gap_packets=outside / (n + 1),
        )
