"""The names under which filter criteria have us: one for each session case, so that a core without P-Served-User tells
the case all the same (`session_case` reads them).
"""

from __future__ import annotations

from typing import Final

__all__ = ["CASES", "other_server_names", "server_name_for"]

CASES: Final = ("terminating", "originating", "register")

_USERS: Final = {"terminating": "term", "originating": "orig"}


def server_name_for(identity: str, case: str) -> str:
    """``sip:term@…``, ``sip:orig@…``; the identity itself for REGISTER, and where it has a user part of its own, which
    `session_case` would not know: then ``orig`` is a parameter."""
    scheme, _, rest = identity.partition(":")
    if case not in _USERS:
        return identity
    if "@" in rest:
        return f"{identity};orig" if case == "originating" else identity
    return f"{scheme}:{_USERS[case]}@{rest}"


def other_server_names(identity: str) -> tuple[str, ...]:
    """The names beside the identity itself."""
    names = (server_name_for(identity, case) for case in CASES)
    return tuple(dict.fromkeys(name for name in names if name != identity))
