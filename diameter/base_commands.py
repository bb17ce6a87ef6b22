"""Building and reading CER/CEA, DWR/DWA and DPR/DPA (RFC 6733 §5.3–5.5), sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from diameter.avp import Avp, Avps
from diameter.dictionary import base
from diameter.dictionary.base import BASE, RELAY_APPLICATION_ID, DisconnectCause, ResultCode
from diameter.dictionary.loader import AvpDefinition
from diameter.errors import RemoteDiameterError
from diameter.message import Message

__all__ = [
    "CX_APPLICATION",
    "SH_APPLICATION",
    "Application",
    "BaseCommands",
    "Capabilities",
    "read_capabilities_untrusted",
]

CER_CODE, DWR_CODE, DPR_CODE = 257, 280, 282
NO_INBAND_SECURITY = 0


@frozen
class Application:
    """An application that we announce.

    Attributes:
        application_id: e.g. 16777217 for Sh.
        vendor_id: 0 announces it plainly, else inside Vendor-Specific-Application-Id.
        is_accounting: Acct-Application-Id instead of Auth-Application-Id.
    """

    application_id: int
    vendor_id: int = 0
    is_accounting: bool = False

    def avp(self) -> Avp:
        """The AVP that announces it, also used inside requests."""
        kind = base.ACCT_APPLICATION_ID if self.is_accounting else base.AUTH_APPLICATION_ID
        if not self.vendor_id:
            return kind.avp(self.application_id)
        return base.VENDOR_SPECIFIC_APPLICATION_ID.avp(
            [base.VENDOR_ID.avp(self.vendor_id), kind.avp(self.application_id)]
        )


SH_APPLICATION = Application(16777217, base.VENDOR_3GPP)
CX_APPLICATION = Application(16777216, base.VENDOR_3GPP)


@frozen
class Capabilities:
    """What a CER or CEA says of the peer.

    Attributes:
        applications: ids, wherever they are announced.
        vendors: Supported-Vendor-Id.
        host_ips: Host-IP-Address, as text; a multi-homed peer lists several.
        inband_security: Inband-Security-Id: 0 none, 1 TLS after the exchange (RFC 3588). Absent means none.
    """

    origin_host: str
    origin_realm: str
    applications: frozenset[int]
    product_name: str
    origin_state_id: int | None
    vendors: frozenset[int] = frozenset()
    host_ips: tuple[str, ...] = ()
    inband_security: frozenset[int] = frozenset()

    def shares(self, applications: Iterable[Application]) -> bool:
        """True when one application is common; a relay on either side shares all (RFC 6733 §2.4)."""
        return RELAY_APPLICATION_ID in self.applications or any(
            application.application_id in self.applications or application.application_id == RELAY_APPLICATION_ID
            for application in applications
        )

    def shares_security(self) -> bool:
        """False when the peer insists on TLS after the exchange: we do TLS before it (RFC 6733 §13.1) or not at all."""
        return not self.inband_security or NO_INBAND_SECURITY in self.inband_security


def read_capabilities_untrusted(message: Message) -> Capabilities:
    """Reads a CER, or a CEA with a good result.

    An application counts wherever it is announced, plain or vendor-specific, auth or acct: real peers do all of it.

    Raises:
        RemoteDiameterError: 5005 without identity, 5004 or 5014 for values that cannot be read.
    """
    origin_host = message.text(base.ORIGIN_HOST)
    origin_realm = message.text(base.ORIGIN_REALM)
    if not origin_host or not origin_realm:
        raise RemoteDiameterError("no identity in the capabilities", ResultCode.MISSING_AVP)
    found: set[int] = set()
    places = [message.avps]
    for avp in message.avps.find_all(base.VENDOR_SPECIFIC_APPLICATION_ID.key):
        places.append(base.VENDOR_SPECIFIC_APPLICATION_ID.value(avp))
    for place in places:
        for definition in (base.AUTH_APPLICATION_ID, base.ACCT_APPLICATION_ID):
            found.update(definition.value(avp) for avp in place.find_all(definition.key))
    return Capabilities(
        origin_host,
        origin_realm,
        frozenset(found),
        message.text(base.PRODUCT_NAME) or "",
        message.number(base.ORIGIN_STATE_ID),
        frozenset(_values(message, base.SUPPORTED_VENDOR_ID)),
        tuple(value for value in _values(message, base.HOST_IP_ADDRESS) if isinstance(value, str)),
        frozenset(_values(message, base.INBAND_SECURITY_ID)),
    )


def _values(message: Message, definition: AvpDefinition) -> list[Any]:
    return [definition.value(avp) for avp in message.avps.find_all(definition.key)]


@frozen
class BaseCommands:
    """Builds the base commands of one node."""

    origin_host: str
    origin_realm: str
    product_name: str
    vendor_id: int
    origin_state_id: int
    applications: tuple[Application, ...]

    def identity(self) -> list[Avp]:
        """Origin-Host and Origin-Realm."""
        return [base.ORIGIN_HOST.avp(self.origin_host), base.ORIGIN_REALM.avp(self.origin_realm)]

    def cer(self, *host_ips: str) -> Message:
        """Capabilities-Exchange-Request; `host_ips` are our addresses on the connection, one for TCP."""
        return BASE.command("CER").message(self._capabilities(host_ips))

    def cea(self, cer: Message, host_ip: str | tuple[str, ...], result: int) -> Message:
        """The answer to a CER; E bit for 3010 UNKNOWN_PEER, as for all 3xxx."""
        host_ips = (host_ip,) if isinstance(host_ip, str) else host_ip
        return cer.build_answer(
            [base.RESULT_CODE.avp(result), *self._capabilities(host_ips)], is_error=3000 <= result < 4000
        )

    def dwr(self) -> Message:
        """Device-Watchdog-Request."""
        return BASE.command("DWR").message([*self.identity(), base.ORIGIN_STATE_ID.avp(self.origin_state_id)])

    def dwa(self, dwr: Message) -> Message:
        """The answer to a DWR."""
        return dwr.build_answer(
            [
                base.RESULT_CODE.avp(ResultCode.SUCCESS),
                *self.identity(),
                base.ORIGIN_STATE_ID.avp(self.origin_state_id),
            ]
        )

    def dpr(self, cause: DisconnectCause) -> Message:
        """Disconnect-Peer-Request."""
        return BASE.command("DPR").message([*self.identity(), base.DISCONNECT_CAUSE.avp(cause)])

    def dpa(self, dpr: Message) -> Message:
        """The answer to a DPR."""
        return dpr.build_answer([base.RESULT_CODE.avp(ResultCode.SUCCESS), *self.identity()])

    def error_answer(self, request: Message, error: RemoteDiameterError) -> Message:
        """An answer for a request that is at fault (§7.2): E bit for 3xxx, Failed-AVP where one is named."""
        failed = base.FAILED_AVP.avp([error.failed_avp]) if error.failed_avp is not None else None
        return request.build_answer(
            [
                base.RESULT_CODE.avp(error.result_code),
                *self.identity(),
                base.ERROR_MESSAGE.avp(error.reason),
                failed,
            ],
            is_error=3000 <= error.result_code < 4000,
        )

    def _capabilities(self, host_ips: Sequence[str]) -> Avps:
        vendors = sorted({application.vendor_id for application in self.applications if application.vendor_id})
        return Avps.of(
            [
                *self.identity(),
                *(base.HOST_IP_ADDRESS.avp(host_ip) for host_ip in host_ips),
                base.VENDOR_ID.avp(self.vendor_id),
                base.PRODUCT_NAME.avp(self.product_name),
                base.ORIGIN_STATE_ID.avp(self.origin_state_id),
                *(base.SUPPORTED_VENDOR_ID.avp(vendor) for vendor in vendors),
                *(application.avp() for application in self.applications),
            ]
        )
