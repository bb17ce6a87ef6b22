"""``ims-as sh``: read, change and watch a user's data over Sh, as the configured Diameter identity or one of its own.

Each use makes a connection, does one thing and takes leave with DPR.  Subscriptions belong to an Origin-Host
(TS 29.328 §6.1.3), so `watch` gives up its own ones only when it has a name of its own: else it would take away those
of a running server.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
import trio
from lxml import etree

from diameter.dictionary.base import VENDOR_3GPP, DisconnectCause
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, DataReference, ShResultCode, SubsReqType
from diameter.errors import LocalDiameterError, NoPeerError, RemoteDiameterError, RequestTimeoutError
from diameter.message import Message, Result
from diameter.node import DiameterNode
from diameter.sh.client import ShClient, ShProfile
from diameter.sh.client import ShConfig as ClientConfig
from diameter.sh.errors import ShAnswerError, ShError, ShRefusedError, ShUserUnknownError
from diameter.sh.messages import (
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserIdentity,
)
from diameter.sh.results import describe_result
from diameter.sh.userdata import MAX_USER_DATA_BYTES, ShData, parse_sh_data_untrusted
from ims_as.config import Config
from ims_as.diameter_setup import build_tls, build_tool_config
from ims_as.errors import ImsAsError
from ims_as.transport.tls import TlsSetupError

__all__ = [
    "EXIT_NO_PEER",
    "EXIT_REFUSED",
    "ServiceDataError",
    "ShSession",
    "ShToolError",
    "Subscription",
    "Update",
    "change_service_data",
    "check_service_data",
    "describe_result",
    "get_profile",
    "origin_host_of",
    "put_service_data",
    "run",
    "watch_profile",
]

EXIT_NO_PEER = 3
EXIT_REFUSED = 4

DEFAULT_WAIT_S = 5.0
DPR_WAIT_S = 2.0
MAX_WAITING_PUSHES = 1000
"""Notifications read and not printed yet; the HSS gets no answer to more."""

WATCHED = (
    DataReference.REPOSITORY_DATA,
    DataReference.IMS_USER_STATE,
    DataReference.S_CSCF_NAME,
    DataReference.INITIAL_FILTER_CRITERIA,
)

T = TypeVar("T")


class ShToolError(ImsAsError):
    """It did not work.  `status`: exit status for the shell."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class ServiceDataError(ImsAsError):
    """What is to be stored is not one XML element."""


@attrs.frozen
class Update:
    """Sequence numbers of our repository item, and the item; None: there was, or is, none."""

    before: int | None
    after: int | None
    data_before: bytes | None = attrs.field(default=None, eq=False)
    data_after: bytes | None = attrs.field(default=None, eq=False)


@attrs.frozen
class Subscription:
    """What the HSS will tell of, and what it refused, with the reason."""

    accepted: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def origin_host_of(config: Config, name: str | None) -> str:
    """The Origin-Host: the configured one, `name`, or for a name without dots `name` in front of the configured one."""
    if name is None:
        return config.diameter.origin_host
    return name if "." in name else f"{name}.{config.diameter.origin_host}"


def check_service_data(xml: bytes) -> None:
    """Raises ServiceDataError, with the line, unless this is one well-formed element of bearable size."""
    if len(xml) > MAX_USER_DATA_BYTES:
        raise ServiceDataError(f"{len(xml)} bytes, at most {MAX_USER_DATA_BYTES}")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        raise ServiceDataError(f"not well-formed XML: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise ServiceDataError("a document type declaration: no HSS takes one")


# ---------------------------------------------------------------- one connection


class ShSession:
    """A node, its client and the notifications that came."""

    def __init__(self, config: Config, origin_host: str, wait_s: float) -> None:
        diameter = config.diameter
        if not diameter.peers:
            raise ShToolError("no HSS: diameter.peers is empty", EXIT_NO_PEER)
        self.config = config
        self.wait_s = wait_s
        try:
            tool = build_tool_config(
                diameter, build_tls(diameter), origin_host=origin_host, wait_s=min(wait_s, DPR_WAIT_S)
            )
            self.node = DiameterNode(tool, on_request=self._on_request)
        except (LocalDiameterError, TlsSetupError) as error:
            raise ShToolError(str(error), EXIT_NO_PEER) from error
        self.client = ShClient(
            self.node,
            ClientConfig(
                destination_realm=diameter.destination_realm,
                server_name=config.identity,
                service_indication=diameter.sh.service_indication,
                budget_s=wait_s,
                background_s=wait_s,
                subscribe=False,
            ),
        )
        self._pushes, self.pushed = trio.open_memory_channel[tuple[str | None, ShData]](MAX_WAITING_PUSHES)

    async def _on_request(self, message: Message, peer: str) -> Message | None:
        answer = self.client.receive_push(message)
        result = answer.result()
        if result is not None and result.is_success:
            push = PushNotificationRequest.read_untrusted(message)
            try:
                identity = push.user_identity.public_identity
                self._pushes.send_nowait((identity, parse_sh_data_untrusted(push.user_data)))
            except trio.WouldBlock:
                return None
        return answer

    async def ask(self, request: SubscribeNotificationsRequest) -> SubscribeNotificationsAnswer:
        answer = await self.node.request(request.to_message(), deadline_s=self.wait_s)
        try:
            return SubscribeNotificationsAnswer.read_untrusted(answer)
        except RemoteDiameterError as error:
            raise ShAnswerError(f"the answer cannot be read: {error.reason}") from None

    def subscription(self, impu: str, references: Sequence[int], kind: SubsReqType) -> SubscribeNotificationsRequest:
        repository = DataReference.REPOSITORY_DATA in references
        criteria = DataReference.INITIAL_FILTER_CRITERIA in references
        return SubscribeNotificationsRequest(
            session_id=self.node.new_session_id(),
            origin_host=self.node.origin_host,
            origin_realm=self.node.origin_realm,
            destination_realm=self.config.diameter.destination_realm,
            user_identity=UserIdentity(public_identity=impu),
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),) if len(references) > 1 else (),
            service_indications=(self.config.diameter.sh.service_indication.encode(),) if repository else (),
            server_name=self.config.identity if criteria else None,
            subs_req_type=kind,
            data_references=tuple(references),
        )


async def with_session(
    config: Config, origin_host: str, wait_s: float, action: Callable[[ShSession], Awaitable[T]]
) -> T:
    """Connects, acts, takes leave.  Raises ShToolError."""
    session = ShSession(config, origin_host, wait_s)
    outcome: list[T] = []
    failure: ShToolError | None = None
    unusable: ImsAsError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(session.node.run)
        try:
            with trio.move_on_after(wait_s):
                await session.node.wait_open()
            if not session.node.is_open():
                raise ShToolError(_why_closed(session.node, wait_s), EXIT_NO_PEER)
            outcome.append(await action(session))
        except ShToolError as error:
            failure = error
        except (ShError, NoPeerError, RequestTimeoutError) as error:
            failure = _failure(error)
        except ImsAsError as error:  # the action itself: a change that cannot be made
            unusable = error
        with trio.move_on_after(DPR_WAIT_S):
            await session.node.disconnect(DisconnectCause.DO_NOT_WANT_TO_TALK_TO_YOU)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if unusable is not None:
        raise unusable
    return outcome[0]


def _why_closed(node: DiameterNode, wait_s: float) -> str:
    peers = ", ".join(f"{row['peer']} ({row['failure'] or row['state']})" for row in node.peer_states())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(node.counters.items()))
    text = f"no HSS took the connection of {node.origin_host} within {wait_s:g} s: {peers}"
    return f"{text}; {counts}" if counts else text


def _failure(error: Exception) -> ShToolError:
    match error:
        case ShUserUnknownError():
            unknown = Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP)
            return ShToolError(f"the HSS refused: {describe_result(unknown)}", EXIT_REFUSED)
        case ShRefusedError(result=result):
            return ShToolError(f"the HSS refused: {describe_result(result)}", EXIT_REFUSED)
        case ShAnswerError():
            return ShToolError(str(error), EXIT_REFUSED)
    return ShToolError(str(error), EXIT_NO_PEER)


# ---------------------------------------------------------------- what the commands do


async def get_profile(
    config: Config, impu: str, *, origin_host: str | None = None, wait_s: float = DEFAULT_WAIT_S
) -> ShProfile:
    """Repository data, iFCs, state and S-CSCF name of a user (UDR).

    Args:
        origin_host: as `origin_host_of` takes it.
        wait_s: seconds for the connection, and for the answer.

    Raises:
        ShToolError: no HSS, no answer, or a refusal.
    """
    return await with_session(
        config, origin_host_of(config, origin_host), wait_s, lambda session: session.client.fetch(impu)
    )


async def put_service_data(
    config: Config,
    impu: str,
    service_data: bytes | None,
    *,
    origin_host: str | None = None,
    wait_s: float = DEFAULT_WAIT_S,
) -> Update:
    """Writes our repository item (UDR, then PUR with the next sequence number); None deletes it.

    Raises:
        ServiceDataError: `service_data` is not one XML element; nothing was sent.
        ShToolError: as `get_profile`.
    """
    if service_data is not None:
        check_service_data(service_data)

    async def act(session: ShSession) -> Update:
        before = await session.client.fetch(impu)
        after = await session.client.update_repository(impu, service_data)
        return Update(before.sequence, after, before.service_data, service_data)

    return await with_session(config, origin_host_of(config, origin_host), wait_s, act)


async def change_service_data(
    config: Config,
    impu: str,
    change: Callable[[bytes | None], bytes | None],
    *,
    origin_host: str | None = None,
    wait_s: float = DEFAULT_WAIT_S,
) -> Update:
    """Makes new service data out of what is stored (None: nothing); what stays the same is not written.

    Raises:
        ServiceDataError: what `change` gives is not one XML element; nothing was sent.
        ShToolError: as `get_profile`.
    """

    seen: list[tuple[bytes | None, bytes | None]] = []

    def make(present: bytes | None) -> bytes | None:
        wanted = change(present)
        if wanted is not None and wanted != present:
            check_service_data(wanted)
        seen.append((present, wanted))
        return wanted

    async def act(session: ShSession) -> Update:
        before = await session.client.fetch(impu)
        after = await session.client.change_repository(impu, make)
        # the last time it was made counts; when somebody else was faster, there were others before
        data_before, data_after = seen[-1]
        is_ours = data_before != data_after
        return Update(before.sequence if is_ours else after, after, data_before, data_after)

    return await with_session(config, origin_host_of(config, origin_host), wait_s, act)


async def watch_profile(
    config: Config,
    impu: str,
    *,
    on_profile: Callable[[ShProfile, Subscription], None],
    on_push: Callable[[ShData], None],
    count: int | None = None,
    stop: trio.Event | None = None,
    origin_host: str | None = None,
    wait_s: float = DEFAULT_WAIT_S,
) -> int:
    """Subscribes (SNR) and hands on each notification (PNR) until there were `count`, or `stop` is set.

    An HSS that refuses all references together is asked for each of them.

    Returns:
        how many notifications came.

    Raises:
        ShToolError: as `get_profile`, or nothing at all can be subscribed to.
    """
    name = origin_host_of(config, origin_host)

    async def act(session: ShSession) -> int:
        profile = await session.client.fetch(impu)
        subscription, references = await _subscribe(session, impu)
        on_profile(profile, subscription)
        n_pushed = await _receive(session, impu, on_push, math.inf if count is None else count, stop)
        if name != config.diameter.origin_host:
            for group in references:
                await session.ask(session.subscription(impu, group, SubsReqType.UNSUBSCRIBE))
        return n_pushed

    return await with_session(config, name, wait_s, act)


async def _subscribe(session: ShSession, impu: str) -> tuple[Subscription, list[tuple[DataReference, ...]]]:
    """Returns what holds, and the groups of references that were subscribed to together."""
    answer = await session.ask(session.subscription(impu, WATCHED, SubsReqType.SUBSCRIBE))
    if answer.result.is_success:
        return Subscription(tuple(each.name for each in WATCHED), ()), [WATCHED]
    accepted, refused, last = [], [], answer.result
    for reference in WATCHED:
        answer = await session.ask(session.subscription(impu, (reference,), SubsReqType.SUBSCRIBE))
        if answer.result.is_success:
            accepted.append(reference)
        else:
            last = answer.result
            refused.append((reference.name, describe_result(answer.result)))
    if not accepted:
        raise ShRefusedError(last)
    names = tuple(each.name for each in accepted)
    return Subscription(names, tuple(refused)), [(each,) for each in accepted]


async def _receive(
    session: ShSession, impu: str, on_push: Callable[[ShData], None], count: float, stop: trio.Event | None
) -> int:
    n_pushed = 0
    async with trio.open_nursery() as nursery:

        async def until_stopped(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        if stop is not None:
            nursery.start_soon(until_stopped, stop)
        while n_pushed < count:
            identity, data = await session.pushed.receive()
            if identity == impu:
                n_pushed += 1
                on_push(data)
        nursery.cancel_scope.cancel()
    return n_pushed


def run(action: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
    """The action in a trio loop of its own; its errors come out as themselves, not in a group."""

    async def main() -> T:
        return await action(*arguments, **options)

    return trio.run(main)
