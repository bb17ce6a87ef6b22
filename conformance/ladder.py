"""The SIP ladder of a case, from the message logs that its SIPp instances leave.

One line per message: milliseconds since the first, who spoke to whom, what.  The case is left, the target in the
middle, the next hop right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import attrs

from conformance.fault import describe_message

__all__ = ["LoggedMessage", "read_message_log", "render_ladder"]

MAX_LINES: Final = 80
"""Of a ladder: a case has some ten messages; a storm is seen from its first."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_ENTRY = re.compile(r"^-{40,} (\d{4}-\d\d-\d\d)[ \tT]+(\d\d:\d\d:\d\d\.\d{6})[^\n]*\n", re.MULTILINE)
_KIND = re.compile(r"(?:UDP|TCP|TLS|SCTP) message (sent|received) [\[(]\d+\]? bytes\)? ?:\r?\n\r?\n")
_SDP = re.compile(
    r"^content-type[ \t]*:[ \t]*application/sdp|^c[ \t]*:[ \t]*application/sdp", re.IGNORECASE | re.MULTILINE
)


@attrs.frozen
class LoggedMessage:
    at: datetime
    is_sent: bool
    """By SIPp."""
    text: str

    @property
    def label(self) -> str:
        """``INVITE (SDP)``, ``200 BYE`` …"""
        start, method = describe_message(self.text.encode("utf-8", "replace"))
        words = [start or "?"]
        if start.isdigit():
            words.append(method or "?")
        if _SDP.search(self.text):
            words.append("(SDP)")
        return " ".join(words)


def read_message_log(log: str) -> list[LoggedMessage]:
    """SIPp's ``-trace_msg`` file; what cannot be understood is left out."""
    messages = []
    entries = list(_ENTRY.finditer(log))
    for entry, following in zip(entries, [*entries[1:], None], strict=False):
        text = log[entry.end() : following.start() if following else len(log)]
        kind = _KIND.match(text)
        if kind is None:
            continue
        at = datetime.fromisoformat(f"{entry[1]} {entry[2]}")
        messages.append(LoggedMessage(at, kind[1] == "sent", text[kind.end() :].lstrip("\r\n")))
    return messages


def render_ladder(case: str, next_hop: str = "") -> str:
    """The ladder of one case from the message logs of its one or two SIPp instances; "" when nothing was said."""
    lines = sorted([*_lines(case, is_next_hop=False), *_lines(next_hop, is_next_hop=True)], key=lambda line: line[0])
    if not lines:
        return ""
    start = lines[0][0]
    rows = [f"{(at - start) / _MILLISECOND:9.1f} ms  {arrow} {label}" for at, arrow, label in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        rows.append(f"{'':12}  … and {len(lines) - MAX_LINES} more")
    return "\n".join(rows)


def _lines(log: str, *, is_next_hop: bool) -> Iterator[tuple[datetime, str, str]]:
    for message in read_message_log(log):
        if is_next_hop:
            arrow = "       target ◀── hop" if message.is_sent else "       target ──▶ hop"
        else:
            arrow = "case ──▶ target       " if message.is_sent else "case ◀── target       "
        yield message.at, arrow, message.label
