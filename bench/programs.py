"""What the benchmarks run besides us: C programs, built beside their sources, and Python ones in .venv-peers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["NoCompilerError", "build_programs", "peers_python"]

PROGRAMS = ("loadgen", "floor", "sipload", "diameterd")


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


def peers_python() -> str:
    """The interpreter of .venv-peers, made where it is missing; what runs in it has import names like ours."""
    root = Path(__file__).resolve().parent.parent
    subprocess.run(["make", "-s", "peers"], cwd=root, check=True, stderr=subprocess.DEVNULL)
    return str(root / ".venv-peers" / "bin" / "python")


def _is_stale(program: Path, source: Path) -> bool:
    return not program.exists() or program.stat().st_mtime < source.stat().st_mtime
