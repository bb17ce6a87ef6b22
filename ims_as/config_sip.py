"""The ``sip`` section of the configuration."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

import attrs

from ims_as.config_values import HostPort, Secret, bounded, one_of
from ims_as.sip.session_timer import SessionTimerConfig
from ims_as.transport.address import ListenAddress
from ims_as.transport.connection import StreamLimits
from ims_as.transport.dns_client import NameServers
from ims_as.transport.tls import TlsOptions

__all__ = [
    "PEER_ACTIONS",
    "PEER_PRESETS",
    "ConnectionsConfig",
    "DnsConfig",
    "OnFailure",
    "PeerConfig",
    "PeerRule",
    "SessionTimers",
    "SipConfig",
    "TlsConfig",
]

PEER_ACTIONS = (
    "set",
    "remove",
    "rename",
    "numbers",
    "preferred-to-asserted",
    "remote-party-to-asserted",
    "from-to-asserted",
    "diversion-to-history",
    "drop-unknown-require",
    "one-served-user",
)
"""What a rule of ``sip.peers`` can do."""
PEER_PRESETS = ("kamailio", "asterisk", "freeswitch", "cisco-cube", "oracle-sbc", "generic-pbx")
"""Rules for makes of peers."""


class OnFailure(Enum):
    """What happens to an INVITE that we cannot serve."""

    IFC = "ifc"
    """As the default handling in the iFC says."""
    RESPOND_503 = "respond-503"
    PASS_ON = "pass-on"


@attrs.frozen
class DnsConfig:
    """How host names in SIP URIs are looked up (RFC 3263): NAPTR, SRV, addresses."""

    servers: tuple[HostPort, ...] = ()
    """Name servers, ``address:port``, asked in this order; none: those of the system."""
    timeout_ms: int = bounded(1500, 50, 10000)
    """Milliseconds for one question, all servers together."""
    cache: int = bounded(2048, 0, 1_000_000)
    """Next hops that are remembered, each as long as its records allow (an hour at most, half a minute where there is
    none); while the DNS is silent, up to a day longer.  0: none."""

    def name_servers(self) -> NameServers:
        """The same for the endpoint."""
        return NameServers(self.servers, self.timeout_ms / 1000, self.cache)


@attrs.frozen
class PeerRule:
    """One step of header normalisation; see docs/peers.md."""

    do: str = one_of(attrs.NOTHING, PEER_ACTIONS)
    """What to do."""
    direction: str = one_of("in", ("in", "out", "both"))
    """``in``: requests from the peer; ``out``: requests to it."""
    methods: tuple[str, ...] = ()
    """Methods that it is for; none: all."""
    header: str | None = None
    """For ``set``, ``remove`` and ``rename``."""
    value: str | None = None
    """For ``set``."""
    to: str | None = None
    """For ``rename``: the new name."""
    international_prefix: str | None = "00"
    """For ``numbers``: what the peer dials for "+"; null: nothing stands for it."""
    national_prefix: str | None = None
    """For ``numbers``: what the peer dials before a number of its own country, such as ``0``."""
    country: str | None = None
    """For ``numbers``: country code that ``national_prefix`` stands for, such as ``49``."""
    user_phone: bool = False
    """For ``numbers``: add ``user=phone`` to SIP URIs with a global number."""


@attrs.frozen
class PeerConfig:
    """A peer whose requests need normalisation."""

    match: IPv4Network | IPv6Network
    """Its network; the first entry that holds an address counts."""
    preset: str | None = one_of(None, (None, *PEER_PRESETS))
    """Rules for a make, applied before ``rules``."""
    rules: tuple[PeerRule, ...] = ()
    """In order; each sees what the one before has left."""


@attrs.frozen
class TlsConfig:
    """TLS for SIP: 1.2 at least, both sides show a certificate (RFC 5922)."""

    certificate: Path
    """PEM file: our certificate, then those of the authorities between it and the root."""
    key: Secret | None = None
    """Its private key in PEM; none: it is in the file of the certificate."""
    key_password: Secret | None = None
    """Opens an encrypted key."""
    ca: Path | None = None
    """PEM file with the authorities that vouch for our peers; none: those of the system."""
    verify_peer: bool = True
    """Peers must show a certificate by one of these authorities, and where we connect it must name the host that the
    URI names.  ``false`` is for laboratories."""
    peers: tuple[str, ...] = ()
    """Domains or addresses, one of which the certificate of whoever connects to us must name; none: any certificate
    that is vouched for.  ``trusted_peers`` applies besides.  They are also believed where a URI has only an address."""

    def options(self) -> TlsOptions:
        """The same for the endpoint; a key in a file is read again at each reload."""
        key, password = self.key, self.key_password
        return TlsOptions(
            self.certificate,
            key_file=Path(key.name) if key is not None and key.kind == "file" else None,
            key=key.value if key is not None and key.kind == "env" else None,
            key_password=None if password is None else password.value,
            ca=self.ca,
            verify_peer=self.verify_peer,
            peers=self.peers,
        )


@attrs.frozen
class ConnectionsConfig:
    """TCP and TLS connections."""

    total: int = bounded(1024, 1, 1_000_000)
    """At a time, in both directions; above that new ones are closed at once."""
    per_host: int = bounded(128, 1, 1_000_000)
    """At a time that one address may have opened to us."""
    idle_s: float = bounded(600.0, 0, 86400)
    """Seconds without a message (or a keep-alive of the peer) after which a connection is closed; 0: never."""
    message_s: float = bounded(10.0, 0.1, 600)
    """Seconds that a message may take from its first byte to its last; a slower sender loses its connection."""
    ping_s: float = bounded(0.0, 0, 3600)
    """Seconds between keep-alives (RFC 5626: CRLF CRLF, answered by CRLF) on connections that we have opened; one that
    is not answered within 10 s closes the connection.  0: none.  Those of peers are always answered."""

    def limits(self) -> StreamLimits:
        """The same for the endpoint."""
        return StreamLimits(self.total, self.per_host, self.idle_s, self.message_s, self.ping_s)


@attrs.frozen
class SessionTimers:
    """Session timers (RFC 4028): each answered dialog is refreshed, or ended when nobody does."""

    expires_s: int = bounded(1800, 0, 86400)
    """Seconds of the interval that we ask for; 0: we ask for none, but do what the peer wants."""
    min_se_s: int = bounded(90, 90, 86400)
    """Least interval in seconds; less is refused with 422."""
    refresher: str | None = one_of(None, (None, "we", "they"))
    """Who refreshes where we may choose: ``we``, ``they``, or none for whoever the RFC prefers."""

    def options(self) -> SessionTimerConfig | None:
        """The same for the user agent."""
        if self.expires_s == 0:
            return None
        refresher: Literal["we", "they"] | None = None
        if self.refresher is not None:
            refresher = "we" if self.refresher == "we" else "they"
        return SessionTimerConfig(max(self.expires_s, self.min_se_s), self.min_se_s, refresher)


@attrs.frozen
class SipConfig:
    """SIP towards the S-CSCF (ISC)."""

    listen: tuple[ListenAddress, ...] = (
        ListenAddress("udp", "127.0.0.30", 5060),
        ListenAddress("tcp", "127.0.0.30", 5060),
    )
    """Local addresses, ``udp:``, ``tcp:`` or ``tls:`` then IP address and port."""
    advertise: HostPort | None = None
    """``host[:port]`` for Via and Contact where it differs from the local address."""
    trusted_peers: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"),)
    """Networks that may speak ISC to us; everybody else gets no answer."""
    strict_source: bool = False
    """Requests inside a call must come from where the call came from, or from the hop that Record-Route or Contact
    name; for peers that must not be able to end each other's calls.  Not with an S-CSCF of several addresses."""
    overload_control: bool = True
    """Say in the Via of our requests that we throttle ourselves when the next hop asks for it (RFC 7339)."""
    hosts: dict[str, HostPort] = attrs.Factory(dict)
    """Fixed addresses of host names in SIP URIs, asked before DNS: ``name: host:port``."""
    dns: DnsConfig = DnsConfig()
    tls: TlsConfig | None = None
    """Certificates for ``tls:`` addresses in ``listen``; a reload reads the files again."""
    connections: ConnectionsConfig = ConnectionsConfig()
    session_timer: SessionTimers = SessionTimers()
    answer_budget_ms: int = bounded(1500, 50, 60000)
    """Milliseconds from the INVITE until the agent must be ready; after that the call is given back to the core."""
    on_failure: OnFailure = OnFailure.IFC
    """What happens to an INVITE that cannot be served: ``ifc``, ``respond-503`` or ``pass-on``."""
    ioi: str | None = None
    """Our inter-operator identifier of type 3 (P-Charging-Vector); none: ``Type 3`` and the host of ``identity``."""
    max_diversions: int = bounded(5, 0, 100)
    """A call that was diverted so often (History-Info, Diversion) is handed over to nobody but the served user."""
    peers: tuple[PeerConfig, ...] = ()
    """Header normalisation for peers that write SIP in their own way."""
    reg_event: bool = False
    """Subscribe to the registration state (RFC 3680) of each user whom a third-party REGISTER names."""
    bypass_key: Secret | None = None
    """Key that signs the bypass token of mid-call transfers; all nodes share it.  None: a random one per process."""
    core: str | None = None
    """SIP URI of the S-CSCF or I-CSCF that takes calls which we start and whose user's own S-CSCF is not known."""
    pass_refer: bool = True
    """REFER inside calls of role ``b2bua`` goes to the other side; else it is refused with 403."""
    record_route: bool = False
    """Stay in the signalling of calls that are passed on; by default we are out of them once they are answered."""
