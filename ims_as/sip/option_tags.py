"""Option tags: Supported, Require, Unsupported and Allow as sets (RFC 3261 §19.2, §20.32, §20.37)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ims_as.sip.grammar import split_list
from ims_as.sip.message import Message, Request
from ims_as.sip.text_cache import TextCache

__all__ = ["KNOWN_TO_SESSIONS", "RELIABLE", "REPLACES", "TIMER", "allows", "has_tag", "unsupported_tags"]

RELIABLE: Final = "100rel"
"""RFC 3262."""
TIMER: Final = "timer"
"""RFC 4028."""
REPLACES: Final = "replaces"
"""RFC 3891."""
KNOWN_TO_SESSIONS: Final = (RELIABLE, TIMER, "199")
"""What `InviteSession` does by itself, without help of its user."""


def has_tag(message: Message, header: str, tag: str) -> bool:
    """Whether Supported or Require lists the tag; the tag in small letters."""
    return any(tag in _TAGS[line] for line in message.headers.get_all(header))


def allows(values: list[str], method: str) -> bool:
    """Whether the lines of an Allow header name a method; methods are case-sensitive (§7.1)."""
    return any(method == part.strip(" \t") for value in values for part in value.split(","))


def unsupported_tags(request: Request, supported: Collection[str]) -> list[str]:
    """What Require asks for that is not in `supported`, for a 420 with Unsupported (§8.2.2.3)."""
    wanted = request.headers.get_list("require")
    return [tag for tag in wanted if tag.lower() not in supported] if wanted else []


def _read_tags(line: str) -> frozenset[str]:
    return frozenset(part.lower() for part in split_list(line))


_TAGS: Final = TextCache(_read_tags)
