"""The quirks mode of the lab: its names on the command line, and in the documentation."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.lab import commands
from conformance.lab.quirks import PYHSS, Quirk


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], frozenset()),
        (["--hss-quirk", "slow", "--hss-quirk", "no-pnr"], {Quirk.SLOW, Quirk.NO_PNR}),
        (["--hss-quirk", "pyhss"], PYHSS),
    ],
)
def test_the_lab_takes_quirks(options: list[str], expected: frozenset[Quirk], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[frozenset[Quirk]] = []

    async def run_lab(prefix: str, directory: Path, quirks: frozenset[Quirk]) -> None:
        taken.append(quirks)

    monkeypatch.setattr(commands, "_run_lab", run_lab)
    result = CliRunner().invoke(commands.lab, ["--prefix", "127.0.142", *options])
    assert result.exit_code == 0, result.output
    assert taken == [expected]


def test_an_unknown_quirk_is_refused() -> None:
    result = CliRunner().invoke(commands.lab, ["--hss-quirk", "fast"])
    assert result.exit_code == 2
    assert "whole-sh-data" in result.output


def test_every_quirk_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "interop-hss.md").read_text()
    assert [quirk for quirk in Quirk if f"`{quirk}`" not in text] == []
