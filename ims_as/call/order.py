"""Orders to call somebody, as they come over the API: read, bounded, and held against what the agent may do.

An order is untrusted like anything from the network: its URIs end in SIP headers, its headers in an INVITE.  Numbers
are written without visual separators before a rule looks at them, so that no spelling gets past it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ims_as.call.profile import host_of
from ims_as.config import AgentConfig, Config
from ims_as.defence.destination_policy import EMERGENCY, DestinationPolicy
from ims_as.errors import ImsAsError
from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = ["CallOrder", "ConnectOrder", "OrderError", "parse_order_untrusted"]

MAX_URI_CHARS: Final = 512
MAX_HEADERS: Final = 20
MAX_HEADER_CHARS: Final = 1000
MAX_DATA_CHARS: Final = 16_384
MAX_RING_S: Final = 300

_FIELDS: Final = frozenset({"to", "from", "on_behalf_of", "agent", "ring_timeout_s", "headers", "data"})
_CONNECT_FIELDS: Final = (_FIELDS | {"connect"}) - {"to", "data"}
_FREE_HEADERS: Final = frozenset(
    {"subject", "user-to-user", "call-info", "alert-info", "organization", "accept-language", "answer-mode"}
)
"""Besides those that begin with X-: what an application may say to the callee, and nothing that routes or asserts."""
_OWN_PREFIX: Final = "x-ims-as-"
_NAME: Final = re.compile(r"[A-Za-z0-9!%*_+`'~.-]{1,64}")


class OrderError(ImsAsError):
    """The order cannot be carried out.  ``status``: of the HTTP response; ``field``: of the order, "" for all of it."""

    def __init__(self, status: int, code: str, text: str, field: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        """A fixed word: the metric's label and the client's."""
        self.field = field
        self.retry_after_s = retry_after_s


@attrs.frozen
class ConnectOrder:
    """Two people to be called and connected to each other."""

    first: str
    """Called first; the second is called when this one has answered."""
    second: str
    identity: str
    """As whom the second is called; the first is called by our own identity, or by this one if it is no user."""
    is_served_user: bool
    agent: str
    """Whose ``outbound`` rules hold."""
    ring_timeout_s: float
    """For each of the two."""
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class CallOrder:
    """One call to be made by an agent."""

    to: str
    identity: str
    """As whom; our own identity where the order names nobody."""
    is_served_user: bool
    """The identity is a user whose S-CSCF handles the call."""
    agent: str
    ring_timeout_s: float
    headers: tuple[tuple[str, str], ...] = ()
    data: Mapping[str, Any] | None = None
    """For the engine: ``data`` of its ``start`` event."""


def parse_order_untrusted(
    content: object, config: Config, destinations: DestinationPolicy | None = None
) -> CallOrder | ConnectOrder:
    """Reads an order and checks it against the agent's ``outbound`` rules and the policy for destinations.

    Raises:
        OrderError: 400 what is not an order, 422 what cannot be done, 403 what the agent may not do.
    """
    if not isinstance(content, dict):
        raise OrderError(400, "not-an-object", "the body must be a JSON object")
    is_connect = "connect" in content
    if unknown := sorted(set(content) - (_CONNECT_FIELDS if is_connect else _FIELDS)):
        raise OrderError(400, "unknown-field", f"unknown: {', '.join(map(str, unknown))[:200]}", str(unknown[0])[:64])
    agent_name = content.get("agent", "default")
    if not isinstance(agent_name, str) or agent_name not in config.agents:
        raise OrderError(422, "unknown-agent", "there is no such agent", "agent")
    agent = config.agents[agent_name]
    if content.get("from") is not None and content.get("on_behalf_of") is not None:
        raise OrderError(400, "two-identities", "either from or on_behalf_of", "from")
    is_served_user = content.get("on_behalf_of") is not None
    field = "on_behalf_of" if is_served_user else "from"
    identity = config.identity if content.get(field) is None else read_uri_untrusted(content[field], field)
    ring_timeout_s = _read_ring_timeout(content.get("ring_timeout_s"), agent)
    headers = _read_headers(content.get("headers"))
    policy = DestinationPolicy() if destinations is None else destinations
    check_identity(agent, identity, own=config.identity, field=field)
    if is_connect:
        first, second = _read_pair(content["connect"], config)
        for uri in (first, second):
            check_destination(policy, agent, uri, agent_name, "connect")
        return ConnectOrder(first, second, identity, is_served_user, agent_name, ring_timeout_s, headers)
    to = read_uri_untrusted(content.get("to"), "to")
    _check_not_own(to, config, "to")
    order = CallOrder(
        to=to,
        identity=identity,
        is_served_user=is_served_user,
        agent=agent_name,
        ring_timeout_s=ring_timeout_s,
        headers=headers,
        data=_read_data(content.get("data")),
    )
    check_destination(policy, agent, to, agent_name, "to")
    return order


def _read_pair(value: object, config: Config) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise OrderError(422, "bad-connect", "connect must be a list of two URIs", "connect")
    first, second = (read_uri_untrusted(each, "connect") for each in value)
    if first == second:
        raise OrderError(422, "bad-connect", "nobody is connected to themselves", "connect")
    for uri in (first, second):
        _check_not_own(uri, config, "connect")
    return first, second


def _check_not_own(uri: str, config: Config, field: str) -> None:
    if host_of(uri) == host_of(config.identity):
        raise OrderError(422, "own-address", "that is this server", field)


def check_destination(policy: DestinationPolicy, agent: AgentConfig, uri: str, name: str, field: str) -> None:
    """Raises OrderError (403) where the agent of that name may not call there."""
    verdict = policy.check(uri, agent=name, also=agent.outbound.allow)
    if verdict.rule == EMERGENCY:
        raise OrderError(403, "emergency", "an agent makes no emergency calls", field)
    if not verdict.allowed:
        raise OrderError(403, "destination-not-allowed", f"this agent may not call there: {verdict.rule}", field)


def check_identity(agent: AgentConfig, identity: str, *, own: str, field: str) -> None:
    """Raises OrderError (403) where the agent may not call as that identity."""
    if identity != own and not any(re.fullmatch(pattern, identity) for pattern in agent.outbound.identities):
        raise OrderError(403, "identity-not-allowed", "this agent may not call as that identity", field)


def read_uri_untrusted(value: object, field: str) -> str:
    """A sip:, sips: or tel: URI that is fit for a header, in the form that rules are written for.

    Raises:
        OrderError: it is something else.
    """
    if not isinstance(value, str) or not value:
        raise OrderError(400, "missing", f"{field} must be a URI", field)
    if len(value) > MAX_URI_CHARS or not value.isascii() or not value.isprintable():
        raise OrderError(422, "bad-uri", f"{field} is not a usable URI", field)
    try:
        uri = parse_uri(value)
    except SipParseError as error:
        raise OrderError(422, "bad-uri", f"{field}: {error}", field) from error
    match uri:
        case TelUri():
            if not uri.digits.startswith("+") and not uri.has_param("phone-context"):
                raise OrderError(422, "bad-uri", f"{field}: a local number needs phone-context", field)
            text = str(attrs.evolve(uri, number=uri.digits))
        case SipUri():
            if uri.headers or uri.password or uri.has_param("method"):
                raise OrderError(422, "bad-uri", f"{field}: no headers, password or method in the URI", field)
            text = str(attrs.evolve(uri, host=uri.host.lower()))
        case _:
            raise OrderError(422, "bad-uri", f"{field} must be a sip, sips or tel URI", field)
    if any(char in text for char in ' <>"'):
        raise OrderError(422, "bad-uri", f"{field} is not a usable URI", field)
    return text


def _read_ring_timeout(value: object, agent: AgentConfig) -> float:
    if value is None:
        return float(agent.outbound.ring_timeout_s)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_RING_S:
        raise OrderError(422, "bad-ring-timeout", f"ring_timeout_s must be 1 to {MAX_RING_S}", "ring_timeout_s")
    return float(value)


def _read_headers(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_HEADERS:
        raise OrderError(422, "bad-headers", f"headers must be an object of at most {MAX_HEADERS} names", "headers")
    headers = []
    for name, text in value.items():
        field = f"headers.{name[:64]}"
        if not _NAME.fullmatch(name) or not isinstance(text, str) or len(text) > MAX_HEADER_CHARS:
            raise OrderError(422, "bad-headers", "a header has a name and a text", field)
        lower = name.lower()
        if lower.startswith(_OWN_PREFIX) or not (lower.startswith("x-") or lower in _FREE_HEADERS):
            raise OrderError(403, "header-not-allowed", "this header is not an application's to set", field)
        if not text.isprintable():
            raise OrderError(422, "bad-headers", "a header is one line of text", field)
        headers.append((name, text.strip()))
    return tuple(headers)


def _read_data(value: object) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise OrderError(422, "bad-data", "data must be an object", "data")
    if len(json.dumps(value)) > MAX_DATA_CHARS:
        raise OrderError(422, "bad-data", f"data has more than {MAX_DATA_CHARS} characters", "data")
    return value
