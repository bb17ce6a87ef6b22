"""Recordings on disk: where a call's goes, which there are of a subscriber, and that they are gone when they should be.

``DIRECTORY/SUBSCRIBER/TIME-CALL.wav`` with the sidecar ``….wav.json`` beside it; SUBSCRIBER is a hash of the public
identity, so that no identity can name another place.  There is no index besides the folders.  Each deletion is a line
in ``DIRECTORY/deleted.jsonl``.  All of it is blocking: for a thread, or a command.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, TelUri, parse_uri
from media.record.files import FORMATS, find_parts, recover

__all__ = [
    "DAY_S",
    "StoredRecording",
    "delete",
    "delete_all",
    "find_recordings",
    "purge",
    "recording_path",
    "recover_all",
    "subscriber_key",
]

DAY_S: Final = 86400.0
MAX_SIDECAR_BYTES: Final = 256 * 1024
DELETED_LOG: Final = "deleted.jsonl"
_KEY = re.compile(r"[0-9a-f]{32}")
_SEPARATORS: Final = str.maketrans("", "", "-.()")
_LEFTOVERS: Final = ("", ".json", ".part", ".json.part", ".json.new", ".json.part.new")


def subscriber_key(identity: str) -> str:
    """The folder of a public identity: the same however it is written (case of the host, parameters, separators)."""
    try:
        uri = parse_uri(identity)
    except SipParseError:
        canonical = identity.strip()
    else:
        if isinstance(uri, TelUri):
            canonical = f"tel:{uri.number.translate(_SEPARATORS)}"
        elif isinstance(uri, SipUri):
            canonical = f"sip:{uri.user}@{uri.host.lower()}" if uri.user else f"sip:{uri.host.lower()}"
        else:
            canonical = identity.strip()
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def recording_path(directory: Path, subscriber: str, call_id: str, at: float, form: str) -> Path:
    """Where a recording that begins at that wall clock time goes."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    safe = re.sub(r"[^0-9A-Za-z]", "", call_id)[:64]
    return directory.absolute() / subscriber_key(subscriber) / f"{moment}Z-{safe}{FORMATS[form]}"


@attrs.frozen
class StoredRecording:
    """One recording and what its sidecar says."""

    path: Path
    about: dict[str, Any]

    @property
    def call_id(self) -> str:
        return self.path.name.partition("-")[2].partition(".")[0]

    @property
    def started_at(self) -> float:
        """Wall clock; without a sidecar that of the file."""
        told = self.about.get("started_at")
        return float(told) if isinstance(told, int | float) else self.path.stat().st_mtime

    def is_over(self, now: float, keep_days: float | None = None) -> bool:
        """Whether it was kept long enough: as its sidecar says (0: for ever), or at most ``keep_days``."""
        told = self.about.get("retention_days")
        days = [float(told)] if isinstance(told, int | float) and told > 0 else []
        days += [] if keep_days is None else [keep_days]
        return bool(days) and self.started_at + min(days) * DAY_S <= now


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        with open(f"{path}.json", "rb") as file:
            value = json.loads(file.read(MAX_SIDECAR_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def find_recordings(directories: Iterable[Path], subscriber: str | None = None) -> Iterator[StoredRecording]:
    """The completed recordings, oldest first within a folder; ``subscriber`` None: everybody's."""
    for directory in dict.fromkeys(directories):
        if subscriber is not None:
            folders = [directory / subscriber_key(subscriber)]
        else:
            folders = sorted(directory.iterdir()) if directory.is_dir() else []
        for folder in folders:
            if not _KEY.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
                continue
            for path in sorted(folder.iterdir()):
                if path.suffix in FORMATS.values() and path.is_file() and not path.is_symlink():
                    yield StoredRecording(path, _sidecar(path))


def delete(recording: StoredRecording, reason: str) -> None:
    """Removes audio, sidecar, what a crash may have left of them, and the folder with the last of it.

    Raises:
        OSError: something of it is still there.
    """
    path = recording.path
    entry = {
        "at": round(time.time(), 3),
        "recording": f"{path.parent.name}/{path.name}",
        "reason": reason,
        "by": _user(),
    }
    log = os.open(path.parent.parent / DELETED_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        for ending in _LEFTOVERS:
            Path(f"{path}{ending}").unlink(missing_ok=True)
        os.write(log, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(log)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def delete_all(directories: Iterable[Path], subscriber: str, reason: str) -> list[Path]:
    """Removes everything of one subscriber, what is being recorded right now included (that call's recording fails).

    Raises:
        OSError: something is still there.
    """
    directories = list(dict.fromkeys(directories))
    found = list(find_recordings(directories, subscriber))
    for directory in directories:
        folder = directory / subscriber_key(subscriber)
        if folder.is_dir() and not folder.is_symlink():
            found += [StoredRecording(path, {}) for path in find_parts(folder)]
    for recording in found:
        delete(recording, reason)
    return [recording.path for recording in found]


def purge(directories: Iterable[Path], now: float, keep_days: float | None = None) -> list[Path]:
    """Deletes what was kept long enough; what cannot be deleted is left for the next time."""
    done: list[Path] = []
    for recording in list(find_recordings(directories)):
        try:
            if recording.is_over(now, keep_days):
                delete(recording, "retention")
                done.append(recording.path)
        except OSError:
            continue
    return done


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def recover_all(directories: Iterable[Path]) -> list[Path]:
    """Completes what a crash left over and nobody writes any more; what cannot be is left as it is."""
    done: list[Path] = []
    for directory in dict.fromkeys(directories):
        for path in find_parts(directory) if directory.is_dir() else ():
            try:
                if recover(path) is not None:
                    done.append(path)
            except OSError:
                continue
    return done
