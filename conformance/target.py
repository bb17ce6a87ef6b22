"""Where the server under test is: its main address, and others that some cases speak to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from conformance.case import PLACES, Case
from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, parse_uri

__all__ = ["RunnerError", "Target", "Targets", "tls_context"]

_DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


class RunnerError(Exception):
    """No case can be run; the text says why."""


@attrs.frozen
class Target:
    """Where the server is, and from which address it is spoken to."""

    host: str
    port: int
    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    local_host: str

    @classmethod
    def parse(cls, uri: str, local_host: str | None = None) -> Target:
        """Reads ``sip:host:port;transport=tcp``; without local_host, the address from which the target is reached.

        Raises:
            RunnerError: no SIP URI with a host, or no way there.
        """
        try:
            parsed = parse_uri(uri)
        except SipParseError as error:
            raise RunnerError(f"target {uri!r}: {error}") from error
        transport = (parsed.param("transport") or "udp").lower() if isinstance(parsed, SipUri) else ""
        if not isinstance(parsed, SipUri) or parsed.scheme != "sip" or transport not in _DEFAULT_PORTS:
            raise RunnerError(f"target {uri!r}: expected sip:host:port, with ;transport=tcp or tls for these")
        host, port = parsed.host.strip("[]"), parsed.port or _DEFAULT_PORTS[transport]
        return cls(host, port, transport, local_host or _address_towards(host, port))


@attrs.frozen
class Targets:
    """One server: its main address, and those at other places."""

    main: Target
    places: Mapping[str, Target] = MappingProxyType({})
    clear: Callable[[], Awaitable[None]] | None = None
    """Ends the calls at place ``limited`` that an aborted case has left, where somebody can."""
    tls: ssl.SSLContext | None = None
    """How the target is spoken to by TLS; None: without a certificate of ours, and whatever it shows."""

    @classmethod
    def parse(cls, texts: Iterable[str], local_host: str | None = None) -> Targets:
        """Reads ``sip:host:port`` and ``place=sip:host:port``; local_host is for the main address only.

        Raises:
            RunnerError: as for Target; an unknown place; no main address.
        """
        main: Target | None = None
        places = {}
        for text in texts:
            place, equals, uri = text.partition("=")
            if not equals or ":" in place:
                main = Target.parse(text, local_host)
            elif place in PLACES:
                places[place] = Target.parse(uri)
            else:
                raise RunnerError(f"target {text!r}: {place} is none of {', '.join(PLACES)}")
        if main is None:
            raise RunnerError("no target but at other places")
        return cls(main, places)

    def of(self, case: Case) -> Target | None:
        """Where the case is to be tried; None when the server is not there."""
        target = self.places.get(case.at) if case.at else self.main
        if target is None or not case.transport or target.transport == case.transport:
            return target
        # a SIP server listens on the same port on UDP and TCP (RFC 3261 §18.1.1), but not on TLS
        return None if target.transport == "tls" else attrs.evolve(target, transport=case.transport)


def tls_context(certificate: Path | None = None) -> ssl.SSLContext:
    """For a server whose certificate may be anything: the cases are about SIP.

    Args:
        certificate: PEM file with a key and what we show.

    Raises:
        RunnerError: it cannot be used.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        try:
            context.load_cert_chain(certificate)
        except OSError as error:
            raise RunnerError(f"{certificate}: {error}") from error
    return context


def _address_towards(host: str, port: int) -> str:
    """Nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise RunnerError(f"{host} cannot be reached: {error}") from error
