"""Speech through a running media worker against the codec alone: PESQ and word errors, clean and through bad networks.

    python -m bench.speech_quality [--codecs PCMA,G722] [--at-once 24] [--no-words]

Each call speaks eleven recordings (45 s of five speakers) in both directions at once: phone - network - worker -
engine. "Alone" is the same codec with the same packets lost, decoded without network and server. Writes docs/quality.md
and docs/quality.png. Needs the extra ``quality`` (PESQ); as root other work of the machine is kept off the calls.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from bench.speech_report import Cell, write_report
from tests.support.impairment import Impairment, Network
from tests.support.speech_calls import Job, Outcome, make_calls
from tests.support.speech_codecs import SPOKEN, Packet, at_rate, decode_alone, encode_all
from tests.support.speech_score import RATE_HZ, RECORDINGS, delay_of, pesq_of, recording, word_errors

Pcm = NDArray[np.int16]
LOSSES = (0.0, 0.01, 0.03, 0.05, 0.1)
JITTERS_MS = (0.0, 20.0, 40.0, 80.0)
NETWORKS = [Network(jitter_ms=jitter) for jitter in JITTERS_MS]
NETWORKS += [Network(loss=loss, jitter_ms=jitter) for loss in LOSSES[1:] for jitter in (0.0, 40.0, 80.0)]
NETWORKS += [Network(loss=0.05, burst=2.5, jitter_ms=jitter) for jitter in (0.0, 80.0)]
WORDS_NETWORKS = [Network(), *(Network(loss=loss, jitter_ms=80.0) for loss in (0.0, 0.03, 0.1))]
"""Recognition is what takes long."""
TRIES, MISSED_MS = 4, 4
"""Calls in which more than that went wrong on average, since worker or engine had no time, are repeated."""
MISSED = ("skipped_ms", "stale_ms", "trimmed_ms")
SEED = 20
LEAD, PAUSE = np.zeros(RATE_HZ, np.int16), np.zeros(RATE_HZ // 2, np.int16)
SLACK = RATE_HZ // 4
"""Around a recording, where it is looked for: pauses may be longer or shorter."""


@attrs.frozen
class Segment:
    """One recording's place in the call, samples at 16 kHz."""

    name: str
    start: int
    end: int


def whole_call() -> tuple[Pcm, list[Segment]]:
    """What each side says."""
    parts, segments, at = [LEAD], [], len(LEAD)
    for name in RECORDINGS:
        pcm = recording(name)
        segments.append(Segment(name, at, at + len(pcm)))
        parts += [pcm, PAUSE]
        at += len(pcm) + len(PAUSE)
    return np.concatenate(parts), segments


@attrs.frozen(eq=False)
class Heard:
    """A call's audio, to be scored."""

    label: str
    network: Network
    way: str
    """``alone``, ``up`` (by the engine) or ``down`` (by the phone)."""
    pcm: Pcm
    """At the codec's rate."""
    with_words: bool


def score(heard: Heard) -> Cell:
    """PESQ is the mean of the sentences; words are those of all recordings."""
    rate_hz = SPOKEN[heard.label].rate_hz
    call, segments = whole_call()
    reference = at_rate(call, RATE_HZ, rate_hz)
    delay = delay_of(reference, heard.pcm)
    scores: list[float] = []
    errors = 0
    for segment in segments:
        start, end = ((at * rate_hz) // RATE_HZ for at in (segment.start - SLACK, segment.end + SLACK))
        said = reference[start:end]
        window = heard.pcm[max(0, start + delay) : end + delay]
        if not segment.name.startswith("cards"):
            scores.append(pesq_of(said, window, rate_hz))
        if heard.with_words:
            errors += word_errors(segment.name, at_rate(window, rate_hz, RATE_HZ))
    n_words = sum(len(text.split()) for text in RECORDINGS.values())
    return Cell(
        label=heard.label,
        network=heard.network,
        way=heard.way,
        pesq=float(np.mean(scores)),
        word_errors=100 * errors / n_words if heard.with_words else None,
    )


def listen(labels: Iterable[str], at_once: int, with_words: bool) -> list[Heard]:
    """Makes all calls, in real time, and the same without network and server."""
    call, _ = whole_call()
    found: list[Heard] = []
    coded: dict[str, list[Packet]] = {}
    for label in labels:
        spoken = SPOKEN[label]
        coded[label] = encode_all(spoken, at_rate(call, RATE_HZ, spoken.rate_hz))
        for network in NETWORKS:
            if not network.jitter_ms:
                pcm = decode_alone(spoken, coded[label], Impairment(network, SEED).is_lost)
                heard_words = any((each.loss, each.burst) == (network.loss, network.burst) for each in WORDS_NETWORKS)
                found.append(Heard(label, network, "alone", pcm, with_words and heard_words))
    # codecs mixed, so that each batch costs the same
    wanted = [(label, network) for network in NETWORKS for label in coded]
    for batch in _batched(wanted, at_once):
        jobs = [Job(SPOKEN[label], coded[label], Impairment(network, SEED), call) for label, network in batch]
        outcomes = undisturbed(jobs)
        for (label, network), outcome in zip(batch, outcomes, strict=True):
            up = at_rate(outcome.engine_heard, RATE_HZ, SPOKEN[label].rate_hz)
            found.append(Heard(label, network, "up", up, with_words and network in WORDS_NETWORKS))
            if not network.loss:
                found.append(Heard(label, network, "down", outcome.phone_heard, with_words and not network.jitter_ms))
    return found


def undisturbed(jobs: Sequence[Job]) -> list[Outcome]:
    """Calls in which the machine did not keep the worker from its work; what it did then is another measurement."""
    found: list[tuple[int, list[Outcome]]] = []
    for _ in range(TRIES):
        began = time.monotonic()
        outcomes = make_calls(jobs, is_undisturbed=os.geteuid() == 0)
        missed_ms = sum(sum(each.stats[name] for name in MISSED) for each in outcomes)
        print(f"{len(jobs)} calls in {time.monotonic() - began:.0f} s; missed turns: {missed_ms} ms in all", flush=True)
        found.append((missed_ms, outcomes))
        if missed_ms < MISSED_MS * len(jobs):
            break
    return min(found, key=lambda each: each[0])[1]


def _batched(items: list[tuple[str, Network]], size: int) -> Iterator[list[tuple[str, Network]]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", default=",".join(SPOKEN))
    parser.add_argument("--at-once", type=int, default=24)
    parser.add_argument("--no-words", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    heard = listen(options.codecs.split(","), options.at_once, not options.no_words)
    with ProcessPoolExecutor(os.cpu_count(), initializer=os.nice, initargs=(10,)) as pool:
        cells = []
        for cell in pool.map(score, heard):
            cells.append(cell)
            print(cell, flush=True)
    write_report(cells, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
