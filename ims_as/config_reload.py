"""A configuration that is read again while calls are up: what differs, what can be applied, what must wait.

Pure. Parts that are made once at the start (sockets, worker processes, Diameter peers, files that are being written)
keep what they were made with; a change there is told by its key and waits for a restart. The configuration that then
applies is the new one with those keys as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from ims_as.config import Config, Secret

__all__ = ["RESTART_KEYS", "Change", "ReloadOutcome", "merge_configs"]

RESTART_KEYS: Final = (
    "identity",
    "sip.listen",
    "sip.advertise",
    "sip.tls",
    "sip.ioi",
    "sip.reg_event",
    "sip.bypass_key",
    "diameter",
    "media",
    "api",
    "store",
    "cdr",
    "log.format",
)
"""Keys, or sections of keys, that only a restart can change. Of ``sip.tls`` and
``diameter.tls`` the files are read again at each reload."""


@attrs.frozen
class Change:
    """What a new configuration does to the running one."""

    config: Config
    """What applies from now on."""
    applied: tuple[str, ...]
    """Keys that have changed."""
    needs_restart: tuple[str, ...]
    """Keys that differ and stay as they were."""


@attrs.frozen
class ReloadOutcome:
    """What became of it."""

    outcome: str
    """``applied``, ``unchanged`` or ``rejected``."""
    applied: tuple[str, ...] = ()
    """Keys that have another value now."""
    needs_restart: tuple[str, ...] = ()
    """Keys that differ in the file and keep their value until the restart."""
    problems: tuple[str, ...] = ()
    """Why it was rejected."""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in attrs.asdict(self).items()}


def merge_configs(running: Config, new: Config) -> Change:
    """What of the new configuration can be applied to a server that runs."""
    differing = list(_differences(running, new, ""))
    waiting = [key for key in differing if _needs_restart(key)]
    merged = new
    for key in RESTART_KEYS:
        merged = _with_value(merged, key.split("."), running)
    applied = tuple(key for key in differing if key not in waiting)
    return Change(merged, applied, tuple(waiting))


def _needs_restart(key: str) -> bool:
    return any(key == each or key.startswith((f"{each}.", f"{each}[")) for each in RESTART_KEYS)


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """The keys that differ, as deep as both have the same shape."""
    if old == new:
        return
    if type(old) is type(new) and attrs.has(type(old)) and not isinstance(old, Secret):
        for field in attrs.fields(type(old)):
            before, after = getattr(old, field.name), getattr(new, field.name)
            yield from _differences(before, after, f"{path}.{field.name}" if path else field.name)
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            if name in old and name in new:
                yield from _differences(old[name], new[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif not _is_same_file(old, new, path):
        yield path


def _is_same_file(old: Any, new: Any, path: str) -> bool:
    """A TLS key of the same file: it is read again whatever was in it."""
    if not path.startswith(("sip.tls.", "diameter.tls.")) or not (isinstance(old, Secret) and isinstance(new, Secret)):
        return False
    return (old.kind, old.name) == (new.kind, new.name) and old.kind == "file"


def _with_value(config: Any, path: list[str], running: Any) -> Any:
    """A copy with the value that the running configuration has there."""
    name, *rest = path
    value = getattr(running, name)
    if rest:
        value = _with_value(getattr(config, name), rest, getattr(running, name))
    return attrs.evolve(config, **{name: value})
