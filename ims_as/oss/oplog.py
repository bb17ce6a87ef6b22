"""The operator log: every line is an entry of a catalogue that says what it means and what to do.

Lines go to standard output, as JSON for machines or in plain for eyes.  Whatever the current task has bound with
``bind_call`` (the call's id) is on each of its lines.  Writing never raises: a log that cannot be written is counted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from enum import Enum
from types import MappingProxyType
from typing import Any, TextIO

import attrs
import structlog

from ims_as.config import LogConfig, LogFormat, LogLevel

__all__ = [
    "CATALOGUE",
    "MAX_PER_WINDOW",
    "MAX_VALUE_CHARS",
    "Entry",
    "OperatorLog",
    "Severity",
    "StdlibBridge",
    "bind_call",
]

MAX_VALUE_CHARS = 2000
"""A traceback fits; a peer's message does not fill the disk."""
WINDOW_S = 10.0
MAX_PER_WINDOW = 50
"""Warnings and worse of one id per window; the rest is counted in ``suppressed`` of the next line of that id."""


class Severity(Enum):
    """Values are the levels of the standard library."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL


@attrs.frozen
class Entry:
    """One thing that operators can meet in the log."""

    id: str
    severity: Severity
    text: str
    cause: str
    effect: str
    action: str


def _catalogue(*entries: Entry) -> Mapping[str, Entry]:
    by_id = {entry.id: entry for entry in entries}
    if len(by_id) != len(entries):
        raise ValueError("an id is there twice")
    return MappingProxyType(by_id)


_I, _W, _E, _C = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL
_NONE = "None."

CATALOGUE: Mapping[str, Entry] = _catalogue(
    # the process
    Entry("SERVER_STARTED", _I, "The server has started", "Start.", "Listeners are bound.", _NONE),
    Entry("SERVER_READY", _I, "The server takes calls", "All parts are up.", "Readiness is reported.", _NONE),
    Entry(
        "SERVER_NOT_READY",
        _W,
        "The server cannot take calls",
        "A part that calls need is down; `reasons` names it.",
        "Readiness is refused, OPTIONS gets 503; calls in progress go on.",
        "See the entries of the parts named.",
    ),
    Entry("SERVER_STOPPING", _I, "The server is stopping", "Signal or request.", "No new calls are taken.", _NONE),
    Entry("SERVER_STOPPED", _I, "The server has stopped", "End of the shutdown.", "The process ends.", _NONE),
    Entry(
        "DRAIN_STARTED",
        _I,
        "Draining: no new calls",
        "POST /drain, or a stop.",
        "New calls get 503, calls in progress go on.",
        _NONE,
    ),
    Entry("DRAIN_DONE", _I, "Drained: no call is left", "The last call ended.", "The node can be stopped.", _NONE),
    Entry(
        "CONFIG_WARNING",
        _W,
        "The configuration looks wrong",
        "A value that works, but seldom as meant; `problem` names it.",
        "None for now.",
        "Correct it, or leave it if it is meant so.",
    ),
    Entry(
        "CONFIG_RELOADED",
        _I,
        "The configuration was read again",
        "SIGHUP or POST /reload.",
        "The keys in `applied` have their new values for new calls.",
        _NONE,
    ),
    Entry(
        "CONFIG_REJECTED",
        _E,
        "The configuration could not be read again",
        "What is wrong is in `problems`.",
        "Nothing has changed: the server goes on with the former configuration.",
        "Correct the file, try it with `ims-as config check`, send SIGHUP again.",
    ),
    Entry(
        "CONFIG_NEEDS_RESTART",
        _W,
        "Some keys wait for a restart",
        "They differ in the file, but belong to parts that are made at the start.",
        "They keep their former values.",
        "Restart when it suits: drain first.",
    ),
    Entry(
        "LISTEN_FAILED",
        _C,
        "An address cannot be bound",
        "Another process has it, or the machine does not have the address.",
        "The server does not start.",
        "Free the address or correct `sip.listen` or `api.listen`.",
    ),
    # SIP
    Entry(
        "SIP_GUARD",
        _E,
        "A SIP message was dropped by the guard",
        "An error in our handling of this message; the bytes are in `message`.",
        "That message is lost, its sender sends it again or gives up.",
        "Report the line; nothing needs to be restarted.",
    ),
    Entry(
        "SIP_UNTRUSTED_PEER",
        _W,
        "SIP from a peer that is not trusted",
        "The sender's address is not in `sip.trusted_peers`.",
        "It gets no answer.",
        "Add the network of a new S-CSCF, or find out who sends.",
    ),
    Entry(
        "SIP_CONNECTION_FAILED",
        _W,
        "A SIP connection could not be made or was lost",
        "The peer is down or closed it.",
        "Requests on it fail with 503.",
        "Check the peer and the way to it.",
    ),
    Entry(
        "REGISTRATION_BAD",
        _W,
        "A third-party REGISTER could not be used",
        "Its body or headers are not what TS 24.229 says; `error` tells more.",
        "The user's registration state is unknown here.",
        "Check the iFC and the S-CSCF.",
    ),
    # Diameter
    Entry("DIAMETER_PEER_UP", _I, "A Diameter peer is open", "Capabilities exchanged.", "It is used.", _NONE),
    Entry(
        "DIAMETER_PEER_DOWN",
        _E,
        "A Diameter peer is lost",
        "Connection closed, watchdog unanswered, or DPR from the peer; `cause` tells which.",
        "The next peer is used; with none, calls run on cached or default profiles.",
        "Check the peer and the way to it; the connection is retried by itself.",
    ),
    Entry(
        "ALARM_RAISED",
        _E,
        "An alarm was raised",
        "See `alarm`, `object` and `detail`, and the entry of that alarm in docs/alarms.md.",
        "As `effect` tells.",
        "As `what_to_do` tells; acknowledge it with POST /alarms/{id}/acknowledge.",
    ),
    Entry("ALARM_CLEARED", _I, "An alarm is over", "What `alarm` tells of has ended.", "All as before.", _NONE),
    Entry("ALARM_ACKNOWLEDGED", _I, "Somebody looks after an alarm", "POST by `by`.", "It is noted.", _NONE),
    Entry(
        "SH_FAILED",
        _W,
        "The HSS did not give a profile",
        "Timeout, error or an answer that cannot be read; `error` tells which.",
        "The call goes on with the cached or the default profile.",
        "Check the HSS if this goes on.",
    ),
    Entry(
        "IFC_PROBLEM",
        _W,
        "A filter criterion was skipped",
        "It is not valid by TS 29.228 Annex F.",
        "Our view of the user's default handling may be wrong.",
        "Correct the criterion in the HSS.",
    ),
    # engines and media
    Entry(
        "ENGINE_FAILED",
        _W,
        "An engine did not take a call",
        "Refused, timed out or rejected the session; `cause` tells which.",
        "The next engine of the agent is tried; with none the call goes back to the core.",
        "Check the engine at `url`.",
    ),
    Entry(
        "ENGINE_LOST",
        _W,
        "An engine was lost in a call",
        "It closed the connection, or the connection broke.",
        "The caller hears filler; reconnect, next engine, then a person.",
        "Check the engine at `url`.",
    ),
    Entry(
        "ENGINE_CIRCUIT_OPEN",
        _E,
        "An engine is not tried any more for now",
        "It failed several times in a row.",
        "Calls for it fail over at once.",
        "Check the engine at `url`; it is tried again by itself.",
    ),
    Entry("ENGINE_CIRCUIT_CLOSED", _I, "An engine works again", "A trial succeeded.", "It is used.", _NONE),
    Entry("MEDIA_WORKER_STARTED", _I, "A media worker is up", "Start.", "It takes calls.", _NONE),
    Entry("MEDIA_HOST_STARTED", _I, "A media host listens", "`ims-as media`.", "Signalling nodes can connect.", _NONE),
    Entry(
        "MEDIA_PEER_CONNECTED",
        _I,
        "A signalling node has a worker of this host",
        "It has connected.",
        "A process of its own serves it.",
        _NONE,
    ),
    Entry(
        "MEDIA_PEER_GONE",
        _I,
        "A signalling node has left, or its worker has ended",
        "The connection or the process has ended.",
        "Its legs are gone; the node moves its calls if it is up.",
        _NONE,
    ),
    Entry(
        "MEDIA_PEER_REFUSED",
        _W,
        "Somebody was not let in to the media workers",
        "Certificate, version or first command is wrong; `reason` tells.",
        "No worker was started.",
        "Check the certificates of both sides (`media.control.tls`), and who it is.",
    ),
    Entry(
        "MEDIA_WORKER_DRAINED",
        _I,
        "A media worker gets no more calls",
        "`POST /workers/{name}/drain`.",
        "Another one is in its place; it ends with its last call.",
        _NONE,
    ),
    Entry(
        "MEDIA_WORKER_LOST",
        _E,
        "A media worker is lost",
        "Its process ended, or it does not answer.",
        "Its calls move to another worker or end; it is started again.",
        "See `detail`; report it if it happens again.",
    ),
    Entry(
        "MEDIA_FULL",
        _W,
        "No media worker has room",
        "Ports or load are used up.",
        "New calls go back to the core.",
        "Add workers or nodes, or lower `limits.calls`.",
    ),
    Entry(
        "RTP_TIMEOUT",
        _W,
        "The caller's RTP fell silent",
        "The caller vanished without BYE, or the path is broken.",
        "The call is ended.",
        "If it is frequent, check the path of RTP.",
    ),
    Entry("RECORDING_DONE", _I, "A recording is complete", "Its end, or that of the call.", "It can be used.", _NONE),
    Entry(
        "RECORDING_INCOMPLETE",
        _W,
        "A recording is not whole",
        "The disk was full or too slow (`lost_ms`), or a worker or the server had ended in it.",
        "Something is missing in the file: silence in its place. The call was not disturbed.",
        "See the file's sidecar; check the disk of `agents.*.recording.directory`.",
    ),
    Entry(
        "RECORDING_FAILED",
        _E,
        "Something of a call is not recorded",
        "See `cause`: `open`, `disk`, `overrun` (written too slowly), `writer` (its process ended), `prompt` (the clip "
        "cannot be played).",
        "With `is_over` nothing more of that call is recorded; else some of it is lost. The call goes on.",
        "Check room, permissions and speed of `agents.*.recording.directory`, and the file of `prompt`.",
    ),
    Entry("RECORDING_DELETED", _I, "A recording was deleted", "Its time was over.", "It is gone.", _NONE),
    # calls
    Entry("CALL_STARTED", _I, "A call came in", "INVITE.", "It is set up.", _NONE),
    Entry("CALL_ANSWERED", _I, "A call was answered", "The agent is ready.", "Audio flows.", _NONE),
    Entry("CALL_ENDED", _I, "A call ended", "See `result`, `by` and `reason`.", "All it used is free.", _NONE),
    Entry(
        "CALL_FAILED",
        _E,
        "A call was ended by an unforeseen error",
        "An error in our handling of this call; `error` tells more.",
        "That call ends or goes back to the core, all others go on.",
        "Report the line with the call's trace.",
    ),
    Entry(
        "TRANSFER_FAILED",
        _W,
        "A caller could not be handed to a person",
        "Nobody answered, or the core refused; `cause` is the SIP status.",
        "The caller stays with the agent, or hears an announcement and is released.",
        "Check the target.",
    ),
    Entry(
        "ADMISSION_REJECTED",
        _W,
        "Calls are refused to protect the node",
        "A limit of `limits` is reached, or the node drains.",
        "503 with Retry-After; emergency and calls in progress pass.",
        "Add nodes or raise the limit.",
    ),
    Entry(
        "OVERLOAD_STARTED",
        _W,
        "More work comes than can be done in time",
        "Too many calls, or the machine is busy otherwise; work has waited `wait_ms`.",
        "So many calls per second as given are taken, the rest gets 503 with Retry-After.",
        "Add nodes if it comes again; see `limits.latency_target_ms`.",
    ),
    Entry("OVERLOAD_ENDED", _I, "All work is done in time again", "Less comes.", "All calls are taken.", _NONE),
    # records and API
    Entry(
        "CDR_WRITE_FAILED",
        _E,
        "Charging records cannot be written",
        "Disk full, no permission, or the file system failed; `error` tells which.",
        "Records wait in memory; when that is full, new ones are lost and counted.",
        "Make room or repair the file system; writing is retried by itself.",
    ),
    Entry("CDR_WRITE_RESUMED", _I, "Charging records are written again", "Repaired.", "Nothing waits.", _NONE),
    Entry(
        "CDR_DROPPED",
        _C,
        "A charging record was lost",
        "The queue was full, or a record was cut by a crash; `reason` tells which.",
        "Its localRecordSequenceNumber is missing in the files.",
        "Recover it from the log entry CALL_ENDED.",
    ),
    Entry(
        "API_ERROR",
        _E,
        "A request to the HTTP API failed",
        "An error in our handling; `error` tells more.",
        "That request got 500 or a closed connection.",
        "Report the line.",
    ),
    Entry(
        "LIBRARY_WARNING",
        _W,
        "A library reports something",
        "See `message`.",
        "Usually none.",
        "Report it if it comes with other trouble.",
    ),
)


@contextmanager
def bind_call(call_id: str) -> Iterator[None]:
    """Puts the call's id on every line that this task, and tasks started from it, write meanwhile."""
    with structlog.contextvars.bound_contextvars(call_id=call_id):
        yield


class _Sink:
    """Writes lines; counts those that could not be written instead of raising."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost = 0

    def msg(self, line: str) -> None:
        stream = self.stream if self.stream is not None else sys.stdout
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):  # ValueError: closed file
            self.lost += 1

    debug = info = warning = error = critical = msg


def _bounded(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, bytes):
            value = event[key] = value[:MAX_VALUE_CHARS].decode("utf-8", "backslashreplace")
        if not isinstance(value, str | int | float | bool | None | list | tuple | dict):
            value = event[key] = str(value)
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
            event[key] = value[:MAX_VALUE_CHARS] + "…"
    return event


def _printable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For terminals: what comes from the network must not move the cursor."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
    return event


class OperatorLog:
    """Writes catalogue entries.

    Args:
        config: level and format.
        stream: where to; None: standard output, as it is at the time of writing.
        clock: wall clock, seconds.
        on_event: called with the id of each entry, also of those that are not written (level, suppression).
    """

    def __init__(
        self,
        config: LogConfig | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        config = config if config is not None else LogConfig()
        self._clock = clock
        self._on_event = on_event
        self._sink = _Sink(stream)
        self._windows: dict[str, tuple[float, int]] = {}
        self._level = 0
        processors: list[Any] = [structlog.contextvars.merge_contextvars, self._stamp, _bounded]
        if config.format is LogFormat.JSON:
            processors.append(structlog.processors.JSONRenderer())
        else:
            processors += [_printable, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=40)]
        self._processors = processors
        self.change_level(config.level)

    def change_level(self, level: LogLevel) -> None:
        """The least severity that is written from now on."""
        self._level = getattr(logging, level.name)
        self._logger = structlog.wrap_logger(
            self._sink,
            processors=self._processors,
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
            cache_logger_on_first_use=True,
        )

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._sink.lost

    def event(self, entry_id: str, /, **fields: Any) -> None:
        """Writes the entry with these fields.  Raises KeyError when the catalogue has no such entry."""
        entry = CATALOGUE[entry_id]
        self._on_event(entry_id)
        suppressed = self._admit(entry)
        if suppressed is None or entry.severity.value < self._level:
            return
        if suppressed:
            fields["suppressed"] = suppressed
        # `action` goes with what an operator should act on, so that nobody has to look it up at night
        extra = {"action": entry.action} if entry.severity.value >= logging.ERROR else {}
        fields = {f"{key}_" if key in ("id", "event", "level", "timestamp") else key: v for key, v in fields.items()}
        self._logger.log(entry.severity.value, entry.text, id=entry_id, **extra, **fields)

    def _admit(self, entry: Entry) -> int | None:
        """None: suppressed; else how many were suppressed before this one."""
        if entry.severity.value < logging.WARNING:
            return 0
        now = self._clock()
        since, count = self._windows.get(entry.id, (now, 0))
        if not 0 <= now - since < WINDOW_S:
            suppressed = max(count - MAX_PER_WINDOW, 0)
            self._windows[entry.id] = (now, 1)
            return suppressed
        self._windows[entry.id] = (since, count + 1)
        return 0 if count < MAX_PER_WINDOW else None

    def _stamp(self, _: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        now = self._clock()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        return {"timestamp": moment, "level": level, **event}


class StdlibBridge(logging.Handler):
    """Hands what libraries log through the standard library, warnings and worse, to the operator log."""

    def __init__(self, log: OperatorLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's format does not fit its arguments
            message = str(record.msg)
        self._log.event("LIBRARY_WARNING", library=record.name, message=message)
