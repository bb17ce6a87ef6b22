"""Charging data records of the application server: what TS 32.298 puts into an AS record, as JSON lines in files.

Theory of operation.  ``CdrWriter.write`` numbers a record and puts it into a bounded queue; it never blocks and never
raises.  A task takes what waits, and a worker thread appends it to ``current.part`` in one write with fsync.  When that
fails (disk full), the file is cut back to the last good end, the records stay in the queue and are tried again each
second; only when the queue is full, new records are lost.  So each record is in the files exactly once, or its number
is missing in them and the loss is counted.

Full or old enough, ``current.part`` is renamed to ``NODE_-_RC.YYYYMMDD_-_HHMM+0000.jsonl`` (the manner of TS 32.297)
and is the collector's from then on.  ``state.json`` remembers the last record and file numbers; together with what
``current.part`` says after a crash, numbers go on where they stopped.  One process per folder: it is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import trio

from ims_as.errors import ImsAsError
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog

__all__ = ["MAX_QUEUED", "CdrError", "CdrFile", "CdrWriter", "build_as_record"]

MAX_QUEUED = 20_000
"""100 s at 200 calls per second; 40 MB at 2 KB each."""
MAX_BATCH = 500
MAX_RECORD_BYTES = 32 * 1024
"""Transcripts are not part of a record, so 2 KB is usual."""
RETRY_S = 1.0
PART_NAME = "current.part"
STATE_NAME = "state.json"
LOCK_NAME = "lock"

CAUSE_SUCCESS, CAUSE_UNSUCCESSFUL = 0, 1
"""causeForRecordClosing [17]: serviceDeliveryEndSuccessfully, unSuccessfulServiceDelivery."""


class CdrError(ImsAsError):
    """The folder for the records cannot be used."""


# --- the record -------------------------------------------------------------------------------------------------------


def _timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reason_text(cause: int | None) -> str | None:
    if cause is None:
        return None
    try:
        return f"{cause} {HTTPStatus(cause).phrase}"  # SIP took its common codes from HTTP
    except ValueError:
        return str(cause)


def build_as_record(call: Mapping[str, Any], *, node: str) -> dict[str, Any]:
    """Turns what is known of an ended call into an AS record, fields named as in TS 32.298 §5.1.3.

    Args:
        call: the detail of a call record: ``id``, ``sip_call_id``, ``session_case``, ``from``, ``to``, ``served_user``,
            ``received_at``, ``answered_at``, ``ended_at`` (wall clock seconds), ``icid``, ``orig_ioi``, ``term_ioi``,
            ``termination`` and so on; what is not there stays out of the record.
        node: our SIP URI, for nodeAddress.
    """
    ended = call.get("termination") or {}
    answered_at, ended_at = call.get("answered_at"), call.get("ended_at")
    success = ended.get("result") in ("answered", "transferred", "connected")
    iois = {"originatingIOI": call.get("orig_ioi"), "terminatingIOI": call.get("term_ioi")}
    reason = f'IMS-AS;text="{ended.get("by", "")}: {ended.get("reason", "")}"' if ended else None
    record: dict[str, Any] = {
        "recordType": "aSRecord",
        "roleOfNode": "terminating" if "terminating" in str(call.get("session_case", "")) else "originating",
        "nodeAddress": {"domainName": node.partition(":")[2].partition(";")[0].rpartition("@")[2] or node},
        "sessionId": call.get("sip_call_id"),
        "outgoingSessionId": call.get("outgoing_call_id"),
        "listOfCallingPartyAddress": [call.get("from") or "unknown"],
        "calledPartyAddress": call.get("to"),
        "servedUser": call.get("served_user"),
        "serviceRequestTimeStamp": _timestamp(call.get("received_at")),
        "serviceDeliveryStartTimeStamp": _timestamp(answered_at),
        "serviceDeliveryEndTimeStamp": _timestamp(ended_at),
        "recordOpeningTime": _timestamp(answered_at if answered_at is not None else call.get("received_at")),
        "recordClosureTime": _timestamp(ended_at),
        "interOperatorIdentifiers": [{name: ioi for name, ioi in iois.items() if ioi}] if any(iois.values()) else None,
        "causeForRecordClosing": CAUSE_SUCCESS if success else CAUSE_UNSUCCESSFUL,
        "imsChargingIdentifier": call.get("icid"),
        "serviceReasonReturnCode": _reason_text(ended.get("cause")),
        "listOfReasonHeader": [reason] if reason else None,
        "durationMs": round((ended_at - answered_at) * 1000)
        if answered_at is not None and ended_at is not None
        else None,
        "serviceSpecificInfo": {
            "callId": call.get("id"),
            "agent": call.get("agent"),
            "engine": call.get("engine"),
            "engineConnectMs": call.get("engine_ms"),
            "profile": call.get("profile_source"),
            "profileProblems": call.get("profile_problems"),
            "consent": call.get("consent"),
            "setupMs": call.get("setup_ms"),
            "ttfbMs": call.get("ttfb_ms"),
            "ttfbMedianMs": call.get("ttfb_p50_ms"),
            "ttfbMaxMs": call.get("ttfb_max_ms"),
            "quality": _quality(call.get("media") or {}),
            "oneWayAudio": sorted({str(each.get("direction")) for each in call.get("one_way") or ()}),
            "failovers": call.get("failovers"),
            "mediaMoves": call.get("media_moves") or None,
            "recordings": call.get("recordings"),
            "transfer": call.get("transfer"),
            "termination": dict(ended) or None,
        },
    }
    record["serviceSpecificInfo"] = _known(record["serviceSpecificInfo"])
    return _known(record)


def _quality(media: Mapping[str, Any]) -> dict[str, Any]:
    """Per direction, as far as it is known: conversational MOS and its scale, loss in percent."""
    found = (media.get("quality") or {}).items()
    return {
        direction: {"mos": each["mos_cq"], "scale": each["scale"], "lossPercent": each["loss_percent"]}
        for direction, each in found
        if each
    }


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


# --- the files --------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class CdrFile:
    """The open file and the numbers; blocking, for one thread at a time.  Methods raise OSError."""

    directory: Path
    node: str
    """For file names."""
    last_record: int = 0
    """Highest localRecordSequenceNumber that was used."""
    last_file: int = 0
    torn: int = 0
    """Records that a crash had cut; they are lost."""
    size: int = 0
    opened_at: float | None = None
    """Wall clock of the first record in the open file; None: it is empty."""
    _part: int | None = None
    _lock: int | None = None

    def open(self, *, now: float) -> None:
        """Locks the folder, reads the numbers, closes what a crash left open.  Raises CdrError, OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CdrError(f"another process writes records to {self.directory}") from error
        self._read_state()
        self._recover()
        if self.size:
            self.opened_at = now
            # a full disk must not keep the server from starting: the file goes on growing and is closed later
            with contextlib.suppress(OSError):
                self.rotate(now=now)

    def _read_state(self) -> None:
        try:
            state = json.loads((self.directory / STATE_NAME).read_bytes())
            self.last_record, self.last_file = int(state["record"]), int(state["file"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            raise CdrError(f"{self.directory / STATE_NAME} is damaged: restore it or remove it") from error
        # closed files that are still here know better than a state file from a backup
        for path in self.directory.glob("*.jsonl"):
            if match := re.search(r"_-_(\d+)\.", path.name):
                self.last_file = max(self.last_file, int(match.group(1)))

    def _recover(self) -> None:
        """Finds the last number in the open file and cuts off a record that was written in part."""
        try:
            content = (self.directory / PART_NAME).read_bytes()
        except FileNotFoundError:
            return
        *lines, rest = content.split(b"\n")
        for line in lines:
            self.last_record = max(self.last_record, _number_in(line))
        if rest:
            self.torn = 1
        self.size = len(content) - len(rest)
        os.truncate(self.directory / PART_NAME, self.size)

    def append(self, lines: list[bytes], *, now: float) -> None:
        """Writes all or nothing.  Raises OSError; then the file is as it was before."""
        if self._part is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._part = os.open(self.directory / PART_NAME, flags, 0o640)
        block = b"".join(lines)
        try:
            _write_all(self._part, block)
        except OSError:
            os.ftruncate(self._part, self.size)
            raise
        self.size += len(block)
        if self.opened_at is None:
            self.opened_at = now

    def rotate(self, *, now: float) -> Path | None:
        """Gives the open file its final name; returns the path, None when there is nothing in it."""
        if not self.size:
            return None
        # the state first: after a crash between the two a file number is missing, but none is used twice
        self.last_file += 1
        self.save_state()
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d_-_%H%M+0000")
        final = self.directory / f"{self.node}_-_{self.last_file}.{moment}.jsonl"
        os.rename(self.directory / PART_NAME, final)
        self._close_part()
        self.size, self.opened_at = 0, None
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return final

    def save_state(self) -> None:
        """Replaces the state file in one step."""
        temporary = self.directory / f"{STATE_NAME}.new"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            _write_all(handle, json.dumps({"record": self.last_record, "file": self.last_file}).encode())
        finally:
            os.close(handle)
        os.rename(temporary, self.directory / STATE_NAME)

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            os.close(part)

    def close(self) -> None:
        """Gives descriptors and lock back; writes nothing."""
        self._close_part()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _write_all(handle: int, block: bytes) -> None:
    """Writes to the end and to the disk; a write may take a part only when the disk fills up."""
    view = memoryview(block)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _number_in(line: bytes) -> int:
    try:
        return int(json.loads(line)["localRecordSequenceNumber"])
    except (ValueError, KeyError, TypeError):  # not ours, or damaged by the file system: it stays as it is
        return 0


# --- the task ---------------------------------------------------------------------------------------------------------


class CdrWriter:
    """Takes records from calls and brings them to disk in the background.

    Args:
        directory: made when it is not there; None: charging is off, records are not kept.
        node: our SIP URI.
        rotate_size_bytes, rotate_after_s: when a file is closed.
        clock: wall clock, seconds.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        node: str = "ims-as",
        rotate_size_bytes: int = 16 * 1024 * 1024,
        rotate_after_s: float = 900,
        max_queued: int = MAX_QUEUED,
        metrics: Metrics | None = None,
        log: OperatorLog | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", node.partition(":")[2] or node).strip("-.") or "ims-as"
        self.node = node
        self.file = CdrFile(directory, name[:100]) if directory is not None else None
        self.written = 0
        self.dropped = 0
        self._rotate_size_bytes, self._rotate_after_s, self._max_queued = rotate_size_bytes, rotate_after_s, max_queued
        self._metrics, self._log, self._clock = metrics, log, clock
        self._queue: deque[bytes] = deque()
        """Serialised, without number."""
        self._pending: list[bytes] = []
        """Numbered, being written."""
        self._gap = 0
        """Numbers that lost records would have had."""
        self._wake = trio.Event()
        self._failing = False

    @property
    def queued(self) -> int:
        """Records that wait to be written."""
        return len(self._queue) + len(self._pending)

    def write_call(self, call: Mapping[str, Any]) -> None:
        """Makes the record of an ended call (see ``build_as_record``) and writes it."""
        self.write(build_as_record(call, node=self.node))

    def write(self, record: Mapping[str, Any]) -> None:
        """Queues a record; never blocks, never raises.  Numbers follow the order of calls, a loss leaves a gap."""
        if self.file is None:
            return
        try:
            text = json.dumps(record, ensure_ascii=False, default=str, separators=(",", ":"))
            line = text.encode("utf-8", "backslashreplace")
        except (ValueError, TypeError, RecursionError):
            self._drop("not-serialisable")
            return
        if len(line) > MAX_RECORD_BYTES:
            self._drop("too-long")
        elif self.queued >= self._max_queued:
            self._drop("queue-full")
        else:
            self._queue.append(line)
            self._wake.set()

    def _drop(self, reason: str, count: int = 1) -> None:
        self._gap += count
        self._lost(reason, count)

    def _lost(self, reason: str, count: int) -> None:
        self.dropped += count
        if self._metrics is not None:
            self._metrics.cdr_dropped.labels(reason).inc(count)
        self._note("CDR_DROPPED", reason=reason, count=count)

    def _note(self, entry: str, **fields: Any) -> None:
        if self._metrics is not None:
            self._metrics.cdr_queue.set(self.queued)
        if self._log is not None:
            self._log.event(entry, **fields)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes until cancelled, then brings what waits to disk and closes the file.

        Started once the folder is locked and the numbers are known; what was written before waits in the queue.
        A disk that fails does not hold up the end; one that hangs does, for the records' sake.

        Raises:
            CdrError: the folder cannot be used.
        """
        if self.file is None:
            task_status.started()
            return
        file = self.file
        try:
            try:
                await trio.to_thread.run_sync(lambda: file.open(now=self._clock()))
            except OSError as error:
                raise CdrError(f"records cannot be written to {file.directory}: {error}") from error
            if file.torn:
                self._lost("torn", file.torn)
            task_status.started()
            while True:
                await self._wait(file)
                await self._flush(file)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._flush(file)
                await self._in_thread(lambda: self._finish(file))
            raise
        finally:
            if self.queued:
                self._lost("shutdown", self.queued)
            file.close()

    async def _wait(self, file: CdrFile) -> None:
        """Until there is something to write, the file is old enough, or it is time to try again."""
        with trio.CancelScope() as scope:
            if self._failing:
                await trio.sleep(RETRY_S)
            elif file.opened_at is not None:
                left_s = self._rotate_after_s - (self._clock() - file.opened_at)
                # the wall clock may jump; the file is looked at often enough all the same
                scope.deadline = trio.current_time() + min(max(left_s, 0.01), self._rotate_after_s)
            await self._wake.wait()
        self._wake = trio.Event()

    async def _flush(self, file: CdrFile) -> None:
        """Writes all that waits and closes the file when it is due; what fails is left for the next time."""
        while True:
            self._take_batch(file)
            if self._pending and not await self._in_thread(lambda: self._append(file)):
                return
            due = file.size >= self._rotate_size_bytes or (
                file.opened_at is not None and self._clock() - file.opened_at >= self._rotate_after_s
            )
            if due and not await self._in_thread(lambda: file.rotate(now=self._clock())):
                return
            if not self._queue:
                return

    def _take_batch(self, file: CdrFile) -> None:
        """Numbers the next records; what could not be written last time comes first and keeps its numbers."""
        while self._queue and len(self._pending) < MAX_BATCH:
            file.last_record += 1
            line = self._queue.popleft()
            comma = b"," if len(line) > 2 else b""
            self._pending.append(b'{"localRecordSequenceNumber":%d%s%s\n' % (file.last_record, comma, line[1:]))
        if not self._queue:
            file.last_record, self._gap = file.last_record + self._gap, 0

    def _append(self, file: CdrFile) -> None:
        # together in the thread: a cancelled wait for it leaves no doubt whether the records are on disk
        file.append(self._pending, now=self._clock())
        count, self._pending = len(self._pending), []
        self.written += count
        if self._metrics is not None:
            self._metrics.cdr_written.inc(count)

    def _finish(self, file: CdrFile) -> None:
        file.rotate(now=self._clock())
        file.save_state()

    async def _in_thread(self, work: Callable[[], object]) -> bool:
        """Runs blocking work; False when the file system failed."""
        try:
            await trio.to_thread.run_sync(work)
        except OSError as error:
            if not self._failing:
                self._note("CDR_WRITE_FAILED", error=str(error), waiting=self.queued)
            self._failing = True
            self._wake.set()
            return False
        if self._failing:
            self._failing = False
            self._note("CDR_WRITE_RESUMED")
        elif self._metrics is not None:
            self._metrics.cdr_queue.set(self.queued)
        return True
