"""What the lab's voice agent says to what it heard.  Sans-IO: words in, reply out."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["TRANSFER_PHRASE", "Reply", "reply_to"]

TRANSFER_PHRASE = "queen of clubs"
"""The card that asks for a human."""


@attrs.frozen
class Reply:
    """``text`` is said and sent as transcript; ``spoken`` is the same with pauses for the synthesiser."""

    text: str
    spoken: str
    transfer: dict[str, Any] | None = None
    """The ``transfer`` event to send, if any."""


def reply_to(words: str, *, transfer_phrase: str = TRANSFER_PHRASE) -> Reply:
    """Repeats what was heard word for word, or hands over when the caller named the transfer card."""
    if f" {transfer_phrase} " in f" {words} ":
        return Reply(
            text="transferring you",
            spoken="transferring you.",
            transfer={
                "event": "transfer",
                "target": "served-user",
                "data": {"reason": f"the caller said: {words}", "heard": words},
            },
        )
    return Reply(text=f"you said {words}", spoken=f"you said {_with_pauses(words)}.")


def _with_pauses(words: str) -> str:
    """A comma after each card: "eight of spades, four of clubs"."""
    cards: list[str] = []
    tokens = words.split()
    index = 0
    while index < len(tokens):
        size = 3 if tokens[index + 1 : index + 2] == ["of"] else 1
        cards.append(" ".join(tokens[index : index + size]))
        index += size
    return ", ".join(cards)
