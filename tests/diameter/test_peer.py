"""RFC 6733 §5.6, row by row as printed there, and the election."""

from __future__ import annotations

import pytest

from diameter.peer import PEER_TABLE, PeerAction, PeerEvent, PeerState, PeerStateMachine

# the table as the RFC prints it: state, event, actions, next state
PRINTED = """
Closed | Start | I-Snd-Conn-Req | Wait-Conn-Ack
Closed | R-Conn-CER | R-Accept Process-CER R-Snd-CEA | R-Open
Wait-Conn-Ack | I-Rcv-Conn-Ack | I-Snd-CER | Wait-I-CEA
Wait-Conn-Ack | I-Rcv-Conn-Nack | Cleanup | Closed
Wait-Conn-Ack | R-Conn-CER | R-Accept Process-CER | Wait-Conn-Ack/Elect
Wait-Conn-Ack | Timeout | Error | Closed
Wait-I-CEA | I-Rcv-CEA | Process-CEA | I-Open
Wait-I-CEA | R-Conn-CER | R-Accept Process-CER Elect | Wait-Returns
Wait-I-CEA | I-Peer-Disc | I-Disc | Closed
Wait-I-CEA | I-Rcv-Non-CEA | Error | Closed
Wait-I-CEA | Timeout | Error | Closed
Wait-Conn-Ack/Elect | I-Rcv-Conn-Ack | I-Snd-CER Elect | Wait-Returns
Wait-Conn-Ack/Elect | I-Rcv-Conn-Nack | R-Snd-CEA | R-Open
Wait-Conn-Ack/Elect | R-Peer-Disc | R-Disc | Wait-Conn-Ack
Wait-Conn-Ack/Elect | R-Conn-CER | R-Reject | Wait-Conn-Ack/Elect
Wait-Conn-Ack/Elect | Timeout | Error | Closed
Wait-Returns | Win-Election | I-Disc R-Snd-CEA | R-Open
Wait-Returns | I-Peer-Disc | I-Disc R-Snd-CEA | R-Open
Wait-Returns | I-Rcv-CEA | R-Disc | I-Open
Wait-Returns | R-Peer-Disc | R-Disc | Wait-I-CEA
Wait-Returns | R-Conn-CER | R-Reject | Wait-Returns
Wait-Returns | Timeout | Error | Closed
R-Open | Send-Message | R-Snd-Message | R-Open
R-Open | R-Rcv-Message | Process | R-Open
R-Open | R-Rcv-DWR | Process-DWR R-Snd-DWA | R-Open
R-Open | R-Rcv-DWA | Process-DWA | R-Open
R-Open | R-Conn-CER | R-Reject | R-Open
R-Open | Stop | R-Snd-DPR | Closing
R-Open | R-Rcv-DPR | R-Snd-DPA | Closing
R-Open | R-Peer-Disc | R-Disc | Closed
I-Open | Send-Message | I-Snd-Message | I-Open
I-Open | I-Rcv-Message | Process | I-Open
I-Open | I-Rcv-DWR | Process-DWR I-Snd-DWA | I-Open
I-Open | I-Rcv-DWA | Process-DWA | I-Open
I-Open | R-Conn-CER | R-Reject | I-Open
I-Open | Stop | I-Snd-DPR | Closing
I-Open | I-Rcv-DPR | I-Snd-DPA | Closing
I-Open | I-Peer-Disc | I-Disc | Closed
Closing | I-Rcv-DPA | I-Disc | Closed
Closing | R-Rcv-DPA | R-Disc | Closed
Closing | Timeout | Error | Closed
Closing | I-Peer-Disc | I-Disc | Closed
Closing | R-Peer-Disc | R-Disc | Closed
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in PRINTED.strip().splitlines()]


def build(state: PeerState = PeerState.CLOSED, origin_host: str = "b.example.net") -> PeerStateMachine:
    machine = PeerStateMachine(origin_host=origin_host, wait_s=5.0)
    machine.state = state
    return machine


@pytest.mark.parametrize(("state", "event", "actions", "after"), ROWS)
def test_row(state: str, event: str, actions: str, after: str) -> None:
    machine = build(PeerState(state))
    # a peer of higher name wins: the election adds nothing to the row
    done = machine.handle(PeerEvent(event), now=10.0, peer_host="z.example.net")
    # reading a CEA that wins the race in Wait-Returns means processing it too, though the RFC does not print that
    assert [action.value for action in done if action is not PeerAction.PROCESS_CEA or "CEA" in actions] == (
        actions.split()
    )
    assert machine.state is PeerState(after)


def test_table_has_no_other_rows() -> None:
    assert len(ROWS) == len(PEER_TABLE)


@pytest.mark.parametrize("state", list(PeerState))
def test_messages_pass_in_the_open_states_only(state: PeerState) -> None:
    for side, open_state in (("I", PeerState.I_OPEN), ("R", PeerState.R_OPEN)):
        machine = build(state)
        actions = machine.handle(PeerEvent[f"{side}_RCV_MESSAGE"], now=0.0)
        assert (PeerAction.PROCESS in actions) == (state is open_state)
    machine = build(state)
    sent = machine.handle(PeerEvent.SEND_MESSAGE, now=0.0)
    assert bool(sent) == machine.is_open


# every cell that the RFC leaves empty, one line per state: "." nothing happens, "!" Error and Closed, "r" the new
# connection is rejected, "x" the message alone is refused, "a" a DPR is answered; a blank is a row printed above
# order: Start Stop Timeout Win-Election Send-Message R-Conn-CER I-Rcv-Conn-Ack I-Rcv-Conn-Nack I-Rcv-CEA
# I-Rcv-Non-CEA I-Peer-Disc R-Peer-Disc, then I and R of Message, DWR, DWA, DPR, DPA
EVENTS = [event.value for event in PeerEvent]
EMPTY = {
    "Closed": " .... ................",
    "Wait-Conn-Ack": ".. ..   !!..!!!!!!!!!!",
    "Wait-I-CEA": ".. .. !.   .!!!!!!!!!!",
    "Wait-Conn-Ack/Elect": ".. ..   !!. !!!!!!!!!!",
    "Wait-Returns": "..  . !. !  !!!!!!!!!!",
    "R-Open": ". ..  x.xx. x x x x xx",
    "I-Open": ". ..  x.xx . x x x xxx",
    "Closing": ".. ..r....  ......aa  ",
}


def outcome(state: str, event: str) -> str:
    machine = build(PeerState(state))
    done = machine.handle(PeerEvent(event), now=0.0, peer_host="z.example.net")
    after = machine.state
    kept = after is PeerState(state)
    names = {
        (): ".",
        (PeerAction.ERROR,): "!",
        (PeerAction.R_REJECT,): "r",
        (PeerAction.REFUSE,): "x",
        (PeerAction.I_SND_DPA,): "a",
        (PeerAction.R_SND_DPA,): "a",
    }
    found = names.get(done, "?")
    assert kept != (found == "!") or state == "Closed"
    assert after is PeerState.CLOSED or found != "!"
    return found


@pytest.mark.parametrize("state", list(EMPTY))
def test_cells_that_the_rfc_leaves_empty(state: str) -> None:
    printed = {(row[0], row[1]) for row in ROWS}
    found = "".join(" " if (state, event) in printed else outcome(state, event) for event in EVENTS)
    assert found == EMPTY[state]


def test_every_state_and_event_is_in_one_of_the_two_tables() -> None:
    assert {len(row) for row in EMPTY.values()} == {len(EVENTS)}
    assert set(EMPTY) == {state.value for state in PeerState}


@pytest.mark.parametrize("state", [PeerState.CLOSED, PeerState.CLOSING])
def test_latecomers_after_goodbye_are_harmless(state: PeerState) -> None:
    machine = build(state)
    assert machine.handle(PeerEvent.I_RCV_MESSAGE, now=0.0) == ()
    assert machine.state is state


def test_second_connection_is_rejected_while_closing() -> None:
    machine = build(PeerState.CLOSING)
    assert machine.handle(PeerEvent.R_CONN_CER, now=0.0) == (PeerAction.R_REJECT,)


@pytest.mark.parametrize(
    ("ours", "wins"), [("b.example.net", True), ("A.example.net", False), ("a.example.nes", False)]
)
def test_election_goes_to_the_higher_origin_host(ours: str, wins: bool) -> None:
    machine = build(PeerState.WAIT_I_CEA, origin_host=ours)
    actions = machine.handle(PeerEvent.R_CONN_CER, now=0.0, peer_host="a.example.net")
    assert (machine.state is PeerState.R_OPEN) == wins
    assert (PeerAction.I_DISC in actions) == wins
    assert (PeerAction.R_SND_CEA in actions) == wins


def test_wait_states_time_out() -> None:
    machine = build()
    machine.handle(PeerEvent.START, now=10.0)
    assert machine.next_deadline() == 15.0
    assert machine.handle_timer(now=14.9) == ()
    machine.handle(PeerEvent.I_RCV_CONN_ACK, now=12.0)
    assert machine.next_deadline() == 17.0
    assert machine.handle_timer(now=17.0) == (PeerAction.ERROR,)
    assert machine.state is PeerState.CLOSED
    assert machine.next_deadline() is None


def test_open_state_has_no_timer_of_its_own() -> None:
    machine = build(PeerState.WAIT_I_CEA)
    machine.handle(PeerEvent.I_RCV_CEA, now=1.0)
    assert machine.is_open
    assert machine.next_deadline() is None
