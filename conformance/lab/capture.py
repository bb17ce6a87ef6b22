"""What is on the wire, seen from outside: RTP packets on the loopback, and the sockets a process has open.

The capture needs a packet socket, so root; without it the phones' own records are the proof.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

__all__ = ["FlowCount", "OpenSockets", "RtpCapture", "SocketWatch", "read_sockets"]

Address = tuple[str, int]

ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
"""Each packet on the loopback passes a packet socket twice, going out and coming in; one is enough."""
MAX_FLOWS = 1000
SNAP_BYTES = 64
"""Headers only."""
BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
POLL_S = 0.01
_PORTS = struct.Struct("!HH")


@attrs.define
class FlowCount:
    """RTP packets from one address to another; times are wall clock."""

    n_packets: int
    first_at: float
    last_at: float


def _attach_filter(raw: socket.socket, prefix: str) -> None:
    """Has the kernel drop all but our UDP, so that traffic of others cannot overrun the socket.

    A classic BPF program: source, destination, protocol; each test that fails jumps to the last line.
    """
    network = int.from_bytes(socket.inet_aton(prefix + ".0"))
    load_word, load_byte, mask, equal, give = 0x20, 0x30, 0x54, 0x15, 0x06
    program = [
        (load_word, 0, 0, 12),
        (mask, 0, 0, 0xFFFFFF00),
        (equal, 0, 6, network),
        (load_word, 0, 0, 16),
        (mask, 0, 0, 0xFFFFFF00),
        (equal, 0, 3, network),
        (load_byte, 0, 0, 9),
        (equal, 0, 1, socket.IPPROTO_UDP),
        (give, 0, 0, SNAP_BYTES),
        (give, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    head = struct.pack("@HxxxxxxP" if struct.calcsize("P") == 8 else "@HxxP", len(program), ctypes.addressof(code))
    raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


class RtpCapture:
    """Counts RTP packets by source and destination while ``run`` runs."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.flows: dict[tuple[Address, Address], FlowCount] = {}
        self.is_running = False

    def clear(self) -> None:
        self.flows = {}

    async def run(self, task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED) -> None:
        """Started with whether capturing is possible; returns at once when it is not."""
        try:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        except (AttributeError, OSError):  # not Linux, or not root
            task_status.started(False)
            return
        with contextlib.suppress(OSError):
            _attach_filter(raw, self._prefix)
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        packets = trio.socket.from_stdlib_socket(raw)
        try:
            await packets.bind(("lo", ETH_P_IP))
            self.is_running = True
            task_status.started(True)
            while True:
                packet, address = await packets.recvfrom(SNAP_BYTES)
                if address[2] != PACKET_OUTGOING:
                    self.receive_packet_untrusted(packet, time.time())
        finally:
            self.is_running = False
            packets.close()

    def receive_packet_untrusted(self, packet: bytes, at: float) -> None:
        """One IPv4 packet; anything but RTP between addresses of ours is ignored."""
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
            return
        start = 4 * (packet[0] & 15)
        rtp = packet[start + 8 : start + 20]
        if len(rtp) < 12 or rtp[0] >> 6 != 2 or 64 <= rtp[1] & 0x7F <= 95:  # RTCP shares these numbers (RFC 5761)
            return
        hosts = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        if not all(host.startswith(self._prefix + ".") for host in hosts):
            return
        source_port, destination_port = _PORTS.unpack_from(packet, start)
        if 5060 in (source_port, destination_port):
            return
        key = (hosts[0], source_port), (hosts[1], destination_port)
        if (flow := self.flows.get(key)) is not None:
            flow.n_packets += 1
            flow.last_at = at
        elif len(self.flows) < MAX_FLOWS:
            self.flows[key] = FlowCount(1, at, at)


@attrs.frozen
class OpenSockets:
    """Sockets of ims-as at one moment."""

    rtp_ports: frozenset[int]
    engine_ports: frozenset[int]
    """Local ports of open connections to the engine."""


def _rows(table: str) -> list[list[str]]:
    return [fields for line in table.splitlines()[1:] if len(fields := line.split()) > 9]


def _address(text: str) -> Address:
    host, port = text.split(":")
    return socket.inet_ntoa(struct.pack("<I", int(host, 16))), int(port, 16)


_OPEN_STATES = ("01", "02", "08")
"""ESTABLISHED, SYN_SENT, CLOSE_WAIT: in the others our side has closed."""


def read_sockets(udp: str, tcp: str, *, host: str, rtp_ports: range, engine: Address) -> OpenSockets:
    """From the text of /proc/net/udp and /proc/net/tcp: what ``host`` has open for media and towards the engine."""
    bound = [_address(row[1]) for row in _rows(udp)]
    ports = frozenset(port for ip, port in bound if ip == host and port in rtp_ports)
    connections = frozenset(
        _address(row[1])[1]
        for row in _rows(tcp)
        if row[3] in _OPEN_STATES and row[9] != "0" and _address(row[2]) == engine
    )
    return OpenSockets(ports, connections)


class SocketWatch:
    """Looks every 10 ms and keeps the changes."""

    def __init__(self, host: str, rtp_ports: range, engine: Address) -> None:
        self._host = host
        self._rtp_ports = rtp_ports
        self._engine = engine
        self.changes: list[tuple[float, OpenSockets]] = []
        self._changed = trio.Event()

    def look(self) -> OpenSockets:
        """Raises OSError where there is no /proc."""
        udp, tcp = Path("/proc/net/udp").read_text(), Path("/proc/net/tcp").read_text()
        now = read_sockets(udp, tcp, host=self._host, rtp_ports=self._rtp_ports, engine=self._engine)
        if not self.changes or self.changes[-1][1] != now:
            self.changes.append((time.time(), now))
            self._changed.set()
            self._changed = trio.Event()
        return now

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns once ``condition`` holds, looked at after each change.  The caller sets the deadline."""
        while not condition():
            await self._changed.wait()

    async def run(self) -> None:
        while True:
            self.look()
            await trio.sleep(POLL_S)

    def gone_at(self, after: float) -> float | None:
        """When, from ``after`` on, no media port and no engine connection was left; ``after`` if none was then."""
        state: OpenSockets | None = None
        for at, sockets in self.changes:
            if at <= after:
                state = sockets
            elif state is not None and not state.rtp_ports and not state.engine_ports:
                break
            else:
                state = sockets
                after = at
        if state is None or state.rtp_ports or state.engine_ports:
            return None
        return after
