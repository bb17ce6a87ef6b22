"""Two endpoints on loopback sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from ims_as.sip.invite_session import InviteSession, ReinviteReceived, Rejected, SessionState
from ims_as.sip.message import Request, build_response
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from ims_as.transport.endpoint import (
    ClientEvent,
    Endpoint,
    Flow,
    ListenAddress,
    ResponseReceived,
    TokenSource,
    TransportFailure,
    WireEvent,
)
from ims_as.transport.resolver import NameServers
from tests.support.dns_server import dns_server
from tests.support.sip_agents import OFFER, OnInvite, RecordingAgent
from tests.support.sip_messages import build_request, request_bytes

ANSWER = OFFER.replace(b"4000", b"5000")
FAST = TimerConfig(t1=0.02, t2=0.04, t4=0.04, timer_d=0.04)


def answer(agent: RecordingAgent, session: InviteSession) -> None:
    session.answer(ANSWER)


async def until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not is_true():
            await trio.lowlevel.checkpoint()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(15):
            await test()

    trio.run(bounded)


def listen(host: str, *transports: str) -> list[ListenAddress]:
    return [ListenAddress(transport, host, 0) for transport in transports]


@asynccontextmanager
async def running(*endpoints: Endpoint) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            await nursery.start(endpoint.run)
        yield
        nursery.cancel_scope.cancel()


class Pair:
    """Alice and Bob, both on UDP and TCP."""

    def __init__(self, on_invite: OnInvite = answer, **options: object) -> None:
        self.a = Endpoint(listen=listen("127.0.77.1", "udp", "tcp"), timers=FAST, **options)  # type: ignore[arg-type]
        self.b = Endpoint(listen=listen("127.0.77.2", "udp", "tcp"), timers=FAST)
        self.alice = RecordingAgent(self.a)
        self.bob = RecordingAgent(self.b, on_invite)
        self.bob.handlers[ReinviteReceived] = lambda session, event: session.accept_reinvite(ANSWER) and None

    def uri(self, transport: str) -> str:
        address = next(each for each in self.b.addresses if each.transport == transport)
        return f"sip:bob@{address.host}:{address.port};transport={transport}"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_call_with_reinvite_and_bye(transport: str) -> None:
    async def test() -> None:
        pair = Pair()
        async with running(pair.a, pair.b):
            session = pair.alice.call(pair.uri(transport))
            await until(lambda: pair.bob.sessions and pair.bob.sessions[0].state is SessionState.CONFIRMED)
            dialog = pair.bob.sessions[0].dialog
            assert dialog is not None
            assert f"127.0.77.1:{pair.a.addresses[transport == 'tcp'].port}" in dialog.remote_target
            session.reinvite(OFFER)
            await until(lambda: "ReinviteAnswered" in pair.alice.names())
            pair.bob.sessions[0].bye()
            await until(lambda: session.is_terminated)
            await until(lambda: pair.a.stats.is_idle and pair.b.stats.is_idle)
            pair.alice.assert_one_end()
            pair.bob.assert_one_end()
            for endpoint in (pair.a, pair.b):
                assert not endpoint.counters.guard_errors
                assert endpoint.n_connections == (2 if transport == "tcp" else 0)
                assert not endpoint.counters.retransmissions_out

    run(test)


def test_two_hundred_calls_leave_nothing() -> None:
    async def test() -> None:
        pair = Pair()
        async with running(pair.a, pair.b):
            for number in range(200):
                session = pair.alice.call(pair.uri("tcp" if number % 2 else "udp"))
                await until(lambda s=session: s.state is SessionState.CONFIRMED)
                session.bye()
            await until(lambda: pair.a.stats.is_idle and pair.b.stats.is_idle)
            pair.alice.assert_one_end()
            pair.bob.assert_one_end()
            assert pair.a.n_connections == 1
            assert pair.b.n_connections == 1
            assert not pair.b.counters.guard_errors

    run(test)


def test_nobody_listens_on_tcp() -> None:
    async def test() -> None:
        a = Endpoint(listen=listen("127.0.77.1", "tcp"))
        events: list[ClientEvent] = []
        async with running(a):
            with socket.socket() as unused:
                unused.bind(("127.0.77.9", 0))
                uri = f"sip:x@127.0.77.9:{unused.getsockname()[1]};transport=tcp"
                request = build_request("OPTIONS", uri=uri)
                a.send_request(request, on_event=events.append)
                await until(lambda: events)
            assert isinstance(events[0], TransportFailure)
            assert a.stats.is_idle
            assert a.n_connections == 0

    run(test)


def test_names() -> None:
    async def test() -> None:
        pair = Pair()
        async with running(pair.b):
            port = pair.b.addresses[0].port
            a = Endpoint(listen=listen("127.0.77.1", "udp"), hosts={"core.Example": ("127.0.77.2", port)})
            RecordingAgent(a)
            events: list[ClientEvent] = []
            async with running(a):
                for uri in ("sip:CORE.example", "sip:no-such-host.invalid"):
                    a.send_request(build_request("OPTIONS", uri=uri, call_id=uri), on_event=events.append)
                await until(lambda: len(events) == 2)
                assert {type(event).__name__ for event in events} == {"ResponseReceived", "TransportFailure"}

    run(test)


def test_no_listener_of_that_kind() -> None:
    async def test() -> None:
        a = Endpoint(listen=listen("127.0.77.1", "udp"))
        events: list[ClientEvent] = []
        async with running(a):
            for uri in ("sip:127.0.77.2;transport=tcp", "sip:[::1]"):
                a.send_request(build_request("OPTIONS", uri=uri, call_id=uri), on_event=events.append)
            assert not events
            await until(lambda: len(events) == 2)
            assert all(isinstance(event, TransportFailure) for event in events)

    run(test)


def test_response_finds_its_way_when_the_connection_is_gone() -> None:
    """§18.2.2: a new connection to the source address and the port of the Via."""

    async def test() -> None:
        pair = Pair()
        held: list[tuple[Request, ServerTransaction]] = []
        pair.bob.agent._on_request = lambda request, transaction: held.append((request, transaction))
        async with running(pair.b):
            with socket.socket() as listener:
                listener.bind(("127.0.77.1", 0))
                listener.listen()
                address = next(each for each in pair.b.addresses if each.transport == "tcp")
                via = f"SIP/2.0/TCP 127.0.77.1:{listener.getsockname()[1]};branch=z9hG4bK1"
                with socket.create_connection((address.host, address.port), source_address=("127.0.77.1", 0)) as peer:
                    peer.sendall(request_bytes("OPTIONS", via=via))
                    await until(lambda: held)
                await until(lambda: pair.b.n_connections == 0)
                request, transaction = held[0]
                pair.b.send_response(transaction, build_response(request, 200))
                accepted, _ = await trio.to_thread.run_sync(listener.accept)
                with accepted:
                    received = await trio.to_thread.run_sync(accepted.recv, 4096)
                assert received.startswith(b"SIP/2.0 200 OK\r\n")

    run(test)


@pytest.mark.parametrize(
    ("via", "trusted", "arrives"),
    [
        ("peer.example", True, True),
        ("peer.example:{port}", True, True),
        ("127.0.77.11:{port}", True, True),
        ("127.0.77.11:{port}", False, False),  # nobody has our answers sent to a stranger
        ("nobody.example", True, False),
    ],
)
def test_response_goes_to_the_host_of_the_via_at_last(via: str, trusted: bool, arrives: bool) -> None:
    """RFC 3263 §5: neither the connection nor the address that it came from is there any more."""

    async def test() -> None:
        with socket.create_server(("127.0.77.11", 0)) as listener, socket.create_server(("127.0.77.12", 0)) as closed:
            port, closed_port = listener.getsockname()[1], closed.getsockname()[1]
            closed.close()
            zone = f"""
_sip._tcp.peer.example. 60 SRV 1 1 {closed_port} gone.peer.example.
_sip._tcp.peer.example. 60 SRV 2 1 {port} host.peer.example.
gone.peer.example. 60 A 127.0.77.12
host.peer.example. 60 A 127.0.77.11
peer.example. 60 A 127.0.77.11
"""
            async with dns_server(zone, "127.0.77.53") as names:
                b = Endpoint(
                    listen=listen("127.0.77.2", "tcp"),
                    dns=NameServers((names.address,), 1.0),
                    is_trusted=lambda host: trusted or host != "127.0.77.11",
                )
                held: list[tuple[Request, ServerTransaction]] = []
                RecordingAgent(b).agent.on_request = lambda request, transaction: held.append((request, transaction))
                async with running(b):
                    address = b.addresses[0].host, b.addresses[0].port
                    with socket.create_connection(address, source_address=("127.0.77.1", 0)) as peer:
                        text = f"SIP/2.0/TCP {via.format(port=port)};branch=z9hG4bK1"
                        peer.sendall(request_bytes("OPTIONS", via=text))
                        await until(lambda: held)
                    await until(lambda: b.n_connections == 0)
                    request, transaction = held[0]
                    b.send_response(transaction, build_response(request, 183))
                    b.send_response(transaction, build_response(request, 200))
                    if arrives:
                        listener.settimeout(5)
                        accepted, _ = await trio.to_thread.run_sync(listener.accept)
                        with accepted:
                            received = await trio.to_thread.run_sync(accepted.recv, 4096)
                        assert received.startswith(b"SIP/2.0 200 OK\r\n")
                    else:
                        await until(lambda: b.counters.drops["response without a way"])
                    assert not b.counters.guard_errors

    run(test)


def test_unreachable_port_is_a_failure_at_once() -> None:
    """With the timers of the RFC: without the ICMP error it would take 32 s to learn of it."""

    async def test() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.77.9", 0))
            port = closed.getsockname()[1]
        pair = Pair()
        async with running(pair.b):
            zone = f"""
_sip._udp.core.example. 60 SRV 1 1 {port} dead.core.example.
_sip._udp.core.example. 60 SRV 2 1 {pair.b.addresses[0].port} b.core.example.
dead.core.example. 60 A 127.0.77.9
b.core.example. 60 A 127.0.77.2
"""
            async with dns_server(zone, "127.0.77.53") as names:
                a = Endpoint(listen=listen("127.0.77.1", "udp"), dns=NameServers((names.address,), 1.0))
                alice = RecordingAgent(a)
                async with running(a):
                    for uri in ("sip:bob@core.example", f"sip:bob@127.0.77.9:{port}"):
                        session = alice.call(uri)
                        await until(lambda s=session: s.state is SessionState.CONFIRMED or s.is_terminated)
                        if "core" in uri:
                            assert session.state is SessionState.CONFIRMED
                            session.bye()
                    last = alice.last()
                    assert isinstance(last, Rejected)
                    assert last.status == 503
                    assert a.counters.failovers == {"UDP": 1}
                    assert a.counters.drops == {"not sent: unreachable": 2}

    run(test)


def test_requests_to_one_name_share_a_look_up() -> None:
    async def test() -> None:
        pair = Pair()
        async with running(pair.b):
            zone = f"""
_sip._udp.core.example. 60 SRV 1 1 {pair.b.addresses[0].port} b.core.example.
b.core.example. 60 A 127.0.77.2
"""
            async with dns_server(zone, "127.0.77.53") as names:
                a = Endpoint(listen=listen("127.0.77.1", "udp"), dns=NameServers((names.address,), 1.0), timers=FAST)
                RecordingAgent(a)
                events: list[ClientEvent] = []
                async with running(a):
                    for number in range(200):
                        request = build_request("OPTIONS", uri="sip:core.example", call_id=f"call-{number}")
                        a.send_request(request, on_event=events.append)
                    assert len(a._look_ups) == 1
                    await until(lambda: len(events) == 200)
                    assert all(isinstance(event, ResponseReceived) for event in events)
                    assert names.questions == [
                        ("core.example.", "NAPTR"),
                        ("_sip._udp.core.example.", "SRV"),
                        ("b.core.example.", "A"),
                    ]
                    # what is known is used at once
                    request = build_request("OPTIONS", uri="sip:core.example", call_id="last")
                    transaction = a.send_request(request, on_event=events.append)
                    assert transaction.flow is not None
                    await until(lambda: len(events) == 201)
                    assert not a._look_ups
                    await until(lambda: a.stats.is_idle)

    run(test)


def test_a_name_whose_addresses_are_of_no_use() -> None:
    """The failure comes after `send_request` has returned, also when the name is known."""

    async def test() -> None:
        async with dns_server("core.example. 60 A 127.0.77.2", "127.0.77.53") as names:
            a = Endpoint(listen=listen("127.0.77.1", "udp"), dns=NameServers((names.address,), 1.0))
            RecordingAgent(a)
            events: list[ClientEvent] = []
            async with running(a):
                for number in range(2):
                    request = build_request("OPTIONS", uri="sip:core.example;transport=tcp", call_id=f"call-{number}")
                    a.send_request(request, on_event=events.append)
                    assert len(events) == number
                    await until(lambda n=number: len(events) == n + 1)
                    assert isinstance(events[-1], TransportFailure)
                assert a.stats.is_idle

    run(test)


def test_timers_run_and_wake_early() -> None:
    async def test() -> None:
        a = Endpoint(listen=listen("127.0.77.1", "udp"))
        fired: list[str] = []
        async with running(a):
            late = a.call_at(a.now() + 100, lambda: fired.append("late"))
            await trio.lowlevel.checkpoint()
            a.call_at(a.now() + 0.02, lambda: fired.append("soon"))
            await until(lambda: fired)
            late.cancel()
            assert fired == ["soon"]
            assert a.stats.timers == 0

    run(test)


def test_trust_and_the_wire_trace() -> None:
    async def test() -> None:
        events: list[WireEvent] = []
        b = Endpoint(
            listen=listen("127.0.77.2", "udp"), is_trusted=lambda host: host == "127.0.77.1", on_wire=events.append
        )
        RecordingAgent(b)
        async with running(b):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.77.66", 0))
                stranger.sendto(request_bytes("OPTIONS"), (b.addresses[0].host, b.addresses[0].port))
                await until(lambda: events)
            assert [event.verdict for event in events] == ["untrusted"]
            assert events[0].at > 1_600_000_000
            assert isinstance(events[0].flow, Flow)
            assert b.counters.responses_out == {}

    run(test)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError):
        Endpoint(listen=[])
    with pytest.raises(ValueError):
        Endpoint(listen=[ListenAddress("tls", "127.0.77.1", 0)])


def test_address_in_use_is_told() -> None:
    async def test() -> None:
        first = Endpoint(listen=listen("127.0.77.1", "udp"))
        async with running(first):
            second = Endpoint(listen=first.addresses)
            with pytest.raises(OSError):
                await second.run()

    run(test)


def test_tokens_differ() -> None:
    new_token = TokenSource()
    tokens = [new_token() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert {len(token) for token in tokens} == {16}
    assert all(token == f"{int(token, 16):016x}" for token in tokens)


def test_a_bug_in_a_timer_costs_that_timer_alone():
    async def test() -> None:
        endpoint = Endpoint(listen=listen("127.0.0.1", "udp"))
        fired: list[int] = []

        def fail() -> None:
            raise RuntimeError("bug")

        async with running(endpoint):
            now = endpoint.now()
            endpoint.call_at(now + 0.01, fail)
            endpoint.call_at(now + 0.01, lambda: fired.append(1))
            endpoint.call_at(now + 0.03, lambda: fired.append(2))
            await until(lambda: len(fired) == 2)
        assert endpoint.counters.guard_errors == {"RuntimeError": 1}

    run(test)


def test_a_request_that_cannot_be_written_fails_alone_after_its_look_up():
    async def test() -> None:
        endpoint = Endpoint(listen=listen("127.0.0.1", "udp"))
        agent = RecordingAgent(endpoint)
        async with running(endpoint):
            session = agent.call("sip:bob@localhost", headers=[("Subject", "line\r\nend")])
            await until(lambda: session.is_terminated)
            assert agent.names(session) == ["Rejected"]
            assert endpoint.stats.is_idle
        assert not endpoint.counters.guard_errors

    run(test)
