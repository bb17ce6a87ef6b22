"""The lab's HSS with the manners of a real one: see `quirks`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import trio
from attrs import evolve
from lxml import etree

from conformance.lab.hss_sh import ShService
from conformance.lab.quirks import PUR_BYTES, Quirk, shape_answer
from conformance.lab.subscribers import Subscriber
from diameter.dictionary import base
from diameter.dictionary.base import VENDOR_3GPP
from diameter.dictionary.sh import SH, DataReference, ShResultCode
from diameter.errors import RemoteDiameterError
from diameter.framing import HEADER_BYTES
from diameter.message import Message, Result
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    SubscribeNotificationsRequest,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from diameter.sh.userdata import RepositoryData, ShData, write_sh_data

__all__ = ["QuirkySh", "SegmentFront", "split_whole"]

_READ_BYTES = 64 * 1024
_USER_DATA = SH["User-Data"]


class QuirkySh:
    """Answers UDR, PUR and SNR in front of the service that keeps to the specification.

    Args:
        sh: that service.
        find: subscriber of a public identity.
        subscribers: all of them.
    """

    def __init__(
        self,
        sh: ShService,
        find: Callable[[str], Subscriber | None],
        subscribers: Callable[[], Iterator[Subscriber]],
        quirks: frozenset[Quirk],
    ) -> None:
        self._sh = sh
        self._find = find
        self._subscribers = subscribers
        self._quirks = quirks

    def answer(self, request: Message, identity: dict[str, Any]) -> Message | None:
        """The answer, None for none.

        Raises:
            RemoteDiameterError: as `ShService.answer`.
        """
        quirks, code = self._quirks, request.code
        subscriber = self._user(request)
        if code == SubscribeNotificationsRequest.COMMAND.code and Quirk.NO_SNR_ANSWER in quirks:
            return None
        if code == ProfileUpdateRequest.COMMAND.code:
            if Quirk.NO_PUR_ANSWER in quirks and not self._has_imsi(request):
                return None
            answer = self._update(request, subscriber, identity)
        elif subscriber is None and Quirk.NUMBERS_ONLY in quirks:
            answer = _unknown(identity).to_answer(request)
        elif code == UserDataRequest.COMMAND.code and Quirk.WHOLE_SH_DATA in quirks:
            answer = self._pull_whole(request, subscriber, identity)
        else:
            answer = self._sh.answer(request, identity)
        return shape_answer(answer, subscriber, quirks)

    def _pull_whole(self, request: Message, subscriber: Subscriber | None, identity: dict[str, Any]) -> Message:
        if subscriber is None:
            return _unknown(identity).to_answer(request)
        data = ShData(
            public_identities=subscriber.impus,
            msisdns=subscriber.msisdns,
            repository=tuple(
                RepositoryData(si, subscriber.sequences.get(si, 0), service_data)
                for si, service_data in subscriber.repository.items()
            ),
            scscf_name=subscriber.scscf_name,
            ifcs=subscriber.ifcs,
            user_state=subscriber.state,
        )
        return UserDataAnswer(**identity, user_data=write_sh_data(data)).to_answer(request)

    def _update(self, request: Message, subscriber: Subscriber | None, identity: dict[str, Any]) -> Message:
        too_much = len(request.encode()) - PUR_BYTES
        if Quirk.PUR_CUT in self._quirks and too_much > 0:
            cut = [
                evolve(avp, data=_mend(avp.data[:-too_much])) if avp.key == _USER_DATA.key else avp
                for avp in request.avps
            ]
            request = evolve(request, avps=type(request.avps)(cut))
        if Quirk.NO_PUR_ANSWER in self._quirks and subscriber is not None:
            # its User-Name is the IMSI, which the specification would refuse
            user_name = base.USER_NAME.avp(subscriber.impi)
            avps = [user_name if avp.key == base.USER_NAME.key else avp for avp in request.avps]
            request = evolve(request, avps=type(request.avps)(avps))
        if subscriber is None and Quirk.NUMBERS_ONLY in self._quirks:
            result = Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP)
            return ProfileUpdateAnswer(
                **identity, result=result, data_reference=DataReference.REPOSITORY_DATA
            ).to_answer(request)
        return self._sh.answer(request, identity)

    def _has_imsi(self, request: Message) -> bool:
        subscriber = self._user(request)
        return subscriber is not None and request.text(base.USER_NAME) == subscriber.impi.partition("@")[0]

    def _user(self, request: Message) -> Subscriber | None:
        group = request.group(SH["User-Identity"])
        try:
            identity = UserIdentity.read_untrusted(group) if group is not None else UserIdentity()
        except RemoteDiameterError:
            return None
        if Quirk.NUMBERS_ONLY not in self._quirks:
            if identity.msisdn is not None:
                return self._find(f"tel:+{identity.msisdn}")
            return self._find(identity.public_identity or "")
        number = identity.msisdn or (identity.public_identity or "").removeprefix("sip:").partition("@")[0]
        if identity.msisdn is None and not (identity.public_identity or "").startswith("sip:"):
            return None
        for subscriber in self._subscribers() if number.isdigit() else ():
            if number in subscriber.msisdns or number == subscriber.impi.partition("@")[0]:
                return subscriber
        return None


def _unknown(identity: dict[str, Any]) -> UserDataAnswer:
    return UserDataAnswer(**identity, result=Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP))


def _mend(xml: bytes) -> bytes:
    """A document that was cut, as a reader understands it who does not mind."""
    root = etree.fromstring(xml, etree.XMLParser(recover=True, resolve_entities=False, no_network=True))
    return etree.tostring(root) if root is not None else b"<Sh-Data/>"


def split_whole(chunk: bytes) -> list[bytes]:
    """The messages that are whole in what one read has brought; the rest is lost."""
    found = []
    while len(chunk) >= HEADER_BYTES and chunk[0] == 1:
        length = int.from_bytes(chunk[1:4])
        if length < HEADER_BYTES or length > len(chunk):
            break
        found.append(chunk[:length])
        chunk = chunk[length:]
    return found


class SegmentFront:
    """A listener that passes on what comes whole with one read, and loses the rest.

    Args:
        target: address of the HSS behind it.

    Attributes:
        address: bound (host, port), after `run` has started.
        n_lost: reads of which something was lost.
    """

    def __init__(self, host: str, port: int, target: Callable[[], tuple[str, int]]) -> None:
        self._host, self._port = host, port
        self._target = target
        self.address: tuple[str, int] = (host, port)
        self.n_lost = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled.  Raises OSError: cannot bind."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await listener.bind((self._host, self._port))
            listener.listen(16)
            self.address = listener.getsockname()[:2]
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        near, _ = await listener.accept()
                    except OSError as error:
                        if error.errno == errno.ECONNABORTED:
                            continue
                        raise
                    nursery.start_soon(self._serve, near)

    async def _serve(self, near: trio.socket.SocketType) -> None:
        with near:
            try:
                far = await trio.open_tcp_stream(*self._target())
            except OSError:
                return
            async with far, trio.open_nursery() as nursery:
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                nursery.start_soon(self._pass_back, far, near, nursery.cancel_scope)
                try:
                    while chunk := await near.recv(_READ_BYTES):
                        whole = b"".join(split_whole(chunk))
                        self.n_lost += len(whole) != len(chunk)
                        if whole:
                            await far.send_all(whole)
                except (OSError, trio.BrokenResourceError):
                    pass
                nursery.cancel_scope.cancel()

    async def _pass_back(self, far: trio.SocketStream, near: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        try:
            async for chunk in far:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[await near.send(rest) :]
        except (OSError, trio.BrokenResourceError):
            pass
        scope.cancel()
