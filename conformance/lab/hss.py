"""The lab's HSS: Sh (UDR, PUR, SNR, PNR) and Cx (UAR, LIR, MAR, SAR) on one Diameter node.

Sh as TS 29.328 wants it: real Sh-Data, sequence numbers of repository data, subscriptions with notifications,
Notif-Eff. Cx as far as a real S-CSCF needs it to register users and to load their iFCs: digest authentication,
IMSSubscription, and a registration state that Sh shows to application servers. Nothing is stored on disk.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import trio
from attrs import frozen

from conformance.lab.hss_cx import CxService
from conformance.lab.hss_quirks import QuirkySh, SegmentFront
from conformance.lab.hss_sh import Notification, ShService
from conformance.lab.quirks import BATCH_S, MORE_APPLICATIONS, Quirk, shape_user_data
from conformance.lab.subscribers import IMS_STATE_AUTHENTICATION_PENDING, Subscriber
from diameter.base_commands import CX_APPLICATION, SH_APPLICATION
from diameter.dictionary.base import RELAY_APPLICATION_ID
from diameter.dictionary.cx import CX, CX_APPLICATION_ID
from diameter.dictionary.sh import SH, DataReference
from diameter.errors import LocalDiameterError, NoPeerError, RequestTimeoutError
from diameter.message import Message
from diameter.node import DiameterNode, Listen, NodeConfig, WireTap
from diameter.sh.cache import next_sequence_number
from diameter.sh.messages import PushNotificationRequest, UserIdentity
from diameter.tls import ContextSource

__all__ = ["LabHss", "RequestRecord", "Subscriber"]

# requests kept in the log
_MAX_LOG = 10_000
_PUSH_DEADLINE_S = 5.0
_NEVER_S = 1e9


@frozen
class RequestRecord:
    """One request that reached the HSS: `command` is UDR, SNR, SAR …, `peer` the Origin-Host."""

    peer: str
    command: str
    message: Message


class LabHss:
    """An HSS on loopback.

    Args:
        host: address to listen on.
        port: 3868; 0 takes a free one, see `address`.
        subscribers: by any name; every public identity of each one is served.
        origin_host, origin_realm: its Diameter identity; the realm is the digest realm as well.
        scscf_name: where I-CSCFs find an S-CSCF for users without one.
        on_wire: sees every Diameter message.
        quirks: how it deviates from the specifications.

    Attributes:
        requests: log of application requests, in order.
        silent: True answers nothing (watchdogs still are).
        delay_s: wait before each answer.
        ignores_subscriptions: True leaves SNR unanswered, as some HSSes do.
        sh: the Sh side with its own knobs.
        n_pushed: notifications that were answered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        subscribers: Mapping[str, Subscriber],
        *,
        origin_host: str = "hss.ims.mnc001.mcc001.3gppnetwork.org",
        origin_realm: str = "ims.mnc001.mcc001.3gppnetwork.org",
        scscf_name: str = "sip:127.0.0.20:5060",
        on_wire: WireTap | None = None,
        watchdog_s: float = 30.0,
        quirks: Collection[Quirk] = (),
        tls: ContextSource | None = None,
    ) -> None:
        self.quirks = frozenset(quirks)
        self._front: SegmentFront | None = None
        if Quirk.NO_REASSEMBLY in self.quirks:
            self._front = SegmentFront(host, port, lambda: self.node.addresses[-1])
        more = MORE_APPLICATIONS if Quirk.MANY_APPLICATIONS in self.quirks else ()
        self.node = DiameterNode(
            NodeConfig(
                origin_host=origin_host,
                origin_realm=origin_realm,
                listen=(Listen(host, 0 if self._front else port, "tcp" if tls is None else "tls"),),
                tls=tls,
                product_name="lab-hss",
                applications=(*more, SH_APPLICATION, CX_APPLICATION),
                wait_s=2.0,
            ),
            on_request=self._answer,
            on_wire=on_wire,
            watchdog_s=_NEVER_S if Quirk.NO_DWR in self.quirks else watchdog_s,
        )
        self._users: dict[str, Subscriber] = {}
        self._nursery: trio.Nursery | None = None
        self._identity: dict[str, Any] = {"origin_host": origin_host, "origin_realm": origin_realm}
        self._shown_state: dict[str, tuple[int, str]] = {}
        self.sh = ShService(self._users.get, self._push_all)
        self.sh.checks_sequence = Quirk.PUR_UNCHECKED not in self.quirks
        self._quirky = QuirkySh(self.sh, self._users.get, self._subscribers, self.quirks) if self.quirks else None
        self._batch_end = 0.0
        self.cx = CxService(
            self._users.get,
            self._registration_changed,
            self.node.commands.identity,
            realm=origin_realm,
            scscf_name=scscf_name,
            new_nonce=lambda: secrets.token_bytes(16),
        )
        self.requests: deque[RequestRecord] = deque(maxlen=_MAX_LOG)
        self.silent = False
        self.delay_s = 0.0
        self.ignores_subscriptions = False
        self.n_pushed = 0
        for subscriber in subscribers.values():
            self.add(subscriber)

    @property
    def address(self) -> tuple[str, int]:
        """Bound (host, port), after `run` has started."""
        return self._front.address if self._front is not None else self.node.addresses[-1]

    @property
    def n_lost_reads(self) -> int:
        """With `Quirk.NO_REASSEMBLY`: reads of which something was lost."""
        return self._front.n_lost if self._front is not None else 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled; started when the port is bound."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await nursery.start(self.node.run)
                if self._front is not None:
                    await nursery.start(self._front.run)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def add(self, subscriber: Subscriber) -> None:
        """Provisions a user."""
        for impu in subscriber.impus:
            self._users[impu] = subscriber
        self._shown_state[subscriber.impi] = (subscriber.state, subscriber.scscf_name)

    def find(self, impu: str) -> Subscriber | None:
        """The user of a public identity."""
        return self._users.get(impu)

    def ifcs_of(self, impu: str) -> bytes | None:
        """The `IFCs` of a public identity, None for an unknown one."""
        subscriber = self._users.get(impu)
        return None if subscriber is None else subscriber.ifcs

    def set_repository(self, impu: str, service_indication: bytes, xml: bytes | None) -> None:
        """Changes (None: deletes) a repository item as an operator would, and notifies its subscribers."""
        subscriber = self._require(impu)
        if xml is None:
            subscriber.repository.pop(service_indication, None)
            subscriber.sequences.pop(service_indication, None)
        else:
            number = next_sequence_number(subscriber.sequences.get(service_indication))
            subscriber.repository[service_indication] = xml
            subscriber.sequences[service_indication] = number
        self.sh.changed(subscriber, DataReference.REPOSITORY_DATA, si=service_indication)

    def set_ifcs(self, impu: str, ifcs: bytes) -> None:
        """Changes the iFCs and notifies subscribers on Sh (an S-CSCF sees them at its next SAR)."""
        subscriber = self._require(impu)
        subscriber.ifcs = ifcs
        self.sh.changed(subscriber, DataReference.INITIAL_FILTER_CRITERIA)

    def set_registration(self, impu: str, state: int, scscf_name: str) -> None:
        """Changes IMSUserState and S-CSCF and notifies subscribers."""
        subscriber = self._require(impu)
        subscriber.state, subscriber.scscf_name = state, scscf_name
        self._registration_changed(subscriber)

    def _require(self, impu: str) -> Subscriber:
        subscriber = self._users.get(impu)
        if subscriber is None:
            raise LocalDiameterError(f"no subscriber {impu}")
        return subscriber

    async def _answer(self, request: Message, peer: str) -> Message | None:
        is_cx = request.application_id == CX_APPLICATION_ID
        command = (CX if is_cx else SH).find_command(request)
        name = command.name if command is not None else str(request.code)
        self.requests.append(RequestRecord(peer, name, request))
        if self.delay_s:
            await trio.sleep(self.delay_s)
        if self.silent or (self.ignores_subscriptions and name == "SNR"):
            return None
        if Quirk.SLOW in self.quirks:
            await self._end_of_batch()
        if is_cx:
            return self.cx.answer(request)
        return (self._quirky or self.sh).answer(request, self._identity)

    async def _end_of_batch(self) -> None:
        now = trio.current_time()
        if now >= self._batch_end:
            self._batch_end = now + BATCH_S
        await trio.sleep_until(self._batch_end)

    def _subscribers(self) -> Iterator[Subscriber]:
        return iter(dict.fromkeys(self._users.values()))

    def _registration_changed(self, subscriber: Subscriber) -> None:
        """AUTHENTICATION_PENDING is told only by what follows it (TS 29.328 §6.1.4)."""
        if subscriber.state == IMS_STATE_AUTHENTICATION_PENDING:
            return
        before = self._shown_state[subscriber.impi]
        after = self._shown_state[subscriber.impi] = (subscriber.state, subscriber.scscf_name)
        if before[0] != after[0]:
            self.sh.changed(subscriber, DataReference.IMS_USER_STATE)
        if before[1] != after[1]:
            self.sh.changed(subscriber, DataReference.S_CSCF_NAME)

    def _push_all(self, notifications: Iterable[Notification]) -> None:
        if Quirk.NO_PNR in self.quirks:
            return
        for notification in notifications:
            if self._nursery is not None:
                self._nursery.start_soon(self._push, notification)

    def _shape(self, user_data: bytes, impu: str) -> bytes:
        return shape_user_data(user_data, self._users.get(impu), self.quirks) if self.quirks else user_data

    async def _push(self, notification: Notification) -> None:
        subscription = notification.subscription
        is_connected = any(
            peer["is_open"]
            and (peer["origin_host"] == subscription.origin_host or RELAY_APPLICATION_ID in peer["applications"])
            for peer in self.node.peer_states()
        )
        if not is_connected:
            return
        request = PushNotificationRequest(
            session_id=self.node.new_session_id(),
            **self._identity,
            destination_host=subscription.origin_host,
            destination_realm=subscription.origin_realm,
            user_identity=UserIdentity(public_identity=subscription.impu),
            user_data=self._shape(notification.user_data, subscription.impu),
        )
        try:
            answer = await self.node.request(request.to_message(), deadline_s=_PUSH_DEADLINE_S)
        except (NoPeerError, RequestTimeoutError):
            return
        result = answer.result()
        if result is not None and result.is_success:
            self.n_pushed += 1
        else:
            # unknown to the AS, or refused: it gets no more of these
            self.sh.subscriptions.discard(subscription)
