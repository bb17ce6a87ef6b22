"""One peer: its state machine, its watchdog and its connections, joined (trio).

`PeerLink` carries out what `PeerStateMachine` (RFC 6733 §5.6) and `Watchdog` (RFC 3539) decide: it writes CER, CEA,
DWR, DWA, DPR and DPA, closes connections, and tells its owner when the peer is usable, when it is suspect or gone,
and which application messages it has sent. The owner is told nothing before the capabilities exchange has succeeded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio
from attrs import evolve, frozen

from diameter.base_commands import (
    CER_CODE,
    DPR_CODE,
    DWR_CODE,
    BaseCommands,
    Capabilities,
    read_capabilities_untrusted,
)
from diameter.dictionary import base
from diameter.dictionary.base import DisconnectCause, ResultCode
from diameter.errors import FramingError, RemoteDiameterError
from diameter.message import Message, decode_message_untrusted
from diameter.peer import PeerAction, PeerEvent, PeerState, PeerStateMachine
from diameter.routing import ReconnectTimer, Route
from diameter.transport import Connection, format_peer
from diameter.watchdog import Watchdog, WatchdogAction

__all__ = ["LinkOwner", "PeerConfig", "PeerLink"]


@frozen
class PeerConfig:
    """A peer that we connect to.

    Attributes:
        host: name or address.
        port: 3868 by default.
        transport: "tcp", "tls" or "sctp".
        origin_host: its DiameterIdentity if it must be this one; None accepts what its CEA says (over TLS only what
            its certificate names as well).
    """

    host: str
    port: int = 3868
    transport: str = "tcp"
    origin_host: str | None = None

    @property
    def name(self) -> str:
        return format_peer(self.host, self.port)


class LinkOwner(Protocol):
    """What a link tells its node."""

    commands: BaseCommands

    def on_link_up(self, link: PeerLink) -> None: ...
    def on_link_suspect(self, link: PeerLink, connection: Connection) -> None: ...
    def on_link_leaving(self, link: PeerLink, connection: Connection) -> None: ...
    def on_link_down(self, link: PeerLink, connection: Connection) -> None: ...
    def on_link_message(self, link: PeerLink, connection: Connection, message: Message) -> None: ...
    def on_link_wire(self, direction: str, link: PeerLink, message: Message) -> None: ...
    def on_peer_restart(self, link: PeerLink) -> None: ...
    def on_timers_changed(self) -> None: ...
    def next_hop_by_hop(self) -> int: ...
    def next_end_to_end(self) -> int: ...
    def count(self, what: str) -> None: ...


class PeerLink:
    """One peer of a node.

    Attributes:
        name: `host:port` as configured, or the Origin-Host of a peer that connected to us.
        capabilities: what its CER or CEA said; None before the first.
        is_redirect_target: connected to because of a redirect; gets nothing else.
        last_used: when a request was redirected to it.
        heard_at: when the peer last sent anything on the open connection, in seconds of trio's clock.
        last_failure: why the last attempt to connect came to nothing, or the connection ended; "" where none is known.
    """

    def __init__(
        self,
        owner: LinkOwner,
        name: str,
        *,
        config: PeerConfig | None,
        tw_s: float,
        wait_s: float,
        reconnect: ReconnectTimer,
        jitter: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._wait_s = wait_s
        self._i_connection: Connection | None = None
        self._r_connection: Connection | None = None
        self._usable: Connection | None = None
        self._route: Route | None = None
        self._cer: Message | None = None
        self._stop_cause = DisconnectCause.REBOOTING
        self.name = name
        self.config = config
        self.machine = PeerStateMachine(origin_host=owner.commands.origin_host, wait_s=wait_s)
        self.watchdog = Watchdog(tw_s=tw_s, jitter=jitter)
        self.reconnect = reconnect
        self.capabilities: Capabilities | None = None
        self.n_opened = 0
        self.last_failure = ""
        self.is_redirect_target = False
        self.last_used = 0.0
        self.heard_at = float("-inf")
        self._is_silent = False

    @property
    def is_open(self) -> bool:
        """True when application messages may pass."""
        return self.machine.is_open and self._usable is not None

    @property
    def origin_host(self) -> str:
        """The peer's DiameterIdentity as far as known, else ''."""
        if self.capabilities is not None:
            return self.capabilities.origin_host
        return (self.config.origin_host if self.config else None) or ""

    def route(self) -> Route | None:
        """The link as routing sees it, None when it is not open."""
        usable, known, state = self._usable, self.capabilities, self.watchdog.state
        if usable is None or known is None or not self.machine.is_open:
            return None
        route = self._route
        if route is None or route.connection is not usable or route.watchdog is not state:
            route = self._route = Route(
                usable, known.origin_host, known.applications, state, self.name, is_silent=self._is_silent
            )
        return route

    def doubt(self) -> None:
        """The peer has been silent for a whole request: others are preferred until it says something; asked by a DWR.

        The watchdog would find out as well, but at its own pace (two Tw), while calls wait for milliseconds.
        """
        if not self._is_silent and self._usable is not None and self.is_open:
            self._owner.count("peer_silent")
            self._is_silent, self._route = True, None
            self._write_request(self._usable, self._owner.commands.dwr())

    def next_deadline(self) -> float | None:
        """The earlier one of both machines' timers."""
        deadlines = [self.machine.next_deadline(), self.watchdog.next_deadline()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self) -> None:
        """Runs whichever timer is due."""
        now = trio.current_time()
        self._act(self.machine.handle_timer(now=now), None)
        self._watch(self.watchdog.handle_timer(now=now))

    async def connect_once(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        """One attempt: connect, exchange capabilities, serve until the connection ends. Safe to cancel."""
        if PeerAction.I_SND_CONN_REQ not in self._handle(PeerEvent.START):
            return
        connection: Connection | None = None
        try:
            with trio.move_on_after(self._wait_s):
                connection = await connect()
            if connection is None:
                self.last_failure = "no connection in time"
        except OSError as error:
            self._owner.count("connect_failed")
            self.last_failure = error.strerror or str(error) or "no connection"
        if connection is None:
            self._act(self._handle(PeerEvent.I_RCV_CONN_NACK), None)
            return
        if self.machine.state not in (PeerState.WAIT_CONN_ACK, PeerState.WAIT_CONN_ACK_ELECT):
            # the Wait timer has run out meanwhile
            connection.close()
            return
        self._i_connection = connection
        self._act(self._handle(PeerEvent.I_RCV_CONN_ACK), None)
        await self._serve(connection)

    def accept(self, connection: Connection, cer: Message) -> bool:
        """A connection that the peer has opened, with its CER. False: rejected, the connection is closed."""
        try:
            capabilities = read_capabilities_untrusted(cer)
        except RemoteDiameterError as error:
            self._owner.count("bad_capabilities")
            self._write(connection, self._owner.commands.error_answer(cer, error))
            connection.close()
            return False
        actions = self._handle(PeerEvent.R_CONN_CER, peer_host=capabilities.origin_host)
        if PeerAction.R_ACCEPT not in actions:
            self._owner.count("connection_rejected")
            connection.close()
            return False
        self._r_connection, self._cer, self.capabilities = connection, cer, capabilities
        self._owner.on_link_wire("in", self, cer)
        self._act(actions, cer)
        return True

    def stop(self, cause: DisconnectCause) -> None:
        """Says goodbye with a DPR when open, else closes what there is."""
        self._stop_cause = cause
        if self.machine.is_open:
            self._act(self._handle(PeerEvent.STOP), None)
        elif self.machine.state is not PeerState.CLOSING:
            self._close_all()

    def receive_frame_untrusted(self, connection: Connection, frame: bytes) -> None:
        """One whole message of this peer. What cannot be read is answered or dropped, and counted."""
        try:
            message = decode_message_untrusted(frame)
        except FramingError as error:
            self._owner.count(error.reason)
            connection.close()
            return
        except RemoteDiameterError as error:
            self._owner.count(error.reason)
            if error.request is not None and self.is_open:
                self._write(connection, self._owner.commands.error_answer(error.request, error))
            elif not self.is_open:
                connection.close()
            return
        self.receive(connection, message)

    def receive(self, connection: Connection, message: Message) -> None:
        """One message of this peer."""
        self._owner.on_link_wire("in", self, message)
        if connection is self._usable:
            is_dwa = message.application_id == 0 and message.code == DWR_CODE and not message.is_request
            self.heard_at = now = trio.current_time()
            if self._is_silent:
                self._is_silent, self._route = False, None
            self._watch(self.watchdog.receive(is_dwa=is_dwa, now=now))
            if message.application_id and self.machine.is_open:
                # Rcv-Message in I-Open and R-Open is Process and nothing else, and nearly all that ever comes
                self._owner.on_link_message(self, connection, message)
                return
        event = self._classify(connection, message)
        if event is None:
            self._owner.count("unexpected_message")
            return
        if (
            self.machine.state is PeerState.CLOSING
            and event in (PeerEvent.I_RCV_MESSAGE, PeerEvent.R_RCV_MESSAGE)
            and not message.is_request
        ):
            # answers that were under way when one of us said goodbye are still good
            self._owner.on_link_message(self, connection, message)
            return
        try:
            self._act(self._handle(event), message)
        except RemoteDiameterError as error:
            self._owner.count(error.reason)
            if message.is_request:
                self._write(connection, self._owner.commands.error_answer(message, error))

    def connection_ended(self, connection: Connection) -> None:
        """The connection is closed, by whomever."""
        connection.close()
        if self.machine.state is PeerState.WAIT_I_CEA and connection is self._i_connection:
            self.last_failure = "closed before CEA"
        self.last_failure = connection.end_reason or self.last_failure
        was_usable = connection is self._usable
        if was_usable:
            self._usable = None
        if connection is self._i_connection:
            self._i_connection = None
            self._act(self._handle(PeerEvent.I_PEER_DISC), None)
        elif connection is self._r_connection:
            self._r_connection = None
            self._act(self._handle(PeerEvent.R_PEER_DISC), None)
        if was_usable:
            self._watch(self.watchdog.connection_down(now=trio.current_time()))
            self._owner.on_link_down(self, connection)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run(lambda frame: self.receive_frame_untrusted(connection, frame))
        except FramingError as error:
            self._owner.count(error.reason)
        finally:
            self.connection_ended(connection)

    def _classify(self, connection: Connection, message: Message) -> PeerEvent | None:
        is_initiator = connection is self._i_connection
        if not is_initiator and connection is not self._r_connection:
            return None
        if message.application_id == 0 and message.code == CER_CODE:
            if is_initiator and not message.is_request:
                return PeerEvent.I_RCV_CEA
            return PeerEvent.I_RCV_NON_CEA
        if self.machine.state is PeerState.WAIT_I_CEA and is_initiator:
            return PeerEvent.I_RCV_NON_CEA
        side = "I" if is_initiator else "R"
        kind = "MESSAGE"
        if message.application_id == 0 and message.code == DWR_CODE:
            kind = "DWR" if message.is_request else "DWA"
        elif message.application_id == 0 and message.code == DPR_CODE:
            kind = "DPR" if message.is_request else "DPA"
        return PeerEvent[f"{side}_RCV_{kind}"]

    def _handle(self, event: PeerEvent, *, peer_host: str = "") -> tuple[PeerAction, ...]:
        before = self.machine.state
        actions = self.machine.handle(event, now=trio.current_time(), peer_host=peer_host or self.origin_host)
        if self.machine.state is not before:
            # traffic only moves deadlines away: nobody has to be woken for that
            self._owner.on_timers_changed()
        return actions

    def _act(self, actions: tuple[PeerAction, ...], message: Message | None) -> None:
        for action in actions:
            self._do(action, message)

    def _do(self, action: PeerAction, message: Message | None) -> None:
        commands = self._owner.commands
        initiator, responder = self._i_connection, self._r_connection
        match action:
            case PeerAction.I_SND_CER if initiator:
                self._write_request(initiator, commands.cer(initiator.local_host))
            case PeerAction.PROCESS_CEA if initiator and message:
                self._process_cea(initiator, message)
            case PeerAction.R_SND_CEA if responder and self._cer:
                self._send_cea(responder, self._cer)
            case PeerAction.R_REJECT | PeerAction.ELECT | PeerAction.CLEANUP | PeerAction.I_SND_CONN_REQ:
                pass  # whoever asked the machine looks for these
            case PeerAction.ERROR:
                self._owner.count("peer_error")
                self.last_failure = "no sound answer to CER or DPR"
                self._close_all()
            case PeerAction.REFUSE if message:
                self._owner.count("unexpected_message")
                if message.is_request:
                    refusal = RemoteDiameterError("unexpected message", ResultCode.UNABLE_TO_COMPLY)
                    self._write(self._side(message), commands.error_answer(message, refusal))
            case PeerAction.I_DISC if initiator:
                initiator.close()
            case PeerAction.R_DISC if responder:
                responder.close()
            case PeerAction.PROCESS if message:
                self._owner.on_link_message(self, self._side(message), message)
            case PeerAction.PROCESS_DWR | PeerAction.PROCESS_DWA if message:
                self._note_state_id(message.number(base.ORIGIN_STATE_ID))
            case PeerAction.I_SND_DWA if initiator and message:
                self._write(initiator, commands.dwa(message))
            case PeerAction.R_SND_DWA if responder and message:
                self._write(responder, commands.dwa(message))
            case PeerAction.I_SND_DPR if initiator:
                self._write_request(initiator, commands.dpr(self._stop_cause))
            case PeerAction.R_SND_DPR if responder:
                self._write_request(responder, commands.dpr(self._stop_cause))
            case PeerAction.I_SND_DPA | PeerAction.R_SND_DPA if message:
                connection = initiator if action is PeerAction.I_SND_DPA else responder
                if connection:
                    self._write(connection, commands.dpa(message))
                    self._note_goodbye(connection, message)

    def _note_goodbye(self, connection: Connection, dpr: Message) -> None:
        """§5.4.3: after REBOOTING the peer will be back; after BUSY and the other cause it is left alone for Tc."""
        number = dpr.number(base.DISCONNECT_CAUSE)
        cause = DisconnectCause(number).name if number in list(DisconnectCause) else f"cause {number}"
        self._owner.count(f"dpr_{cause.lower()}" if number in list(DisconnectCause) else "dpr_unknown_cause")
        self.last_failure = f"goodbye: {cause}"
        if number != DisconnectCause.REBOOTING:
            self.reconnect.hold_off()
        self._owner.on_link_leaving(self, connection)

    def _side(self, message: Message) -> Connection:
        assert self._usable is not None, "messages are processed on an open link only"
        return self._usable

    def _process_cea(self, connection: Connection, cea: Message) -> None:
        result = cea.result()
        try:
            capabilities = read_capabilities_untrusted(cea)
        except RemoteDiameterError:
            capabilities = None
        wanted = self.config.origin_host if self.config else None
        if result is None or not result.is_success or capabilities is None:
            reason = "capabilities_refused"
        elif not capabilities.shares(self._owner.commands.applications):
            reason = "no_common_application"
        elif not capabilities.shares_security():
            reason = "no_common_security"
        elif wanted is not None and wanted.lower() != capabilities.origin_host.lower():
            reason = "unexpected_origin_host"
        elif not connection.vouches_for(capabilities.origin_host):
            reason = "certificate of somebody else"
        else:
            self._open(connection, capabilities)
            return
        self._owner.count(reason)
        self.last_failure = f"{reason}: {result}" if result is not None and not result.is_success else reason
        connection.close()

    def _send_cea(self, connection: Connection, cer: Message) -> None:
        commands = self._owner.commands
        assert self.capabilities is not None, "R-Snd-CEA follows Process-CER"
        result = ResultCode.SUCCESS
        if not self.capabilities.shares(commands.applications):
            result = ResultCode.NO_COMMON_APPLICATION
        elif not self.capabilities.shares_security():
            result = ResultCode.NO_COMMON_SECURITY
        self._write(connection, commands.cea(cer, connection.local_host, result))
        if result is ResultCode.SUCCESS:
            self._open(connection, self.capabilities)
            return
        self.last_failure = result.name.lower()
        self._owner.count(self.last_failure)
        connection.close()

    def _open(self, connection: Connection, capabilities: Capabilities) -> None:
        previous = self.capabilities if self.n_opened else None
        self.capabilities = capabilities
        self._usable = connection
        self.n_opened += 1
        self.last_failure = ""
        self.heard_at = trio.current_time()
        self._is_silent, self._route = False, None
        self.reconnect.reset()
        self._watch(self.watchdog.connection_up(now=trio.current_time()))
        self._owner.on_link_up(self)
        before = previous.origin_state_id if previous is not None else None
        if before is not None and capabilities.origin_state_id is not None and capabilities.origin_state_id > before:
            self._owner.on_peer_restart(self)

    def _note_state_id(self, state_id: int | None) -> None:
        """RFC 6733 §8.16: a higher Origin-State-Id means that the peer has lost its state."""
        known = self.capabilities
        if state_id is None or known is None or known.origin_state_id == state_id:
            return
        self.capabilities = evolve(known, origin_state_id=state_id)
        if known.origin_state_id is not None and state_id > known.origin_state_id:
            self._owner.on_peer_restart(self)

    def _watch(self, actions: tuple[WatchdogAction, ...]) -> None:
        for action in actions:
            match action:
                case WatchdogAction.SEND_WATCHDOG if self._usable:
                    self._write_request(self._usable, self._owner.commands.dwr())
                case WatchdogAction.FAILOVER if self._usable:
                    self._owner.count("peer_suspect")
                    self._owner.on_link_suspect(self, self._usable)
                case WatchdogAction.CLOSE_CONNECTION if self._usable:
                    self._owner.count("watchdog_closed")
                    self.last_failure = "no answer to DWR"
                    self._usable.close()
                case WatchdogAction.FAILBACK:
                    self._owner.on_link_up(self)

    def _write_request(self, connection: Connection, message: Message) -> None:
        ids = {"hop_by_hop": self._owner.next_hop_by_hop(), "end_to_end": self._owner.next_end_to_end()}
        self._write(connection, message.with_ids(**ids))

    def _write(self, connection: Connection, message: Message) -> None:
        if connection.send(message.encode()):
            self._owner.on_link_wire("out", self, message)

    def _close_all(self) -> None:
        for connection in (self._i_connection, self._r_connection):
            if connection is not None:
                connection.close()
