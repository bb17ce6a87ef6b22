"""Faults: what may happen to a message between a case and the target, written as one line of text.

The same language serves two ends.  As ``link`` of a case they are a bad network, which the target must survive: losses,
copies, delays, segments.  As ``wrong`` they make of a right server a wrong one, which the case must notice.

``VERB SELECTOR [ARGUMENTS]``; the selector is ``[SIDE:]MESSAGE[#COUNT]``:

=============  =======================================================================================
SIDE           ``to`` the target, ``peer`` target to next hop, ``from-peer``; none: what the target sends
MESSAGE        a method, a status (``200``, ``1xx``), a status of a method (``200/BYE``), ``*``
COUNT          ``1`` the first only, ``2-`` all but the first, ``1-3``
=============  =======================================================================================

====================================  ================================================================
``drop SEL``                          it is lost
``double SEL [MS]``                   it comes twice, the copy MS milliseconds later
``delay SEL MS``                      it comes late
``status SEL CODE``                   it has another status
``without SEL HEADER``                all headers of that name are missing
``header SEL NAME: VALUE``            that header has another value, or is new
``sub SEL /PATTERN/TEXT/``            a regular expression is replaced, in lines that end with LF alone; any
                                      character may stand for the slashes
``empty SEL``                         it has no body
``answer SEL CODE``                   it never arrives; instead of its receiver somebody else answers
``before SEL TEXT``                   bytes come before it, with the escapes of Python
``split SEL BYTES``                   on a stream: it comes in pieces of that size
====================================  ================================================================

Sans-IO: `FaultyLink.pass_on` says what becomes of a message, the relay does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

__all__ = ["Emission", "Fault", "FaultError", "FaultyLink", "Selector", "describe_message", "parse_fault"]

SPLIT_PAUSE_S: Final = 0.005
"""Between two pieces of a message, so that they are not joined on the way."""
DOUBLE_PAUSE_MS: Final = 20

_SELECTOR = re.compile(
    r"(?:(?P<side>to|peer|from-peer):)?(?P<what>\*|[1-6][0-9]{2}|[1-6]xx|[A-Z]+)(?:/(?P<method>[A-Z]+))?"
    r"(?:#(?P<first>\d+)(?P<range>-(?P<last>\d*))?)?"
)
_CSEQ = re.compile(rb"^cseq[ \t]*:[ \t]*\d+[ \t]+([A-Za-z0-9.!%*_+`'~-]+)", re.IGNORECASE | re.MULTILINE)
_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "l": "content-length", "m": "contact"}


class FaultError(Exception):
    """A line that is no fault; the text says why."""


@attrs.frozen
class Selector:
    """Which messages a fault concerns."""

    side: str
    """``from`` (the target), ``to``, ``peer`` or ``from-peer``."""
    what: str
    method: str = ""
    first: int = 1
    last: int | None = None
    """Of the messages that match, counted from 1; None: to the end."""

    def matches(self, side: str, start: str, method: str) -> bool:
        """start: a method or a status; method: that of CSeq."""
        if side != self.side or (self.method and method != self.method):
            return False
        return self.what in ("*", start) or (self.what[1:] == "xx" and start[:1] == self.what[0] and start.isdigit())


@attrs.frozen
class Fault:
    verb: str
    selector: Selector
    arguments: tuple[str, ...]
    text: str
    """As it was written."""


@attrs.frozen
class Emission:
    """Bytes to be sent on; ``back`` to where the message came from."""

    delay_s: float
    data: bytes
    back: bool = False


def parse_fault(text: str) -> Fault:
    """Raises FaultError."""
    verb, _, rest = text.strip().partition(" ")
    written, _, tail = rest.strip().partition(" ")
    match = _SELECTOR.fullmatch(written)
    if match is None:
        raise FaultError(f"{text!r}: {written!r} selects no message")
    first, last = int(match["first"] or 1), match["last"]
    end = None if match["first"] is None or last == "" else int(last) if last else first
    selector = Selector(match["side"] or "from", match["what"], match["method"] or "", first, end)
    try:
        arguments = _ARGUMENTS[verb](tail.strip())
    except KeyError:
        raise FaultError(f"{text!r}: no verb {verb!r}") from None
    except (ValueError, re.error) as error:
        raise FaultError(f"{text!r}: {error}") from error
    return Fault(verb, selector, arguments, text)


def _none(text: str) -> tuple[str, ...]:
    if text:
        raise ValueError(f"{text!r} is too much")
    return ()


def _number(text: str) -> tuple[str, ...]:
    if not text.isdigit():
        raise ValueError(f"{text!r} is no number")
    return (text,)


def _number_or_default(text: str) -> tuple[str, ...]:
    return _number(text or str(DOUBLE_PAUSE_MS))


def _name(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[A-Za-z-]+", text):
        raise ValueError(f"{text!r} is no header name")
    return (text,)


def _header(text: str) -> tuple[str, ...]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is no header")
    return (*_name(name.strip()), value.strip())


def _substitution(text: str) -> tuple[str, ...]:
    parts = text[1:].split(text[:1]) if text else []
    if len(parts) != 3 or parts[2] or not parts[0]:
        raise ValueError(f"{text!r} is not /PATTERN/TEXT/")
    re.sub(f"(?:{parts[0]})|", parts[1], "")  # both are sound
    return (parts[0], parts[1])


def _bytes(text: str) -> tuple[str, ...]:
    if not text:
        raise ValueError("no bytes")
    return (text.encode("latin-1").decode("unicode_escape"),)


_ARGUMENTS = {
    "drop": _none,
    "double": _number_or_default,
    "delay": _number,
    "status": _number,
    "without": _name,
    "header": _header,
    "sub": _substitution,
    "empty": _none,
    "answer": _number,
    "before": _bytes,
    "split": _number,
}


# ---------------------------------------------------------------- messages


def describe_message(data: bytes) -> tuple[str, str]:
    """Method or status, and the method of CSeq ("" where there is none that can be read)."""
    line = data.lstrip(b"\r\n").split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    found = _CSEQ.search(data)
    method = found[1].decode() if found else ""
    parts = line.split()
    if line[:4].upper() == "SIP/" and len(parts) > 1:
        return parts[1], method
    return (parts[0] if parts else ""), method


def _split(data: bytes) -> tuple[list[str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("utf-8", "surrogateescape").split("\r\n"), body


def _join(lines: Sequence[str], body: bytes) -> bytes:
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape")
    return head + b"\r\n\r\n" + body


def _header_name(line: str) -> str:
    name = line.partition(":")[0].strip().lower()
    return _COMPACT.get(name, name)


def _without(lines: Sequence[str], name: str) -> list[str]:
    """Header lines without those of a name, and without their continuations."""
    key = _COMPACT.get(name.lower(), name.lower())
    kept = []
    is_taken_off = False
    for line in lines:
        is_taken_off = is_taken_off if line[:1] in (" ", "\t") else _header_name(line) == key
        if not is_taken_off:
            kept.append(line)
    return kept


def _with_body(lines: Sequence[str], body: bytes) -> bytes:
    return _join([lines[0], *_without(lines[1:], "Content-Length"), f"Content-Length: {len(body)}"], body)


def _changed(fault: Fault, data: bytes) -> bytes:
    lines, body = _split(data)
    match fault.verb, *fault.arguments:
        case "status", code:
            return _join([f"SIP/2.0 {code} Changed", *lines[1:]], body)
        case "without", name:
            return _join([lines[0], *_without(lines[1:], name)], body)
        case "header", name, value:
            key = _COMPACT.get(name.lower(), name.lower())
            place = next((at for at, line in enumerate(lines) if at and _header_name(line) == key), len(lines))
            return _join([*lines[:place], f"{name}: {value}", *_without(lines[place:], name)], body)
        case "sub", pattern, text:
            whole = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
            whole = re.sub(pattern, text, whole, flags=re.MULTILINE)
            lines, body = _split(whole.replace("\n", "\r\n").encode("utf-8", "surrogateescape"))
            return _with_body(lines, body)
        case ["empty"]:
            return _with_body([lines[0], *_without(lines[1:], "Content-Type")], b"")
    raise AssertionError(fault.verb)


def _answer(data: bytes, code: str) -> bytes:
    """What somebody who understands nothing would answer."""
    lines, _ = _split(data)
    kept = [line for line in lines[1:] if _header_name(line) in ("via", "from", "call-id", "cseq")]
    to = next((line for line in lines[1:] if _header_name(line) == "to"), "To: <sip:nobody@invalid>")
    to = to if ";tag=" in to else f"{to};tag=wrong"
    return _join([f"SIP/2.0 {code} Wrong", *kept, to, "Content-Length: 0"], b"")


@attrs.define
class _Armed:
    fault: Fault
    n_matches: int = 0

    def strikes(self, side: str, start: str, method: str) -> bool:
        """Counts the message when it matches."""
        selector = self.fault.selector
        if not selector.matches(side, start, method):
            return False
        self.n_matches += 1
        return selector.first <= self.n_matches and (selector.last is None or self.n_matches <= selector.last)


class FaultyLink:
    """All faults of one run, and how often each has struck."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._armed = [_Armed(fault) for fault in faults]
        self.n_pings = 0
        """Keep-alives that were put before a message."""

    @property
    def unused(self) -> list[str]:
        """Faults that met no message."""
        return [each.fault.text for each in self._armed if each.n_matches < each.fault.selector.first]

    def pass_on(self, side: str, data: bytes) -> list[Emission]:
        """What becomes of one message; the faults change it one after the other, in their order."""
        start, method = describe_message(data)
        emissions = [Emission(0.0, data)]
        for armed in self._armed:
            if armed.strikes(side, start, method):
                emissions = [each for emission in emissions for each in self._strike(armed.fault, emission)]
        return emissions

    def _strike(self, fault: Fault, emission: Emission) -> list[Emission]:
        match fault.verb, *fault.arguments:
            case ["drop"]:
                return []
            case "double", milliseconds:
                return [emission, attrs.evolve(emission, delay_s=emission.delay_s + int(milliseconds) / 1000)]
            case "delay", milliseconds:
                return [attrs.evolve(emission, delay_s=emission.delay_s + int(milliseconds) / 1000)]
            case "answer", code:
                return [Emission(0.0, _answer(emission.data, code), back=True)]
            case "before", text:
                if text == "\r\n\r\n":
                    self.n_pings += 1
                later = attrs.evolve(emission, delay_s=emission.delay_s + SPLIT_PAUSE_S)
                return [Emission(emission.delay_s, text.encode("latin-1")), later]
            case "split", size:
                pieces = range(0, len(emission.data), int(size))
                return [
                    Emission(emission.delay_s + n * SPLIT_PAUSE_S, emission.data[at : at + int(size)])
                    for n, at in enumerate(pieces)
                ]
        return [attrs.evolve(emission, data=_changed(fault, emission.data))]
