"""The configuration: one frozen class per section, every field with its unit and meaning; ``sip`` is in `config_sip`.

``config_load`` builds it from YAML, environment and overrides, ``config_check`` looks at it as a whole,
``config_schema`` prints it and makes a JSON schema from it.  Durations are in the unit that the field's name says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs

from ims_as.config_agents import (
    AnswerConfig,
    AnswerMode,
    BackgroundConfig,
    BargeIn,
    DigitsConfig,
    RecordingConfig,
    RecordingFormat,
    RecordingMode,
    RecordingPauses,
    TransferConfig,
    TransferEarlyMedia,
    TransferMedia,
    TransferMethod,
)
from ims_as.config_policy import NO_POLICY, PolicyConfig
from ims_as.config_sip import (
    PEER_ACTIONS,
    PEER_PRESETS,
    ConnectionsConfig,
    DnsConfig,
    OnFailure,
    PeerConfig,
    PeerRule,
    SipConfig,
    TlsConfig,
)
from ims_as.config_values import HostPort, PeerAddress, PortRange, Secret, bounds_of
from ims_as.config_values import bounded as _bounded
from ims_as.config_values import one_of as _one_of
from ims_as.sip.crypto_attribute import SrtpMode
from ims_as.transport.tls import TlsOptions

__all__ = [
    "ENGINE_TYPES",
    "MATCH_FIELDS",
    "PEER_ACTIONS",
    "PEER_PRESETS",
    "TRANSFER_TARGETS",
    "AgentConfig",
    "AnswerConfig",
    "AnswerMode",
    "ApiConfig",
    "BackgroundConfig",
    "BargeIn",
    "CdrConfig",
    "Config",
    "ConnectionsConfig",
    "DiameterConfig",
    "DiameterPeer",
    "DiameterTlsConfig",
    "DigitsConfig",
    "DnsConfig",
    "EngineConfig",
    "EngineReady",
    "FillerConfig",
    "HostPort",
    "InbandDtmf",
    "LimitsConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "MediaConfig",
    "MediaControlConfig",
    "MediaMode",
    "OnFailure",
    "OutboundConfig",
    "PeerAddress",
    "PeerConfig",
    "PeerRule",
    "PortRange",
    "RecordingConfig",
    "RecordingFormat",
    "RecordingMode",
    "RecordingPauses",
    "Role",
    "RoutingRule",
    "Secret",
    "ShConfig",
    "SipConfig",
    "SrtpMode",
    "StoreConfig",
    "TlsConfig",
    "TransferConfig",
    "TransferEarlyMedia",
    "TransferMedia",
    "TransferMethod",
    "bounds_of",
]

ENGINE_TYPES = ("websocket",)
"""Engine protocols that this version speaks."""
MATCH_FIELDS = ("request_uri", "from", "to", "served_user", "session_case", "service")
"""What a routing rule can look at; each value is a regular expression that must be found in it."""
TRANSFER_TARGETS = ("served-user", "queue")
"""Words in ``transfer.allow``; every other entry there is a regular expression for URIs."""
SAMPLE_RATES_HZ = (8000, 16000, 24000, 48000)


_RTP_PORTS = PortRange(20000, 39999)
_API_LISTEN = HostPort("127.0.0.1", 8080)


class MediaMode(Enum):
    """Who runs the media workers."""

    LOCAL = "local"
    REMOTE = "remote"


class InbandDtmf(Enum):
    """When digits are listened for in the audio."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


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
class DiameterPeer:
    """One Diameter peer (HSS or agent)."""

    address: PeerAddress
    """``tcp:``, ``tls:`` or ``sctp:`` then host (name or address, IPv6 in []) and port; without a port 3868, over TLS
    5658.  A name is looked up at each attempt to connect and all its addresses are tried."""
    origin_host: str | None = None
    """The Origin-Host that it must have; none: whatever it says.  Over TLS its certificate must name it; without
    ``origin_host`` it must name the host in ``address``."""


@attrs.frozen
class DiameterTlsConfig:
    """TLS for Diameter (RFC 6733 §13.1): 1.2 at least, both sides show a certificate."""

    certificate: Path
    """PEM file: our certificate, which must name ``origin_host``, then those of the authorities up to the root."""
    key: Secret | None = None
    """Its private key in PEM; none: it is in the file of the certificate."""
    key_password: Secret | None = None
    """Opens an encrypted key."""
    ca: Path | None = None
    """PEM file with the authorities that vouch for our peers; none: those of the system."""

    def options(self) -> TlsOptions:
        """The same for the Diameter node; a key in a file is read again at each reload."""
        return TlsConfig(self.certificate, self.key, self.key_password, self.ca).options()


@attrs.frozen
class ShConfig:
    """The Sh interface to the HSS, TS 29.328."""

    budget_ms: int = _bounded(300, 10, 10000)
    """Milliseconds that a call waits for the HSS; after that it goes on with the cached or the default profile."""
    cache_s: int = _bounded(3600, 0, 604800)
    """Seconds for which a profile is used without asking again."""
    subscribe: bool = True
    """Keep cached profiles fresh by Subscribe-Notifications (SNR/PNR)."""
    poll_s: int = _bounded(300, 0, 604800)
    """As ``cache_s``, for a profile that the HSS does not keep fresh: it refuses subscriptions, or does not answer."""
    service_indication: str = "ai-voice-agent"
    """Service-Indication of our repository data."""
    aliases: bool = False
    """Ask for the user's alias identities as well (Data-Reference 10), so that one profile serves all of them."""
    strict: bool = False
    """Refuse Sh-Data that deviates from the schema of TS 29.328, saying where; else what can be read is taken."""


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
    """In order of preference; none, and nobody who may connect to us: no Sh, every user gets the agent that
    ``routing`` names."""
    alarm_after_s: float = _bounded(5.0, 0, 3600)
    """Seconds for which a peer is down, or no Sh request is answered, before an alarm is raised (docs/alarms.md)."""
    source: str | None = None
    """IP address that we connect from; none: the system chooses."""
    listen: tuple[PeerAddress, ...] = ()
    """Addresses for peers that connect to us: ``tcp:``, ``tls:`` or ``sctp:``, IP address and port."""
    accept_from: tuple[str, ...] = ()
    """Origin-Hosts that may do so besides those of ``peers``; ``.realm`` stands for all hosts of a realm."""
    tls: DiameterTlsConfig | None = None
    """Certificates for ``tls:`` addresses; a reload reads the files again."""
    overload_control: bool = True
    """Offer overload control (RFC 7683) in requests, and send less when an HSS or a realm asks for it."""
    follow_redirects: bool = True
    """Connect to an HSS that an SLF redirects to, if it is in our realm, in that of a peer or in
    ``destination_realm``, or in ``redirect_hosts``. Peers that are connected anyway are always followed to."""
    redirect_hosts: tuple[str, ...] = ()
    """Further hosts that may be connected to so; ``.realm`` stands for all hosts of a realm."""
    sh: ShConfig = ShConfig()


@attrs.frozen
class MediaControlConfig:
    """The control channel between ``ims-as run`` with ``media.mode: remote`` and ``ims-as media``."""

    listen: HostPort | None = None
    """Where ``ims-as media`` listens."""
    tls: TlsConfig | None = None
    """Certificates of both sides, TLS 1.3; ``ca`` vouches for the other side, whose certificate must name the host of
    ``media.discover`` or, where ``peers`` is set, one of them.  Without it only the loopback interface is used."""


@attrs.frozen
class MediaConfig:
    """The media plane."""

    mode: MediaMode = MediaMode.LOCAL
    """``local``: workers are children of this process; ``remote``: found at ``discover``."""
    workers: int = _bounded(1, 1, 256)
    """Worker processes, one core each."""
    standby: bool = True
    """One more process that waits to take the place of a worker that is lost."""
    max_load: float = _bounded(0.85, 0.05, 1)
    """Share of its time that a worker may need for calls that are up; above it, it gets no new ones. 1: no limit."""
    address: str = "127.0.0.30"
    """IP address for RTP."""
    ports: PortRange = _RTP_PORTS
    """UDP ports for RTP, ``first-last``, shared out among the workers."""
    port_rest_s: float = _bounded(10.0, 0, 300)
    """Seconds for which a port is not used again: late packets of its last call must not reach a new one."""
    dscp: int = _bounded(46, 0, 63)
    """Differentiated services code point of all that goes to a party; 46 is EF, 0 unmarked.  SIP is not marked."""
    codecs: tuple[str, ...] = ()
    """Codecs that are taken, in the order of our own offers, of AMR-WB, opus, G722, PCMA, PCMU, AMR, G729, L16; empty:
    all but L16, of which we offer AMR-WB, PCMA and PCMU ourselves.  One whose library is missing is left out."""
    srtp: SrtpMode = SrtpMode.ACCEPT
    """SRTP with keys in SDP (RFC 4568).  ``never``: RTP/SAVP lines are not used; ``accept``: they are, and our own
    offers are RTP/AVP; ``offer``: also keys in RTP/AVP lines, ours and others' (opportunistic, RFC 8643); ``require``:
    RTP/SAVP only, ours and others'."""
    inband_dtmf: InbandDtmf = InbandDtmf.AUTO
    """Whether digits are heard by their tones.  ``auto``: of parties that do not do telephone-event; ``always``: also
    beside telephone events, for gateways that say one and send the other; ``never``."""
    discover: str | None = None
    """``name:port``: DNS name and control port of remote workers."""
    control: MediaControlConfig = MediaControlConfig()


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
    barge_in: BargeIn = BargeIn.ENGINE
    """Who silences the agent when the caller speaks over it: ``engine``: the engine, by ``clear``; ``local``: we, as
    soon as speech is heard, and the engine is told (docs/engine-protocol.md)."""
    filler: FillerConfig = FillerConfig()
    digits: DigitsConfig = attrs.field(default=DigitsConfig())
    answer: AnswerConfig = attrs.field(default=AnswerConfig())
    transfer: TransferConfig = attrs.field(default=TransferConfig())
    outbound: OutboundConfig = OutboundConfig()
    background: BackgroundConfig = attrs.field(default=BackgroundConfig())
    recording: RecordingConfig = attrs.field(default=RecordingConfig())


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
class PeerLimits:
    """What one peer may send, per second, by its address; 0: no limit."""

    calls_per_second: float = _bounded(0.0, 0, 100_000)
    """INVITEs outside of dialogs; more gets 503 (emergency and priority calls pass)."""
    requests_per_second: float = _bounded(0.0, 0, 100_000)
    """Requests outside of dialogs, INVITEs among them; more gets 503."""
    messages_per_second: float = _bounded(0.0, 0, 1_000_000)
    """Everything; more is dropped unread.  A call is about 6 messages: leave room for retransmissions."""
    burst_s: float = _bounded(1.0, 0.01, 3600)
    """Seconds' worth that may come at once."""


@attrs.frozen
class NetworkLimits:
    """Other limits for the peers of a network, each address for itself."""

    network: IPv4Network | IPv6Network
    """The first entry that holds an address counts."""
    calls_per_second: float = _bounded(0.0, 0, 100_000)
    """As in ``per_peer``."""
    requests_per_second: float = _bounded(0.0, 0, 100_000)
    """As in ``per_peer``."""
    messages_per_second: float = _bounded(0.0, 0, 1_000_000)
    """As in ``per_peer``."""
    burst_s: float = _bounded(1.0, 0.01, 3600)
    """As in ``per_peer``."""


@attrs.frozen
class LimitsConfig:
    """Admission limits of this node."""

    calls: int = _bounded(2000, 1, 1_000_000)
    """Calls at a time."""
    calls_per_second: float = _bounded(200.0, 0.01, 100_000)
    """New calls per second, on average over a second."""
    latency_target_ms: int = _bounded(100, 0, 10000)
    """Milliseconds for which work may wait before calls are refused so that the rest is served in time; 0: no limit."""
    options_in_overload: bool = True
    """Whether OPTIONS is still answered 200 while calls are refused for load; drain and full always give 503."""
    per_peer: PeerLimits = PeerLimits()
    per_network: tuple[NetworkLimits, ...] = ()
    """Limits of peers in certain networks instead of ``per_peer``."""
    drain_s: int = _bounded(20, 0, 86400)
    """Seconds that calls may go on for after SIGTERM or ``POST /drain``; then they are ended.  Keep it below the time
    that your supervisor waits (30 s in Kubernetes)."""
    retry_after_s: int = _bounded(2, 0, 3600)
    """Seconds for which a sender is asked to leave us alone when a call is refused for overload or drain; 0: it is not
    asked.  Peers that throttle themselves (RFC 7339) are not asked when the reason is load."""


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
    sip: SipConfig = attrs.field(default=SipConfig())
    diameter: DiameterConfig = DiameterConfig()
    media: MediaConfig = MediaConfig()
    agents: dict[str, AgentConfig] = attrs.Factory(lambda: {"default": AgentConfig()})
    """Voice agents by name."""
    routing: tuple[RoutingRule, ...] = (RoutingRule("default", {"request_uri": ".*"}),)
    """First match wins; the Sh profile of the served user beats it."""
    limits: LimitsConfig = LimitsConfig()
    policy: PolicyConfig = NO_POLICY
    api: ApiConfig = ApiConfig()
    store: StoreConfig = StoreConfig()
    cdr: CdrConfig = CdrConfig()
    log: LogConfig = LogConfig()
