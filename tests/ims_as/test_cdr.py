from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.charging import cdr as cdr_module
from ims_as.charging.cdr import MAX_RECORD_BYTES, CdrError, CdrWriter, build_as_record
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog

NODE = "sip:as@as1.example.org;x=y"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def make_writer(directory: Path, **more: Any) -> CdrWriter:
    return CdrWriter(directory, node=NODE, **{"clock": Clock(), **more})


@asynccontextmanager
async def running(writer: CdrWriter) -> AsyncIterator[CdrWriter]:
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], step_s: float = 0.001) -> None:
    """With a mock clock, longer steps cost nothing."""
    for _ in range(10_000):
        if condition():
            return
        await trio.sleep(step_s)
    raise AssertionError("never happened")


async def until_written(writer: CdrWriter) -> None:
    await until(lambda: not writer.queued)


def session(directory: Path, *records: dict[str, Any], **more: Any) -> CdrWriter:
    writer = make_writer(directory, **more)

    async def main() -> None:
        async with running(writer):
            for record in records:
                writer.write(record)

    trio.run(main)
    return writer


def closed_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"), key=lambda path: int(path.name.split("_-_")[1].split(".")[0]))


def records_in(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in closed_files(directory) for line in path.read_text().splitlines()]


def numbers_in(directory: Path) -> list[int]:
    return [record["localRecordSequenceNumber"] for record in records_in(directory)]


def test_records_are_flushed_at_the_end_and_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    session(tmp_path, {"a": 1}, {"a": 2})
    session(tmp_path)
    session(tmp_path, {"a": 3}, {})
    assert [(record.get("a"), record["localRecordSequenceNumber"]) for record in records_in(tmp_path)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (None, 4),
    ]
    assert [path.name for path in closed_files(tmp_path)] == [
        "as-as1.example.org-x-y_-_1.20231114_-_2213+0000.jsonl",
        "as-as1.example.org-x-y_-_2.20231114_-_2213+0000.jsonl",
    ]


def test_numbers_go_on_although_the_collector_took_all_files(tmp_path: Path) -> None:
    session(tmp_path, {}, {})
    for path in closed_files(tmp_path):
        path.unlink()
    session(tmp_path, {})
    assert numbers_in(tmp_path) == [3]
    assert "_-_2." in closed_files(tmp_path)[0].name


def test_file_is_closed_by_size(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, rotate_size_bytes=1000)

    async def main() -> None:
        async with running(writer):
            for number in range(30):
                writer.write({"n": number, "x": "y" * 100})
                await until_written(writer)

    trio.run(main)
    files = closed_files(tmp_path)
    assert len(files) == 5
    assert all(path.stat().st_size < 1300 for path in files)
    assert numbers_in(tmp_path) == list(range(1, 31))
    assert writer.written == 30


def test_file_is_closed_by_age(tmp_path: Path) -> None:
    clock = Clock()
    writer = make_writer(tmp_path, rotate_after_s=60, clock=clock)

    async def main() -> None:
        async with running(writer):
            writer.write({})
            await until_written(writer)
            assert closed_files(tmp_path) == []
            clock.now += 61
            await until(lambda: bool(closed_files(tmp_path)), 1.0)
            assert numbers_in(tmp_path) == [1]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))


def test_crash_loses_only_a_record_that_was_cut(tmp_path: Path) -> None:
    session(tmp_path, {})
    (tmp_path / "current.part").write_bytes(b'{"localRecordSequenceNumber":7}\n{"localRecordSequenceNu')
    metrics = Metrics()
    writer = session(tmp_path, {}, metrics=metrics)
    assert numbers_in(tmp_path) == [1, 7, 8]
    assert writer.dropped == 1
    assert metrics.registry.get_sample_value("ims_as_cdr_dropped_total", {"reason": "torn"}) == 1


def test_damaged_line_stays_for_the_collector_to_see(tmp_path: Path) -> None:
    (tmp_path / "current.part").write_bytes(b'\xff\xfe\n[]\n{"localRecordSequenceNumber":4}\n')
    session(tmp_path)
    (path,) = closed_files(tmp_path)
    assert path.read_bytes().startswith(b"\xff\xfe\n")
    session(tmp_path, {})
    assert json.loads(closed_files(tmp_path)[1].read_text())["localRecordSequenceNumber"] == 5


class FullDisk:
    """os.write that writes half and fails as long as it is full."""

    def __init__(self) -> None:
        self.full = True
        self.real = os.write
        self.attempts = 0

    def __call__(self, handle: int, block: Any, /) -> int:
        if not self.full:
            return self.real(handle, block)
        self.attempts += 1
        if self.attempts % 2:
            return self.real(handle, bytes(block)[: len(block) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_loses_nothing_as_long_as_there_is_room_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, metrics, log = FullDisk(), Metrics(), io.StringIO()
    writer = make_writer(tmp_path, metrics=metrics, log=OperatorLog(stream=log), max_queued=5)
    monkeypatch.setattr(cdr_module.os, "write", disk)

    async def main() -> None:
        async with running(writer):
            for number in range(5):
                writer.write({"n": number})
            await trio.sleep(5)
            assert disk.attempts >= 4
            writer.write({"n": "lost"})
            disk.full = False
            await until_written(writer)
            writer.write({"n": 6})

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert [record["n"] for record in records_in(tmp_path)] == [0, 1, 2, 3, 4, 6]
    assert numbers_in(tmp_path) == [1, 2, 3, 4, 5, 7]
    assert metrics.registry.get_sample_value("ims_as_cdr_written_total") == 6
    assert metrics.registry.get_sample_value("ims_as_cdr_dropped_total", {"reason": "queue-full"}) == 1
    assert [json.loads(line)["id"] for line in log.getvalue().splitlines()] == [
        "CDR_WRITE_FAILED",
        "CDR_DROPPED",
        "CDR_WRITE_RESUMED",
    ]


def test_disk_still_full_at_the_end_is_counted_and_does_not_hold_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_module.os, "write", FullDisk())
    writer = session(tmp_path, {}, {})
    assert (writer.written, writer.dropped) == (0, 2)
    monkeypatch.undo()
    session(tmp_path, {})
    assert len(records_in(tmp_path)) == 1


def test_failed_rename_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = make_writer(tmp_path, rotate_size_bytes=10)
    real = os.rename
    failures = 3

    def rename(source: Any, target: Any) -> None:
        nonlocal failures
        if str(target).endswith(".jsonl") and failures:
            failures -= 1
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(cdr_module.os, "rename", rename)

    async def main() -> None:
        async with running(writer):
            writer.write({"x": "y" * 20})
            await until(lambda: bool(closed_files(tmp_path)), 0.5)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert failures == 0
    assert numbers_in(tmp_path) == [1]


def test_write_never_raises(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    writer = session(
        tmp_path, loop, {"x": "y" * MAX_RECORD_BYTES}, {"odd": {1}, "path": Path("x"), "lone": "\ud800"}, {(1, 2): 3}
    )
    assert writer.dropped == 3
    (record,) = records_in(tmp_path)
    assert record["path"] == "x"


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(make_writer(tmp_path)):
            with pytest.raises(CdrError, match="another process"):
                await make_writer(tmp_path).run()

    trio.run(main)
    session(tmp_path, {})


@pytest.mark.parametrize("state", [b"", b"{}", b"[]", b'{"record": "x", "file": 1}'])
def test_damaged_state_is_told_at_the_start(tmp_path: Path, state: bytes) -> None:
    (tmp_path / "state.json").write_bytes(state)
    with pytest.raises(CdrError, match="damaged"):
        trio.run(make_writer(tmp_path).run)


def test_unusable_folder_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CdrError, match="cannot be written"):
        trio.run(make_writer(tmp_path / "file").run)


def test_without_a_folder_nothing_is_kept() -> None:
    writer = CdrWriter(None)
    writer.write({"a": 1})
    trio.run(writer.run)
    assert (writer.queued, writer.dropped, writer.written) == (0, 0, 0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=4), st.integers(10, 300))
def test_each_record_is_there_exactly_once_over_any_restarts(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]], rotate_size_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("cdr")
    for values in runs:
        session(directory, *({"n": value} for value in values), rotate_size_bytes=rotate_size_bytes)
    flat = [value for values in runs for value in values]
    assert [record["n"] for record in records_in(directory)] == flat
    assert numbers_in(directory) == list(range(1, len(flat) + 1))


CALL = {
    "id": "abc",
    "sip_call_id": "x@y",
    "session_case": "terminating",
    "from": "sip:a@example.org",
    "to": "tel:+1",
    "served_user": "sip:b@example.org",
    "received_at": 1_700_000_000.001,
    "answered_at": 1_700_000_000.25,
    "ended_at": 1_700_000_012.5,
    "icid": "icid-1",
    "orig_ioi": "home1.net",
    "agent": "default",
    "ttfb_ms": 310.5,
    "transcript": [{"text": "private"}],
    "termination": {"result": "transferred", "by": "caller", "reason": "bye", "cause": 200},
}


def test_as_record_has_the_fields_of_the_specification() -> None:
    record = build_as_record(CALL, node=NODE)
    assert record["recordType"] == "aSRecord"
    assert record["roleOfNode"] == "terminating"
    assert record["nodeAddress"] == {"domainName": "as1.example.org"}
    assert record["serviceRequestTimeStamp"] == "2023-11-14T22:13:20.001Z"
    assert record["serviceDeliveryStartTimeStamp"] == "2023-11-14T22:13:20.250Z"
    assert record["recordClosureTime"] == "2023-11-14T22:13:32.500Z"
    assert record["interOperatorIdentifiers"] == [{"originatingIOI": "home1.net"}]
    assert record["causeForRecordClosing"] == 0
    assert record["serviceReasonReturnCode"] == "200 OK"
    assert record["durationMs"] == 12250
    assert record["serviceSpecificInfo"]["termination"]["result"] == "transferred"
    assert "private" not in json.dumps(record)


def test_as_record_of_a_call_that_failed_early() -> None:
    call = {
        "sip_call_id": "x",
        "received_at": 0.0,
        "ended_at": 1.0,
        "termination": {"result": "rejected", "cause": 503},
    }
    record = build_as_record(call, node="as.example.org")
    assert record["causeForRecordClosing"] == 1
    assert record["listOfCallingPartyAddress"] == ["unknown"]
    assert record["recordOpeningTime"] == "1970-01-01T00:00:00.000Z"
    assert record["serviceReasonReturnCode"] == "503 Service Unavailable"
    assert "serviceDeliveryStartTimeStamp" not in record
    assert build_as_record({"termination": {"cause": 487}}, node="x")["serviceReasonReturnCode"] == "487"


def test_call_is_written_as_a_record(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)

    async def main() -> None:
        async with running(writer):
            writer.write_call(CALL)

    trio.run(main)
    assert records_in(tmp_path)[0]["imsChargingIdentifier"] == "icid-1"
