"""The configuration: one frozen class per section, every field with its unit and meaning.

``config_load`` builds it from YAML, environment and overrides, ``config_check`` looks at it as a whole,
``config_schema`` prints it and makes a JSON schema from it.  Durations are in the unit that the field's name says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from ims_as.transport.address import ListenAddress
from ims_as.transport.tls import TlsOptions

__all__ = [
    "ENGINE_TYPES",
    "MATCH_FIELDS",
    "TRANSFER_TARGETS",
    "AgentConfig",
    "ApiConfig",
    "CdrConfig",
    "Config",
    "DiameterConfig",
    "DiameterPeer",
    "DnsConfig",
    "EngineConfig",
    "EngineReady",
    "FillerConfig",
    "HostPort",
    "LimitsConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "MediaConfig",
    "MediaMode",
    "OnFailure",
    "OutboundConfig",
    "PeerAddress",
    "PeerConfig",
    "PeerRule",
    "PortRange",
    "Role",
    "RoutingRule",
    "Secret",
    "ShConfig",
    "SipConfig",
    "StoreConfig",
    "TlsConfig",
    "TransferConfig",
    "TransferEarlyMedia",
    "TransferMethod",
    "bounds_of",
]

ENGINE_TYPES = ("websocket",)
"""Engine protocols that this version speaks."""
MATCH_FIELDS = ("request_uri", "from", "to", "served_user", "session_case", "service")
"""What a routing rule can look at; each value is a regular expression that must be found in it."""
TRANSFER_TARGETS = ("served-user", "queue")
"""Words in ``transfer.allow``; every other entry there is a regular expression for URIs."""
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
SAMPLE_RATES_HZ = (8000, 16000, 24000, 48000)


class HostPort(NamedTuple):
    """An address on the network; written ``host:port``, IPv6 in []."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PeerAddress(NamedTuple):
    """Where a Diameter peer listens; written ``tcp:host:port``."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}:{HostPort(self.host, self.port)}"


class PortRange(NamedTuple):
    """UDP ports, both ends included; written ``first-last``."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


_RTP_PORTS = PortRange(20000, 39999)
_API_LISTEN = HostPort("127.0.0.1", 8080)


class OnFailure(Enum):
    """What happens to an INVITE that we cannot serve."""

    IFC = "ifc"
    """As the default handling in the iFC says."""
    RESPOND_503 = "respond-503"
    PASS_ON = "pass-on"


class TransferEarlyMedia(Enum):
    """What becomes of the early media of a party that a caller is handed to."""

    IGNORE = "ignore"
    RELAY = "relay"


class TransferMethod(Enum):
    """How an agent's caller gets to somebody else."""

    THIRD_PARTY = "3pcc"
    """We call the target and join the two."""
    REFER = "refer"
    """The caller is asked to call the target itself."""


class MediaMode(Enum):
    """Who runs the media workers."""

    LOCAL = "local"
    REMOTE = "remote"


class EngineReady(Enum):
    """When an engine counts as ready."""

    CONNECT = "connect"
    EVENT = "event"


class LogLevel(Enum):
    """The least severity that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """How a log line looks."""

    JSON = "json"
    CONSOLE = "console"


@attrs.frozen
class Secret:
    """A secret; it comes from a file or the environment, never from the configuration itself."""

    kind: str
    """``file`` or ``env``."""
    name: str
    """Path of the file or name of the variable."""
    value: str = attrs.field(repr=False)
    """The secret itself; never printed."""


def _bounded(default: Any, low: float, high: float) -> Any:
    return attrs.field(default=default, metadata={"bounds": (low, high)})


def _one_of(default: Any, choices: tuple[Any, ...]) -> Any:
    return attrs.field(default=default, metadata={"choices": choices})


def bounds_of(attribute: attrs.Attribute[Any]) -> tuple[float, float] | None:
    """Least and greatest value allowed for a number, None: any."""
    bounds: tuple[float, float] | None = attribute.metadata.get("bounds")
    return bounds


@attrs.frozen
class DnsConfig:
    """How host names in SIP URIs are looked up (RFC 3263): NAPTR, SRV, addresses."""

    servers: tuple[HostPort, ...] = ()
    """Name servers, ``address:port``, asked in this order; none: those of the system."""
    timeout_ms: int = _bounded(1500, 50, 10000)
    """Milliseconds for one question, all servers together."""


@attrs.frozen
class PeerRule:
    """One step of header normalisation; see docs/peers.md."""

    do: str = _one_of(attrs.NOTHING, PEER_ACTIONS)
    """What to do."""
    direction: str = _one_of("in", ("in", "out", "both"))
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
    preset: str | None = _one_of(None, (None, *PEER_PRESETS))
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
    that is vouched for.  ``trusted_peers`` applies besides."""

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
    hosts: dict[str, HostPort] = attrs.Factory(dict)
    """Fixed addresses of host names in SIP URIs, asked before DNS: ``name: host:port``."""
    dns: DnsConfig = DnsConfig()
    tls: TlsConfig | None = None
    """Certificates for ``tls:`` addresses in ``listen``; a reload reads the files again."""
    answer_budget_ms: int = _bounded(1500, 50, 60000)
    """Milliseconds from the INVITE until the agent must be ready; after that the call is given back to the core."""
    on_failure: OnFailure = OnFailure.IFC
    """What happens to an INVITE that cannot be served: ``ifc``, ``respond-503`` or ``pass-on``."""
    ioi: str | None = None
    """Our inter-operator identifier of type 3 (P-Charging-Vector); none: ``Type 3`` and the host of ``identity``."""
    max_diversions: int = _bounded(5, 0, 100)
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


@attrs.frozen
class DiameterPeer:
    """One Diameter peer (HSS or agent)."""

    address: PeerAddress
    """``tcp:``, ``tls:`` or ``sctp:`` then host and port."""


@attrs.frozen
class ShConfig:
    """The Sh interface to the HSS, TS 29.328."""

    budget_ms: int = _bounded(300, 10, 10000)
    """Milliseconds that a call waits for the HSS; after that it goes on with the cached or the default profile."""
    cache_s: int = _bounded(3600, 0, 604800)
    """Seconds for which a profile is used without asking again."""
    subscribe: bool = True
    """Keep cached profiles fresh by Subscribe-Notifications (SNR/PNR)."""
    service_indication: str = "ai-voice-agent"
    """Service-Indication of our repository data."""


@attrs.frozen
class DiameterConfig:
    """Diameter, RFC 6733."""

    origin_host: str = "ai-as.ims.mnc001.mcc001.3gppnetwork.org"
    """Our Origin-Host."""
    origin_realm: str = "ims.mnc001.mcc001.3gppnetwork.org"
    """Our Origin-Realm."""
    destination_realm: str = "ims.mnc001.mcc001.3gppnetwork.org"
    """Realm of the HSS."""
    peers: tuple[DiameterPeer, ...] = ()
    """In order of preference; none: no Sh, every user gets the agent that ``routing`` names."""
    sh: ShConfig = ShConfig()


@attrs.frozen
class MediaConfig:
    """The media plane."""

    mode: MediaMode = MediaMode.LOCAL
    """``local``: workers are children of this process; ``remote``: found at ``discover``."""
    workers: int = _bounded(1, 1, 256)
    """Worker processes, one core each."""
    address: str = "127.0.0.30"
    """IP address for RTP."""
    ports: PortRange = _RTP_PORTS
    """UDP ports for RTP, ``first-last``, shared out among the workers."""
    discover: str | None = None
    """``name:port``: DNS name and control port of remote workers."""


@attrs.frozen
class EngineConfig:
    """One AI engine."""

    url: str
    """Where it listens: ``ws://`` or ``wss://``."""
    type: str = _one_of("websocket", ENGINE_TYPES)
    """Protocol that it speaks."""
    rate: int = _one_of(16000, SAMPLE_RATES_HZ)
    """Samples per second, both ways."""
    ready: EngineReady = EngineReady.CONNECT
    """``connect``: ready when the connection is open; ``event``: when it has sent ``ready``."""
    connect_timeout_ms: int = _bounded(1200, 50, 60000)
    """Milliseconds until the next engine in the list is tried."""


@attrs.frozen
class FillerConfig:
    """What the caller hears while the engine is silent."""

    after_ms: int = _bounded(700, 0, 60000)
    """Milliseconds of silence after the caller stopped speaking; 0: never."""
    clip: str | None = None
    """WAV file; none: a soft built-in tone."""


@attrs.frozen
class TransferConfig:
    """Where an agent may send its caller."""

    allow: tuple[str, ...] = ("served-user",)
    """``served-user``, ``queue``, or a regular expression that a whole URI must match, such as ``tel:\\+49.*``."""
    queue: str | None = None
    """SIP or tel URI of the human queue."""
    method: TransferMethod = TransferMethod.THIRD_PARTY
    """``3pcc``: we call the target and join the two; ``refer``: the caller is asked by REFER to call it, where it can,
    and 3pcc is the way out when it refuses.  The served user is always called by us."""
    early_media: TransferEarlyMedia = TransferEarlyMedia.IGNORE
    """Ringback and announcements of the target before it answers: ``ignore`` (the caller stays with the agent) or
    ``relay`` (the caller hears them)."""


@attrs.frozen
class OutboundConfig:
    """Whom an agent may call, and as whom."""

    allow: tuple[str, ...] = ()
    """Regular expressions; a whole URI must match one.  None: this agent calls nobody."""
    identities: tuple[str, ...] = ()
    """Regular expressions of the users and services for which it may call.  None: only as ``identity``."""
    ring_timeout_s: int = _bounded(60, 1, 300)
    """Seconds that it rings where the order does not say."""


@attrs.frozen
class AgentConfig:
    """One voice agent."""

    engines: tuple[EngineConfig, ...] = (EngineConfig("ws://127.0.0.40:9000/"),)
    """Tried in order."""
    greeting: str | None = None
    """What the engine is told to open with (``greeting`` of its ``start`` event); none: as it likes."""
    engine_headers: tuple[str, ...] = ()
    """Names of headers of the INVITE that the engine gets besides those of docs/headers.md, such as ``X-Account``."""
    filler: FillerConfig = FillerConfig()
    transfer: TransferConfig = TransferConfig()
    outbound: OutboundConfig = OutboundConfig()


class Role(Enum):
    """What we are to a call (TS 23.218 clause 9.1.1)."""

    AGENT = "agent"
    """An agent answers it."""
    PASS_ON = "pass-on"
    """It goes on by its Route; we are a proxy."""
    B2BUA = "b2bua"
    """It goes on by its Route as a new dialog; we stay in its signalling and out of its media."""


@attrs.frozen
class RoutingRule:
    """What becomes of a call; the first rule that matches wins."""

    agent: str = "default"
    """Name of an entry of ``agents``."""
    match: dict[str, str] = attrs.Factory(dict)
    """What to look at, and a regular expression that must be found in it; all must match, none matches always."""
    role: Role = Role.AGENT
    """``agent``, ``pass-on`` or ``b2bua``; an agent that the Sh profile names takes the place of ``agent`` only."""

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether all patterns are found; a field that the call does not have matches nothing."""
        return all(name in fields and re.search(pattern, fields[name]) for name, pattern in self.match.items())


@attrs.frozen
class LimitsConfig:
    """Admission limits of this node."""

    calls: int = _bounded(2000, 1, 1_000_000)
    """Calls at a time."""
    calls_per_second: float = _bounded(200.0, 0.01, 100_000)
    """New calls per second, on average over a second."""
    latency_target_ms: int = _bounded(50, 0, 10000)
    """Milliseconds for which work may wait before calls are refused so that the rest is served in time; 0: no limit."""
    options_in_overload: bool = True
    """Whether OPTIONS is still answered 200 while calls are refused for load; drain and full always give 503."""
    retry_after_s: int = _bounded(2, 1, 3600)
    """Seconds for which a sender is asked to leave us alone when a call is refused for overload or drain."""


@attrs.frozen
class ApiConfig:
    """HTTP for health, metrics and operators."""

    listen: HostPort = _API_LISTEN
    """Address and port; keep it away from subscribers' networks."""
    token: Secret | None = None
    """Bearer token of whoever may change things (POST, DELETE); none: only clients on the loopback interface may."""


@attrs.frozen
class StoreConfig:
    """State shared between nodes."""

    url: str = "memory:"
    """``memory:`` keeps it in this process."""


@attrs.frozen
class CdrConfig:
    """Charging data records, TS 32.298."""

    directory: Path | None = None
    """Folder for the files; none: no records are written."""
    rotate_size_bytes: int = _bounded(16 * 1024 * 1024, 4096, 2**40)
    """A file is closed when it has grown to this many bytes."""
    rotate_after_s: int = _bounded(900, 1, 86400)
    """A file with records is closed after this many seconds."""


@attrs.frozen
class LogConfig:
    """The operator log on standard output."""

    level: LogLevel = LogLevel.INFO
    """``debug``, ``info``, ``warning`` or ``error``."""
    format: LogFormat = LogFormat.JSON
    """``json``: one object per line; ``console``: for eyes."""


@attrs.frozen
class Config:
    """Everything that the server needs to know."""

    identity: str = "sip:ai-as.ims.mnc001.mcc001.3gppnetwork.org"
    """Our SIP URI as in the iFC ServerName."""
    sip: SipConfig = SipConfig()
    diameter: DiameterConfig = DiameterConfig()
    media: MediaConfig = MediaConfig()
    agents: dict[str, AgentConfig] = attrs.Factory(lambda: {"default": AgentConfig()})
    """Voice agents by name."""
    routing: tuple[RoutingRule, ...] = (RoutingRule("default", {"request_uri": ".*"}),)
    """First match wins; the Sh profile of the served user beats it."""
    limits: LimitsConfig = LimitsConfig()
    api: ApiConfig = ApiConfig()
    store: StoreConfig = StoreConfig()
    cdr: CdrConfig = CdrConfig()
    log: LogConfig = LogConfig()
