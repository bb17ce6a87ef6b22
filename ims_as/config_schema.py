"""The configuration as text: the effective one with secrets masked, and a JSON schema made from the classes."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import yaml

from ims_as import config_agents, config_model, config_policy, config_sip, config_values
from ims_as.config_model import Config, HostPort, PeerAddress, PortRange, Secret, bounds_of
from ims_as.transport.address import ListenAddress

__all__ = ["build_schema", "field_docs", "render_config", "to_plain"]

_MODULES = (config_values, config_sip, config_agents, config_policy, config_model)
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT_TYPES: dict[Any, dict[str, Any]] = {
    HostPort: {"type": "string", "examples": ["192.0.2.1:5060", "[2001:db8::1]:5060"]},
    ListenAddress: {"type": "string", "pattern": "^(udp|tcp|tls):", "examples": ["udp:192.0.2.1:5060"]},
    PeerAddress: {"type": "string", "pattern": "^(tcp|tls|sctp):", "examples": ["tcp:192.0.2.1:3868"]},
    PortRange: {"type": "string", "pattern": "^[0-9]{4,5}-[0-9]{4,5}$"},
    IPv4Network: {"type": "string", "examples": ["192.0.2.0/24"]},
    IPv6Network: {"type": "string", "examples": ["2001:db8::/32"]},
    Path: {"type": "string"},
    str: {"type": "string", "minLength": 1},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Secret: {
        "type": "object",
        "properties": {"file": {"type": "string"}, "env": {"type": "string"}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    },
}


def to_plain(value: Any) -> Any:
    """Turns a configuration, or a part, into what the YAML file would say.  Of a secret only its source is told."""
    match value:
        case Secret():
            return {value.kind: value.name}
        case HostPort() | PeerAddress() | PortRange() | ListenAddress():
            return str(value)
        case Enum():
            return value.value
        case Mapping():
            return {key: to_plain(item) for key, item in value.items()}
        case tuple():
            return [to_plain(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
    if attrs.has(type(value)):
        return {field.name: to_plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return str(value)


def render_config(config: Config) -> str:
    """The effective configuration as YAML; it can be loaded again where the secrets are to be had."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True, width=120)
    return text


@functools.cache
def field_docs() -> Mapping[tuple[str, str], str]:
    """The documentation string of each field: (class name, field name) → text; taken from the source of the classes."""
    docs: dict[tuple[str, str], str] = {}
    nodes = [node for module in _MODULES for node in ast.parse(inspect.getsource(module)).body]
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, after in zip(node.body, node.body[1:], strict=False):
            if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
                continue
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                docs[node.name, statement.target.id] = inspect.cleandoc(after.value.value)
    return types.MappingProxyType(docs)


def build_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration file."""
    definitions: dict[str, Any] = {}
    root = _class_schema(Config, definitions)
    return {"$schema": SCHEMA_DIALECT, "title": "ims-as configuration", **root, "$defs": definitions}


def _class_schema(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in attrs.fields(cls):
        schema = _type_schema(hints[field.name], definitions)
        if (bounds := bounds_of(field)) is not None:
            schema |= {"minimum": bounds[0], "maximum": bounds[1]}
        if choices := field.metadata.get("choices"):
            schema |= {"enum": list(choices)}
        schema["description"] = field_docs().get((cls.__name__, field.name)) or _summary(hints[field.name])
        if field.default is attrs.NOTHING:
            required.append(field.name)
        elif not attrs.has(type(field.default)):
            default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
            schema["default"] = to_plain(default)
        properties[field.name] = schema
    result = {"type": "object", "properties": properties, "additionalProperties": False, "description": _summary(cls)}
    return result | ({"required": required} if required else {})


def _summary(cls: Any) -> str:
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]


def _type_schema(type_: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if type_ in _TEXT_TYPES:
        return dict(_TEXT_TYPES[type_])
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is tuple:
        return {"type": "array", "items": _type_schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type_schema(arguments[1], definitions)}
    if origin in (types.UnionType, Union):
        options = [_type_schema(option, definitions) for option in arguments if option is not type(None)]
        if len(options) < len(arguments):
            options.append({"type": "null"})
        return {"anyOf": options}
    if issubclass(type_, Enum):
        return {"enum": [member.value for member in type_]}
    if type_.__name__ not in definitions:
        definitions[type_.__name__] = {}
        definitions[type_.__name__] = _class_schema(type_, definitions)
    return {"$ref": f"#/$defs/{type_.__name__}"}
