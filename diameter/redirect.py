"""Redirect indications (RFC 6733 §6.1.8, §6.12–6.14; an SLF answers so, TS 29.328 §6.1), sans-IO.

`read_redirection_untrusted` reads the answer, `RedirectCache` keeps it as long and for as much as it says.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from enum import IntEnum

from attrs import frozen

from diameter.dictionary import base
from diameter.dictionary.base import BASE, ResultCode
from diameter.errors import RemoteDiameterError
from diameter.message import Message

__all__ = ["DiameterUri", "RedirectCache", "RedirectUsage", "Redirection", "read_redirection_untrusted"]

_REDIRECT_HOST = BASE["Redirect-Host"]
_REDIRECT_HOST_USAGE = BASE["Redirect-Host-Usage"]
_REDIRECT_MAX_CACHE_TIME = BASE["Redirect-Max-Cache-Time"]

# hosts of one answer that are tried
_MAX_HOSTS = 8
# RFC 6733 sets no bound; a day is long enough for any subscriber's move
_MAX_CACHE_S = 86_400

# §4.3.1: "aaa://" or "aaas://" FQDN [ port ] [ transport ] [ protocol ]
_URI = re.compile(
    r"(?P<scheme>aaas?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,255})(?::(?P<port>\d{1,5}))?"
    r"(?P<parameters>(?:;[A-Za-z]{1,16}=[A-Za-z0-9+]{1,16}){0,4})\Z"
)


@frozen
class DiameterUri:
    """Where a host is to be reached.

    Attributes:
        host: its DiameterIdentity, also the name to connect to.
        port: None: the default of the transport.
        transport: "tcp", "tls" or "sctp".
    """

    host: str
    port: int | None = None
    transport: str = "tcp"

    @classmethod
    def parse_untrusted(cls, text: str) -> DiameterUri:
        """Reads a DiameterURI.

        Raises:
            RemoteDiameterError: 5004; also for UDP, for another protocol than Diameter, and for SCTP with DTLS.
        """
        found = _URI.match(text)
        if found is None:
            raise RemoteDiameterError("not a DiameterURI", ResultCode.INVALID_AVP_VALUE)
        parameters = {}
        for parameter in found["parameters"].split(";")[1:]:
            name, _, value = parameter.partition("=")
            parameters[name.lower()] = value.lower()
        transport = parameters.get("transport", "tcp")
        port = int(found["port"]) if found["port"] else None
        is_secure = found["scheme"] == "aaas"
        is_possible = transport in ("tcp", "sctp") and not (is_secure and transport == "sctp")
        if not is_possible or parameters.get("protocol", "diameter") != "diameter" or port == 0 or (port or 0) > 65535:
            raise RemoteDiameterError("DiameterURI of another kind", ResultCode.INVALID_AVP_VALUE)
        return cls(found["host"].strip("[]"), port, "tls" if is_secure else transport)


class RedirectUsage(IntEnum):
    """Redirect-Host-Usage (§6.13): what else the hosts may be used for."""

    DONT_CACHE = 0
    ALL_SESSION = 1
    ALL_REALM = 2
    REALM_AND_APPLICATION = 3
    ALL_APPLICATION = 4
    ALL_HOST = 5
    ALL_USER = 6


@frozen
class Redirection:
    """What a redirect agent has said.

    Attributes:
        hosts: in its order.
        usage: for which requests.
        cache_s: for how long.
        agent: Origin-Host of the answer.
    """

    hosts: tuple[DiameterUri, ...]
    usage: RedirectUsage
    cache_s: int
    agent: str


def read_redirection_untrusted(answer: Message) -> Redirection:
    """Reads an answer with REDIRECT_INDICATION. Hosts that cannot be read or reached are left out.

    Raises:
        RemoteDiameterError: 5005 for no usable host, 5004 for an unknown usage.
    """
    hosts = []
    for avp in answer.avps.find_all(_REDIRECT_HOST.key):
        try:
            hosts.append(DiameterUri.parse_untrusted(_REDIRECT_HOST.value(avp)))
        except RemoteDiameterError:
            continue
        if len(hosts) == _MAX_HOSTS:
            break
    if not hosts:
        raise RemoteDiameterError("redirect without usable host", ResultCode.MISSING_AVP)
    number = answer.number(_REDIRECT_HOST_USAGE) or 0
    if number not in list(RedirectUsage):
        raise RemoteDiameterError("redirect for an unknown usage", ResultCode.INVALID_AVP_VALUE)
    cache_s = min(answer.number(_REDIRECT_MAX_CACHE_TIME) or 0, _MAX_CACHE_S)
    return Redirection(tuple(hosts), RedirectUsage(number), cache_s, answer.text(base.ORIGIN_HOST) or "")


class RedirectCache:
    """Redirections in force.

    Args:
        max_entries: bound; the one that was used longest ago is forgotten first.

    Attributes:
        entries: empty when nothing is remembered, to be looked at before anything else.
    """

    def __init__(self, *, max_entries: int = 10_000) -> None:
        self._max_entries = max_entries
        self.entries: OrderedDict[Hashable, tuple[float, tuple[DiameterUri, ...]]] = OrderedDict()

    def store(self, redirection: Redirection, request: Message, user: str | None, *, now: float) -> None:
        """Keeps what the answer to `request` allows to keep; nothing without Redirect-Max-Cache-Time."""
        if not redirection.cache_s:
            return
        for usage, key in _keys(request, user, redirection.agent):
            if usage is redirection.usage:
                self.entries[usage, key] = (now + redirection.cache_s, redirection.hosts)
                self.entries.move_to_end((usage, key))
        while len(self.entries) > self._max_entries:
            self.entries.popitem(last=False)

    def find(self, request: Message, user: str | None, agent: str, *, now: float) -> tuple[DiameterUri, ...]:
        """Hosts for a request, () where nothing is known. What is more special goes first (§6.13).

        Args:
            user: key of the user as `DiameterNode.request` has it.
            agent: DiameterIdentity of the peer that would get the request.
        """
        if not self.entries:
            return ()
        for key in _keys(request, user, agent):
            entry = self.entries.get(key)
            if entry is None:
                continue
            if now < entry[0]:
                self.entries.move_to_end(key)
                return entry[1]
            del self.entries[key]
        return ()

    def forget(self, hosts: tuple[DiameterUri, ...]) -> None:
        """The hosts do not serve: whatever leads to them is asked for again."""
        for key in [key for key, (_, known) in self.entries.items() if known == hosts]:
            del self.entries[key]


def _keys(request: Message, user: str | None, agent: str) -> Iterator[tuple[RedirectUsage, Hashable]]:
    realm = (request.text(base.DESTINATION_REALM) or "").lower()
    session = request.text(base.SESSION_ID)
    name = request.text(base.USER_NAME) or user
    if session:
        yield RedirectUsage.ALL_SESSION, session
    if name:
        yield RedirectUsage.ALL_USER, name
    yield RedirectUsage.REALM_AND_APPLICATION, (realm, request.application_id)
    yield RedirectUsage.ALL_REALM, realm
    yield RedirectUsage.ALL_APPLICATION, request.application_id
    yield RedirectUsage.ALL_HOST, agent.lower()
