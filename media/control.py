"""Messages of the control channel between the signalling plane and one media worker.

The channel is a byte stream (a socket pair for a local worker, TLS over TCP for a remote one) that carries JSON
objects, one per line, at most ``MAX_LINE_BYTES`` each.  The signalling side sends *commands*; each carries a number
``id`` and gets exactly one *reply* ``{"re": id, "ok": true, ...}`` or ``{"re": id, "ok": false, "error": code,
"detail": text}``.  The worker sends *events* ``{"ev": name, "leg": leg, ...}`` at any time.  A leg is one RTP stream
towards one party together with, optionally, one engine connection; its name is chosen by the signalling side.

Times are seconds of the wall clock (``at``) or milliseconds (``*_ms``).

Commands (fields besides ``cmd``, ``id``, ``leg``):

========== =========================================================================================================
open       ``stream``: StreamConfig; ``engine``: EngineTarget or null.  Binds the port; opens the engine connection at
           once.  Reply when the port is bound and the engine is ready: ``host``, ``port``, ``engine_ms``.  Errors:
           ``no_port``, ``full``, ``engine_refused``, ``engine_timeout``, ``engine_rejected``, ``bad_command``.
           On an engine error nothing is left open unless ``keep`` is true (then the port stays, reply has host, port).
           ``port``: local port to bind if it is free, though it is not of the worker's range.
reserve    ``stream``, ``port``.  As open without an engine.
attach     ``engine``: EngineTarget.  Connects an(other) engine to an open leg; reply ``engine_ms``; errors as open.
           What the leg hears meanwhile (filler) goes on until the engine's first audio.
modify     ``stream``: StreamConfig with the new remote address, codec or direction; takes effect at once.
talking    The call is answered and acknowledged: from now on audio is expected both ways, see ``one_way``.
engine     ``event``: object.  Hands one text event to the leg's engine (``transfer``, ``tool_result``, ``hold`` …).
detach     ``reason``.  Sends ``stop`` to the engine and closes its connection.
play       ``clip``: path of a WAV file, or ``builtin:ringback``, ``:filler``, ``:congestion``; ``loop``: bool.  Plays
           to the party until ``stop_play``, until its end (event ``played``), or until engine audio comes; with
           ``whole``: true engine audio waits for its end instead.
stop_play  Ends it.
dtmf       ``digits``.  Sends RFC 4733 events to the party, or tones where telephone-event is not negotiated.
release    ``reason``.  Engine gets ``stop``; socket, port and row are gone when the reply comes: ``stats``.
bridge     ``other``: leg.  Joins two legs of this worker, audio only.
record     ``path``: absolute, ending in ``.wav`` or ``.opus``; ``format``: ``wav`` or ``ogg``; ``pauses``: ``silence``
           or ``cut``; ``about``: object for the sidecar.  Records the leg in stereo; the reply waits for no disk.
           Errors: ``no_writer``, ``bad_command`` (it is being recorded already).
record_…   ``record_pause``, ``record_resume``, ``record_stop``.  A released leg's recording ends by itself.
stats      Reply ``stats`` of the leg (packets, octets, lost, late, jitter_ms, concealed_ms, ttfb_ms, round_trip_ms,
           peer_loss_percent …; see docs/media.md).
ping       Reply ``load`` (share of its time that the worker needs, smoothed, 0–1; see `media.load`), ``latest`` (of the
           last second), ``cpu``, ``waited``, ``legs``, ``sockets``, ``max_late_ms``, ``guarded``
           (packets and engine messages dropped because of an error of the worker's own), ``no_port`` (legs refused
           because no port was free).
ports      ``first``, ``last``: the range of local ports from now on; ``resting``: those of it that are not to be drawn
           for a while.  For a worker that was started to stand by.
drain      No new legs from now on.
shutdown   Releases all legs and ends the worker process.
========== =========================================================================================================

Events: ``engine_event`` (``event``: what the engine sent and the worker does not handle itself: transfer, hangup,
transcript, tool_call, dtmf), ``engine_lost`` (``cause``: ``closed``/``error``/``timeout``, ``detail``), ``first_rtp``
(``at``, ``source``), ``first_audio`` (``at``, ``ttfb_ms``: end of speech, or connect, to first engine audio sent),
``rtp_timeout`` (``silent_ms``), ``dtmf`` (``digit``, ``duration_ms``, ``source``: ``rtp`` or
``inband``), ``played`` (clip ended), ``drained`` (playout
queue empty after a ``hangup`` from the engine: ``reason``; it comes though the engine closed behind its ``hangup``,
and then there is no ``engine_lost``), ``filler`` (``at``, ``on``), ``barge_in`` (``played_ms``, ``by``: ``engine`` or
``local``), ``silenced`` (``by``, ``clear_ms``, ``speech_ms``: from there to silence, ``at``), ``one_way``
(``direction``: ``receive`` or ``send``, ``reason``, ``over``: it has ended, ``at``), ``recorded`` (a file is complete,
maybe after its leg is gone: ``path``, ``duration_ms``, ``lost_ms``, ``complete``), ``record_failed`` (``cause``:
``open``, ``disk``, ``overrun`` (written too slowly), ``writer``; ``detail``, ``is_over``: nothing more is recorded),
``load`` (once a second), ``error`` (``detail``: a command without ``id``),
``leg_failed`` (``detail``: an error of the worker's own in the handling of this leg; it is released, the others go on).

``played_ms`` counts what the party heard of the engine's audio since the engine was connected or last cleared.  What a
lost engine had queued is dropped for filler.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import attrs

__all__ = [
    "MAX_LINE_BYTES",
    "ControlError",
    "EngineTarget",
    "LineReader",
    "StreamConfig",
    "encode_line",
    "from_wire",
    "to_wire",
]

MAX_LINE_BYTES = 65536
"""An engine's transcript or tool call is cut well below this by the engine session."""


class ControlError(Exception):
    """The other side broke the control protocol."""


@attrs.frozen
class StreamConfig:
    """One RTP stream as negotiated; media knows nothing of SDP."""

    codec: str
    """Encoding name as in rtpmap, upper case: ``PCMU``, ``AMR-WB``; see `media.codecs.registry`."""
    payload_type: int
    remote_host: str | None = None
    """Where to send; None: nowhere yet."""
    remote_port: int = 0
    send: bool = True
    """We may send (the peer's direction is sendrecv or recvonly)."""
    receive: bool = True
    """The peer may send to us."""
    ptime_ms: int = 20
    """What the peer wishes to receive (``ptime``, not more than ``maxptime``).  We send the longest packets that the
    codec can make and that are not longer: 10 to 60 ms in steps of 10, AMR 20, 40 and 60, Opus 10, 20, 40 and 60.
    What the peer sends may be of any length.  Only 20 ms take the columnar path, either way."""
    dtmf_payload_type: int | None = None
    """RFC 4733 telephone-event, None: not negotiated."""
    dtmf_clock_rate: int | None = None
    """Of the durations in telephone events, where it is not that of the codec: see `ims_as.sip.codec_choice`."""
    receive_payload_type: int | None = None
    """What the peer sends with; None: as ``payload_type`` (an answer may choose a number of its own)."""
    receive_dtmf_payload_type: int | None = None
    """The same for telephone-event; None: as ``dtmf_payload_type``."""
    clock_rate: int = 8000
    """Of RTP timestamps, those of telephone events included, as in the codec's rtpmap."""
    send_parameters: dict[str, str] = attrs.Factory(dict)
    """fmtp parameters that the peer gave for what it receives; names in lower case."""
    receive_parameters: dict[str, str] = attrs.Factory(dict)
    """The same, as we gave them for what we receive."""
    host: str | None = None
    """Local address to bind; None: the worker's own."""
    timeout_ms: int = 30000
    """``rtp_timeout`` after so long without a packet while ``receive``; 0: never.  ``modify`` counts it anew."""
    srtp_suite: str | None = None
    """Suite of SRTP as RFC 4568 §6.2 and RFC 7714 §14.2 name it, see `media.srtp`; None: plain RTP."""
    srtp_send_key: str = attrs.field(default="", repr=False)
    """Base64 of master key and salt for what we send."""
    srtp_receive_key: str = attrs.field(default="", repr=False)
    """The same for what the peer sends."""
    rtcp_host: str | None = None
    """Where the peer wants RTCP; None: as ``remote_host``."""
    rtcp_port: int = 0
    """0: the one after ``remote_port``, or that itself with ``rtcp_mux``."""
    rtcp_mux: bool = False
    """RTCP shares the port of RTP in both directions, RFC 5761."""
    rtcp_rs_bps: int | None = None
    """``b=RS`` in bit/s (RFC 3556): RTCP of who sends; None: not said.  It and ``rtcp_rr_bps`` 0: we send none."""
    rtcp_rr_bps: int | None = None
    """``b=RR``: RTCP of who only receives."""
    rtcp_xr: bool = False
    """The peer wants extended reports, RFC 3611."""

    @property
    def expected_payload_type(self) -> int:
        return self.payload_type if self.receive_payload_type is None else self.receive_payload_type

    @property
    def expected_dtmf_payload_type(self) -> int | None:
        return self.dtmf_payload_type if self.receive_dtmf_payload_type is None else self.receive_dtmf_payload_type


@attrs.frozen
class EngineTarget:
    """Where and how to reach an AI engine for one leg.

    A ``wss:`` engine must show a certificate for the host of its URL (a name or an address) that ``ca_file`` or else
    the system's store of authorities vouches for; OpenSSL's SSL_CERT_FILE and SSL_CERT_DIR in the worker's environment
    replace the system's store.  There is no way to switch the check off.
    """

    type: str
    """``websocket`` (protocol ims-as.v1)."""
    url: str
    rate: int = 16000
    connect_timeout_ms: int = 1200
    ready: str = "connect"
    """``connect``: ready when the WebSocket is open; ``event``: when it has sent ``ready``."""
    start: dict[str, Any] = attrs.Factory(dict)
    """The ``start`` event, sent first."""
    filler_after_ms: int = 700
    """Filler when the engine says nothing for so long after the caller stopped speaking; 0: never."""
    filler_clip: str | None = None
    background: str | None = None
    """Clip that the party hears, in a loop, under everything else."""
    background_db: float = -24.0
    """Its level against the file's own."""
    barge_in: str = "engine"
    """``local``: when the caller speaks over the engine, what it had queued is dropped at once, and what it goes on
    saying too, until it has said ``clear`` or paused; ``engine``: it says ``clear`` itself."""
    digits: bool = True
    """Tell the engine each digit of the RTP stream at once, one that comes as event and as tones twice; False: the
    signalling side does, which knows all sources."""
    inband_dtmf: str = "auto"
    """Digits in the party's audio are listened for: ``always``, ``never``, or ``auto``: where telephone-event is not
    negotiated.  With ``always`` a party may send a digit both ways, which the signalling side tells apart."""
    mute_digits: bool = False
    """The engine (and a recording) hears silence in place of the tones of digits."""
    ca_file: str | None = None
    """PEM file, on the worker's machine, of the authorities trusted for a ``wss:`` engine; None: the system's.  Read
    once per worker process."""


T = TypeVar("T", StreamConfig, EngineTarget)


def to_wire(value: StreamConfig | EngineTarget) -> dict[str, Any]:
    return attrs.asdict(value, recurse=False)  # they hold plain values


def from_wire(cls: type[T], value: object) -> T:
    """Builds a StreamConfig or EngineTarget.  Raises ControlError on unknown, missing or wrongly typed fields."""
    if not isinstance(value, dict):
        raise ControlError(f"{cls.__name__}: not an object")
    known = {f.name for f in attrs.fields(cls)}
    if unknown := set(value) - known:
        raise ControlError(f"{cls.__name__}: unknown {sorted(unknown)}")
    try:
        return cls(**value)
    except TypeError as error:
        raise ControlError(str(error)) from error


def encode_line(message: dict[str, Any]) -> bytes:
    """Raises ControlError: too long, or text that UTF-8 cannot carry (half of a surrogate pair)."""
    try:
        line = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise ControlError(str(error)) from error
    if len(line) > MAX_LINE_BYTES:
        raise ControlError(f"message of {len(line)} bytes")
    return line


@attrs.define
class LineReader:
    """Splits the stream into messages; bounded, and searches each byte once."""

    _buffer: bytearray = attrs.Factory(bytearray)
    _searched: int = 0

    def receive_bytes(self, chunk: bytes) -> list[dict[str, Any]]:
        """Raises ControlError on a line that is too long, is not JSON or is not an object."""
        self._buffer += chunk
        messages: list[dict[str, Any]] = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ControlError(f"not JSON: {error}") from error
            if not isinstance(message, dict):
                raise ControlError("not an object")
            messages.append(message)
        self._searched = len(self._buffer)
        if self._searched > MAX_LINE_BYTES:
            raise ControlError("line too long")
        return messages
