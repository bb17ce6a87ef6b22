"""Builds every part from the configuration and runs them in one nursery tree.

Start, in order (each is up before the next begins): media workers, Diameter peers (in the background: a dead HSS never
keeps us from starting), CDR writer, a first look at the engines, API, SIP listeners last, for a call that arrives must
be served.

Stop, on SIGTERM or SIGINT:

1. admission closes: new INVITEs and OPTIONS get 503, in-dialog requests go on;
2. calls are given ``limits.drain_s`` to end, then ended with a BYE (``POST /drain`` does these two and goes on);
3. subscriptions to registrations end (at most ``UNSUBSCRIBE_DEADLINE_S``), DPR to the Diameter peers;
4. listeners, API and workers are cancelled; the CDR writer flushes as it ends.

A second signal skips to 3.  SIGHUP reads the configuration again (``reloading.py``).
"""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import trio

from diameter.message import Message
from diameter.node import DiameterNode
from diameter.sh.client import ShClient, ShConfig
from ims_as.alarming import Alarming
from ims_as.api.app import build_api
from ims_as.api.server import serve_api
from ims_as.app_metrics import MetricsBridge
from ims_as.call.admission import Admission
from ims_as.call.bypass import BypassTokens
from ims_as.call.context import CallContext
from ims_as.call.dispatcher import ALLOW, SUPPORTED, Dispatcher
from ims_as.call.engine_health import EngineHealth
from ims_as.call.passthrough import exempt_reason
from ims_as.call.placement import CallPlacer
from ims_as.call.probe import keep_probing
from ims_as.call.profile import host_of
from ims_as.call.record import CallDirectory
from ims_as.charging.cdr import CdrWriter
from ims_as.collector import keep_collecting
from ims_as.config import Config
from ims_as.config_reload import ReloadOutcome
from ims_as.defence.gate import AdmissionGate
from ims_as.defence.oc import OverloadControl
from ims_as.defence.overload import LoadMonitor
from ims_as.defence.rate_limit import PeerLimiter
from ims_as.diameter_setup import build_node_config, build_tls
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.isc.reg_event import RegEvents
from ims_as.isc.registration import RegistrationTable, describe
from ims_as.isc.server_names import other_server_names
from ims_as.media_setup import build_media_pool
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog
from ims_as.oss.quality_watch import QualityWatch
from ims_as.oss.trace import TraceStore
from ims_as.recording_service import RecordingService, recording_directories
from ims_as.reloading import ConfigSource, Reloader
from ims_as.settings import apply_settings
from ims_as.sip.coupling import CouplingTable
from ims_as.sip.grammar import format_host
from ims_as.sip.proxy import StatefulProxy
from ims_as.sip.record_route import RecordRouter
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.endpoint import Endpoint, WireEvent
from ims_as.transport.load_probe import watch_load
from ims_as.transport.tls import TlsContexts

__all__ = ["Application", "serve"]

END_CALLS_S = 2.0
"""For the answers to our BYEs."""
DPR_DEADLINE_S = 1.0
UNSUBSCRIBE_DEADLINE_S = 2.0
MAX_TRUST_CACHE = 10_000
_CALL_ID_RE = re.compile(rb"\r\n(?:Call-ID|i)[ \t]*:([^\r]*)\r\n", re.IGNORECASE)


class Application:
    """One running server; it is its own API state.  ``run`` returns when it has stopped."""

    def __init__(self, config: Config, source: ConfigSource | None = None) -> None:
        """``source`` reads the configuration again; without it there is no reload."""
        self.config = config
        self._reloader = Reloader(self, source)
        self.metrics = Metrics()
        self.log = OperatorLog(config.log, on_event=lambda entry: self.metrics.operator_events.labels(entry).inc())
        self.cdr = CdrWriter(
            config.cdr.directory,
            node=config.identity,
            rotate_size_bytes=config.cdr.rotate_size_bytes,
            rotate_after_s=config.cdr.rotate_after_s,
            metrics=self.metrics,
            log=self.log,
        )
        self._trust: dict[str, bool] = {}
        self._trusted = config.sip.trusted_peers
        self.endpoint = Endpoint(
            listen=config.sip.listen,
            advertise=config.sip.advertise,
            is_trusted=self._is_trusted,
            hosts=config.sip.hosts,
            dns=config.sip.dns.name_servers(),
            streams=config.sip.connections.limits(),
            tls=None if config.sip.tls is None else config.sip.tls.options(),
            on_wire=self._on_wire,
            server_name="ims-as",
        )
        self.node: DiameterNode | None = None
        self.sh: ShClient | None = None
        self._diameter_tls: TlsContexts | None = None
        if config.diameter.peers or config.diameter.listen:
            self.node, self.sh = self._build_diameter()
        self.alarming = Alarming(self.metrics, self.log)
        self.recordings = RecordingService(
            lambda: recording_directories(self.config), self.metrics, self.log, self.alarming.alarms
        )
        self.media = build_media_pool(config.media, on_lost=self.alarming.media_worker_lost)
        self.media.on_recording = self.recordings.receive
        self.context = self._build_context()
        self.peers = PeerLimiter()
        self.overload_control = OverloadControl(is_exempt=lambda request: exempt_reason(request) is not None)
        self.endpoint.overload_control = self.overload_control
        self.gate = AdmissionGate(
            self.context.admission,
            self.peers,
            clock=self.context.now,
            is_exempt=self.dispatcher.is_exempt,
            on_refusals=lambda reason, count: self.log.event("ADMISSION_REJECTED", reason=reason, count=count),
            retry_after_s=config.limits.retry_after_s,
        )
        apply_settings(self, config)
        self.endpoint.gate = self.gate
        self._bridge = MetricsBridge(
            self.metrics,
            self.endpoint,
            self.node,
            self.sh,
            self.media,
            self.context.registrations,
            self.gate,
            self.context.reg_events,
        )
        self.metrics.before_scrape(self._bridge.refresh)
        self._stop = trio.Event()
        self._stop_now = trio.Event()
        self._parts: trio.Nursery | None = None
        self._drain_until: float | None = None

    # ---------------------------------------------------------------- parts

    def _build_diameter(self) -> tuple[DiameterNode, ShClient]:
        diameter = self.config.diameter
        self._diameter_tls = build_tls(diameter)
        node = DiameterNode(build_node_config(diameter, self._diameter_tls), on_request=self._on_diameter_request)
        sh = diameter.sh
        client = ShClient(
            node,
            ShConfig(
                destination_realm=diameter.destination_realm,
                server_name=self.config.identity,
                other_server_names=other_server_names(self.config.identity),
                service_indication=sh.service_indication,
                budget_s=sh.budget_ms / 1000,
                cache_s=sh.cache_s,
                poll_s=sh.poll_s,
                subscribe=sh.subscribe,
                ask_aliases=sh.aliases,
                strict=sh.strict,
            ),
        )
        return node, client

    def _build_context(self) -> CallContext:
        config = self.config
        hosts = {host_of(config.identity), *(format_host(address.host).lower() for address in config.sip.listen)}
        if config.sip.advertise is not None:
            hosts.add(format_host(config.sip.advertise.host).lower())
        secret = config.sip.bypass_key
        key = secret.value.encode() if secret is not None else secrets.token_bytes(32)
        user_agent = UserAgent(
            self.endpoint,
            on_invite=lambda request, transaction: self.dispatcher.on_invite(request, transaction),
            on_request=lambda request, transaction: self.dispatcher.on_request(request, transaction),
            user_agent="ims-as",
            allow=ALLOW,
            supported=SUPPORTED,
            session_timer=config.sip.session_timer.options(),
        )
        proxy = StatefulProxy(self.endpoint, hides_503=True)
        self.record_router = router = RecordRouter(self.endpoint, proxy, key)
        couplings = CouplingTable(self.endpoint)
        user_agent.passthrough = lambda request, transaction: (
            couplings.receive_request(request, transaction) or router.forward_in_dialog(request, transaction)
        )
        user_agent.on_unhandled_ack = lambda ack, flow: (
            None if couplings.receive_ack(ack) else router.forward_ack(ack, flow)
        )
        context = CallContext(
            config=config,
            endpoint=self.endpoint,
            user_agent=user_agent,
            proxy=proxy,
            media=self.media,
            sh=self.sh,
            registrations=RegistrationTable(),
            metrics=self.metrics,
            log=self.log,
            traces=TraceStore(CallContext.wall),
            directory=CallDirectory(),
            admission=Admission(
                config.limits.calls,
                config.limits.calls_per_second,
                load=LoadMonitor(config.limits.latency_target_ms / 1000),
            ),
            engines=EngineHealth(),
            bypass=BypassTokens(key),
            write_cdr=self.cdr.write_call,
            api_base=f"http://{config.api.listen}",
            headers=HeaderPolicy(
                own_ioi=config.sip.ioi or f"Type 3{host_of(config.identity)}", host=host_of(config.identity)
            ),
            own_hosts=frozenset(hosts),
            couplings=couplings,
        )
        context.quality = QualityWatch(self.alarming.alarms, object_=config.media.address)
        if config.sip.reg_event:
            context.reg_events = RegEvents(
                user_agent,
                context.registrations,
                identity=config.identity,
                own_ioi=context.headers.own_ioi,
                wall=context.wall,
            )
        self.dispatcher = Dispatcher(context)
        self.placer = CallPlacer(context, self.dispatcher.start)
        self.endpoint.user = user_agent
        return context

    # ---------------------------------------------------------------- hooks

    def trust(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """Who may speak to us from now on; connections that others have are cut."""
        self._trusted = tuple(networks)
        self._trust.clear()
        self.endpoint.forget_trust()

    def admits_message(self, address: str) -> bool:
        """Whether one more message of that address is read (``limits.per_peer.messages_per_second``)."""
        return self.peers.admits_message(address, now=trio.current_time())

    def _is_trusted(self, address: str) -> bool:
        known = self._trust.get(address)
        if known is None:
            ip = ip_address(address)
            known = any(ip in network for network in self._trusted)
            if len(self._trust) >= MAX_TRUST_CACHE:
                self._trust.clear()
            self._trust[address] = known
        return known

    def _on_wire(self, event: WireEvent) -> None:
        """Each SIP message in or out, into the trail of its call."""
        call_id = sip_call_id_of(event.data)
        record = self.context.directory.find(call_id) if call_id is not None else None
        if record is not None:
            host, port = format_host(event.flow.remote[0]), event.flow.remote[1]
            record.trace.add_message(event.direction, f"{host}:{port}", event.data, at=event.at)

    def _on_load(self, wait_s: float, now: float) -> None:
        load = self.context.admission.load
        before = load.is_overloaded
        load.observe(wait_s, now=now)
        self.overload_control.set_loss(load.loss, now=now, wall=self.context.wall())
        if load.is_overloaded != before:
            entry = "OVERLOAD_STARTED" if load.is_overloaded else "OVERLOAD_ENDED"
            self.log.event(entry, wait_ms=round(wait_s * 1000), calls_per_second=load.limit)
        self.gate.log.flush(now)

    def reload_diameter_tls(self) -> None:
        """Reads certificate, key and authorities again; open connections keep theirs.  Raises TlsSetupError."""
        if self._diameter_tls is not None:
            self._diameter_tls.reload()

    def _on_diameter_request(self, message: Message, peer: str) -> Message:
        assert self.sh is not None
        return self.sh.receive_push(message)

    # ---------------------------------------------------------------- life

    async def run(self, *, task_status: trio.TaskStatus[Application] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as parts:
            self._parts = parts
            await parts.start(self.cdr.run)
            await parts.start(self.media.run)
            parts.start_soon(self.alarming.watch_media, self.media)
            if self.node is not None and self.sh is not None:
                await parts.start(self.node.run)
                parts.start_soon(self.sh.run)
                diameter = self.config.diameter
                parts.start_soon(
                    self.alarming.watch_hss, self.node, self.sh, diameter.destination_realm, diameter.alarm_after_s
                )
            parts.start_soon(self.alarming.watch_quality, self.context.quality)
            parts.start_soon(self.recordings.run)
            await parts.start(keep_probing, self.context.engines, self._engine_urls)
            token = self.config.api.token
            api = build_api(self, self.log, token=token.value if token is not None else None)
            await parts.start(serve_api, api, self.config.api.listen)
            async with trio.open_nursery() as calls:
                self.context.tasks = calls
                await parts.start(self.endpoint.run)
                parts.start_soon(self._watch_signals)
                parts.start_soon(watch_load, self.endpoint.oldest_wait_s, self._on_load)
                self.log.event("SERVER_STARTED", listen=[str(address) for address in self.endpoint.addresses])
                task_status.started(self)
                await self._stop.wait()
                await self._quiesce()
                calls.cancel_scope.cancel()
            if self.node is not None:
                with trio.move_on_after(DPR_DEADLINE_S):
                    await self.node.disconnect()
            parts.cancel_scope.cancel()
        self.log.event("SERVER_STOPPED")

    def stop(self) -> None:
        """Begins the shutdown; called again, it is hastened."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for each in signals:
                if each == signal.SIGHUP:
                    await self.reload()
                else:
                    self.stop()

    async def _quiesce(self) -> None:
        self.log.event("SERVER_STOPPING")
        await self._end_calls()
        reg_events = self.context.reg_events
        if reg_events is not None:
            ended = trio.Event()
            reg_events.close(ended.set)
            with trio.move_on_after(UNSUBSCRIBE_DEADLINE_S):
                await ended.wait()

    def _engine_urls(self) -> frozenset[str]:
        return frozenset(engine.url for agent in self.config.agents.values() for engine in agent.engines)

    def _close_admission(self) -> float:
        """Until when calls that are up may go on; the first who asks sets it."""
        self.context.admission.draining = True
        if self._drain_until is None:
            self._drain_until = trio.current_time() + self.config.limits.drain_s
        return self._drain_until

    async def _end_calls(self) -> None:
        """No new calls; those that are up may end by themselves for a while."""
        with trio.CancelScope(deadline=self._close_admission()):
            await self._until_idle()
        for call in list(self.context.calls):
            call.shut_down("shutdown")
        with trio.move_on_after(END_CALLS_S):
            await self._until_idle()
        if not self.context.calls:
            self.log.event("DRAIN_DONE")

    async def _until_idle(self) -> None:
        while self.context.calls and not self._stop_now.is_set():
            with trio.move_on_after(0.1):
                await self._stop_now.wait()

    # ---------------------------------------------------------------- ApiState

    def is_ready(self) -> tuple[bool, list[str]]:
        return self.dispatcher.readiness()

    def calls(self) -> list[dict[str, Any]]:
        return self.context.directory.summaries()

    def call(self, call_id: str, /) -> dict[str, Any] | None:
        record = self.context.directory.find(call_id)
        return None if record is None else record.detail()

    def registrations(self, limit: int, /) -> list[dict[str, Any]]:
        context = self.context
        return [describe(each) for each in context.registrations.all(now=context.wall(), limit=limit)]

    def registration(self, impu: str, /) -> dict[str, Any] | None:
        context = self.context
        found = context.registrations.get(impu, now=context.wall())
        return None if found is None else describe(found)

    def alarms(self) -> dict[str, list[dict[str, Any]]]:
        alarms = self.alarming.alarms
        return {
            "alarms": [each.as_dict() for each in alarms.active()],
            "cleared": [each.as_dict() for each in alarms.cleared()],
        }

    def acknowledge_alarm(self, alarm_id: str, by: str, /) -> dict[str, Any] | None:
        found = self.alarming.alarms.acknowledge(alarm_id, by, now=self.context.wall())
        return None if found is None else found.as_dict()

    def place_call(self, order: object, key: str | None, /) -> tuple[str, bool]:
        return self.placer.place_untrusted(order, key=key)

    def hang_up(self, call_id: str, /) -> bool:
        return self.placer.hang_up(call_id)

    def workers(self) -> list[dict[str, Any]]:
        return self.media.workers()

    async def drain_worker(self, name: str, /) -> bool:
        """``POST /workers/{name}/drain``."""
        found = await self.media.drain(name)
        if found:
            self.log.event("MEDIA_WORKER_DRAINED", worker=name)
        return found

    async def drain(self) -> None:
        """No new calls from now on, and the old ones end (``POST /drain``); returns at once."""
        if self._drain_until is None and self._parts is not None:
            self.log.event("DRAIN_STARTED")
            self._close_admission()
            self._parts.start_soon(self._end_calls)
            await trio.lowlevel.checkpoint()

    async def reload(self) -> ReloadOutcome:
        """Reads the configuration again and applies what can be applied (SIGHUP, ``POST /reload``)."""
        return await self._reloader.reload()


def sip_call_id_of(message: bytes) -> str | None:
    """The Call-ID of a message on the wire, without parsing it."""
    at = message.find(b"\r\nCall-ID: ")
    if at >= 0:  # as we and nearly all others write it
        return message[at + 11 : message.find(b"\r\n", at + 11)].decode("utf-8", "replace").strip()
    match = _CALL_ID_RE.search(message)
    return match[1].decode("utf-8", "replace").strip() if match is not None else None


async def serve(config: Config, source: ConfigSource | None = None) -> None:
    """Runs the server until it is told to stop by a signal; ``source`` reads the configuration again on SIGHUP."""
    application = Application(config, source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_collecting)
        await application.run()
        nursery.cancel_scope.cancel()
