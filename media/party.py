"""The socket towards one party, and whom it listens to.

Symmetric RTP: packets go to the signalled address until a valid packet has come; where that came from is the party, the
signalled address or, behind an address translator, another.  For `CHANCE_TICKS` more the signalled address takes over
if it sends, since whoever came before it was no translator of its.  After that everybody else is a stranger: dropped
and counted at first, and once the party has proved steady (`STEADY_PACKETS`) filtered by the kernel, for which the
socket is connected.  Strangers are read away in the pass in which they come, so that they do not keep the party's
packets waiting, but no more than `StrangerBudget` allows all legs together.

When another address is signalled, packets of the former source are still on their way: for `FORMER_TICKS` they do not
make it the party again.  After that they do, for a party behind a translator may have changed its inner address alone.

With SRTP only packets that prove to be of the peer's key make anybody the party, and everything is decrypted before the
plane sees it and encrypted after.  A leg without pays nothing for that.

RTCP comes and goes by the socket beside (`media.rtcp_path`) or, where it was agreed, by this one; there it is told by
its second octet, and it never makes anybody the party.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Final

from media.control import StreamConfig
from media.io import disconnect_udp
from media.leg import Leg
from media.plane import MediaPlane
from media.rtcp import is_rtcp
from media.rtcp_path import Address, RtcpPath, address_of, is_nowhere, rtcp_address_of
from media.rtp import RtpParseError, parse_rtp_untrusted
from media.srtp import SrtpError, SrtpKeys, SrtpLeg
from media.table import NEVER

__all__ = ["FORMER_TICKS", "STEADY_PACKETS", "Party"]

STEADY_PACKETS: Final = 8
FORMER_TICKS: Final = 200
"""A second: the former party may go on sending until it has heard of the change."""
CHANCE_TICKS: Final = 200
"""A second after another address was first, the signalled one can still become the party."""


class Party:
    """The far end of a leg's RTP stream."""

    def __init__(
        self,
        plane: MediaPlane,
        leg: Leg,
        sock: socket.socket,
        on_first_packet: Callable[[Leg, str], None],
        rtcp: RtcpPath | None = None,
    ) -> None:
        name = sock.getsockname()
        self.host: str = name[0]
        self.port: int = name[1]
        self.sock = sock
        self.rtcp = rtcp
        self.on_rtcp: Callable[[memoryview, float], bool] | None = None
        """Takes RTCP of the party's and its age in seconds; whether it was any."""
        self._plane = plane
        self._leg = leg
        self._on_first_packet = on_first_packet
        self._signalled: Address | None = None
        self._latched: Address | None = None
        self._former: Address | None = None
        self._former_until = 0
        self._latched_at = 0
        self._seen = 0
        self._is_connected = False
        self._is_alone = False
        """Connected, and nothing of others is left in the socket's queue."""
        self._srtp: SrtpLeg | None = None
        self._is_muxed = False

    def configure(self, config: StreamConfig) -> None:
        """Takes the stream's configuration, at first or as modified.

        Raises:
            ControlError: codec, payload type, address or key that cannot be used.
        """
        signalled, rtcp_signalled = address_of(config.remote_host, config.remote_port), rtcp_address_of(config)
        self._configure_srtp(config)
        self._leg.receiver.configure(config)
        if signalled != self._signalled:
            self._unlatch()
            self._signalled = signalled
        if self.rtcp is not None:
            self.rtcp.configure(rtcp_signalled)
        self._is_muxed = config.rtcp_mux
        self._leg.receiver.on_rtcp = self._take_rtcp_untrusted if config.rtcp_mux else None
        self._update_sending()

    def _configure_srtp(self, config: StreamConfig) -> None:
        was_secure = self._srtp is not None
        if config.srtp_suite is None:
            self._srtp = None
        else:
            sending = SrtpKeys(config.srtp_suite, config.srtp_send_key)
            receiving = SrtpKeys(config.srtp_suite, config.srtp_receive_key)
            if self._srtp is None:
                self._srtp = SrtpLeg(sending, receiving)
            elif self._srtp.configure(sending, receiving, self._plane.tick):
                self._plane.table.ssrc[self._leg.row] = secrets.randbits(32)
        if was_secure != (self._srtp is not None) and self._is_alone:
            self._plane.set_receive(self.sock, self._steady_receive)

    @property
    def _steady_receive(self) -> Callable[[memoryview], int]:
        return self.sock.recv_into if self._srtp is None else self._receive_secure_untrusted

    def _unlatch(self) -> None:
        if self._is_connected:
            disconnect_udp(self.sock)
        if self._latched is not None:
            self._former, self._former_until = self._latched, self._plane.tick + FORMER_TICKS
        self._latched, self._seen, self._is_connected, self._is_alone = None, 0, False, False
        self._plane.set_receive(self.sock, self.receive_untrusted)

    def _update_sending(self) -> None:
        row, table = self._leg.row, self._plane.table
        target = self._latched or self._signalled
        if target is None or not self._leg.receiver.config.send:
            self._plane.set_send(row, None)
            self._plane.downlink.stop(row)
            return
        self._plane.set_send(row, self._sender(target))
        if table.due[row] == NEVER:
            self._plane.downlink.start(row, self._plane.tick)

    def _sender(self, target: Address) -> Callable[[memoryview], int]:
        send, send_to, srtp = self.sock.send, self.sock.sendto, self._srtp
        if srtp is not None:
            protect = self._protect
            return (
                (lambda view: send(protect(view)))
                if self._is_connected
                else (lambda view: send_to(protect(view), target))
            )
        return send if self._is_connected else (lambda view: send_to(view, target))

    def _protect(self, view: memoryview) -> bytes:
        assert self._srtp is not None
        try:
            return self._srtp.protect(view)
        except SrtpError as error:
            raise OSError(str(error)) from None  # counted like what the socket refuses

    def _receive_secure_untrusted(self, view: memoryview) -> int:
        """Receives one datagram of the peer's key where the kernel filters; whoever sends as the party has none."""
        return self._receive_ours_untrusted(self._receive_one_secure_untrusted, view)

    def _receive_one_secure_untrusted(self, view: memoryview) -> int:
        n = self.sock.recv_into(view)
        if self._is_muxed and is_rtcp(view[:n]):
            self._take_rtcp_untrusted(view[:n])
            return 0
        return self._unprotect_untrusted(view, n)

    def _unprotect_untrusted(self, view: memoryview, size: int) -> int:
        assert self._srtp is not None
        clear = self._srtp.unprotect_untrusted(view[:size], self._plane.tick)
        if not clear:
            self._leg.counters.srtp_invalid += 1
        return clear

    def receive_untrusted(self, view: memoryview) -> int:
        """Receives one datagram of the party's while the socket is open to everybody; 0: there was none.

        Raises:
            OSError: as the socket does.
        """
        return self._receive_ours_untrusted(self._receive_one_untrusted, view)

    def _receive_ours_untrusted(self, receive_one: Callable[[memoryview], int], view: memoryview) -> int:
        n = receive_one(view)
        while not n and self._plane.strangers.take(self._plane.tick):
            try:
                n = receive_one(view)
            except BlockingIOError:
                return 0
        return n

    def _receive_one_untrusted(self, view: memoryview) -> int:
        n, source = self.sock.recvfrom_into(view)
        address = (source[0], source[1])
        if self._is_muxed and is_rtcp(view[:n]):
            if address == (self._latched or self._signalled):
                self._take_rtcp_untrusted(view[:n])
            elif self._leg.rtcp is not None:
                self._leg.rtcp.counters.stranger += 1
            return 0
        if self._srtp is not None and (n := self._unprotect_untrusted(view, n)) == 0:
            return 0
        if address != self._latched:
            may_latch = self._latched is None or (address == self._signalled and not self._is_settled)
            if may_latch and not self._is_ours(view[:n]):
                self._leg.counters.invalid += 1
                return 0
            is_former = address == self._former and self._plane.tick < self._former_until
            if not may_latch or (is_former and address != self._signalled):
                self._leg.counters.stranger += 1
                return 0
            self._latched, self._latched_at, self._seen = address, self._plane.tick, 0
            self._update_sending()
            host, port = address
            self._on_first_packet(self._leg, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self._seen += 1
        if self._seen >= STEADY_PACKETS and self._is_settled:
            if not self._is_connected:
                self.sock.connect(address)
                self._is_connected = True
                self._update_sending()
            if self._is_queue_empty():
                self._is_alone = True
                self._plane.set_receive(self.sock, self._steady_receive)
        return n

    def _is_queue_empty(self) -> bool:
        """Whether all that strangers sent before the kernel filtered them has been read away."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def _is_settled(self) -> bool:
        """Nobody else can become the party any more."""
        return self._signalled in (None, self._latched) or self._plane.tick >= self._latched_at + CHANCE_TICKS

    def _is_ours(self, datagram: memoryview) -> bool:
        config = self._leg.receiver.config
        try:
            packet = parse_rtp_untrusted(datagram)
        except RtpParseError:
            return False
        expected = config.expected_payload_type, config.expected_dtmf_payload_type, 13
        return config.receive and packet.payload_type in expected

    # ---- RTCP
    @property
    def has_rtcp_target(self) -> bool:
        """Whether there is somebody to send reports to."""
        if self._is_muxed:
            target = self._latched or self._signalled
            return target is not None and not is_nowhere(target)
        return self.rtcp is not None and self.rtcp.target is not None

    def send_rtcp(self, packet: bytes) -> None:
        """Sends a compound; without anybody to send to it is dropped.

        Raises:
            OSError: as the socket does.
        """
        if not self.has_rtcp_target:
            return
        if self._srtp is not None:
            packet = self._protect_rtcp(packet)
        if not self._is_muxed and self.rtcp is not None:
            self.rtcp.send(packet)
        elif self._is_connected:
            self.sock.send(packet)
        elif (target := self._latched or self._signalled) is not None:
            self.sock.sendto(packet, target)

    def receive_rtcp_untrusted(self, buffer: memoryview) -> bool:
        """Receives one datagram of the socket beside; False: it was a stranger's.

        Raises:
            OSError: as the socket does.
        """
        path = self.rtcp
        if path is None:
            return True
        n, address, age_s = path.receive_untrusted(buffer)
        if not path.is_theirs(address, self._latched):
            return False
        if self._take_rtcp_untrusted(buffer[:n], age_s):
            path.latched = address
        return True

    def _protect_rtcp(self, packet: bytes) -> bytes:
        assert self._srtp is not None
        try:
            return self._srtp.protect_rtcp(packet)
        except SrtpError as error:
            raise OSError(str(error)) from None

    def _take_rtcp_untrusted(self, datagram: memoryview, age_s: float = 0.0) -> bool:
        """One datagram of the party's; whether it was RTCP, and of its key."""
        if self._srtp is not None:
            n = self._srtp.unprotect_untrusted(datagram, self._plane.tick, is_rtcp=True)
            if not n:
                self._leg.counters.srtp_invalid += 1
                return False
            datagram = datagram[:n]
        return self.on_rtcp is not None and self.on_rtcp(datagram, age_s)

    def close(self) -> None:
        """Closes the sockets."""
        self.sock.close()
        if self.rtcp is not None:
            self.rtcp.sock.close()
