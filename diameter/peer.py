"""Peer state machine, RFC 6733 §5.6, sans-IO.

One machine per peer, for both directions: I is the connection that we opened, R the one that the peer opened. The
owner tells what happened (`Event`) and carries out the actions in order; which bytes go out is not decided here. The
table is the RFC's, row by row, with these remarks:

- Before CER/CEA no application message can pass: RCV_MESSAGE and SEND_MESSAGE exist in the two open states only.
- ELECT (§5.6.4): the node with the higher Origin-Host keeps the connection that the other one opened. Winning is an
  event of its own in the table (Win-Election) and follows at once.
- Wait-Returns / I-Rcv-CEA also processes the CEA: the RFC does not print it, but without it nobody would know what the
  peer can do.
- "Any event not listed is an error" (§5.6): before Open the connection is closed; in Open the message alone is refused
  (a second CER is answered 5012, a CEA or DPA that nobody asked for is dropped), since resetting a working peer for it
  would cost every request under way.
- Both sides may say goodbye at once: a DPR in Closing is answered, else both would wait for their timer.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

__all__ = ["EXTRA_ROWS", "PEER_TABLE", "PeerAction", "PeerEvent", "PeerState", "PeerStateMachine", "PeerStep"]


class PeerState(Enum):
    CLOSED = "Closed"
    WAIT_CONN_ACK = "Wait-Conn-Ack"
    WAIT_I_CEA = "Wait-I-CEA"
    WAIT_CONN_ACK_ELECT = "Wait-Conn-Ack/Elect"
    WAIT_RETURNS = "Wait-Returns"
    R_OPEN = "R-Open"
    I_OPEN = "I-Open"
    CLOSING = "Closing"


class PeerEvent(Enum):
    START = "Start"
    STOP = "Stop"
    TIMEOUT = "Timeout"
    WIN_ELECTION = "Win-Election"
    SEND_MESSAGE = "Send-Message"
    R_CONN_CER = "R-Conn-CER"
    I_RCV_CONN_ACK = "I-Rcv-Conn-Ack"
    I_RCV_CONN_NACK = "I-Rcv-Conn-Nack"
    I_RCV_CEA = "I-Rcv-CEA"
    I_RCV_NON_CEA = "I-Rcv-Non-CEA"
    I_PEER_DISC = "I-Peer-Disc"
    R_PEER_DISC = "R-Peer-Disc"
    I_RCV_MESSAGE = "I-Rcv-Message"
    R_RCV_MESSAGE = "R-Rcv-Message"
    I_RCV_DWR = "I-Rcv-DWR"
    R_RCV_DWR = "R-Rcv-DWR"
    I_RCV_DWA = "I-Rcv-DWA"
    R_RCV_DWA = "R-Rcv-DWA"
    I_RCV_DPR = "I-Rcv-DPR"
    R_RCV_DPR = "R-Rcv-DPR"
    I_RCV_DPA = "I-Rcv-DPA"
    R_RCV_DPA = "R-Rcv-DPA"


class PeerAction(Enum):
    I_SND_CONN_REQ = "I-Snd-Conn-Req"
    I_SND_CER = "I-Snd-CER"
    R_ACCEPT = "R-Accept"
    R_REJECT = "R-Reject"
    PROCESS_CER = "Process-CER"
    PROCESS_CEA = "Process-CEA"
    R_SND_CEA = "R-Snd-CEA"
    ELECT = "Elect"
    CLEANUP = "Cleanup"
    ERROR = "Error"
    REFUSE = "Refuse"
    I_DISC = "I-Disc"
    R_DISC = "R-Disc"
    I_SND_MESSAGE = "I-Snd-Message"
    R_SND_MESSAGE = "R-Snd-Message"
    PROCESS = "Process"
    PROCESS_DWR = "Process-DWR"
    PROCESS_DWA = "Process-DWA"
    I_SND_DWA = "I-Snd-DWA"
    R_SND_DWA = "R-Snd-DWA"
    I_SND_DPR = "I-Snd-DPR"
    R_SND_DPR = "R-Snd-DPR"
    I_SND_DPA = "I-Snd-DPA"
    R_SND_DPA = "R-Snd-DPA"


@frozen
class PeerStep:
    """One row: what to do and where to go."""

    actions: tuple[PeerAction, ...]
    state: PeerState


_S, _E, _A = PeerState, PeerEvent, PeerAction


def _row(state: PeerState, *actions: PeerAction) -> PeerStep:
    return PeerStep(actions, state)


PEER_TABLE: dict[tuple[PeerState, PeerEvent], PeerStep] = {
    (_S.CLOSED, _E.START): _row(_S.WAIT_CONN_ACK, _A.I_SND_CONN_REQ),
    (_S.CLOSED, _E.R_CONN_CER): _row(_S.R_OPEN, _A.R_ACCEPT, _A.PROCESS_CER, _A.R_SND_CEA),
    (_S.WAIT_CONN_ACK, _E.I_RCV_CONN_ACK): _row(_S.WAIT_I_CEA, _A.I_SND_CER),
    (_S.WAIT_CONN_ACK, _E.I_RCV_CONN_NACK): _row(_S.CLOSED, _A.CLEANUP),
    (_S.WAIT_CONN_ACK, _E.R_CONN_CER): _row(_S.WAIT_CONN_ACK_ELECT, _A.R_ACCEPT, _A.PROCESS_CER),
    (_S.WAIT_CONN_ACK, _E.TIMEOUT): _row(_S.CLOSED, _A.ERROR),
    (_S.WAIT_I_CEA, _E.I_RCV_CEA): _row(_S.I_OPEN, _A.PROCESS_CEA),
    (_S.WAIT_I_CEA, _E.R_CONN_CER): _row(_S.WAIT_RETURNS, _A.R_ACCEPT, _A.PROCESS_CER, _A.ELECT),
    (_S.WAIT_I_CEA, _E.I_PEER_DISC): _row(_S.CLOSED, _A.I_DISC),
    (_S.WAIT_I_CEA, _E.I_RCV_NON_CEA): _row(_S.CLOSED, _A.ERROR),
    (_S.WAIT_I_CEA, _E.TIMEOUT): _row(_S.CLOSED, _A.ERROR),
    (_S.WAIT_CONN_ACK_ELECT, _E.I_RCV_CONN_ACK): _row(_S.WAIT_RETURNS, _A.I_SND_CER, _A.ELECT),
    (_S.WAIT_CONN_ACK_ELECT, _E.I_RCV_CONN_NACK): _row(_S.R_OPEN, _A.R_SND_CEA),
    (_S.WAIT_CONN_ACK_ELECT, _E.R_PEER_DISC): _row(_S.WAIT_CONN_ACK, _A.R_DISC),
    (_S.WAIT_CONN_ACK_ELECT, _E.R_CONN_CER): _row(_S.WAIT_CONN_ACK_ELECT, _A.R_REJECT),
    (_S.WAIT_CONN_ACK_ELECT, _E.TIMEOUT): _row(_S.CLOSED, _A.ERROR),
    (_S.WAIT_RETURNS, _E.WIN_ELECTION): _row(_S.R_OPEN, _A.I_DISC, _A.R_SND_CEA),
    (_S.WAIT_RETURNS, _E.I_PEER_DISC): _row(_S.R_OPEN, _A.I_DISC, _A.R_SND_CEA),
    (_S.WAIT_RETURNS, _E.I_RCV_CEA): _row(_S.I_OPEN, _A.R_DISC, _A.PROCESS_CEA),
    (_S.WAIT_RETURNS, _E.R_PEER_DISC): _row(_S.WAIT_I_CEA, _A.R_DISC),
    (_S.WAIT_RETURNS, _E.R_CONN_CER): _row(_S.WAIT_RETURNS, _A.R_REJECT),
    (_S.WAIT_RETURNS, _E.TIMEOUT): _row(_S.CLOSED, _A.ERROR),
    (_S.R_OPEN, _E.SEND_MESSAGE): _row(_S.R_OPEN, _A.R_SND_MESSAGE),
    (_S.R_OPEN, _E.R_RCV_MESSAGE): _row(_S.R_OPEN, _A.PROCESS),
    (_S.R_OPEN, _E.R_RCV_DWR): _row(_S.R_OPEN, _A.PROCESS_DWR, _A.R_SND_DWA),
    (_S.R_OPEN, _E.R_RCV_DWA): _row(_S.R_OPEN, _A.PROCESS_DWA),
    (_S.R_OPEN, _E.R_CONN_CER): _row(_S.R_OPEN, _A.R_REJECT),
    (_S.R_OPEN, _E.STOP): _row(_S.CLOSING, _A.R_SND_DPR),
    (_S.R_OPEN, _E.R_RCV_DPR): _row(_S.CLOSING, _A.R_SND_DPA),
    (_S.R_OPEN, _E.R_PEER_DISC): _row(_S.CLOSED, _A.R_DISC),
    (_S.I_OPEN, _E.SEND_MESSAGE): _row(_S.I_OPEN, _A.I_SND_MESSAGE),
    (_S.I_OPEN, _E.I_RCV_MESSAGE): _row(_S.I_OPEN, _A.PROCESS),
    (_S.I_OPEN, _E.I_RCV_DWR): _row(_S.I_OPEN, _A.PROCESS_DWR, _A.I_SND_DWA),
    (_S.I_OPEN, _E.I_RCV_DWA): _row(_S.I_OPEN, _A.PROCESS_DWA),
    (_S.I_OPEN, _E.R_CONN_CER): _row(_S.I_OPEN, _A.R_REJECT),
    (_S.I_OPEN, _E.STOP): _row(_S.CLOSING, _A.I_SND_DPR),
    (_S.I_OPEN, _E.I_RCV_DPR): _row(_S.CLOSING, _A.I_SND_DPA),
    (_S.I_OPEN, _E.I_PEER_DISC): _row(_S.CLOSED, _A.I_DISC),
    (_S.CLOSING, _E.I_RCV_DPA): _row(_S.CLOSED, _A.I_DISC),
    (_S.CLOSING, _E.R_RCV_DPA): _row(_S.CLOSED, _A.R_DISC),
    (_S.CLOSING, _E.TIMEOUT): _row(_S.CLOSED, _A.ERROR),
    (_S.CLOSING, _E.I_PEER_DISC): _row(_S.CLOSED, _A.I_DISC),
    (_S.CLOSING, _E.R_PEER_DISC): _row(_S.CLOSED, _A.R_DISC),
}

# rows that the RFC does not print
EXTRA_ROWS: dict[tuple[PeerState, PeerEvent], PeerStep] = {
    (_S.CLOSING, _E.I_RCV_DPR): _row(_S.CLOSING, _A.I_SND_DPA),
    (_S.CLOSING, _E.R_RCV_DPR): _row(_S.CLOSING, _A.R_SND_DPA),
}

# what may arrive late or twice without being an error: nothing to do
_HARMLESS = frozenset(
    {
        _E.START,
        _E.STOP,
        _E.TIMEOUT,
        _E.SEND_MESSAGE,
        _E.WIN_ELECTION,
        _E.I_PEER_DISC,
        _E.R_PEER_DISC,
        _E.I_RCV_CONN_NACK,
    }
)
_OPEN = (_S.I_OPEN, _S.R_OPEN)


class PeerStateMachine:
    """The machine of one peer.

    Args:
        origin_host: our own DiameterIdentity, for the election.
        wait_s: how long to wait in each Wait state and in Closing.
    """

    def __init__(self, *, origin_host: str, wait_s: float) -> None:
        self._origin_host = origin_host
        self._wait_s = wait_s
        self._deadline: float | None = None
        self.state = PeerState.CLOSED

    @property
    def is_open(self) -> bool:
        """True when application messages may pass."""
        return self.state in _OPEN

    def next_deadline(self) -> float | None:
        """When `handle_timer` is due."""
        return self._deadline

    def handle_timer(self, *, now: float) -> tuple[PeerAction, ...]:
        """Call when `next_deadline` has passed; earlier calls do nothing."""
        if self._deadline is None or now < self._deadline:
            return ()
        return self.handle(PeerEvent.TIMEOUT, now=now)

    def handle(self, event: PeerEvent, *, now: float, peer_host: str = "") -> tuple[PeerAction, ...]:
        """Walks one row.

        Args:
            peer_host: the peer's Origin-Host where the row may elect (R-Conn-CER, I-Rcv-Conn-Ack).

        Returns:
            the actions in order. For a message that no row expects (REFUSE,) in Open, (ERROR,) before, with the
            machine Closed.
        """
        step = PEER_TABLE.get((self.state, event)) or EXTRA_ROWS.get((self.state, event))
        if step is None:
            if event in _HARMLESS:
                return ()
            if event is PeerEvent.R_CONN_CER:
                return (PeerAction.R_REJECT,)
            if self.state in (PeerState.CLOSED, PeerState.CLOSING):
                # answers and requests that were under way when one of us said goodbye
                return ()
            if self.is_open:
                return (PeerAction.REFUSE,)
            step = PeerStep((PeerAction.ERROR,), PeerState.CLOSED)
        if step.state is not self.state:
            waits = step.state is not PeerState.CLOSED and step.state not in _OPEN
            self._deadline = now + self._wait_s if waits else None
        self.state = step.state
        if PeerAction.ELECT in step.actions and self._wins_election(peer_host):
            return step.actions + self.handle(PeerEvent.WIN_ELECTION, now=now)
        return step.actions

    def _wins_election(self, peer_host: str) -> bool:
        """§5.6.4: Origin-Hosts compared as octets without regard to case; the higher one wins."""
        return self._origin_host.lower().encode() > peer_host.lower().encode()
