"""Profiles as documents, for those who write them: held to the schema, edited setting by setting, compared.

What is read from an HSS goes through ``service_settings``, which is tolerant; what is written here is strict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import attrs
from lxml import etree

from ims_as.call.service_settings import (
    MAX_SETTINGS_BYTES,
    ROOT,
    SETTINGS,
    ServiceSettings,
    Setting,
    elements_of,
    local_name,
    parse_service_settings_untrusted,
)
from ims_as.errors import ImsAsError

__all__ = [
    "ProfileDocumentError",
    "SettingChange",
    "compare_profiles_untrusted",
    "edit_profile_untrusted",
    "flatten",
    "parse_edits",
    "profile_problems",
    "unknown_elements_untrusted",
]

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_OTHERS: Final = frozenset({"Extension", "Limits", "Consent"})
_ELEMENT: Final = re.compile(r"Element '(?:\{[^}]*\})?([^']+)'(?:, attribute '[^']*')?: (.*)", re.S)
_FACET: Final = re.compile(r"\[facet '[^']*'\] ")


class ProfileDocumentError(ImsAsError):
    """Not a profile, or not a setting."""


@attrs.frozen
class SettingChange:
    """One setting that differs; None: not set."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.name}: {show(self.before)} → {show(self.after)}"


def show(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------- strict check


@cache
def _schema() -> etree.XMLSchema:
    source = files("ims_as.call").joinpath("agent-profile.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(source))


def profile_problems(xml: bytes) -> list[str]:
    """Why the document is no valid profile, each with its line; none: it is one."""
    if len(xml) > MAX_SETTINGS_BYTES:
        return [f"{len(xml)} bytes, at most {MAX_SETTINGS_BYTES}"]
    try:
        root = _parse(xml)
    except etree.XMLSyntaxError as error:
        return [f"not well-formed XML: {error}"]
    if local_name(root) != ROOT:
        return [f"line {root.sourceline}: the element is {local_name(root)}, not {ROOT}"]
    if namespace := etree.QName(root).namespace:
        return [f"line {root.sourceline}: {ROOT} is in the namespace {namespace}, and must be in none"]
    found: dict[tuple[int, str], str] = {}
    for setting, element in elements_of(root):
        try:
            if text := (element.text or "").strip():
                setting.read(text)
        except ValueError as error:
            found[_line_of(element), setting.path[-1]] = f"{'/'.join(setting.path)}: {error}"
    schema = _schema()
    if not schema.validate(root):
        complaints: Any = schema.error_log
        for each in complaints:
            match = _ELEMENT.fullmatch(each.message)
            name, reason = (match[1], match[2]) if match is not None else ("", each.message)
            if "xs:boolean" in reason:
                reason = "must be true or false"
            found.setdefault((each.line, name), f"{name}: {_FACET.sub('', reason)}" if name else reason)
    return [f"line {line}: {text}" for (line, _), text in sorted(found.items(), key=lambda item: item[0][0])]


def _line_of(element: etree._Element) -> int:
    line: Any = element.sourceline
    return line if isinstance(line, int) else 0


def _parse(xml: bytes, *, keeps_blank: bool = True) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=not keeps_blank,
    )
    return etree.fromstring(xml, parser)


# ---------------------------------------------------------------- values


def flatten(settings: ServiceSettings) -> dict[str, Any]:
    """Name of each setting → its value, None where it is not set; ``enabled`` is always said."""

    def value(name: str) -> Any:
        found: Any = settings
        for part in name.split("."):
            found = getattr(found, part)
        return found

    return {setting.name: value(setting.name) for setting in SETTINGS}


def compare_profiles_untrusted(before: bytes | None, after: bytes | None) -> list[SettingChange]:
    """The settings that differ.

    Raises:
        ValueError: one of them is not XML.
    """
    old, new = (
        flatten(ServiceSettings() if xml is None else parse_service_settings_untrusted(xml)) for xml in (before, after)
    )
    return [SettingChange(name, old[name], new[name]) for name in old if old[name] != new[name]]


def unknown_elements_untrusted(xml: bytes) -> list[str]:
    """Names below the root that say nothing to us.

    Raises:
        ValueError: not XML.
    """
    try:
        root = _parse(xml)
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error
    known = _OTHERS | {setting.path[0] for setting in SETTINGS}
    return [name for each in root if (name := local_name(each)) and name not in known]


# ---------------------------------------------------------------- editing


def parse_edits(words: Mapping[str, str]) -> dict[str, str | None]:
    """Name → text to be written, checked and in its usual spelling; an empty value takes the setting away.

    Raises:
        ProfileDocumentError: no such setting, or a value that it cannot have.
    """
    edits: dict[str, str | None] = {}
    for name, text in words.items():
        setting = _BY_NAME.get(name)
        if setting is None:
            raise ProfileDocumentError(f"there is no setting {name}; there are {', '.join(_BY_NAME)}")
        try:
            edits[name] = show(setting.read(text.strip())) if text.strip() else None
        except ValueError as error:
            raise ProfileDocumentError(f"{name}={text}: {error}") from error
    return edits


def edit_profile_untrusted(xml: bytes | None, edits: Mapping[str, str | None]) -> bytes:
    """The document with these settings; all else in it stays.

    Args:
        xml: as it is stored; None: there is none yet.
        edits: of `parse_edits`.

    Returns:
        what is to be stored; the same octets where the settings are so already.

    Raises:
        ProfileDocumentError: what is stored is not a profile.
    """
    try:
        root = etree.Element(ROOT) if xml is None else _parse(xml, keeps_blank=False)
    except etree.XMLSyntaxError as error:
        raise ProfileDocumentError(f"what is stored is not XML: {error}") from error
    if local_name(root) != ROOT:
        raise ProfileDocumentError(f"what is stored is {local_name(root)}, not {ROOT}: store a whole file instead")
    for name, text in edits.items():
        _edit(root, _BY_NAME[name], text)
    etree.indent(root)
    edited = etree.tostring(root, encoding="unicode").encode()
    return edited if xml is None or compare_profiles_untrusted(xml, edited) else xml


def _edit(root: etree._Element, setting: Setting, text: str | None) -> None:
    there = [element for known, element in elements_of(root) if known is setting]
    if text is None:
        for element in there:
            _remove(element, root)
        return
    for element in there[1:]:
        _remove(element, root)
    element = there[0] if there else _make(root, setting.path)
    for child in list(element):
        element.remove(child)
    element.text = text


def _remove(element: etree._Element, root: etree._Element) -> None:
    parent = element.getparent()
    if parent is None:
        return
    parent.remove(element)
    if parent is not root and not len(parent):
        root.remove(parent)


def _make(parent: etree._Element, path: tuple[str, ...]) -> etree._Element:
    """The element at that path, its group made where there is none, in the order of the table."""
    *groups, name = path
    for group in groups:
        found = next((each for each in parent if local_name(each) == group), None)
        parent = _insert(parent, group, 0) if found is None else found
    return _insert(parent, name, len(groups))


def _insert(parent: etree._Element, name: str, depth: int) -> etree._Element:
    order = list(_names_at(depth))
    before = order[: order.index(name) + 1]
    at = max((index + 1 for index, each in enumerate(parent) if local_name(each) in before), default=0)
    namespace = etree.QName(parent).namespace
    element = etree.Element(f"{{{namespace}}}{name}" if namespace else name)
    parent.insert(at, element)
    return element


def _names_at(depth: int) -> Iterator[str]:
    yield from dict.fromkeys(setting.path[depth] for setting in SETTINGS if len(setting.path) > depth)
