"""Benchmarks are run by hand; what they import is there all the same."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import bench

PEERS = {"python_diameter_client", "sippy_uas"}
"""Run by the Python of the peers' own environment."""
MODULES = sorted({each.stem for each in Path(bench.__file__).parent.glob("*.py")} - PEERS - {"__init__", "__main__"})


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"bench.{name}")
