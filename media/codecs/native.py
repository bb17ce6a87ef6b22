"""Native codec libraries of the system, loaded by name (cffi, ABI mode)."""

from __future__ import annotations

from typing import Any

import cffi

from media.codecs.base import CodecError

__all__ = ["load_library"]


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
