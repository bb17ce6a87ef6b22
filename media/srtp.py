"""SRTP and SRTCP of one leg (RFC 3711, RFC 7714) with keys from SDP, over libsrtp.

libsrtp has the cryptography, the replay window and the roll-over counters.  Ours are the keys' life and its bounds:

* a new key of the peer's takes over at once, and the former one is still understood for `FORMER_TICKS`, since packets
  are on their way when descriptions change;
* a peer that changes its source (SSRC) starts a new counter with the same key; the oldest of more than `MAX_SOURCES`
  is forgotten, so that nobody with a key fills our memory;
* where a stream has been going on for long when a key comes (a new worker took the leg over, or the peer renewed its
  key and went on counting, RFC 3711 §3.3.1), its roll-over counter is not 0 and nobody says what it is: it is found
  with the first packets, up to `MAX_ROC`;
* after a new key of ours the caller of `SrtpLeg` takes a new SSRC: RFC 3711 §3.3.1 has the roll-over counter go on,
  most peers start it at 0, and with a new source it is 0 for both.

Every packet is copied in and out of libsrtp's own buffer, which is longer than any packet of ours with its tag.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections import deque
from typing import Final

import attrs
from pylibsrtp import Error, Policy, Session

from media.control import ControlError

__all__ = ["FORMER_TICKS", "MAX_SOURCES", "SrtpError", "SrtpKeys", "SrtpLeg"]

FORMER_TICKS: Final = 400
"""Two seconds: the peer's answer or its first packet with the new key may take that long."""
MAX_SOURCES: Final = 16
"""SSRCs of the peer that have a replay window of their own; a call has one, a transfer at the peer's side one more."""
WINDOW: Final = 512
"""Packets that may be so much behind the newest one: ten seconds, more than any stall that we catch up with."""
MAX_ROC: Final = 32
"""Nearly twelve hours of packets of 20 ms."""
SEARCH_STEP: Final = 0x5000
SEARCHES: Final = 8
"""Packets with which a counter is looked for: 0.3 ms each, and strangers may have sent some of them."""
_SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
}
# libsrtp's binding indexes its list of messages with the status
_FAILURES: Final = (Error, ValueError, IndexError)


class SrtpError(Exception):
    """A packet of ours could not be protected."""


@attrs.frozen
class SrtpKeys:
    """One direction: suite, and master key and salt in base64."""

    suite: str
    key: str = attrs.field(repr=False)


def _session(keys: SrtpKeys, ssrc_type: int) -> Session:
    """Raises ControlError: unknown suite, or a key of the wrong length.  The error does not show the key."""
    if keys.suite not in _SUITES:
        raise ControlError(f"unknown SRTP suite {keys.suite[:64]!r}")
    profile, octets = _SUITES[keys.suite]
    try:
        key = b64decode(keys.key, validate=True)
    except (binascii.Error, ValueError):
        raise ControlError("SRTP key is not base64") from None
    if len(key) != octets:
        raise ControlError(f"SRTP key of {len(key)} octets")
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=profile)
    policy.window_size = WINDOW
    try:
        return Session(policy=policy)
    except Error as error:
        raise ControlError(f"SRTP cannot begin: {error}") from None


class _Receiving:
    """Packets of the peer under one key."""

    def __init__(self, keys: SrtpKeys) -> None:
        self.keys = keys
        self._session = _session(keys, Policy.SSRC_ANY_INBOUND)
        self._ssrc = b""
        self._sources: deque[bytes] = deque()
        self._searches = SEARCHES

    def unprotect(self, packet: bytes, is_rtcp: bool) -> bytes | None:
        """None: not of this key, or seen before."""
        try:
            clear = self._session.unprotect_rtcp(packet) if is_rtcp else self._session.unprotect(packet)
        except _FAILURES:
            if is_rtcp or not self._searches or len(packet) < 12 or packet[0] >> 6 != 2:
                return None
            self._searches -= 1
            found = self._search(packet)
            if found is None:
                return None
            clear = found
        if not is_rtcp:
            self._searches = 0
        ssrc = clear[4:8] if is_rtcp else clear[8:12]
        if ssrc != self._ssrc:
            self._note_source(ssrc)
        return clear

    def _search(self, packet: bytes) -> bytes | None:
        """Tries roll-over counters on a first packet; the one that fits stays.

        libsrtp cannot be told a counter, but counts what it protects as well: a session of the peer's key protects
        dummy packets up to just before the packet, in steps that leave no doubt about the counter.
        """
        session, number = _session(self.keys, Policy.SSRC_ANY_INBOUND), int.from_bytes(packet[2:4], "big")
        dummy = bytearray(b"\x80" + packet[1:12] + b"\0")
        index = 0
        for counter in range(1, MAX_ROC + 1):
            before = (counter << 16 | number) - 1
            while index < before:
                index = min(before, index + SEARCH_STEP)
                dummy[2:4] = (index & 0xFFFF).to_bytes(2, "big")
                session.protect(bytes(dummy))
            try:
                clear = session.unprotect(packet)
            except _FAILURES:
                continue
            self._session = session
            return clear
        return None

    def _note_source(self, ssrc: bytes) -> None:
        self._ssrc = ssrc
        if ssrc in self._sources:
            return
        self._sources.append(ssrc)
        if len(self._sources) > MAX_SOURCES:
            self._session.remove_stream(int.from_bytes(self._sources.popleft(), "big"))


class SrtpLeg:
    """Both directions of one leg.

    Raises:
        ControlError: unknown suite or unusable key.
    """

    def __init__(self, sending: SrtpKeys, receiving: SrtpKeys) -> None:
        self._send_keys = sending
        self._sending = _session(sending, Policy.SSRC_ANY_OUTBOUND)
        self._receiving = _Receiving(receiving)
        self._former: _Receiving | None = None
        self._former_until = 0

    def configure(self, sending: SrtpKeys, receiving: SrtpKeys, tick: int) -> bool:
        """Takes the keys now agreed; what has not changed goes on.  Returns whether our own is new.

        Raises:
            ControlError: as the constructor; nothing has changed.
        """
        new_sending = None if sending == self._send_keys else _session(sending, Policy.SSRC_ANY_OUTBOUND)
        if receiving != self._receiving.keys:
            new_receiving = self._again(receiving) or _Receiving(receiving)
            self._former, self._former_until = self._receiving, tick + FORMER_TICKS
            self._receiving = new_receiving
        if new_sending is None:
            return False
        self._send_keys, self._sending = sending, new_sending
        return True

    def _again(self, receiving: SrtpKeys) -> _Receiving | None:
        """The former key, when an exchange was taken back: its counters go on."""
        former = self._former
        return former if former is not None and former.keys == receiving else None

    def protect(self, packet: memoryview) -> bytes:
        """An RTP packet for the wire.  Raises SrtpError."""
        try:
            return self._sending.protect(bytes(packet))
        except _FAILURES as error:
            raise SrtpError(str(error)) from None

    def protect_rtcp(self, packet: bytes | memoryview) -> bytes:
        """A compound RTCP packet for the wire.  Raises SrtpError."""
        try:
            return self._sending.protect_rtcp(bytes(packet))
        except _FAILURES as error:
            raise SrtpError(str(error)) from None

    def unprotect_untrusted(self, datagram: memoryview, tick: int, *, is_rtcp: bool = False) -> int:
        """Decrypts a datagram where it is; its new length, 0: it is not the peer's, or was there before."""
        packet = bytes(datagram)
        clear = self._receiving.unprotect(packet, is_rtcp)
        if clear is None and self._former is not None:
            if tick < self._former_until:
                clear = self._former.unprotect(packet, is_rtcp)
            else:
                self._former = None
        if clear is None:
            return 0
        datagram[: len(clear)] = clear
        return len(clear)
