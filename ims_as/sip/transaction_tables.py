"""The tables of the four transaction machines of RFC 3261 §17, with the INVITE corrections of RFC 6026.

Theory of operation
===================
A machine is a table: in a state, an event leads to a next state and a few actions. A pair that is not in the table is
absorbed (a retransmitted response in Completed, a timer that lost a race). Each machine has two timer slots only:

* *retransmit*: A, E, G and the 100 guard, the timers that send something again and go on;
* *lifetime*: B, D, F, H, I, J, K, L, M, which end the state or the transaction. Starting one replaces the other.

The machines do no I/O and read no clock: a `Driver` (the transaction layer) sends bytes, keeps the timer heap and
forgets the machine when it enters Terminated. Nothing waits inside a machine, so a callback may use any transaction,
its own included.

INVITE client (§17.1.1, RFC 6026 §7.2): Calling → Proceeding → Completed or Accepted → Terminated. Every 2xx is passed
up in Accepted, retransmissions and forks too: the ACK is the user's duty. A cancelled INVITE whose final response never
comes is ended 64*T1 after the CANCEL (§9.1).

INVITE server (§17.2.1, RFC 6026 §7.1): Proceeding → Completed → Confirmed → Terminated, or Accepted for a 2xx, in which
INVITE retransmissions are absorbed and the user retransmits the 2xx until it sees the ACK. Only if the user has sent
nothing for `TimerConfig.trying_after` a 100 goes out: an S-CSCF stops its own guard on any provisional. An INVITE that
is never answered is forgotten after `TimerConfig.invite_limit`.

Non-INVITE client (§17.1.2) and server (§17.2.2): Trying → Proceeding → Completed → Terminated. A server transaction
that the user never answers ends after 64*T1 without a response: the client has given up by then (RFC 4320 §4.2 forbids
a 408).

On reliable transports timers A, E, G do not run and D, I, J, K are zero (Table 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

__all__ = [
    "INVITE_CLIENT",
    "INVITE_SERVER",
    "NON_INVITE_CLIENT",
    "NON_INVITE_SERVER",
    "Do",
    "Event",
    "State",
    "Step",
    "Table",
]


class State(Enum):
    """States as printed in RFC 3261 figures 5–8 and RFC 6026 §7; INITIAL is the time before the first input."""

    INITIAL = "initial"
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"

    __hash__ = object.__hash__


class Event(Enum):
    """Inputs of the machines."""

    START = "start"
    """The request is to be sent (client); it was received and the user has not answered it at once (server)."""
    RECEIVE_REQUEST = "receive request"
    """A retransmission."""
    RECEIVE_ACK = "receive ACK"
    RECEIVE_1XX = "receive 1xx"
    RECEIVE_2XX = "receive 2xx"
    RECEIVE_FAILURE = "receive 300-699"
    RECEIVE_FINAL = "receive final"
    SEND_1XX = "send 1xx"
    SEND_2XX = "send 2xx"
    SEND_FAILURE = "send 300-699"
    SEND_FINAL = "send final"
    CANCEL = "CANCEL sent"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = "timer A"
    TIMER_B = "timer B"
    TIMER_D = "timer D"
    TIMER_E = "timer E"
    TIMER_F = "timer F"
    TIMER_G = "timer G"
    TIMER_H = "timer H"
    TIMER_I = "timer I"
    TIMER_J = "timer J"
    TIMER_K = "timer K"
    TIMER_L = "timer L"
    TIMER_M = "timer M"
    TIMER_TRYING = "100 guard"
    TIMER_UNANSWERED = "unanswered guard"

    __hash__ = object.__hash__


class Do(Enum):
    """Actions; each value names the method that does it."""

    SEND = "_send"
    """The request (client) or the latest response (server)."""
    SEND_AGAIN = "_send_again"
    """The same, counted as a retransmission."""
    SEND_ACK = "_send_ack"
    SEND_TRYING = "_send_trying"
    PASS_UP = "_pass_up"
    """Tell the user of the response or the ACK."""
    INFORM_TIMEOUT = "_inform_timeout"
    INFORM_TRANSPORT_FAILURE = "_inform_transport_failure"
    STOP_RETRANSMITTING = "_stop_retransmitting"
    START_TIMER_A = "_start_timer_a"
    START_TIMER_B = "_start_timer_b"
    START_TIMER_D = "_start_timer_d"
    START_TIMER_E = "_start_timer_e"
    START_TIMER_F = "_start_timer_f"
    START_TIMER_G = "_start_timer_g"
    START_TIMER_H = "_start_timer_h"
    START_TIMER_I = "_start_timer_i"
    START_TIMER_J = "_start_timer_j"
    START_TIMER_K = "_start_timer_k"
    START_TIMER_L = "_start_timer_l"
    START_TIMER_M = "_start_timer_m"
    START_TIMER_TRYING = "_start_timer_trying"
    START_TIMER_UNANSWERED = "_start_timer_unanswered"
    STOP_LIFETIME = "_stop_lifetime"


class Step(NamedTuple):
    """One cell of a table."""

    state: State
    actions: tuple[Do, ...] = ()


Table = Mapping[tuple[State, Event], Step]

INVITE_CLIENT: Table = {
    # §17.1.1.2: send, start A on unreliable transports and B on all
    (State.INITIAL, Event.START): Step(State.CALLING, (Do.SEND, Do.START_TIMER_A, Do.START_TIMER_B)),
    # the hop could not even be found
    (State.INITIAL, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.CALLING, Event.TIMER_A): Step(State.CALLING, (Do.SEND_AGAIN, Do.START_TIMER_A)),
    (State.CALLING, Event.TIMER_B): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.CALLING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.CALLING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.STOP_RETRANSMITTING, Do.STOP_LIFETIME, Do.PASS_UP)),
    (State.CALLING, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_M, Do.PASS_UP)),
    (State.CALLING, Event.RECEIVE_FAILURE): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.SEND_ACK, Do.START_TIMER_D, Do.PASS_UP)
    ),
    (State.PROCEEDING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.PROCEEDING, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.START_TIMER_M, Do.PASS_UP)),
    (State.PROCEEDING, Event.RECEIVE_FAILURE): Step(State.COMPLETED, (Do.SEND_ACK, Do.START_TIMER_D, Do.PASS_UP)),
    # §9.1: no final response 64*T1 after the CANCEL means cancelled
    (State.PROCEEDING, Event.CANCEL): Step(State.PROCEEDING, (Do.START_TIMER_B,)),
    (State.PROCEEDING, Event.TIMER_B): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    # the connection broke: the callee may still answer on a new one, but nobody could tell it from a stranger
    (State.PROCEEDING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.COMPLETED, Event.RECEIVE_FAILURE): Step(State.COMPLETED, (Do.SEND_ACK,)),
    (State.COMPLETED, Event.TIMER_D): Step(State.TERMINATED),
    # the user has had its final response already
    (State.COMPLETED, Event.TRANSPORT_ERROR): Step(State.TERMINATED),
    # RFC 6026 §7.2: every 2xx goes up, until timer M
    (State.ACCEPTED, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.PASS_UP,)),
    (State.ACCEPTED, Event.TIMER_M): Step(State.TERMINATED),
}

NON_INVITE_CLIENT: Table = {
    # §17.1.2.2
    (State.INITIAL, Event.START): Step(State.TRYING, (Do.SEND, Do.START_TIMER_E, Do.START_TIMER_F)),
    (State.INITIAL, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.TRYING, Event.TIMER_E): Step(State.TRYING, (Do.SEND_AGAIN, Do.START_TIMER_E)),
    (State.TRYING, Event.TIMER_F): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.TRYING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.TRYING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.TRYING, Event.RECEIVE_FINAL): Step(State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_K, Do.PASS_UP)),
    (State.PROCEEDING, Event.TIMER_E): Step(State.PROCEEDING, (Do.SEND_AGAIN, Do.START_TIMER_E)),
    (State.PROCEEDING, Event.TIMER_F): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.PROCEEDING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.PROCEEDING, Event.RECEIVE_FINAL): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_K, Do.PASS_UP)
    ),
    (State.COMPLETED, Event.TIMER_K): Step(State.TERMINATED),
    (State.COMPLETED, Event.TRANSPORT_ERROR): Step(State.TERMINATED),
}

INVITE_SERVER: Table = {
    # answered while it is being handed to the user, as nearly all requests are: the timers of START are not needed
    (State.INITIAL, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND, Do.START_TIMER_UNANSWERED)),
    (State.INITIAL, Event.SEND_2XX): Step(State.ACCEPTED, (Do.SEND, Do.START_TIMER_L)),
    (State.INITIAL, Event.SEND_FAILURE): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_G, Do.START_TIMER_H)),
    # §17.2.1; the 100 waits for the user
    (State.INITIAL, Event.START): Step(State.PROCEEDING, (Do.START_TIMER_TRYING, Do.START_TIMER_UNANSWERED)),
    (State.PROCEEDING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.TIMER_TRYING): Step(State.PROCEEDING, (Do.SEND_TRYING,)),
    (State.PROCEEDING, Event.RECEIVE_REQUEST): Step(State.PROCEEDING, (Do.SEND_AGAIN,)),
    (State.PROCEEDING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.STOP_RETRANSMITTING, Do.SEND)),
    # RFC 6026 §7.1: 2xx from the user: send it, start timer L
    (State.PROCEEDING, Event.SEND_2XX): Step(State.ACCEPTED, (Do.STOP_RETRANSMITTING, Do.SEND, Do.START_TIMER_L)),
    (State.PROCEEDING, Event.SEND_FAILURE): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.SEND, Do.START_TIMER_G, Do.START_TIMER_H)
    ),
    (State.COMPLETED, Event.RECEIVE_REQUEST): Step(State.COMPLETED, (Do.SEND_AGAIN,)),
    (State.COMPLETED, Event.TIMER_G): Step(State.COMPLETED, (Do.SEND_AGAIN, Do.START_TIMER_G)),
    (State.COMPLETED, Event.TIMER_H): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.COMPLETED, Event.RECEIVE_ACK): Step(State.CONFIRMED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_I)),
    (State.CONFIRMED, Event.TIMER_I): Step(State.TERMINATED),
    # RFC 6026 §7.1: INVITE retransmissions are absorbed in Accepted, a stray ACK is passed to the user
    (State.ACCEPTED, Event.SEND_2XX): Step(State.ACCEPTED, (Do.SEND_AGAIN,)),
    (State.ACCEPTED, Event.RECEIVE_ACK): Step(State.ACCEPTED, (Do.PASS_UP,)),
    (State.ACCEPTED, Event.TIMER_L): Step(State.TERMINATED),
}

NON_INVITE_SERVER: Table = {
    # answered while it is being handed to the user
    (State.INITIAL, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND, Do.START_TIMER_UNANSWERED)),
    (State.INITIAL, Event.SEND_FINAL): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_J)),
    # §17.2.2, and a guard for a request that is never answered
    (State.INITIAL, Event.START): Step(State.TRYING, (Do.START_TIMER_UNANSWERED,)),
    (State.TRYING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.TRYING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND,)),
    (State.TRYING, Event.SEND_FINAL): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_J)),
    (State.PROCEEDING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.RECEIVE_REQUEST): Step(State.PROCEEDING, (Do.SEND_AGAIN,)),
    (State.PROCEEDING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.SEND_FINAL): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_J)),
    (State.COMPLETED, Event.RECEIVE_REQUEST): Step(State.COMPLETED, (Do.SEND_AGAIN,)),
    (State.COMPLETED, Event.TIMER_J): Step(State.TERMINATED),
}
