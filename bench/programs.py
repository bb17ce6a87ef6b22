"""Builds the C programs of the benchmarks beside their sources, with the plain compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["NoCompilerError", "build_programs"]

PROGRAMS = ("loadgen", "floor", "sipload")


class NoCompilerError(Exception):
    """There is no C compiler."""


def build_programs() -> Path:
    """Builds what is missing or older than its source; the directory of the programs.

    Raises:
        NoCompilerError: none of $CC, cc, gcc, clang is there.
    """
    here = Path(__file__).resolve().parent
    stale = [p for p in PROGRAMS if _is_stale(here / p, here / f"{p}.c")]
    if stale:
        names = [n for n in (os.environ.get("CC"), "cc", "gcc", "clang") if n]
        compiler = next((path for n in names if (path := shutil.which(n))), None)
        if compiler is None:
            raise NoCompilerError("no C compiler: install gcc")
        for program in stale:
            source, target = here / f"{program}.c", here / program
            subprocess.run([compiler, "-O3", "-march=native", "-w", "-o", target, source, "-lm"], check=True)
    return here


def _is_stale(program: Path, source: Path) -> bool:
    return not program.exists() or program.stat().st_mtime < source.stat().st_mtime
