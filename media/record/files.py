"""Recordings as files: ``NAME.part`` while they are made, then ``NAME`` and its sidecar ``NAME.json``.

A ``.part`` is locked by who writes it, so that one which nobody holds is left over from a crash: `recover` completes it
and says in the sidecar that it is not whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from media.record.opus_file import OpusFile, repair_opus
from media.record.wav import WavFile, repair_wav

__all__ = ["FORMATS", "RecordingFileError", "complete", "create", "find_parts", "recover", "write_sidecar"]

FORMATS: Final = {"wav": ".wav", "ogg": ".opus"}
PART: Final = ".part"
SIDECAR: Final = ".json"
_BLOCK: Final = 1 << 20


class RecordingFileError(Exception):
    """The file cannot be made."""


def create(path: Path) -> int:
    """Opens ``path``.part, for us alone and locked.

    Raises:
        RecordingFileError: it, or the completed file, is there already; no permission; no such place.
    """
    if not path.is_absolute() or ".." in path.parts or path.suffix not in FORMATS.values():
        raise RecordingFileError(f"{path}: not a name for a recording")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.lexists(path):
            raise RecordingFileError(f"{path} is there already")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{path}{PART}", flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise RecordingFileError(f"{path}: {error.strerror}") from error
    return fd


def open_sink(fd: int, name: str, rate_hz: int) -> WavFile | OpusFile:
    """Raises OSError, CodecError."""
    return OpusFile(fd, rate_hz) if name == "ogg" else WavFile(fd, rate_hz)


def write_sidecar(path: Path, sidecar: dict[str, Any], *, is_part: bool) -> None:
    """Replaces the sidecar at once.  Raises OSError."""
    target = f"{path}{SIDECAR}{PART}" if is_part else f"{path}{SIDECAR}"
    passing = f"{target}.new"
    fd = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(sidecar, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(passing, target)


def complete(fd: int, path: Path, sidecar: dict[str, Any]) -> dict[str, Any]:
    """Gives a recording its name, with its checksum and size in the sidecar; closes the descriptor.

    Raises:
        OSError: it stays a ``.part``.
    """
    try:
        os.fsync(fd)
        if not os.path.samestat(os.fstat(fd), os.stat(f"{path}{PART}", follow_symlinks=False)):
            raise FileNotFoundError(2, "it was deleted", str(path))
        whole = {**sidecar, "bytes": os.fstat(fd).st_size, "sha256": _digest(fd)}
        write_sidecar(path, whole, is_part=False)
        os.rename(f"{path}{PART}", path)
    finally:
        os.close(fd)
    Path(f"{path}{SIDECAR}{PART}").unlink(missing_ok=True)
    return whole


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    at = 0
    while block := os.pread(fd, _BLOCK, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


def find_parts(directory: Path) -> Iterator[Path]:
    """Recordings below a directory that were not completed, as the names that they are to have."""
    for suffix in FORMATS.values():
        for part in sorted(directory.rglob(f"*{suffix}{PART}")):
            if part.is_file() and not part.is_symlink():
                yield Path(str(part).removesuffix(PART))


def recover(path: Path) -> dict[str, Any] | None:
    """Completes a recording that a crash left over.

    Returns:
        its sidecar; None: somebody is writing it, or there was nothing in it and it is gone.

    Raises:
        OSError: it cannot be read or written.
    """
    fd = os.open(f"{path}{PART}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    rate_hz, n = (repair_opus if path.suffix == FORMATS["ogg"] else repair_wav)(fd)
    if not rate_hz or not n:
        os.close(fd)
        for name in (f"{path}{PART}", f"{path}{SIDECAR}{PART}"):
            Path(name).unlink(missing_ok=True)
        return None
    try:
        sidecar = json.loads(Path(f"{path}{SIDECAR}{PART}").read_text())
    except (OSError, ValueError):
        sidecar = {}
    if not isinstance(sidecar, dict):
        sidecar = {}
    duration_ms = n * 1000 // rate_hz
    told = {"file": path.name, "rate_hz": rate_hz, "duration_ms": duration_ms, "complete": False}
    if isinstance(began := sidecar.get("started_at"), int | float):
        told["ended_at"] = began + duration_ms / 1000
    return complete(fd, path, {**sidecar, **told})
