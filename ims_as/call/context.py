"""What the calls of one process share: configuration, stack, media, profiles, metrics and records."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

from diameter.sh.client import ShClient
from ims_as.call.admission import Admission
from ims_as.call.bypass import BypassTokens
from ims_as.call.codecs import own_codecs
from ims_as.call.engine_health import EngineHealth
from ims_as.call.profile import host_of
from ims_as.call.record import CallDirectory
from ims_as.config import Config
from ims_as.defence.destination_policy import DestinationPolicy
from ims_as.defence.incoming_policy import IncomingPolicy
from ims_as.defence.outbound_limits import OutboundLimits
from ims_as.defence.user_limits import UserLimits
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.isc.reg_event import RegEvents
from ims_as.isc.registration import RegistrationTable
from ims_as.media_pool import MediaPool
from ims_as.oss.alarms import AlarmList
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog
from ims_as.oss.quality_watch import QualityWatch
from ims_as.oss.trace import TraceStore
from ims_as.sip.codec_choice import CodecOffer
from ims_as.sip.coupling import CouplingTable
from ims_as.sip.crypto_attribute import SrtpSupport
from ims_as.sip.proxy import StatefulProxy
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.endpoint import Endpoint

__all__ = ["CallContext", "new_call_id"]


def new_call_id() -> str:
    """Our id of a call: 128 random bits, so that knowing it is the right to read the call's data."""
    return secrets.token_hex(16)


@attrs.define(eq=False)
class CallContext:
    config: Config
    endpoint: Endpoint
    user_agent: UserAgent
    proxy: StatefulProxy
    media: MediaPool
    sh: ShClient | None
    registrations: RegistrationTable
    metrics: Metrics
    log: OperatorLog
    traces: TraceStore
    directory: CallDirectory
    admission: Admission
    engines: EngineHealth
    bypass: BypassTokens
    write_cdr: Callable[[dict[str, Any]], None]
    api_base: str | None
    headers: HeaderPolicy
    couplings: CouplingTable
    """Calls of role B2BUA."""
    """What becomes of IMS headers, and what our answers carry."""
    own_hosts: frozenset[str]
    """Host names and addresses under which a Route or ServerName means us, lower case."""
    destinations: DestinationPolicy = attrs.Factory(DestinationPolicy)
    """Whom agents may call."""
    incoming: IncomingPolicy = attrs.Factory(IncomingPolicy)
    """What becomes of a call by its parties."""
    outbound_limits: OutboundLimits = attrs.Factory(OutboundLimits)
    user_limits: UserLimits = attrs.Factory(UserLimits)
    reg_events: RegEvents | None = None
    """None: registrations are known by REGISTER alone."""
    quality: QualityWatch = attrs.Factory(lambda: QualityWatch(AlarmList()))
    """Whether one-way audio is an alarm."""
    tasks: trio.Nursery | None = None
    calls: set[Any] = attrs.Factory(set)

    @property
    def codecs(self) -> tuple[CodecOffer, ...]:
        """Those that we offer and take."""
        return own_codecs(self.config.media.codecs)

    @property
    def srtp(self) -> SrtpSupport:
        """What we do about SRTP, with keys from the system's source."""
        return SrtpSupport(self.config.media.srtp, secrets.token_bytes)

    @staticmethod
    def wall() -> float:
        return time.time()

    @staticmethod
    def now() -> float:
        return trio.current_time()

    def is_own_uri(self, uri: str) -> bool:
        """Whether a Route value or ServerName is ours: our identity's host, or one of our addresses."""
        text = uri.strip()
        if "<" in text:
            text = text.split("<", 1)[1].split(">", 1)[0]
        return host_of(text) in self.own_hosts
