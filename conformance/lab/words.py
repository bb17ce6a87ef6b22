"""How many words of what was said were understood: the recogniser's usual measure, as counts."""

from __future__ import annotations

__all__ = ["count_right_words", "word_accuracy"]


def count_right_words(expected: str, heard: str) -> int:
    """Words of ``expected`` less the word errors (substituted, missing and added words); never below 0."""
    wanted, got = expected.split(), heard.split()
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return max(0, len(wanted) - row[-1])


def word_accuracy(expected: str, heard: str) -> float:
    """Share of words understood, 0 to 1; 1 when nothing was said and nothing heard."""
    n_words = len(expected.split())
    return count_right_words(expected, heard) / n_words if n_words else float(not heard.split())
