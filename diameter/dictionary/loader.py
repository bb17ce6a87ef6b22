"""Dictionaries: AVP rows and command notation as text, checked when the module is imported.

An AVP row is `code name format M-bit`, M-bit being `must`, `mustnot` or `may` (set by the sender where a feature is
required). Commands and groups are written in the notation of RFC 6733 §3.2 and §4.4:

```
<UDR> ::= < Diameter Header: 306, REQ, PXY, 16777217 >  < Session-Id > { User-Identity } * [ Service-Indication ]
<User-Identity> ::= < AVP Header: 700 10415 >  [ Public-Identity ] [ MSISDN ]
```

A name that no row defines, a code given twice, a request without an answer or a group without members is a
LocalDiameterError at import, so it cannot reach a release.

On receipt the M bit of a known AVP is ignored (peers differ); an AVP that the dictionary does not know is refused
with 5001 in a request if its M bit is set, and ignored otherwise. In answers unknown AVPs are always ignored: real
HSSes mark vendor data as mandatory, and losing the answer for it would help nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import field, frozen

from diameter.avp import FLAG_MANDATORY, Avp, AvpKey, Avps, decode_avps_untrusted
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.message import FLAG_PROXIABLE, FLAG_REQUEST, Message
from diameter.types import AvpFormat, decode_value_untrusted, encode_value

__all__ = ["AvpDefinition", "CommandDefinition", "Dictionary", "GrammarRule", "MandatoryBit", "load_dictionary"]

AVP_UNSUPPORTED = 5001
MISSING_AVP = 5005
AVP_OCCURS_TOO_MANY_TIMES = 5009

_TEXT = (AvpFormat.UTF8_STRING, AvpFormat.DIAMETER_IDENTITY, AvpFormat.DIAMETER_URI, AvpFormat.IP_FILTER_RULE)
_NUMBER = (
    AvpFormat.INTEGER32,
    AvpFormat.INTEGER64,
    AvpFormat.UNSIGNED32,
    AvpFormat.UNSIGNED64,
    AvpFormat.ENUMERATED,
    AvpFormat.TIME,
)
# bytes of data at least; the formats that are not here may be empty
_SMALLEST = {
    AvpFormat.INTEGER32: 4,
    AvpFormat.INTEGER64: 8,
    AvpFormat.UNSIGNED32: 4,
    AvpFormat.UNSIGNED64: 8,
    AvpFormat.FLOAT32: 4,
    AvpFormat.FLOAT64: 8,
    AvpFormat.ENUMERATED: 4,
    AvpFormat.TIME: 4,
    AvpFormat.ADDRESS: 6,
}

_MAX_SOUND = 256
_MAX_SOUND_BYTES = 256


class MandatoryBit(Enum):
    """What the sender does with the M bit."""

    MUST = "must"
    MUST_NOT = "mustnot"
    MAY = "may"


@frozen
class AvpDefinition:
    """One row: how an AVP is called, known, built and read. `key` is (vendor, code)."""

    name: str
    code: int
    vendor: int
    data_format: AvpFormat
    mandatory_bit: MandatoryBit
    key: AvpKey = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "key", (self.vendor, self.code))

    def avp(self, value: Any, *, mandatory: bool = False) -> Avp:
        """Builds the AVP with the flags of its row.

        Args:
            value: of the type that `AvpFormat` names; for a group its members (None: left out).
            mandatory: sets M where the row leaves it to the sender.

        Raises:
            LocalDiameterError: the value does not fit the format.
        """
        if self.data_format is AvpFormat.GROUPED:
            data = Avps.of(value).encode()
        else:
            data = encode_value(self.data_format, value)
        is_set = self.mandatory_bit is MandatoryBit.MUST or (mandatory and self.mandatory_bit is MandatoryBit.MAY)
        return Avp(self.code, data, self.vendor, FLAG_MANDATORY if is_set else 0)

    def example(self) -> Avp:
        """What Failed-AVP names a missing AVP with (RFC 6733 §7.1.5, 5005): zeros in the smallest length."""
        is_set = self.mandatory_bit is MandatoryBit.MUST
        data = bytes(_SMALLEST.get(self.data_format, 0))
        return Avp(self.code, data, self.vendor, FLAG_MANDATORY if is_set else 0)

    def optional(self, value: Any) -> Avp | None:
        """As `avp`, None for None."""
        return None if value is None else self.avp(value)

    def value(self, avp: Avp) -> Any:
        """The value of an AVP of this kind.

        Raises:
            RemoteDiameterError: 5004 or 5014 with the AVP.
        """
        try:
            if self.data_format is AvpFormat.GROUPED:
                return decode_avps_untrusted(avp.data)
            return decode_value_untrusted(self.data_format, avp.data)
        except RemoteDiameterError as error:
            error.failed_avp = avp
            raise

    def text(self, avps: Avps) -> str | None:
        """Text of the first one in `avps`, None when absent."""
        self._want(_TEXT)
        avp = avps.find(self.key)
        return None if avp is None else str(self.value(avp))

    def number(self, avps: Avps) -> int | None:
        """Number of the first one in `avps` (Time: Unix seconds), None when absent."""
        self._want(_NUMBER)
        avp = avps.find(self.key)
        return None if avp is None else int(self.value(avp))

    def octets(self, avps: Avps) -> bytes | None:
        """Data of the first one in `avps`, None when absent."""
        avp = avps.find(self.key)
        return None if avp is None else avp.data

    def group(self, avps: Avps) -> Avps | None:
        """Members of the first one in `avps`, None when absent."""
        self._want((AvpFormat.GROUPED,))
        avp = avps.find(self.key)
        return None if avp is None else decode_avps_untrusted(avp.data)

    def _want(self, formats: Sequence[AvpFormat]) -> None:
        if self.data_format not in formats:
            raise LocalDiameterError(f"{self.name} is {self.data_format.value}")


@frozen
class GrammarRule:
    """One line of a command or group: how often an AVP occurs. `maximum` None: any number."""

    definition: AvpDefinition
    minimum: int
    maximum: int | None


@frozen
class Limits:
    """The rules of a command or group, ready for checking.

    Attributes:
        least: what must be there, and how often.
        most: how often at most, by key; what is not here may occur any number of times.
        once: what must be there; it is enough if each is there once. None: where some must be there more often.
    """

    least: tuple[tuple[AvpDefinition, int], ...]
    most: Mapping[AvpKey, int]
    once: frozenset[AvpKey] | None

    @classmethod
    def of(cls, rules: Iterable[GrammarRule]) -> Limits:
        rules = tuple(rules)
        least = tuple((rule.definition, rule.minimum) for rule in rules if rule.minimum)
        most = {rule.definition.key: rule.maximum for rule in rules if rule.maximum is not None}
        is_simple = all(minimum == 1 for _, minimum in least) and 0 not in most.values()
        return cls(least, most, frozenset(definition.key for definition, _ in least) if is_simple else None)


@frozen
class CommandDefinition:
    """A command in one direction."""

    name: str
    code: int
    application_id: int
    flags: int
    rules: tuple[GrammarRule, ...]
    limits: Limits = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "limits", Limits.of(self.rules))

    @property
    def is_request(self) -> bool:
        return bool(self.flags & FLAG_REQUEST)

    def message(self, avps: Iterable[Avp | None]) -> Message:
        """Builds the message; None stands for an optional AVP that is left out."""
        return Message(self.code, self.application_id, self.flags, Avps.of(avps))


@frozen
class Dictionary:
    """What one application knows, the base protocol included."""

    name: str
    application_id: int
    avps_by_name: Mapping[str, AvpDefinition]
    avps_by_key: Mapping[AvpKey, AvpDefinition]
    groups: Mapping[AvpKey, tuple[GrammarRule, ...]]
    commands: Mapping[tuple[int, int, bool], CommandDefinition]
    _group_limits: Mapping[AvpKey, Limits] = field(init=False, eq=False, repr=False)
    _known: frozenset[AvpKey] = field(init=False, eq=False, repr=False)
    _sound: set[tuple[AvpKey, bytes]] = field(init=False, eq=False, repr=False, factory=set)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_known", frozenset(self.avps_by_key))
        limits = {key: Limits.of(rules) for key, rules in self.groups.items()}
        object.__setattr__(self, "_group_limits", limits)

    def __getitem__(self, name: str) -> AvpDefinition:
        try:
            return self.avps_by_name[name]
        except KeyError:
            raise LocalDiameterError(f"{self.name} knows no AVP {name}") from None

    def command(self, name: str) -> CommandDefinition:
        """The command of that short name (`UDR`)."""
        for command in self.commands.values():
            if command.name == name:
                return command
        raise LocalDiameterError(f"{self.name} knows no command {name}")

    def find_command(self, message: Message) -> CommandDefinition | None:
        """The definition of a message's command, None for one that this dictionary does not know."""
        return self.commands.get((message.application_id, message.code, message.is_request))

    def check_untrusted(self, message: Message, command: CommandDefinition) -> None:
        """Holds a request against the notation: mandatory AVPs, counts, unknown AVPs with M, groups one level deep.

        Raises:
            RemoteDiameterError: 5001, 5005 or 5009 with the AVP at fault.
        """
        self._check(message.avps, command.limits, message)
        for avp in message.avps:
            key = avp.vendor, avp.code
            limits = self._group_limits.get(key)
            if limits is None or (key, avp.data) in self._sound:
                continue
            self._check(decode_avps_untrusted(avp.data), limits, message)
            if len(avp.data) <= _MAX_SOUND_BYTES:
                # the groups that a peer sends in each message are looked at once; a full table just starts again
                if len(self._sound) >= _MAX_SOUND:
                    self._sound.clear()
                self._sound.add((key, avp.data))

    def _check(self, avps: Avps, limits: Limits, message: Message) -> None:
        keys = {(avp.vendor, avp.code) for avp in avps}
        if limits.once is not None and len(keys) == len(avps) and limits.once <= keys <= self._known:
            return  # each once and known, none missing: nearly every message
        known = self.avps_by_key
        counts: dict[AvpKey, int] = {}
        for avp in avps:
            key = avp.vendor, avp.code
            counts[key] = counts.get(key, 0) + 1
            if avp.flags & FLAG_MANDATORY and key not in known:
                raise RemoteDiameterError("unknown AVP with M bit", AVP_UNSUPPORTED, failed_avp=avp, request=message)
        for definition, least in limits.least:
            if counts.get(definition.key, 0) < least:
                missing = definition.example()
                raise RemoteDiameterError("AVP missing", MISSING_AVP, failed_avp=missing, request=message)
        if len(counts) == len(avps):
            return  # each once; no rule wants less
        for key, count in counts.items():
            most = limits.most.get(key, count)
            if count > most:
                surplus = list(avps.find_all(key))[most]
                raise RemoteDiameterError(
                    "AVP too often", AVP_OCCURS_TOO_MANY_TIMES, failed_avp=surplus, request=message
                )


_DEFINITION = re.compile(r"<\s*([A-Za-z][\w-]*)\s*>\s*::=\s*<\s*(Diameter|AVP) Header:\s*([^>]*)>")
_RULE = re.compile(
    r"(?P<low>\d+)?(?P<star>\*)?(?P<high>\d+)?\s*(?P<open>[<{\[])\s*(?P<name>[\w-]+)\s*(?P<close>[>}\]])"
)
_BRACKETS = {"<": ">", "{": "}", "[": "]"}


def load_dictionary(
    name: str,
    *,
    application_id: int,
    vendor: int,
    rows: str,
    notation: str,
    includes: Sequence[Dictionary] = (),
    foreign_rows: Mapping[int, str] | None = None,
) -> Dictionary:
    """Parses and checks the text of one application.

    Args:
        rows: AVP rows of `vendor`.
        notation: groups and commands.
        includes: dictionaries whose AVPs and commands are known here as well.
        foreign_rows: AVP rows of other vendors, by vendor id.

    Raises:
        LocalDiameterError: the text contradicts itself.
    """
    by_name: dict[str, AvpDefinition] = {}
    by_key: dict[AvpKey, AvpDefinition] = {}
    groups: dict[AvpKey, tuple[GrammarRule, ...]] = {}
    commands: dict[tuple[int, int, bool], CommandDefinition] = {}
    for included in includes:
        by_name |= included.avps_by_name
        by_key |= included.avps_by_key
        groups |= included.groups
        commands |= included.commands
    for row_vendor, text in {vendor: rows, **(foreign_rows or {})}.items():
        for definition in _parse_rows(text, row_vendor):
            if definition.name in by_name or definition.key in by_key:
                raise LocalDiameterError(f"{name}: {definition.name} given twice")
            by_name[definition.name] = by_key[definition.key] = definition

    pieces = _DEFINITION.split(notation)
    if pieces[0].strip():
        raise LocalDiameterError(f"{name}: not a definition: {pieces[0].strip()[:40]}")
    for title, kind, header, body in zip(*[iter(pieces[1:])] * 4, strict=True):
        rules = _parse_rules(f"{name} {title}", body, by_name)
        if kind == "AVP":
            group = by_name.get(title)
            numbers = [int(number) for number in header.split()]
            if group is None or [group.code, *([group.vendor] if group.vendor else [])] != numbers:
                raise LocalDiameterError(f"{name}: group {title} does not agree with its row")
            groups[group.key] = rules
        else:
            command = _parse_command(title, header, rules)
            if command.application_id not in (0, application_id):
                raise LocalDiameterError(f"{name}: {title} belongs to another application")
            key = (command.application_id, command.code, command.is_request)
            if key in commands:
                raise LocalDiameterError(f"{name}: {title} given twice")
            commands[key] = command

    for definition in by_name.values():
        if (definition.data_format is AvpFormat.GROUPED) != (definition.key in groups):
            raise LocalDiameterError(f"{name}: {definition.name}: format and notation do not agree")
    for app, code, is_request in commands:
        if (app, code, not is_request) not in commands:
            raise LocalDiameterError(f"{name}: command {code} lacks its other direction")
    return Dictionary(name, application_id, by_name, by_key, groups, commands)


def _parse_rows(text: str, vendor: int) -> Iterable[AvpDefinition]:
    for line in text.strip().splitlines():
        try:
            code, name, data_format, mandatory_bit = line.split()
            yield AvpDefinition(name, int(code), vendor, AvpFormat(data_format), MandatoryBit(mandatory_bit))
        except ValueError as error:
            raise LocalDiameterError(f"not an AVP row: {line!r}") from error


def _parse_command(title: str, header: str, rules: tuple[GrammarRule, ...]) -> CommandDefinition:
    parts = [part.strip() for part in header.split(",")]
    flags = (FLAG_REQUEST if "REQ" in parts else 0) | (FLAG_PROXIABLE if "PXY" in parts else 0)
    numbers = [int(part) for part in parts if part.isdigit()]
    if not numbers or len(numbers) > 2 or len(parts) != len(numbers) + flags.bit_count():
        raise LocalDiameterError(f"not a command header: {title} {header}")
    return CommandDefinition(title, numbers[0], numbers[1] if len(numbers) == 2 else 0, flags, rules)


def _parse_rules(where: str, body: str, by_name: Mapping[str, AvpDefinition]) -> tuple[GrammarRule, ...]:
    rules: list[GrammarRule] = []
    position = 0
    body = re.sub(r"\s+", " ", body).strip()
    body = body.replace("* [ AVP ]", "")
    body = body.strip()
    while position < len(body):
        match = _RULE.match(body, position)
        if match is None or _BRACKETS[match["open"]] != match["close"]:
            raise LocalDiameterError(f"{where}: cannot read {body[position : position + 40]!r}")
        definition = by_name.get(match["name"])
        if definition is None:
            raise LocalDiameterError(f"{where}: unknown AVP {match['name']}")
        default_low = 0 if match["open"] == "[" else 1
        minimum = int(match["low"]) if match["low"] else default_low
        if match["star"]:
            maximum = int(match["high"]) if match["high"] else None
            if match["open"] == "{" and not match["low"]:
                minimum = 1
        else:
            maximum = 1
        rules.append(GrammarRule(definition, minimum, maximum))
        position = match.end()
        while position < len(body) and body[position] == " ":
            position += 1
    return tuple(rules)
