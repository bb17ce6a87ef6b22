"""Reads the configuration: YAML file, then environment, then overrides, later ones winning.

The text becomes plain values (safe YAML, bounded, no aliases, no key twice), these are merged, and cattrs structures
them into the classes of ``config`` by strict rules: a number is not a string, a string is not a list, unknown keys are
refused.  What single values cannot know is for ``config_check``.  All problems come at once, with path and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import attrs
import cattrs
import yaml
from cattrs.gen import make_dict_structure_fn, make_mapping_structure_fn, override

from diameter.connector import DEFAULT_PORTS
from ims_as.config_check import check_config
from ims_as.config_model import (
    Config,
    HostPort,
    PeerAddress,
    PortRange,
    Secret,
    bounds_of,
)
from ims_as.errors import ConfigError, Problem
from ims_as.transport.address import ListenAddress

__all__ = ["MAX_CONFIG_BYTES", "StrictLoader", "load_config", "parse_config", "read_config"]

MAX_CONFIG_BYTES = 1024 * 1024
"""A thousand agents need about 200 KB."""
MAX_SECRET_BYTES = 64 * 1024
ENV_PREFIX = "IMS_AS__"

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")

Path_ = tuple[str | int, ...]


class _InvalidValueError(ValueError):
    """One value is wrong; the text is for the operator."""


# --- plain values -----------------------------------------------------------------------------------------------------


class StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses aliases (they can blow up a small file) and keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a string", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _yaml_problem(error: yaml.YAMLError) -> tuple[str, int | None]:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        return f"not valid YAML: {error.problem}", mark.line + 1 if mark is not None else None
    return f"not valid YAML: {error}", None


def _parse_yaml(text: str) -> tuple[Any, dict[Path_, int]]:
    """Returns the plain value and the line of each path.  Raises _InvalidValueError, yaml.YAMLError, RecursionError."""
    loader = StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        lines = dict(_lines(node, ()))
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _lines(node: yaml.Node, path: Path_) -> Iterator[tuple[Path_, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*path, str(key.value)))
            yield (*path, str(key.value)), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _format(path: Path_) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _key_path(text: str) -> Path_:
    """``a.b[1].c`` or ``a.b.1.c`` → path.  Raises _InvalidValueError."""
    parts: list[str | int] = []
    for part in re.sub(r"\[(\d+)\]", r".\1", text).split("."):
        if not part:
            raise _InvalidValueError(f"{text!r} is not a key such as sip.listen[0]")
        parts.append(int(part) if part.isascii() and part.isdigit() and len(part) < 6 else part)
    return tuple(parts)


def _assign(tree: dict[str, Any], path: Path_, value: Any) -> None:
    """Sets one value in the tree; makes mappings on the way.  Raises _InvalidValueError."""
    here: Any = tree
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list):
            if not isinstance(part, int) or part > len(here):
                raise _InvalidValueError(f"no item {part} in a list of {len(here)}")
            if part == len(here):
                here.append({})
            if last:
                here[part] = value
        elif isinstance(here, dict):
            part = str(part)
            if last:
                here[part] = value
            elif not isinstance(here.get(part), dict | list):
                here[part] = {}
        else:
            raise _InvalidValueError(f"{_format(path[:depth])} has no parts")
        here = here[part]


def _overlay(tree: dict[str, Any], where: str, key: str, text: str, problems: list[Problem]) -> Path_ | None:
    try:
        path = _key_path(key)
        value, _ = _parse_yaml(text) if text.strip() else (None, {})
        _assign(tree, path, value)
    except (_InvalidValueError, yaml.YAMLError, RecursionError) as error:
        reason = _yaml_problem(error)[0] if isinstance(error, yaml.YAMLError) else str(error)
        problems.append(Problem(where, reason))
        return None
    return path


# --- strict structuring -----------------------------------------------------------------------------------------------


def _refuse(expected: str, value: object) -> NoReturn:
    shown = repr(value)
    raise _InvalidValueError(f"expected {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")


def _integer(value: object, _: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse("a whole number", value)
    return value


def _number(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse("a number", value)
    return float(value)


def _boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        _refuse("true or false", value)
    return value


def _string(value: object, _: object = None) -> str:
    if not isinstance(value, str) or not value or any(ord(char) < 32 for char in value):
        _refuse("a string", value)
    return value


def _port(text: str, value: object) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        _refuse("a port number from 0 to 65535", value)
    return int(text)


def _parse_host_port(text: str, default_port: int | None) -> HostPort:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        try:
            valid = bracket != "" and ip_address(host).version == 6 and rest[:1] in ("", ":")
        except ValueError:
            valid = False
        port_text = rest[1:] if rest else None
    else:
        host, colon, port_part = text.partition(":")
        port_text = port_part if colon else None
        valid = _HOST_NAME.fullmatch(host) is not None
    if not valid or (port_text is None and default_port is None):
        _refuse("host:port (IPv6 in [])", text)
    return HostPort(host, _port(port_text, text) if port_text is not None else default_port or 0)


def _host_port(value: object, _: object) -> HostPort:
    # 5060: `sip.advertise` and `sip.hosts` may leave the port out; nothing sensible listens for HTTP there either
    return _parse_host_port(_string(value), 5060)


def _listen_address(value: object, _: object) -> ListenAddress:
    try:
        return ListenAddress.parse(_string(value))
    except _InvalidValueError:
        raise
    except ValueError as error:
        raise _InvalidValueError(str(error)) from error


def _peer_address(value: object, _: object) -> PeerAddress:
    transport, colon, rest = _string(value).partition(":")
    if not colon or transport not in DEFAULT_PORTS:
        _refuse("tcp:, tls: or sctp:, then host:port", value)
    return PeerAddress(transport, *_parse_host_port(rest, DEFAULT_PORTS[transport]))


def _port_range(value: object, _: object) -> PortRange:
    first, dash, last = _string(value).partition("-")
    if not dash:
        _refuse("ports as first-last", value)
    ports = PortRange(_port(first.strip(), value), _port(last.strip(), value))
    if not 1024 <= ports.first < ports.last:
        raise _InvalidValueError(f"expected two ports from 1024 to 65535, the lower one first, not {value!r}")
    return ports


def _network(value: object, _: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(_string(value))
    except _InvalidValueError:
        raise
    except ValueError as error:
        raise _InvalidValueError(f"expected a network such as 192.0.2.0/24: {error}") from error


def _folder(value: object, _: object) -> Path:
    return Path(_string(value))


def _secret_hook(environ: Mapping[str, str]) -> Callable[[object, object], Secret]:
    def structure(value: object, _: object) -> Secret:
        if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in ("file", "env"):
            # the value is not shown: it may be the secret itself
            raise _InvalidValueError("a secret must be given as {file: PATH} or {env: NAME}")
        ((kind, name),) = value.items()
        _string(name)
        if kind == "env":
            if name not in environ:
                raise _InvalidValueError(f"environment variable {name} is not set")
            return Secret("env", name, environ[name])
        try:
            with open(name, "rb") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
            if len(content) > MAX_SECRET_BYTES:
                raise _InvalidValueError(f"{name} is longer than {MAX_SECRET_BYTES} bytes")
            return Secret("file", name, content.decode().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise _InvalidValueError(f"{name} cannot be read: {error}") from error

    return structure


def _checked(attribute: attrs.Attribute[Any], converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    bounds, choices = bounds_of(attribute), attribute.metadata.get("choices")

    def structure(value: Any, type_: Any) -> Any:
        result = converter.structure(value, type_)
        if bounds is not None and not bounds[0] <= result <= bounds[1]:
            raise _InvalidValueError(f"expected a value from {bounds[0]} to {bounds[1]}, not {value}")
        if choices is not None and result not in choices:
            raise _InvalidValueError(f"expected one of {', '.join(map(str, choices))}, not {value}")
        return result

    return structure


def _build_converter(environ: Mapping[str, str]) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)

    def strict_class(cls: type[Any]) -> Callable[[Any, Any], Any]:
        overrides: Any = {
            attribute.name: override(struct_hook=_checked(attribute, converter))
            for attribute in attrs.fields(cls)
            if attribute.metadata
        }
        inner = make_dict_structure_fn(cls, converter, **overrides)
        return _only(Mapping, "a mapping", inner)

    def strict_enum(type_: type[Enum]) -> Callable[[Any, Any], Any]:
        members = {member.value: member for member in type_}

        def structure(value: Any, _: Any) -> Enum:
            if not isinstance(value, str) or value not in members:
                _refuse(" or ".join(members), value)
            return members[value]

        return structure

    def strict_list(type_: Any) -> Callable[[Any, Any], Any]:
        return _only(list, "a list", converter.get_structure_hook(list.__class_getitem__(get_args(type_)[0])), tuple)

    def strict_mapping(type_: Any) -> Callable[[Any, Any], Any]:
        return _only(Mapping, "a mapping", make_mapping_structure_fn(type_, converter))

    converter.register_structure_hook_factory(attrs.has, strict_class)
    converter.register_structure_hook_factory(_has_origin(tuple), strict_list)
    converter.register_structure_hook_factory(_has_origin(dict), strict_mapping)
    converter.register_structure_hook_factory(_is_enum, strict_enum)
    hooks: dict[Any, Callable[[Any, Any], Any]] = {
        int: _integer,
        float: _number,
        bool: _boolean,
        str: _string,
        HostPort: _host_port,
        ListenAddress: _listen_address,
        PeerAddress: _peer_address,
        PortRange: _port_range,
        IPv4Network | IPv6Network: _network,
        Path: _folder,
        Secret: _secret_hook(environ),
    }
    for type_, hook in hooks.items():
        converter.register_structure_hook(type_, hook)
    return converter


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Enum)


def _has_origin(origin: type) -> Callable[[Any], bool]:
    def predicate(type_: Any) -> bool:
        found: object = get_origin(type_)
        return found is origin

    return predicate


def _only(
    kind: type, expected: str, inner: Callable[[Any, Any], Any], result: Callable[[Any], Any] = lambda value: value
) -> Callable[[Any, Any], Any]:
    def structure(value: Any, type_: Any) -> Any:
        if not isinstance(value, kind):
            _refuse(expected, value)
        return result(inner(value, type_))

    return structure


def _collect(error: BaseException, path: Path_) -> Iterator[tuple[Path_, str]]:
    """Walks cattrs' error tree; yields path and text of each problem."""
    match error:
        case cattrs.ClassValidationError():
            inner, others = error.group_exceptions()
            for exception, note in inner:
                yield from _collect(exception, (*path, note.name))
            for exception in others:
                yield from _collect(exception, path)
        case cattrs.IterableValidationError():
            inner_items, others = error.group_exceptions()
            for exception, item in inner_items:
                yield from _collect(exception, (*path, item.index))
            for exception in others:
                yield from _collect(exception, path)
        case cattrs.ForbiddenExtraKeysError():
            known = [attribute.name for attribute in attrs.fields(error.cl)] if error.cl else []
            for key in sorted(error.extra_fields):
                yield (*path, key), f"unknown key (known here: {', '.join(known)})"
        case KeyError():
            yield path, "is missing"
        case _:
            yield path, str(error)


# --- the way in -------------------------------------------------------------------------------------------------------


def parse_config(
    text: str, *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> tuple[Config, list[Problem]]:
    """Builds the configuration from YAML text; returns it with its warnings.

    Args:
        text: the file's content; empty: defaults.
        overrides: ``a.b=c`` each, c in YAML; they win over everything.
        environ: variables such as ``IMS_AS__SIP__LISTEN`` win over the file; None: those of the process.

    Raises:
        ConfigError: with every problem found.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    try:
        tree, lines = _parse_yaml(text)
    except yaml.YAMLError as error:
        reason, line = _yaml_problem(error)
        raise ConfigError([Problem("", reason, line)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("", "not valid YAML: nested too deeply")]) from error
    if not isinstance(tree, dict):
        raise ConfigError([Problem("", "expected a mapping of sections such as sip: and media:")])
    foreign: set[Path_] = set()
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX):
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            if path := _overlay(tree, f"environment {name}", key, environ[name], problems):
                foreign.add(path)
    for setting in overrides:
        key, equals, value = setting.partition("=")
        if not equals:
            problems.append(Problem(f"--set {setting}", "expected key=value"))
        elif path := _overlay(tree, f"--set {key}", key.strip(), value, problems):
            foreign.add(path)

    def placed(path_text: str, path: Path_, reason: str) -> Problem:
        from_file = not any(path[: len(other)] == other for other in foreign)
        return Problem(path_text, reason, lines.get(path) if from_file else None)

    try:
        config = _build_converter(environ).structure(tree, Config)
    except cattrs.BaseValidationError as error:
        problems += [placed(_format(path), path, reason) for path, reason in _collect(error, ())]
        raise ConfigError(problems) from None
    wrong, warnings = check_config(config)
    problems += [placed(p.path, _key_path(p.path), p.text) for p in wrong]
    if problems:
        raise ConfigError(problems)
    return config, [placed(w.path, _key_path(w.path), w.text) for w in warnings]


def read_config(
    path: str | Path | None, *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> tuple[Config, list[Problem]]:
    """As parse_config, from a file; None: defaults, environment and overrides only."""
    if path is None:
        return parse_config("", overrides=overrides, environ=environ)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ConfigError([Problem("", f"{path} is longer than {MAX_CONFIG_BYTES} bytes")])
        text = content.decode()
    except OSError as error:
        raise ConfigError([Problem("", f"{path} cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("", f"{path} is not UTF-8 text")]) from error
    return parse_config(text, overrides=overrides, environ=environ)


def load_config(
    path: str | Path | None, *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Reads the configuration.  Raises ConfigError with every problem found."""
    return read_config(path, overrides=overrides, environ=environ)[0]
