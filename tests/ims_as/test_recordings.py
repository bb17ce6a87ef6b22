"""Recordings on disk: whose they are, deletion that leaves nothing, retention, the commands."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ims_as.cli import main
from ims_as.config import ConfigError
from ims_as.config_load import parse_config
from ims_as.recordings import (
    DAY_S,
    delete_all,
    find_recordings,
    purge,
    recording_path,
    recover_all,
    subscriber_key,
)
from media.record.files import complete, create, open_sink

ALICE, BOB = "sip:alice@example.net", "sip:bob@example.net"
NOW = 1_790_000_000.0


def make(directory: Path, subscriber: str = BOB, call: str = "c1", *, days_ago: float = 0, keep: int = 30) -> Path:
    began = NOW - days_ago * DAY_S
    path = recording_path(directory, subscriber, call, began, "wav")
    fd = create(path)
    sink = open_sink(fd, "wav", 8000)
    sink.write(np.zeros((8000, 2), np.int16))
    sink.close()
    told = {"started_at": began, "retention_days": keep, "duration_ms": 1000, "complete": True}
    complete(fd, path, {**told, "call": {"from": ALICE, "to": subscriber}})
    return path


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:bob@Example.NET", "sip:bob@example.net"),
        ("sips:bob@example.net;user=phone", "sip:bob@example.net"),
        ("sip:bob@example.net:5060", "sip:bob@example.net"),
        ("tel:+49-30-123(4)", "tel:+49301234"),
    ],
)
def test_an_identity_is_the_same_however_it_is_written(one: str, other: str) -> None:
    assert subscriber_key(one) == subscriber_key(other)


def test_other_users_are_others() -> None:
    keys = [subscriber_key(each) for each in (BOB, ALICE, "sip:Bob@example.net", "tel:+491", "tel:+492", "", "../..")]
    assert len(set(keys)) == len(keys)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_identity_and_no_call_leads_out_of_the_folder(identity: str, call: str) -> None:
    path = recording_path(Path("/recordings"), identity, call, NOW, "ogg")
    assert path.parent.parent == Path("/recordings")
    assert ".." not in path.parts
    assert set(path.parent.name) <= set("0123456789abcdef")
    assert path.suffix == ".opus"


def test_deletion_by_subscriber_is_complete_and_written_down(tmp_path: Path) -> None:
    make(tmp_path, BOB, "c1")
    kept = make(tmp_path, ALICE, "c2")
    running = recording_path(tmp_path, BOB, "c3", NOW, "wav")
    fd = create(running)  # in a call right now
    Path(f"{running}.json.part").write_text("{}")
    assert len(delete_all([tmp_path], "sip:BOB@example.net", "wish")) == 0
    assert len(delete_all([tmp_path], "sip:bob@EXAMPLE.net", "wish")) == 2
    with pytest.raises(FileNotFoundError):
        complete(fd, running, {})
    alice = f"{subscriber_key(ALICE)}/{kept.name}"
    assert files(tmp_path) == sorted([alice, f"{alice}.json", "deleted.jsonl"])
    assert not (tmp_path / subscriber_key(BOB)).exists()
    log = [json.loads(line) for line in (tmp_path / "deleted.jsonl").read_text().splitlines()]
    assert [entry["reason"] for entry in log] == ["wish", "wish"]
    assert {entry["recording"].split("/")[0] for entry in log} == {subscriber_key(BOB)}
    assert stat.S_IMODE((tmp_path / "deleted.jsonl").stat().st_mode) == 0o600
    assert BOB not in (tmp_path / "deleted.jsonl").read_text()


def test_what_was_kept_long_enough_goes(tmp_path: Path) -> None:
    old = make(tmp_path, BOB, "old", days_ago=31)
    make(tmp_path, BOB, "young", days_ago=29)
    make(tmp_path, BOB, "ever", days_ago=3000, keep=0)
    assert purge([tmp_path], NOW) == [old]
    assert [each.call_id for each in find_recordings([tmp_path], BOB)] == ["ever", "young"]
    assert len(purge([tmp_path], NOW, keep_days=7)) == 2
    assert files(tmp_path) == ["deleted.jsonl"]


def test_links_and_foreign_files_are_nobodys(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "20200101T000000.000Z-x.wav"
    secret.write_bytes(b"secret")
    place = tmp_path / "recordings"
    mine = make(place, BOB)
    (place / subscriber_key(ALICE)).symlink_to(outside)
    (mine.parent / "20200101T000000.000Z-y.wav").symlink_to(secret)
    (place / "notes.txt").write_text("mine")
    assert [each.path for each in find_recordings([place])] == [mine]
    delete_all([place], ALICE, "wish")
    purge([place], NOW, keep_days=0)
    assert secret.exists()
    assert (place / "notes.txt").exists()


def test_a_sidecar_that_is_damaged_costs_only_what_it_says(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[", "[1]", '{"started_at": "x", "retention_days": "y", "call": 5}')):
        path = make(tmp_path, BOB, f"c{number}")
        Path(f"{path}.json").write_text(text)
    told = CliRunner().invoke(main, ["recordings", "list", "--directory", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert len(told.output.splitlines()) == 4
    assert purge([tmp_path], NOW + 1000 * DAY_S) == []


def test_left_over_parts_are_completed_but_not_those_of_a_writer(tmp_path: Path) -> None:
    paths = [recording_path(tmp_path, BOB, name, NOW, "wav") for name in ("dead", "alive", "empty")]
    handles = [create(path) for path in paths]
    for fd in handles[:2]:
        open_sink(fd, "wav", 8000).write(np.ones((400, 2), np.int16))
    for fd in (handles[0], handles[2]):
        os.close(fd)
    assert recover_all([tmp_path, tmp_path / "not there"]) == [paths[0]]
    os.close(handles[1])
    [recording] = find_recordings([tmp_path], BOB)
    assert recording.about["duration_ms"] == 50
    assert not Path(f"{paths[2]}.part").exists()


def test_the_commands(tmp_path: Path) -> None:
    path = make(tmp_path, BOB, "c1", keep=0)
    make(tmp_path, ALICE, "c2", keep=0)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["recordings", *arguments, "--directory", str(tmp_path)])
        return done.exit_code, done.output

    status, text = run("list")
    assert status == 0
    assert "c1" in text
    assert "1.0 s" in text
    assert f"{ALICE} → {BOB}" in text
    status, text = run("list", "--subscriber", BOB, "--json")
    assert json.loads(text)["path"] == str(path)
    status, text = run("show", "c1")
    assert json.loads(text)["duration_ms"] == 1000
    assert run("show", "../c1")[0] == 1
    assert run("purge", "--older-than", "100000")[1] == ""
    assert run("delete")[0] == 2
    assert run("delete", "--call", "c1", "--reason", "GDPR")[0] == 0
    assert run("delete", "--subscriber", BOB)[0] == 1
    assert run("recover")[0] == 0
    assert "GDPR" in (tmp_path / "deleted.jsonl").read_text()


@pytest.mark.parametrize(
    ("recording", "problem"),
    [
        ("{mode: consent}", "prompt"),
        ("{mode: always, prompt: /not/there.wav}", "no such file"),
        ("{mode: always, directory: relative}", "absolute"),
        ("{mode: always, consent_digit: '11'}", "key"),
        ("{mode: sometimes}", "never or always or consent or engine"),
        ("{retention_days: -1}", "from 0 to 36500"),
    ],
)
def test_configurations_that_cannot_be_used(recording: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"agents: {{default: {{recording: {recording}}}}}", environ={})
    assert any(problem in each.text or problem in each.path for each in caught.value.problems), caught.value.problems
