"""The C heap's setting is taken where there is one, and missed without a word where there is none."""

import ctypes
import platform

import pytest

from ims_as.heap import keep_heap_top


def test_glibc_takes_it() -> None:
    assert keep_heap_top() == (platform.libc_ver()[0] == "glibc")


def test_another_c_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_heap_top()
