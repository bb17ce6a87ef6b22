from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import trio

import ims_as
from ims_as.config import LogConfig, LogFormat, LogLevel
from ims_as.oss.oplog import CATALOGUE, MAX_PER_WINDOW, MAX_VALUE_CHARS, OperatorLog, StdlibBridge, bind_call


class Clock:
    now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


def make_log(**config: Any) -> tuple[OperatorLog, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return OperatorLog(LogConfig(**config), stream=stream, clock=clock), stream, clock


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_says_what_where_and_what_to_do() -> None:
    log, stream, _ = make_log()
    log.event("CDR_WRITE_FAILED", error="disk full")
    assert lines(stream) == [
        {
            "timestamp": "2023-11-14T22:13:20.250Z",
            "level": "error",
            "id": "CDR_WRITE_FAILED",
            "action": CATALOGUE["CDR_WRITE_FAILED"].action,
            "error": "disk full",
            "event": "Charging records cannot be written",
        }
    ]


def test_level_and_console_format() -> None:
    log, stream, _ = make_log(level=LogLevel.ERROR, format=LogFormat.CONSOLE)
    log.event("CALL_ENDED", result="answered")
    log.event("CALL_FAILED", error="x\x1b[2Jy\nz")
    text = stream.getvalue()
    assert "CALL_ENDED" not in text
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_call_id_is_on_the_lines_of_the_call_and_its_tasks_only() -> None:
    log, stream, _ = make_log()

    async def call(call_id: str) -> None:
        with bind_call(call_id):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
                log.event("CALL_STARTED")
        log.event("DRAIN_STARTED")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "a")
            nursery.start_soon(call, "b")

    trio.run(main)
    found = lines(stream)
    assert {line["call_id"] for line in found if line["id"] == "CALL_STARTED"} == {"a", "b"}
    assert all("call_id" not in line for line in found if line["id"] == "DRAIN_STARTED")


def test_values_are_bounded_and_of_any_type() -> None:
    log, stream, _ = make_log()
    log.event("SIP_GUARD", message=b"\xff" * 5000, error=ValueError("x" * 5000), id="mine", level=3)
    (line,) = lines(stream)
    assert len(line["message"]) <= MAX_VALUE_CHARS + 1
    assert len(line["error"]) <= MAX_VALUE_CHARS + 1
    assert (line["id"], line["id_"], line["level_"]) == ("SIP_GUARD", "mine", 3)


def test_storm_of_warnings_is_suppressed_and_counted() -> None:
    log, stream, clock = make_log()
    for _ in range(MAX_PER_WINDOW + 7):
        log.event("SIP_UNTRUSTED_PEER")
    log.event("ENGINE_LOST")
    assert len(lines(stream)) == MAX_PER_WINDOW + 1
    clock.now += 11
    log.event("SIP_UNTRUSTED_PEER")
    log.event("SIP_UNTRUSTED_PEER")
    assert [line.get("suppressed") for line in lines(stream)[-2:]] == [7, None]


def test_calls_are_never_suppressed() -> None:
    log, stream, _ = make_log()
    for _ in range(MAX_PER_WINDOW * 3):
        log.event("CALL_ENDED")
    assert len(lines(stream)) == MAX_PER_WINDOW * 3


def test_broken_output_is_counted_not_raised() -> None:
    class Broken(io.StringIO):
        def write(self, _: str, /) -> int:
            raise BrokenPipeError

    log = OperatorLog(stream=Broken())
    log.event("CALL_ENDED")
    closed = io.StringIO()
    closed.close()
    log_closed = OperatorLog(stream=closed)
    log_closed.event("CALL_ENDED")
    assert (log.lost, log_closed.lost) == (1, 1)


def test_every_event_is_reported_to_the_counter_even_below_the_level() -> None:
    seen: list[str] = []
    log = OperatorLog(LogConfig(level=LogLevel.ERROR), stream=io.StringIO(), on_event=seen.append)
    log.event("CALL_ENDED")
    assert seen == ["CALL_ENDED"]


def test_unknown_entry_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        make_log()[0].event("NO_SUCH_ENTRY")


def test_every_id_used_in_the_sources_is_in_the_catalogue() -> None:
    used = {
        match
        for path in Path(ims_as.__file__).parent.rglob("*.py")
        for match in re.findall(r'\.event\(\s*"([A-Z_]+)"', path.read_text())
    }
    assert used <= set(CATALOGUE), used - set(CATALOGUE)


def test_catalogue_entries_are_complete() -> None:
    for entry in CATALOGUE.values():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", entry.id)
        assert not entry.text.endswith(".")
        assert entry.cause
        for text in (entry.cause, entry.effect, entry.action):
            assert text.endswith("."), entry.id


def test_libraries_warn_through_the_same_log() -> None:
    log, stream, _ = make_log()
    logger = logging.Logger("some.library")
    logger.addHandler(StdlibBridge(log))
    logger.info("not this")
    logger.warning("%s happened", "something")
    logger.warning("%d happened", "nonsense")
    assert [line["message"] for line in lines(stream)] == ["something happened", "%d happened"]
    assert lines(stream)[0]["library"] == "some.library"
