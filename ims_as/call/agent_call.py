"""One call joined to an AI agent: from the INVITE to the recorded termination.

Set-up (design: the life of a call): profile, codec, port and engine, all before anything above 100 is sent, since an
18x would end the S-CSCF's default handling.  The whole of it runs under ``answer_budget_ms`` counted from the INVITE;
what is not ready by then is an inability, answered by the failure table in ``failure``.

Conversation: one inbox takes what happens to the call (the caller's dialog, the media worker, the callee of a handover)
in order, so nothing here runs at the same time as anything else of the same call, except ``_fail_over``, which only
awaits engine connections.  ``close`` releases the port and the engine whatever happened, and runs once.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from ims_as.call.context import CallContext
from ims_as.call.engine_chain import EngineChain
from ims_as.call.failure import FailureAction, choose_failure_action, reason_header
from ims_as.call.profile import UserProfile, load_profile
from ims_as.call.record import CallRecord, CallState
from ims_as.call.transfer import Handover
from ims_as.config import AgentConfig
from ims_as.errors import Result, Termination
from ims_as.isc.routing import IscRoute
from ims_as.isc.served_user import ServedUser
from ims_as.media_client import MediaError, MediaLeg
from ims_as.sip.errors import NoCommonCodecError, SdpError, SipParseError
from ims_as.sip.invite_session import (
    Cancelled,
    Ended,
    InviteSession,
    ReinviteReceived,
    Rejected,
    RequestReceived,
    SessionEvent,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.offer_answer import AudioStream, LocalMedia, SdpSession, negotiate_answer
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from media.control import StreamConfig

__all__ = ["AgentCall"]

INBOX_SIZE = 512
"""Far above what a call produces between two turns of its task; beyond it the newest event is dropped and counted."""
CLOSE_DEADLINE_S = 3.0
MEDIA_PLACEHOLDER_PORT = 9
"""The discard port, for choosing a codec before a port is bound; it is never sent."""


class AgentCall:
    """A terminating-UA call (TS 23.218 §9.1.1.1) that may become a B2BUA when the caller is handed over."""

    def __init__(
        self,
        context: CallContext,
        request: Request,
        transaction: ServerTransaction,
        record: CallRecord,
        served: ServedUser,
        route: IscRoute,
    ) -> None:
        self.context = context
        self.request = request
        self.record = record
        self.served = served
        self.route = route
        self.received = context.now()
        self.profile = UserProfile()
        self.agent_name = ""
        self.agent: AgentConfig | None = None
        self.session: InviteSession | None = None
        self.leg: MediaLeg | None = None
        self.stream: AudioStream | None = None
        self.engines: EngineChain | None = None
        self.handover: Handover | None = None
        self.engine_lost = False
        self.hanging_up = ""
        self.on_hold = False
        self.dropped_events = 0
        self._transaction: ServerTransaction | None = transaction
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._sdp = SdpSession(
            username="-",
            session_id=int(record.received_at * 1000),
            version=1,
            address=context.config.media.address,
        )
        self._inbox_in, self._inbox = trio.open_memory_channel[tuple[str, Any]](INBOX_SIZE)

    # ---------------------------------------------------------------- life

    async def run(self) -> None:
        """Runs the call to its end.  An unforeseen error ends this call alone, and is counted."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    if await self._set_up():
                        await self._converse()
                    self._nursery.cancel_scope.cancel()
        except Exception as error:  # the guard around one call
            self.context.metrics.guard_errors.labels("call").inc()
            self.context.log.event("CALL_FAILED", call_id=self.record.id, error=repr(error))
            self.end(Termination(Result.FAILED, "ims-as", "internal-error", 500))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_DEADLINE_S):
                await self.close()

    def end(self, termination: Termination) -> None:
        """Records who ended the call and why; the first word counts."""
        if self.record.termination is None:
            self.record.termination = termination

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """CANCEL while the INVITE is neither answered nor handed on (RFC 3261 §9.2)."""
        self.trace("decision", "ims-as", "ims-as", "cancelled by the caller")
        if self._transaction is None:
            return
        self._transaction = None
        self.context.endpoint.send_response(transaction, build_response(self.request, 487))
        self.end(Termination(Result.CANCELLED, "caller", "cancel", 487))
        self._scope.cancel()

    def shut_down(self, reason: str) -> None:
        """Ends the call from our side (drain deadline, process end)."""
        self.post("local", reason)

    def post(self, source: str, event: Any) -> None:
        try:
            self._inbox_in.send_nowait((source, event))
        except trio.WouldBlock:
            self.dropped_events += 1
            self.context.metrics.guard_errors.labels("inbox").inc()
        except trio.ClosedResourceError:
            return  # the call is over; what comes late is of no use

    def trace(self, kind: str, source: str, target: str, label: str, text: str = "", at: float | None = None) -> None:
        self.record.trace.add(kind, source, target, label, text=text, at=at)

    # ---------------------------------------------------------------- set-up

    async def _set_up(self) -> bool:
        """True when the call was answered by the agent."""
        context = self.context
        deadline = self.received + context.config.sip.answer_budget_ms / 1000
        asked = context.now()
        self.profile = await load_profile(context.sh, self.served.uri, context.own_hosts)
        self.record.profile_source = self.profile.source
        if self.profile.source == "hss":
            context.metrics.sh_seconds.labels("UDR").observe(context.now() - asked)
        if context.sh is not None:
            self.trace("sh", "ims-as", "hss", f"profile ({self.profile.source})")
        if not self.profile.settings.enabled:
            return self._pass_on("profile-disabled")
        self._choose_agent()
        assert self.agent is not None
        try:
            offer = parse_sdp_untrusted(self.request.body)
            chosen = negotiate_answer(
                offer,
                self._local_media(self._sdp.address, MEDIA_PLACEHOLDER_PORT),
                session=SdpSession("-", 0, 0, self._sdp.address),
            )
        except (SdpError, NoCommonCodecError) as error:
            return self._unable("codec", str(error), 500)
        self.stream = chosen.stream
        self.engines = EngineChain(self, self.agent.engines)
        try:
            # nothing is sent to the caller before the answer: what plays now would be early media that nobody agreed to
            silent = attrs.evolve(self._stream_config(chosen.stream), send=False)
            await self.engines.open(silent, deadline=deadline)
        except MediaError as error:
            return self._unable(error.code, error.detail, 503)
        assert self.leg is not None
        answer = negotiate_answer(offer, self._local_media(self.leg.host, self.leg.port), session=self._sdp)
        self.session = context.user_agent.accept(self.request, self._take_transaction(), on_event=self._on_caller)
        self.session.answer(answer.answer.to_bytes())
        self.leg.modify_soon(self._stream_config(answer.stream))
        self.record.answered_at = context.wall()
        self.record.state = CallState.TALKING
        setup_ms = self.record.setup_ms
        if setup_ms is not None:
            context.metrics.setup_seconds.observe(setup_ms / 1000)
        return True

    def _choose_agent(self) -> None:
        config = self.context.config
        name = self.profile.settings.agent
        if name not in config.agents:
            name = next((rule.agent for rule in config.routing if rule.matches(self.request_fields())), "default")
        self.agent_name = self.record.agent = name
        self.agent = config.agents[name]

    def request_fields(self) -> dict[str, str]:
        """What ``routing`` rules match on."""
        return {
            "request_uri": self.request.uri,
            "served_user": self.served.uri,
            "from": self.record.from_uri,
            "to": self.request.to.uri_text,
            "session_case": self.record.session_case,
        }

    def _local_media(self, address: str, port: int) -> LocalMedia:
        return LocalMedia(address=address, port=port)

    def _stream_config(self, stream: AudioStream) -> StreamConfig:
        return StreamConfig(
            codec=stream.codec,
            payload_type=stream.payload_type,
            remote_host=stream.remote_host,
            remote_port=stream.remote_port,
            send=stream.direction.sends,
            receive=stream.direction.receives,
            ptime_ms=stream.ptime_ms or 20,
            dtmf_payload_type=stream.dtmf_payload_type,
        )

    def _take_transaction(self) -> ServerTransaction:
        transaction = self._transaction
        assert transaction is not None
        self._transaction = None
        return transaction

    def _unable(self, code: str, detail: str, status: int) -> bool:
        """We can't serve this call: failure table F1, F2."""
        context = self.context
        action = choose_failure_action(
            context.config.sip.on_failure, self.profile.default_handling, has_route=bool(self.route.rest)
        )
        self.trace("decision", "ims-as", "ims-as", f"unable: {code} → {action.value}", detail)
        if action is FailureAction.PASS_ON:
            return self._pass_on(code)
        transaction = self._take_transaction()
        context.endpoint.send_response(
            transaction, build_response(self.request, status, headers=[reason_header(code, detail)])
        )
        self.end(Termination(Result.REJECTED, "ims-as", code, status))
        return False

    def _pass_on(self, reason: str) -> bool:
        if not self.route.rest:
            transaction = self._take_transaction()
            response = build_response(self.request, 503, headers=[reason_header("no-route", reason)])
            self.context.endpoint.send_response(transaction, response)
            self.end(Termination(Result.REJECTED, "ims-as", f"{reason}-without-route", 503))
            return False
        self.trace("decision", "ims-as", "ims-as", f"passed on by its Route: {reason}")
        self.context.proxy.forward(self.request, self._take_transaction())
        self.end(Termination(Result.PASSED_ON, "ims-as", reason, None))
        return False

    # ---------------------------------------------------------------- conversation

    async def _converse(self) -> None:
        async for source, event in self._inbox:
            match source:
                case "caller":
                    await self._receive_caller(event)
                case "media":
                    await self._receive_media(event)
                case "callee" if self.handover is not None:
                    await self.handover.receive_callee(event)
                case "local":
                    self.hang_up(Termination(Result.FAILED, "ims-as", str(event), None))
            if self.record.termination is not None:
                return

    def _on_caller(self, session: InviteSession, event: SessionEvent) -> None:
        self.post("caller", event)

    def on_media(self, event: dict[str, Any]) -> None:
        """The worker's events for our leg."""
        self.post("media", event)

    async def _receive_caller(self, event: SessionEvent) -> None:
        match event:
            case Ended(by=by, reason=reason):
                joined = self.handover is not None and self.handover.is_joined
                self.trace("decision", "ims-as", "ims-as", f"caller's dialog ended: {by}", reason)
                if by == "remote":
                    self.end(Termination(Result.TRANSFERRED if joined else Result.ANSWERED, "caller", "bye", None))
                else:
                    self.end(Termination(Result.FAILED, "network", f"dialog-{by}", None))
            case Cancelled():
                self.end(Termination(Result.CANCELLED, "caller", "cancel", 487))
            case Rejected(status=status):
                self.end(Termination(Result.FAILED, "ims-as", "answer-not-sent", status))
            case ReinviteReceived(request=request):
                await self._receive_reinvite(request)
            case RequestReceived() if self.handover is None:
                pass  # answered by the session itself
            case _:
                if self.handover is not None:
                    await self.handover.receive_caller(event)

    async def _receive_reinvite(self, request: Request) -> None:
        assert self.session is not None
        if self.handover is not None and self.handover.takes_offers:
            self.handover.relay_caller_offer(request)
            return
        if self.leg is None or self.stream is None:
            self.session.reject_reinvite(500)
            return
        if not request.body:  # an offer is asked for: ours, unchanged
            self.session.accept_reinvite(self.session.local_body)
            return
        try:
            offer = parse_sdp_untrusted(request.body)
            negotiated = negotiate_answer(offer, self._local_media(self.leg.host, self.leg.port), session=self._sdp)
        except (SdpError, NoCommonCodecError) as error:
            # the call goes on with what was agreed before (RFC 3261 §14.2)
            self.session.reject_reinvite(488, headers=[("Warning", f'304 ims-as "{str(error)[:80]}"')])
            return
        try:
            await self.leg.modify(self._stream_config(negotiated.stream))
        except MediaError:
            self.session.reject_reinvite(500)
            return
        self.stream = negotiated.stream
        self.session.accept_reinvite(negotiated.answer.to_bytes())
        held = not negotiated.stream.direction.sends
        if held != self.on_hold:
            self.on_hold = held
            self.leg.tell_engine({"event": "hold" if held else "resume"})

    async def _receive_media(self, event: dict[str, Any]) -> None:
        name = event.get("ev")
        at = event.get("at")
        match name:
            case "engine_event":
                self._receive_engine_event(event.get("event") or {})
            case "engine_lost":
                self._receive_engine_lost(str(event.get("cause", "")), str(event.get("detail", "")))
            case "drained":
                self.trace("decision", "ims-as", "ims-as", f"the agent hangs up: {event.get('reason')}")
                self.hang_up(Termination(Result.ANSWERED, "agent", "hangup", None))
            case "first_audio":
                ttfb_ms = float(event.get("ttfb_ms") or 0.0)
                self.record.ttfb_ms.append(ttfb_ms)
                self.context.metrics.ttfb_seconds.observe(ttfb_ms / 1000)
                self.trace("media", "engine", "media", f"first audio, TTFB {ttfb_ms:.0f} ms", at=at)
            case "first_rtp":
                self.trace("media", "caller", "media", f"first RTP from {event.get('source')}", at=at)
            case "filler":
                self.trace("media", "media", "caller", "filler starts" if event.get("on") else "filler ends", at=at)
            case "barge_in":
                self.trace("media", "caller", "media", f"barge-in after {event.get('played_ms')} ms", at=at)
            case "dtmf":
                self.trace("media", "caller", "media", f"DTMF {event.get('digit')}", at=at)
            case "rtp_timeout" if not self.on_hold and (self.handover is None or not self.handover.is_joined):
                self.context.metrics.rtp_timeouts.inc()
                self.context.log.event("RTP_TIMEOUT", call_id=self.record.id)
                self.hang_up(Termination(Result.FAILED, "ims-as", "rtp-timeout", None))
            case "worker_lost":
                # calls do not move to another worker yet: this one ends cleanly, its signalling intact
                self.leg = None
                self.hang_up(Termination(Result.FAILED, "ims-as", "media-worker-lost", None))

    def _receive_engine_event(self, event: dict[str, Any]) -> None:
        name = str(event.get("event", ""))
        if name == "transcript":
            if event.get("final", True):
                role, text = str(event.get("role", "")), str(event.get("text", ""))
                self.record.add_transcript(role, text, self.context.wall())
                self.trace("engine", "engine", "ims-as", f"{role}: {text}")
            return
        self.trace("engine", "engine", "ims-as", name, str(event))
        match name:
            case "transfer":
                self.hand_over(str(event.get("target", "served-user")), "agent", event.get("data"))
            case "hangup":
                self.hanging_up = str(event.get("reason") or "hangup")
            case "dtmf" if self.leg is not None:
                self.leg.send_dtmf(str(event.get("digits", ""))[:32])
            case "tool_call" if self.leg is not None:
                # tools are the operator's; with none configured the engine is told so and need not wait
                error = {"event": "tool_result", "id": event.get("id"), "error": "no such tool"}
                self.leg.tell_engine(error)

    def _receive_engine_lost(self, cause: str, detail: str) -> None:
        self.trace("engine", "engine", "media", f"engine lost: {cause}", detail)
        if self.hanging_up or self.engine_lost or (self.handover is not None and self.handover.is_joined):
            return
        self.engine_lost = True
        self.record.state = CallState.FILLING
        self.record.failovers += 1
        self.context.metrics.failovers.inc()
        self.context.log.event("ENGINE_LOST", call_id=self.record.id, url=self.record.engine_url, cause=cause)
        if self.handover is None and self._nursery is not None:
            self._nursery.start_soon(self._fail_over, cause)

    async def _fail_over(self, cause: str) -> None:
        """F5: the engine again, the next engines, then a human.  The caller hears filler meanwhile."""
        assert self.engines is not None
        if await self.engines.reattach():
            self.engine_lost = False
            self.record.state = CallState.TALKING
            return
        queue = self.agent.transfer.queue if self.agent is not None else None
        self.hand_over("queue" if queue else "served-user", f"engine lost ({cause})", None, by_agent=False)

    def hand_over(self, target: str, reason: str, handover_data: Any, *, by_agent: bool = True) -> None:
        """Starts calling a human for the caller; a second wish while one is under way is refused."""
        if self.handover is not None and not self.handover.has_failed:
            return
        self.handover = Handover(self, target, reason, handover_data, by_agent=by_agent)
        self.handover.start()

    def handover_failed(self, cause: str) -> None:
        """The agent goes on when it is there; else the caller is told and the call ends."""
        if self.leg is not None and not self.engine_lost:
            self.leg.tell_engine({"event": "transfer", "state": "failed", "cause": cause})
            return
        if self._nursery is not None:
            self._nursery.start_soon(self._announce_and_hang_up, cause)

    async def _announce_and_hang_up(self, cause: str) -> None:
        if self.leg is not None:
            self.leg.play("builtin:congestion", loop=False)
            await trio.sleep(2.0)
        self.trace("decision", "ims-as", "ims-as", f"nobody to hand the caller to: {cause}")
        self.post("local", "engine-lost")

    def hang_up(self, termination: Termination) -> None:
        self.end(termination)
        if self.session is not None:
            self.session.bye(headers=[("Reason", f'SIP;cause=200;text="{_quoted(termination.reason)}"')])

    # ---------------------------------------------------------------- end

    async def release_media(self, reason: str) -> None:
        """The engine is told and gone, the port is closed.  Safe to call twice."""
        leg, self.leg = self.leg, None
        if leg is not None:
            stats = await leg.release(reason)
            self.record.media = stats
            self.trace("media", "ims-as", "media", f"released: {reason}")

    @property
    def sdp_version(self) -> int:
        """Version of the description that the caller has from us."""
        return self._sdp.version

    async def close(self) -> None:
        self._inbox_in.close()
        if self._transaction is not None:  # not answered by anybody: the caller must not hang
            transaction = self._take_transaction()
            self.context.endpoint.send_response(transaction, build_response(self.request, 500))
        if self.session is not None and not self.session.is_terminated:
            self.session.bye()
        if self.handover is not None:
            self.handover.close()
        reason = self.record.termination.reason if self.record.termination else "ended"
        await self.release_media(reason)
        self.record.ended_at = self.context.wall()
        self.record.state = CallState.ENDED
        self.end(Termination(Result.FAILED, "ims-as", "no-reason", None))


def _quoted(text: str) -> str:
    return "".join(char if char.isprintable() and char not in '"\\' else " " for char in text)[:100]


def caller_identity(request: Request) -> str:
    """The asserted identity of the caller, else From; as URI text."""
    asserted = request.headers.get_list("P-Asserted-Identity")
    if asserted:
        text = asserted[0]
        return text.split("<", 1)[1].split(">", 1)[0] if "<" in text else text.strip()
    try:
        return request.from_.uri_text
    except SipParseError:
        return ""
