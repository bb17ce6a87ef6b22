"""Cx side of the lab's HSS (TS 29.228 §6): enough for a real I-CSCF and S-CSCF."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from conformance.lab.subscribers import (
    IMS_STATE_AUTHENTICATION_PENDING,
    IMS_STATE_NOT_REGISTERED,
    IMS_STATE_REGISTERED,
    IMS_STATE_UNREGISTERED_SERVICES,
    Subscriber,
)
from diameter.avp import Avp
from diameter.base_commands import CX_APPLICATION
from diameter.dictionary import base
from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.cx import CX, CxResultCode, ServerAssignmentType
from diameter.errors import RemoteDiameterError
from diameter.message import Message, Result

__all__ = ["CxService"]

NO_STATE_MAINTAINED = 1

_DEREGISTRATIONS = frozenset(
    {
        ServerAssignmentType.TIMEOUT_DEREGISTRATION,
        ServerAssignmentType.USER_DEREGISTRATION,
        ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION,
        ServerAssignmentType.DEREGISTRATION_TOO_MUCH_DATA,
    }
)
_STORING = frozenset(
    {
        ServerAssignmentType.TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME,
        ServerAssignmentType.USER_DEREGISTRATION_STORE_SERVER_NAME,
    }
)


class CxService:
    """Answers UAR, LIR, MAR and SAR.

    Args:
        find: subscriber of a public identity.
        on_change: called after the registration state or the S-CSCF of a subscriber has changed.
        identity: Origin-Host and Origin-Realm AVPs of the HSS.
        realm: digest realm.
        scscf_name: S-CSCF that I-CSCFs are sent to for users without one.
        new_nonce: 16 octets each time.
    """

    def __init__(
        self,
        find: Callable[[str], Subscriber | None],
        on_change: Callable[[Subscriber], None],
        identity: Callable[[], Iterable[Avp]],
        *,
        realm: str,
        scscf_name: str,
        new_nonce: Callable[[], bytes],
    ) -> None:
        self._find = find
        self._on_change = on_change
        self._identity = identity
        self._realm = realm
        self._scscf_name = scscf_name
        self._new_nonce = new_nonce

    def answer(self, request: Message) -> Message:
        """The answer to a request of the Cx application.

        Raises:
            RemoteDiameterError: unknown command, or the request breaks the notation.
        """
        command = CX.find_command(request)
        handlers = {
            "UAR": self._authorize,
            "LIR": self._locate,
            "MAR": self._authenticate,
            "SAR": self._assign,
        }
        if command is None or command.name not in handlers:
            raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
        CX.check_untrusted(request, command)
        impu = request.text(CX["Public-Identity"])
        subscriber = self._find(impu) if impu is not None else None
        if subscriber is None:
            return self._build(request, _experimental(CxResultCode.USER_UNKNOWN))
        impi = request.text(base.USER_NAME)
        if impi is not None and impi != subscriber.impi:
            return self._build(request, _experimental(CxResultCode.IDENTITIES_DONT_MATCH))
        return handlers[command.name](request, subscriber)

    def _authorize(self, request: Message, subscriber: Subscriber) -> Message:
        if subscriber.scscf_name and subscriber.state != IMS_STATE_NOT_REGISTERED:
            result = _experimental(CxResultCode.SUBSEQUENT_REGISTRATION)
            return self._build(request, result, CX["Server-Name"].avp(subscriber.scscf_name))
        return self._build(request, _experimental(CxResultCode.FIRST_REGISTRATION), self._capabilities())

    def _locate(self, request: Message, subscriber: Subscriber) -> Message:
        if subscriber.scscf_name:
            return self._build(request, Result(ResultCode.SUCCESS), CX["Server-Name"].avp(subscriber.scscf_name))
        if b"<InitialFilterCriteria" in subscriber.ifcs:
            return self._build(request, _experimental(CxResultCode.UNREGISTERED_SERVICE), self._capabilities())
        return self._build(request, _experimental(CxResultCode.IDENTITY_NOT_REGISTERED))

    def _authenticate(self, request: Message, subscriber: Subscriber) -> Message:
        item = request.group(CX["SIP-Auth-Data-Item"])
        assert item is not None, "the notation demands it"
        scheme = CX["SIP-Authentication-Scheme"].text(item) or "Unknown"
        head = [CX["SIP-Item-Number"].avp(1)]
        if scheme == "Digest-MD5":
            # the form of Kamailio's ims_auth: nonce, and the password to compute the response with
            members = [
                CX["SIP-Authentication-Scheme"].avp(scheme),
                CX["SIP-Authenticate"].avp(self._new_nonce()),
                CX["SIP-Authorization"].avp(subscriber.password.encode()),
            ]
        elif scheme in ("SIP Digest", "Unknown"):
            ha1 = hashlib.md5(f"{subscriber.impi}:{self._realm}:{subscriber.password}".encode()).hexdigest()
            members = [
                CX["SIP-Authentication-Scheme"].avp("SIP Digest"),
                CX["SIP-Digest-Authenticate"].avp(
                    [
                        CX["Digest-Realm"].avp(self._realm),
                        CX["Digest-Algorithm"].avp("MD5"),
                        CX["Digest-QoP"].avp("auth"),
                        CX["Digest-HA1"].avp(ha1),
                    ]
                ),
            ]
        else:
            return self._build(request, _experimental(CxResultCode.AUTH_SCHEME_NOT_SUPPORTED))
        server_name = request.text(CX["Server-Name"]) or ""
        if subscriber.state == IMS_STATE_NOT_REGISTERED:
            self._move(subscriber, IMS_STATE_AUTHENTICATION_PENDING, server_name)
        return self._build(
            request,
            Result(ResultCode.SUCCESS),
            base.USER_NAME.avp(subscriber.impi),
            CX["Public-Identity"].avp(request.text(CX["Public-Identity"])),
            CX["SIP-Number-Auth-Items"].avp(1),
            CX["SIP-Auth-Data-Item"].avp([*head, *members]),
        )

    def _assign(self, request: Message, subscriber: Subscriber) -> Message:
        server_name = request.text(CX["Server-Name"]) or ""
        assignment = request.number(CX["Server-Assignment-Type"])
        wants_profile = False
        match assignment:
            case ServerAssignmentType.REGISTRATION | ServerAssignmentType.RE_REGISTRATION:
                wants_profile = True
                self._move(subscriber, IMS_STATE_REGISTERED, server_name)
            case ServerAssignmentType.UNREGISTERED_USER:
                wants_profile = True
                self._move(subscriber, IMS_STATE_UNREGISTERED_SERVICES, server_name)
            case ServerAssignmentType.NO_ASSIGNMENT:
                wants_profile = True
            case _ if assignment in _STORING:
                self._move(subscriber, IMS_STATE_UNREGISTERED_SERVICES, server_name)
            case _ if assignment in _DEREGISTRATIONS:
                self._move(subscriber, IMS_STATE_NOT_REGISTERED, "")
            case _:
                # authentication failed or timed out: as it was before the challenge
                if subscriber.state == IMS_STATE_AUTHENTICATION_PENDING:
                    self._move(subscriber, IMS_STATE_NOT_REGISTERED, "")
        return self._build(
            request,
            Result(ResultCode.SUCCESS),
            base.USER_NAME.avp(subscriber.impi),
            CX["User-Data"].avp(subscriber.ims_subscription()) if wants_profile else None,
        )

    def _move(self, subscriber: Subscriber, state: int, scscf_name: str) -> None:
        if (subscriber.state, subscriber.scscf_name) == (state, scscf_name):
            return
        subscriber.state, subscriber.scscf_name = state, scscf_name
        self._on_change(subscriber)

    def _capabilities(self) -> Avp:
        return CX["Server-Capabilities"].avp([CX["Server-Name"].avp(self._scscf_name)])

    def _build(self, request: Message, result: Result, *avps: Avp | None) -> Message:
        if result.vendor:
            written = base.EXPERIMENTAL_RESULT.avp(
                [base.VENDOR_ID.avp(result.vendor), base.EXPERIMENTAL_RESULT_CODE.avp(result.code)]
            )
        else:
            written = base.RESULT_CODE.avp(result.code)
        return request.build_answer(
            [
                CX_APPLICATION.avp(),
                written,
                base.AUTH_SESSION_STATE.avp(NO_STATE_MAINTAINED),
                *self._identity(),
                *avps,
            ]
        )


def _experimental(code: CxResultCode) -> Result:
    return Result(code, VENDOR_3GPP)
