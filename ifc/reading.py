"""One reading of one request: what its conditions share while they are tested, and what they may cost together.

A caller chooses the request and an operator the patterns, so their product is bounded too: every search is charged at
its worst case, and a reading that would take more than MAX_STEPS ends with RequestTooDear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ifc.ere import MAX_TEXT_CHARS, Ere
from ifc.model import (
    Condition,
    MethodCondition,
    RequestUriCondition,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
)
from ifc.view import RequestView, request_uri_target

__all__ = [
    "MAX_STEPS",
    "Evidence",
    "NamesMatched",
    "Reading",
    "RequestTooDear",
    "Test",
    "compile_condition",
    "evidence_text",
]

MAX_STEPS = 16_000_000
"""Of all searches of one evaluation, each at its worst: less than half a second where all of them are. A profile of
30 patterns takes 2 million for a request of 64 KiB, some ten thousand for one of 2 KiB."""
MAX_NAMES = 64
"""Header names of a request for which it is remembered which patterns match them."""
MAX_REMEMBERED = 256
"""Sets of header names for which that is remembered."""


class RequestTooDear(Exception):
    """The patterns would have to search more text than MAX_STEPS allows."""


Found: TypeAlias = tuple[str, str, Sequence[str], "Ere | None"]
"""(name, separator, values, pattern): the first of the values that the pattern matches is the evidence."""
Evidence: TypeAlias = "Found | str"
"""What makes a condition hold; text is only made of it when somebody asks why."""


def evidence_text(evidence: Evidence) -> str:
    if isinstance(evidence, str):
        return evidence
    name, separator, values, pattern = evidence
    value = next((each for each in values if pattern is None or pattern.matches(each)), "")
    return f"{name}{separator}{value}"


Texts: TypeAlias = tuple[Sequence[str], str, int]
"""(values of one header or SDP line, the same in one text, characters of the longest).  The one text is the value, or
for several all of them, each after a line feed; TOO_LONG when a value holds a line feed itself."""
TOO_LONG = 1 << 30


def join_texts(values: Sequence[str]) -> Texts:
    if len(values) == 1:
        text = values[0]
        return values, text, len(text)
    text = "\n".join(("", *values))
    if text.count("\n") > len(values):
        return values, text, TOO_LONG
    return values, text, max(map(len, values), default=0)


NamesMatched: TypeAlias = dict[object, tuple[tuple[str, str], ...]]
"""Condition → those of some names that its pattern matches, each with its small letters."""


class Reading:
    """What has been found out of a request; lives for one evaluation."""

    __slots__ = (
        "_all_letters",
        "_all_names",
        "_headers",
        "_letters",
        "_names",
        "_sdp",
        "_target",
        "header_values",
        "left",
        "sdp",
        "values_read",
        "view",
    )

    def __init__(
        self,
        view: RequestView,
        names: dict[tuple[str, ...], NamesMatched] | None = None,
        letters: dict[tuple[str, ...], NamesMatched] | None = None,
    ) -> None:
        """names, letters: what was found out for sets of header names and SDP type letters, and will be."""
        self.view = view
        self.header_values = view.header_values
        self.values_read = view.values_read
        self.left = MAX_STEPS
        self._headers: dict[str, Texts] = {}
        self.sdp: dict[str, Texts] = {}
        """Those that were asked for, by `sdp_texts`."""
        self._all_names = names
        self._all_letters = letters
        self._names: NamesMatched | None = None
        self._letters: NamesMatched | None = None
        self._sdp: dict[str, list[str]] | None = None
        self._target: Texts | None = None

    def charge(self, steps: int) -> None:
        """Raises RequestTooDear when they are no longer there."""
        self.left -= steps
        if self.left < 0:
            raise RequestTooDear

    def header_texts(self, name_lower: str) -> Texts:
        """Values of the header; none when it is absent."""
        texts = self._headers.get(name_lower)
        if texts is None:
            texts = self._headers[name_lower] = join_texts(self.header_values(name_lower))
        return texts

    def sdp_texts(self, letter: str) -> Texts:
        """Values of the lines of that type; none without them."""
        texts = self.sdp[letter] = join_texts(self.sdp_values().get(letter, ()))
        return texts

    def sdp_values(self) -> dict[str, list[str]]:
        """Type letter → values of its lines, in order of the first line."""
        found = self._sdp
        if found is None:
            found = self._sdp = {}
            for letter, value in self.view.sdp_lines():
                if letter in found:
                    found[letter].append(value)
                else:
                    found[letter] = [value]
        return found

    def target_texts(self) -> Texts:
        """What RequestURI patterns are tested on, as the one value."""
        target = self._target
        if target is None:
            target = self._target = join_texts((request_uri_target(self.view.request_uri),))
        return target

    def headers_matching(self, key: object, pattern: Ere) -> tuple[tuple[str, str], ...]:
        """(name, in small letters) of the headers whose name matches; key stands for the pattern."""
        matched = self._names
        if matched is None:
            matched = self._names = _matched_before(self._all_names, self.view.header_names())
        names = matched.get(key)
        if names is None:
            names = matched[key] = self._matching(pattern, self.view.header_names())
        return names

    def lines_matching(self, key: object, pattern: Ere) -> tuple[tuple[str, str], ...]:
        """(type letter, in small letters) of the lines of the session description that match."""
        matched = self._letters
        if matched is None:
            matched = self._letters = _matched_before(self._all_letters, tuple(self.sdp_values()))
        letters = matched.get(key)
        if letters is None:
            letters = matched[key] = self._matching(pattern, tuple(self.sdp_values()))
        return letters

    def _matching(self, pattern: Ere, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        self.charge(sum(map(len, names)) * max(pattern.regex_steps, pattern.linear_steps) + len(names))
        return tuple((name, name.lower()) for name in names if pattern.matches(name))


def _matched_before(remembered: dict[tuple[str, ...], NamesMatched] | None, names: tuple[str, ...]) -> NamesMatched:
    if remembered is None or len(names) > MAX_NAMES:
        return {}
    matched = remembered.get(names)
    if matched is None:
        if len(remembered) >= MAX_REMEMBERED:
            remembered.clear()
        matched = remembered[names] = {}
    return matched


# ---------------------------------------------------------------- conditions, made ready to be tested

Test: TypeAlias = Callable[[Reading], "Evidence | None"]
"""What makes the condition hold; None when it does not.  Raises RequestTooDear."""


def compile_condition(condition: Condition) -> Test:
    match condition:
        case MethodCondition(method):
            return lambda reading: method if reading.view.method == method else None
        case SessionCaseCondition(session_case):
            name = session_case.name
            return lambda reading: name if reading.view.session_case is session_case else None
        case RequestUriCondition(pattern):
            return _request_uri_test(pattern)
        case SipHeaderCondition():
            return _header_test(condition)
        case SessionDescriptionCondition():
            return _sdp_test(condition)


def _holder(pattern: Ere | None) -> Callable[[Reading, Texts], bool]:
    """Whether one of some values, of which there is at least one, matches."""
    if pattern is None or pattern.is_any:
        return lambda reading, texts: True
    one, several = pattern.search, None
    chars, steps = pattern.regex_chars, pattern.regex_steps

    def holds(reading: Reading, texts: Texts) -> bool:
        nonlocal several
        values, text, longest = texts
        if longest <= chars:
            reading.left -= len(text) * steps
            if len(values) == 1:
                return bool(one(text))  # type: ignore[misc]  # there is one where any text may be searched
            if several is None:
                several = pattern.lines_search()
            return bool(several(text))
        return _search_slowly(reading, pattern, texts)

    return holds


def _search_slowly(reading: Reading, pattern: Ere, texts: Texts) -> bool:
    values, text, _ = texts
    if pattern.literal is not None:
        reading.charge(len(text))
        return pattern.literal in values if not pattern.ignore_case else any(map(pattern.matches, values))
    for value in values:
        steps = pattern.regex_steps if len(value) <= pattern.regex_chars else pattern.linear_steps
        reading.charge(1 + (len(value) * steps if len(value) <= MAX_TEXT_CHARS else 0))
        if pattern.matches(value):
            return True
    return False


def _request_uri_test(pattern: Ere) -> Test:
    holds = _holder(pattern)

    def test(reading: Reading) -> Evidence | None:
        texts = reading.target_texts()
        return texts[1] if holds(reading, texts) else None

    return test


def _header_test(condition: SipHeaderCondition) -> Test:
    header, content = condition.header, condition.content
    if header.literal is None:
        return _header_names_test(header, content)
    name = header.literal
    if content is None or content.is_any:

        def is_there(reading: Reading) -> Evidence | None:
            values = reading.values_read.get(name)
            if values is None:
                values = reading.header_values(name)
            return (name, ": ", values, None) if values else None

        return is_there
    holds = _holder(content)
    search: Any = content.search
    chars, steps = content.regex_chars, content.regex_steps

    def test(reading: Reading) -> Evidence | None:
        values = reading.values_read.get(name)
        if values is None:
            values = reading.header_values(name)
        if len(values) == 1:  # as `holds` would do: most headers have one value
            size = len(text := values[0])
            if size <= chars:
                reading.left -= size * steps
                return (name, ": ", values, content) if search(text) else None
        return (name, ": ", values, content) if values and holds(reading, reading.header_texts(name)) else None

    return test


def _header_names_test(header: Ere, content: Ere | None) -> Test:
    key = object()
    if content is None or content.is_any:

        def is_there(reading: Reading) -> Evidence | None:
            for name, lower in reading.headers_matching(key, header):
                values = reading.values_read.get(lower)
                if values is None:
                    values = reading.header_values(lower)
                if values:
                    return name, ": ", values, None
            return None

        return is_there
    holds = _holder(content)
    search: Any = content.search
    chars, steps = content.regex_chars, content.regex_steps

    def test(reading: Reading) -> Evidence | None:
        for name, lower in reading.headers_matching(key, header):
            values = reading.values_read.get(lower)
            if values is None:
                values = reading.header_values(lower)
            if len(values) == 1 and len(text := values[0]) <= chars:
                reading.left -= len(text) * steps
                if search(text):
                    return name, ": ", values, content
            elif values and holds(reading, reading.header_texts(lower)):
                return name, ": ", values, content
        return None

    return test


def _sdp_test(condition: SessionDescriptionCondition) -> Test:
    line, content = condition.line, condition.content
    holds = _holder(content)
    if line.literal is not None:
        literal = line.literal

        def test(reading: Reading) -> Evidence | None:
            texts = reading.sdp.get(literal)
            if texts is None:
                texts = reading.sdp_texts(literal)
            return (literal, "=", texts[0], content) if texts[0] and holds(reading, texts) else None

        return test
    key = object()

    def test_each(reading: Reading) -> Evidence | None:
        for letter, _ in reading.lines_matching(key, line):
            texts = reading.sdp.get(letter)
            if texts is None:
                texts = reading.sdp_texts(letter)
            if holds(reading, texts):
                return letter, "=", texts[0], content
        return None

    return test_each
