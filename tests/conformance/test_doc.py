from __future__ import annotations

from pathlib import Path

from conformance.case import find_cases
from conformance.doc import render_cases, render_needs

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8")


def between(name: str) -> str:
    return PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0].strip()


def test_the_page_has_every_case():
    assert between("cases") == render_cases(find_cases()), "make it anew: ims-as-conformance list --markdown"


def test_the_page_says_what_cases_need():
    assert between("needs") == render_needs()
