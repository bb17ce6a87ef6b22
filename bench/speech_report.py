"""docs/quality.md and its plot, from the scores of `bench.speech_quality`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.support.impairment import Network

__all__ = ["PESQ_MARGIN", "WORDS_MARGIN", "Cell", "write_report"]

PESQ_MARGIN = 0.05
WORDS_MARGIN = 1.0
"""Percentage points."""


@attrs.frozen
class Cell:
    """One measurement."""

    label: str
    network: Network
    way: str
    pesq: float
    word_errors: float | None
    """Percent of the words."""


class Table:
    """All of them."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = {(cell.label, cell.network, cell.way): cell for cell in cells}
        self.labels = list(dict.fromkeys(cell.label for cell in cells))
        self.networks = list(dict.fromkeys(cell.network for cell in cells if cell.way == "up"))

    def alone(self, label: str, network: Network) -> Cell:
        """Losses alone matter to it."""
        return self._cells[label, attrs.evolve(network, jitter_ms=0.0), "alone"]

    def heard(self, label: str, network: Network, way: str = "up") -> Cell | None:
        return self._cells.get((label, network, way))

    def losses(self) -> list[tuple[float, float]]:
        """(loss, burst)."""
        return list(dict.fromkeys((each.loss, each.burst) for each in self.networks))

    def losses_of_words(self) -> list[tuple[float, float]]:
        """Of which words were counted."""
        found = [key[1] for key, cell in self._cells.items() if cell.word_errors is not None]
        return [loss for loss in self.losses() if loss in {(each.loss, each.burst) for each in found}]

    def jitters(self, loss: tuple[float, float]) -> list[float]:
        return [each.jitter_ms for each in self.networks if (each.loss, each.burst) == loss]

    def worst(self) -> tuple[float, float]:
        """By how much PESQ and words are worse than the codec alone where that is most; negative: never worse."""
        pesq: list[float] = []
        words: list[float] = []
        for label in self.labels:
            for network in self.networks:
                for way in ("up", "down"):
                    alone, cell = self.alone(label, network), self.heard(label, network, way)
                    if cell is None:
                        continue
                    pesq.append(alone.pesq - cell.pesq)
                    if cell.word_errors is not None and alone.word_errors is not None:
                        words.append(cell.word_errors - alone.word_errors)
        return max(pesq), max(words, default=0.0)


def _name(loss: tuple[float, float]) -> str:
    return "clean" if not loss[0] else f"{loss[0]:.0%}" + (" in bursts" if loss[1] > 1 else "")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)])


def pesq_table(table: Table) -> str:
    """Alone, and the engine's at each jitter."""
    head = ["codec", "loss", "alone", *(f"{jitter:g} ms" for jitter in table.jitters(table.losses()[0]))]
    rows = []
    for label in table.labels:
        for loss in table.losses():
            network = Network(loss=loss[0], burst=loss[1])
            row = [label, _name(loss), f"{table.alone(label, network).pesq:.2f}"]
            for jitter in table.jitters(table.losses()[0]):
                cell = table.heard(label, attrs.evolve(network, jitter_ms=jitter))
                row.append("–" if cell is None else f"{cell.pesq:.2f}")
            rows.append(row)
    return _grid(head, rows)


def phone_table(table: Table) -> str:
    """What the phone hears."""
    head = ["codec", "alone", *(f"{jitter:g} ms" for jitter in table.jitters(table.losses()[0]))]
    rows = []
    for label in table.labels:
        row = [label, f"{table.alone(label, Network()).pesq:.2f}"]
        for jitter in table.jitters(table.losses()[0]):
            cell = table.heard(label, Network(jitter_ms=jitter), "down")
            row.append("–" if cell is None else f"{cell.pesq:.2f}")
        rows.append(row)
    return _grid(head, rows)


def words_table(table: Table) -> str:
    """Word errors, percent: alone / at each jitter."""
    head = ["codec", *(_name(loss) for loss in table.losses_of_words()), "phone, clean"]
    rows = []
    for label in table.labels:
        row = [label]
        for loss in table.losses_of_words():
            network = Network(loss=loss[0], burst=loss[1])
            cells = [table.alone(label, network)]
            found = [table.heard(label, attrs.evolve(network, jitter_ms=jitter)) for jitter in table.jitters(loss)]
            cells += [cell for cell in found if cell is not None]
            row.append(" / ".join(f"{c.word_errors:.1f}" for c in cells if c.word_errors is not None))
        down = table.heard(label, Network(), "down")
        row.append("–" if down is None or down.word_errors is None else f"{down.word_errors:.1f}")
        if any(row[1:-1]):
            rows.append(row)
    return _grid(head, rows)


TEXT = """\
# How speech sounds

Measured {date} by `python -m bench.speech_quality` (`make quality`): a phone and an engine speak eleven recordings of
five speakers to each other through a media worker, over sockets and in real time; between phone and worker is a
network of `tests/support/impairment.py`. **Alone** is the codec without network and server, the same packets lost. The
aim: nowhere worse than alone by more than {pesq_margin} PESQ and {words_margin:g} point of word errors.

**Worst of all cells: PESQ {pesq:+.3f}, words {words:+.1f} points** (positive is worse than alone).

![PESQ by loss](quality.png)

## What the engine hears

PESQ (MOS-LQO: P.862.2 wideband at 16 kHz, P.862.1 at 8 kHz; the two scales do not compare), by jitter. Packets are late
by 0 to so many ms each, evenly distributed, and overtake each other.

{pesq_table}

## What the phone hears

The engine's speech, sent in real time; the phone puts packets in order and waits for all of them.

{phone_table}

## Words understood

PocketSphinx, errors in percent of 113 words: alone / through ims-as at 80 ms of jitter, clean at 0 and at 80. A word is
0.9 points, and one or two of them are chance: with packets lost PCMA has fewer errors than without. The language model
is of the sentences, with half of its weight left to any other order of their words.

{words_table}

## How to read it

- Losses are of the way from the phone to ims-as; what is lost towards the phone is the phone's to conceal.
- What the codec alone does about a loss: AMR, AMR-WB, G.729 and Opus (with in-band error correction) by their
  decoders; G.711 by libspandsp's concealment, which is not ours; G.722 has none in any library, so it is ours twice.
- Sequence: a gap is waited for as long as the network needs, at most 80 ms (`media/patience.py`), so a late packet is
  not a lost one. The engine gets its audio in order and without holes, late by what was waited for.
- AMR and AMR-WB send comfort noise in pauses, whose length may differ by a frame from the codec alone.
"""


def write_report(cells: Sequence[Cell], folder: Path) -> None:
    """Writes quality.md and quality.png."""
    table = Table(cells)
    pesq, words = table.worst()
    text = TEXT.format(
        date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        pesq_margin=PESQ_MARGIN,
        words_margin=WORDS_MARGIN,
        pesq=pesq,
        words=words,
        pesq_table=pesq_table(table),
        phone_table=phone_table(table),
        words_table=words_table(table),
    )
    (folder / "quality.md").write_text(text)
    plot(table, folder / "quality.png")
    print(f"worst: PESQ {pesq:+.3f}, words {words:+.1f} points")


def plot(table: Table, path: Path) -> None:
    """One panel per codec: PESQ by loss."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses = [loss for loss in table.losses() if loss[1] <= 1]
    columns = min(4, len(table.labels))
    rows = -(-len(table.labels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(2.6 * columns, 2.4 * rows), sharex=True, squeeze=False)
    for label, axis in zip(table.labels, axes.flat, strict=False):
        percent = [100 * loss for loss, _ in losses]
        alone = [table.alone(label, Network(loss=loss)).pesq for loss, _ in losses]
        axis.plot(percent, alone, color="0.6", linewidth=4, label="codec alone")
        for jitter, style in ((0.0, "C0o-"), (80.0, "C3x--")):
            cells = [table.heard(label, Network(loss=loss, jitter_ms=jitter)) for loss, _ in losses]
            if all(cells):
                axis.plot(percent, [cell.pesq for cell in cells if cell], style, linewidth=1, markersize=4)
                axis.lines[-1].set_label(f"through ims-as, jitter {jitter:g} ms")
        axis.set_title(label, fontsize=9)
        axis.set_ylim(1, 4.6)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("loss, %", fontsize=8)
    for row in axes:
        row[0].set_ylabel("PESQ", fontsize=8)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
