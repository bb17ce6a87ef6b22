"""Native codec libraries of the system, loaded by name (cffi, ABI mode)."""

from __future__ import annotations

from typing import Any

import cffi

from media.codecs.base import CodecError

__all__ = ["NativeState", "load_library"]


def load_library(declarations: str, *names: str) -> tuple[Any, Any]:
    """(ffi, library) of the first name that can be loaded.

    Raises:
        CodecError: none is there.
    """
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    for name in names:
        try:
            return ffi, ffi.dlopen(name)
        except OSError:
            continue
    raise CodecError(f"{names[0]} is not installed")


class NativeState:
    """State that a library keeps for one stream: given back by `close`, or with the object."""

    def __init__(self, ffi: Any, state: Any, free: Any, lacking: str) -> None:
        """Raises CodecError with that text when the library gave none."""
        if not state:
            raise CodecError(lacking)
        self._ffi = ffi
        self._state: Any = ffi.gc(state, free)

    def close(self) -> None:
        """Gives it back; calling it twice is harmless."""
        if self._state is not None:
            self._ffi.release(self._state)
            self._state = None
