"""The C heap of a server: not given back to the kernel after each XML document.

glibc returns the top of the heap as soon as 128 KiB of it are free, and asks for it again at the next document: two
system calls and some page faults, more than the parsing itself (reading Sh-Data of 1 kB: 48 µs, and 20 µs without).
"""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["keep_heap_top"]

M_TRIM_THRESHOLD: Final = -1
"""malloc.h"""
KEPT_BYTES: Final = 16 << 20


def keep_heap_top() -> bool:
    """Lets up to 16 MiB stay free at the top of the heap. False where the C library has no such setting (musl)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
