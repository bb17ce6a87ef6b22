"""Targets for SRTP: keys in descriptions, and datagrams at a leg that has some."""

from __future__ import annotations

from base64 import b64decode, b64encode

from ims_as.call.media_description import CallDescription, stream_config
from ims_as.sip.crypto_attribute import SUITES, SrtpMode, SrtpSupport, is_secure, read_crypto_untrusted
from ims_as.sip.errors import SdpError
from ims_as.sip.key_mask import mask_keys
from ims_as.sip.sdp import MediaDescription, parse_sdp_untrusted
from media.rtp import build_rtp
from media.srtp import SrtpError, SrtpKeys, SrtpLeg
from tests.fuzz.target import Target

__all__ = ["SRTP_TARGETS"]

_HEAD = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 %b 8 0\r\n"
_KEYS = {suite: b64encode(bytes(range(n, n + SUITES[suite]))).decode() for n, suite in enumerate(SUITES)}
_OURS = SrtpSupport(SrtpMode.OFFER, lambda octets: b"\xaa" * octets)


def _description(*lines: str, proto: bytes = b"RTP/SAVP") -> bytes:
    return _HEAD % proto + "".join(f"a=crypto:{line}\r\n" for line in lines).encode()


_CM, _CM32, _GCM = SUITES
_DESCRIPTIONS = (
    *(_description(f"1 {suite} inline:{key}") for suite, key in _KEYS.items()),
    _description(f"1 {_CM} inline:{_KEYS[_CM]}|2^20|1:4", f"9 {_GCM} inline:{_KEYS[_GCM]}|1048576 WSH=64"),
    _description(
        f"1 {_CM} inline:{_KEYS[_CM]} UNENCRYPTED_SRTP KDR=3",
        f"2 {_CM32} inline:{_KEYS[_CM32]};inline:{_KEYS[_CM]}",
        f"3 {_CM32} inline:{_KEYS[_CM32]} -X",
    ),
    _description(f"1 {_CM} inline:{_KEYS[_CM]}", proto=b"RTP/AVP"),
)


def read_crypto(data: bytes) -> None:
    """What is taken of an offer has a known suite and a key of its length, is answered by its tag, and is not shown."""
    description = CallDescription("127.0.0.9", 1, srtp=_OURS)
    answer = parse_sdp_untrusted(description.answer_untrusted(data))
    (media,) = [line for line in answer.media if line.port]
    assert description.stream is not None
    config = stream_config(description.stream)
    assert (config.srtp_suite is None) <= (not is_secure(media.proto))
    if config.srtp_suite is None:
        assert media.attribute("crypto") is None
        return
    assert len(b64decode(config.srtp_receive_key, validate=True)) == SUITES[config.srtp_suite]
    (line,) = read_crypto_untrusted(media)
    assert (line.suite, line.key) == (config.srtp_suite, config.srtp_send_key)
    assert config.srtp_receive_key not in repr(description.stream)
    shown = [mask_keys(f"a=crypto:{text}") for each in parse_sdp_untrusted(data).media for text in _usable(each)]
    assert not any(config.srtp_receive_key.rstrip("=") in text for text in shown)
    SrtpLeg(SrtpKeys(config.srtp_suite, config.srtp_send_key), SrtpKeys(config.srtp_suite, config.srtp_receive_key))


def _usable(media: MediaDescription) -> list[str]:
    values = media.attribute_values("crypto")
    return [
        text for text in values if read_crypto_untrusted(MediaDescription("a", 1, "b", (), (("a", f"crypto:{text}"),)))
    ]


def _leg(suite: str) -> SrtpLeg:
    return SrtpLeg(SrtpKeys(suite, _KEYS[suite]), SrtpKeys(suite, _KEYS[suite]))


_RTP = build_rtp(payload_type=0, marker=False, sequence=7, timestamp=160, ssrc=9, payload=bytes(40))
_PACKETS = (_RTP, bytes([0x91]) + _RTP[1:12] + b"csrc\xbe\xde\0\1abcd" + _RTP[12:])
_REPORT = bytes([0x80, 201, 0, 1, 0, 0, 0, 9])
_DATAGRAMS = (
    *(_leg(suite).protect(memoryview(packet)) for suite in SUITES for packet in _PACKETS),
    *(_leg(suite).protect_rtcp(_REPORT) for suite in SUITES),
)


def unprotect(data: bytes) -> None:
    """Only what somebody with the key has made is decrypted, and only once."""
    taken = 0
    for suite in SUITES:
        leg = _leg(suite)
        for is_rtcp in (False, True):
            view = memoryview(bytearray(data))
            size = leg.unprotect_untrusted(view, 0, is_rtcp=is_rtcp)
            if size:
                taken += 1
                assert data in _DATAGRAMS
                assert bytes(view[:size]) in (*_PACKETS, _REPORT)
                assert not leg.unprotect_untrusted(memoryview(bytearray(data)), 0, is_rtcp=is_rtcp)
    assert taken <= 1
    if not taken:
        raise SrtpError("of nobody")


SRTP_TARGETS = (
    Target(
        "crypto-attribute",
        read_crypto,
        (SdpError,),
        _DESCRIPTIONS,
        (b"|", b":", b";", b"=", b"^", b" ", b"a=crypto:", b"inline:"),
    ),
    Target("srtp", unprotect, (SrtpError,), _DATAGRAMS, (b"\xbe\xde", b"\x80\xc9", b"\0\0")),
)
