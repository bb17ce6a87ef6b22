"""``ims-as recordings``: list, show and delete recordings on this machine's disk.

Exit status: 0 done, 1 nothing of that kind is there or it cannot be deleted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from ims_as.cli_options import EXIT_PROBLEM, fail, load_or_exit, with_config
from ims_as.recording_service import recording_directories
from ims_as.recordings import StoredRecording, delete, delete_all, find_recordings, purge, recover_all

__all__ = ["recordings_group"]


@click.group("recordings")
def recordings_group() -> None:
    """List, show and delete recordings of calls."""


def _with_place(command: Any) -> Any:
    option = click.option(
        "--directory",
        "directories",
        multiple=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of recordings; default: those of the configuration's agents.",
    )
    return with_config(option(command))


def _places(path: str | None, overrides: tuple[str, ...], directories: tuple[Path, ...]) -> list[Path]:
    return list(directories) or recording_directories(load_or_exit(path, overrides))


def _line(recording: StoredRecording) -> str:
    about, call = recording.about, recording.about.get("call")
    call = call if isinstance(call, dict) else {}
    began = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(recording.started_at))
    duration = about.get("duration_ms")
    length = f"{duration / 1000:8.1f} s" if isinstance(duration, int | float) else "       ? s"
    whole = "" if about.get("complete") else "  incomplete"
    text = f"{recording.call_id}  {began}  {length}  {call.get('from', '?')} → {call.get('to', '?')}{whole}"
    return "".join(char if char.isprintable() else "·" for char in text)


@recordings_group.command("list")
@_with_place
@click.option("--subscriber", metavar="URI", help="Only those of this served user.")
@click.option("--json", "as_json", is_flag=True, help="Print the sidecars as JSON, one a line.")
def list_command(
    path: str | None,
    overrides: tuple[str, ...],
    directories: tuple[Path, ...],
    subscriber: str | None,
    as_json: bool,
) -> None:
    """List recordings: call, begin, length, parties."""
    for recording in find_recordings(_places(path, overrides, directories), subscriber):
        if as_json:
            click.echo(json.dumps({"path": str(recording.path), **recording.about}, ensure_ascii=False))
        else:
            click.echo(_line(recording))


def _of_call(directories: list[Path], call_id: str) -> list[StoredRecording]:
    found = [each for each in find_recordings(directories) if each.call_id == call_id]
    if not found:
        fail(f"no recording of call {call_id}")
    return found


@recordings_group.command("show")
@_with_place
@click.argument("call_id")
def show_command(path: str | None, overrides: tuple[str, ...], directories: tuple[Path, ...], call_id: str) -> None:
    """Print where the recordings of a call are, and their sidecars."""
    for recording in _of_call(_places(path, overrides, directories), call_id):
        click.echo(json.dumps({"path": str(recording.path), **recording.about}, indent=1, ensure_ascii=False))


@recordings_group.command("delete")
@_with_place
@click.option("--subscriber", metavar="URI", help="Everything of this served user.")
@click.option("--call", "call_id", metavar="ID", help="The recordings of this call.")
@click.option("--reason", default="by hand", show_default=True, help="For the list of deletions.")
def delete_command(
    path: str | None,
    overrides: tuple[str, ...],
    directories: tuple[Path, ...],
    subscriber: str | None,
    call_id: str | None,
    reason: str,
) -> None:
    """Delete the recordings of a subscriber or a call: audio and sidecars."""
    if (subscriber is None) == (call_id is None):
        raise click.UsageError("give --subscriber or --call")
    places = _places(path, overrides, directories)
    try:
        if subscriber is not None:
            deleted = delete_all(places, subscriber, reason)
        else:
            assert call_id is not None
            found = _of_call(places, call_id)
            for recording in found:
                delete(recording, reason)
            deleted = [recording.path for recording in found]
    except OSError as error:
        fail(f"not everything is deleted: {error}")
    for each in deleted:
        click.echo(f"deleted {each}")
    if not deleted:
        click.echo("there was nothing", err=True)
        sys.exit(EXIT_PROBLEM)


@recordings_group.command("purge")
@_with_place
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Also what is younger by its sidecar.")
def purge_command(
    path: str | None, overrides: tuple[str, ...], directories: tuple[Path, ...], older_than: float | None
) -> None:
    """Delete what was kept long enough, as the server does each day."""
    for each in purge(_places(path, overrides, directories), time.time(), older_than):
        click.echo(f"deleted {each}")


@recordings_group.command("recover")
@_with_place
def recover_command(path: str | None, overrides: tuple[str, ...], directories: tuple[Path, ...]) -> None:
    """Complete what a crash left over, as the server does when it starts."""
    for each in recover_all(_places(path, overrides, directories)):
        click.echo(f"completed {each}")
