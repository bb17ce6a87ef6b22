"""DiameterNode on loopback: failover, garbage, watchdog, goodbye, overload."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from diameter.avp import Avp, Avps
from diameter.base_commands import Application, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import BASE, DisconnectCause
from diameter.errors import (
    LocalDiameterError,
    NoPeerError,
    PeerBusyError,
    PendingFullError,
    RemoteDiameterError,
    RequestTimeoutError,
)
from diameter.message import Message, decode_message_untrusted
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from tests.diameter.support import (
    HOST,
    answer_success,
    build_client,
    build_request,
    build_server,
    free_port,
    run_trio,
    until,
)

STRANGER = BaseCommands("stranger", "realm", "test", 0, 1, (Application(16777217, 10415),))


async def read_message(stream: trio.SocketStream) -> Message:
    head = b""
    while len(head) < 4:
        head += await stream.receive_some(4 - len(head))
    frame, length = head, int.from_bytes(head[1:4])
    while len(frame) < length:
        frame += await stream.receive_some(length - len(frame))
    return decode_message_untrusted(frame)


async def read_to_end(stream: trio.SocketStream) -> bytes:
    found = b""
    try:
        while chunk := await stream.receive_some():
            found += chunk
    except trio.BrokenResourceError:
        pass
    return found


def test_request_and_answer() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        answer = await client.request(build_request(client), deadline_s=1.0)
        assert answer.result() is not None
        state = client.peer_states()[0]
        assert (state["origin_host"], state["state"], state["watchdog"], state["is_open"]) == (
            "server",
            "I-Open",
            "OKAY",
            True,
        )
        assert server.peer_states()[0]["state"] == "R-Open"
        assert client.n_pending == 0

    run_trio(scenario)


def test_no_peer_is_told_at_once() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client = build_client((HOST, free_port()))
        await nursery.start(client.run)
        with trio.fail_after(0.5), pytest.raises(NoPeerError):
            await client.request(build_request(client), deadline_s=5.0)
        assert not client.is_open()

    run_trio(scenario)


def test_silent_server_costs_the_deadline_and_nothing_stays() -> None:
    async def never(request: Message, peer: str) -> Message | None:
        return None

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=never)
        await nursery.start(server.run)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        started = trio.current_time()
        with pytest.raises(RequestTimeoutError):
            await client.request(build_request(client), deadline_s=0.05)
        assert 0.04 < trio.current_time() - started < 0.5
        assert client.n_pending == 0

    run_trio(scenario)


def test_request_ends_by_its_deadline_also_when_the_node_does_not_run_any_more() -> None:
    async def never(request: Message, peer: str) -> Message | None:
        return None

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=never)
        await nursery.start(server.run)
        client = build_client(server.addresses[0])
        late = 0.0

        async def ask() -> None:
            nonlocal late
            start = trio.current_time()
            with pytest.raises(RequestTimeoutError):
                await client.request(build_request(client), deadline_s=0.15)
            late = trio.current_time() - start - 0.15

        async with trio.open_nursery() as callers, trio.open_nursery() as inner:
            await inner.start(client.run)
            await client.wait_open()
            callers.start_soon(ask)
            await until(lambda: client.n_pending == 1)
            inner.cancel_scope.cancel()
        assert 0.0 <= late < 1.0
        assert client.n_pending == 0

    run_trio(scenario)


def test_late_answer_is_dropped() -> None:
    async def slow(request: Message, peer: str) -> Message | None:
        await trio.sleep(0.05)
        return await answer_success(request, peer)

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=slow)
        await nursery.start(server.run)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        with pytest.raises(RequestTimeoutError):
            await client.request(build_request(client), deadline_s=0.01)
        await until(lambda: client.counters["stray_answer"] == 1)
        await client.request(build_request(client), deadline_s=1.0)

    run_trio(scenario)


def test_pending_table_is_bounded() -> None:
    async def never(request: Message, peer: str) -> Message | None:
        return None

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=never)
        await nursery.start(server.run)
        client = build_client(*server.addresses, max_pending=3)
        await nursery.start(client.run)
        await client.wait_open()

        async def ask() -> None:
            with pytest.raises(RequestTimeoutError):
                await client.request(build_request(client), deadline_s=0.2)

        async with trio.open_nursery() as askers:
            for _ in range(3):
                askers.start_soon(ask)
            await until(lambda: client.n_pending == 3)
            with pytest.raises(PendingFullError):
                await client.request(build_request(client), deadline_s=1.0)
        assert client.n_pending == 0

    run_trio(scenario)


def test_requests_fail_over_with_t_and_the_same_end_to_end_id() -> None:
    seen: list[Message] = []

    async def swallow(request: Message, peer: str) -> Message | None:
        seen.append(request)
        return None

    async def record(request: Message, peer: str) -> Message | None:
        seen.append(request)
        return await answer_success(request, peer)

    async def scenario(nursery: trio.Nursery) -> None:
        first, second = build_server("first", on_request=swallow), build_server("second", on_request=record)
        first_life = await nursery.start(run_until_cancelled, first)
        await nursery.start(second.run)
        client = build_client(*first.addresses, *second.addresses)
        await nursery.start(client.run)
        await client.wait_open(2)
        answers: list[Message] = []

        async def ask() -> None:
            answers.append(await client.request(build_request(client), deadline_s=5.0))

        async with trio.open_nursery() as askers:
            for _ in range(20):
                askers.start_soon(ask)
            await until(lambda: len(seen) == 20)
            first_life.cancel()
        assert len(answers) == 20
        before, after = seen[:20], seen[20:]
        assert {request.end_to_end for request in before} == {request.end_to_end for request in after}
        assert {request.is_retransmitted for request in before} == {False}
        assert {request.is_retransmitted for request in after} == {True}
        assert client.counters["failover"] == 20

    run_trio(scenario)


async def run_until_cancelled(
    node: DiameterNode, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            task_status.started(scope)


def test_killing_a_server_under_load_loses_no_request() -> None:
    async def slow(request: Message, peer: str) -> Message | None:
        await trio.sleep(0.003)
        return await answer_success(request, peer)

    async def scenario(nursery: trio.Nursery) -> None:
        first, second = build_server("first", on_request=slow), build_server("second", on_request=slow)
        first_life = await nursery.start(run_until_cancelled, first)
        await nursery.start(second.run)
        client = build_client(*first.addresses, *second.addresses)
        await nursery.start(client.run)
        await client.wait_open(2)
        done = Counter[str]()

        async def ask() -> None:
            for _ in range(20):
                await client.request(build_request(client), deadline_s=5.0)
                done["answered"] += 1

        async with trio.open_nursery() as askers:
            for _ in range(20):
                askers.start_soon(ask)
            await until(lambda: done["answered"] > 100)
            first_life.cancel()
        assert done["answered"] == 400
        assert client.n_pending == 0

    run_trio(scenario)


def test_request_waits_for_the_only_server_to_come_back() -> None:
    async def swallow(request: Message, peer: str) -> Message | None:
        return None

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=swallow)
        life = await nursery.start(run_until_cancelled, server)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        outcome: list[Message] = []

        async def ask() -> None:
            outcome.append(await client.request(build_request(client), deadline_s=5.0))

        nursery.start_soon(ask)
        await until(lambda: client.n_pending == 1)
        life.cancel()
        await until(lambda: not client.is_open())
        again = build_server(port=server.addresses[0][1])
        await nursery.start(again.run)
        await until(lambda: bool(outcome))
        # a peer that has come back is used though its watchdog is not content yet
        assert client.peer_states()[0]["watchdog"] == "REOPEN"

    run_trio(scenario)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\x00\x00" + bytes(16),  # length 0
        b"\x01\xff\xff\xff" + bytes(40),
        b"\x01\x00\x00\x16" + bytes(18),
        bytes(64),
    ],
    ids=["http", "zero", "huge", "odd", "version"],
)
def test_garbage_into_the_servers_port_harms_nobody_else(garbage: bytes) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        async with await trio.open_tcp_stream(*server.addresses[0]) as stranger:
            await stranger.send_all(garbage)
            assert await read_to_end(stranger) == b""
            # the same after a sound CER
            async with await trio.open_tcp_stream(*server.addresses[0]) as known:
                await known.send_all(STRANGER.cer(HOST).encode())
                assert (await read_message(known)).number(base.RESULT_CODE) == 2001
                await known.send_all(garbage)
                await read_to_end(known)
                await client.request(build_request(client), deadline_s=1.0)
                await until(lambda: len(server.peer_states()) == 1)

    run_trio(scenario)


def test_garbage_into_the_clients_connection_closes_and_reconnects() -> None:
    """A server that answers the first connection's CER and then sends noise; the second one is sound."""

    async def scenario(nursery: trio.Nursery) -> None:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        port = listeners[0].socket.getsockname()[1]
        noisy = await nursery.start(serve_noise, listeners[0])
        client = build_client((HOST, port))
        await nursery.start(client.run)
        await noisy.wait()
        await listeners[0].aclose()
        server = build_server(port=port)
        await nursery.start(server.run)
        await until(lambda: client.counters["link_up"] == 2)
        await client.request(build_request(client), deadline_s=2.0)
        assert client.counters["message length wrong"] == 1

    async def serve_noise(
        listener: trio.SocketListener, *, task_status: trio.TaskStatus[trio.Event] = trio.TASK_STATUS_IGNORED
    ) -> None:
        done = trio.Event()
        task_status.started(done)
        async with await listener.accept() as stream:
            cer = await read_message(stream)
            await stream.send_all(STRANGER.cea(cer, HOST, 2001).encode())
            await stream.send_all(b"\x01\x00\x00\x04" + bytes(32))
            await read_to_end(stream)
        done.set()

    run_trio(scenario)


def test_nothing_is_handled_before_the_capabilities_exchange() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        called: list[Message] = []

        async def handle(request: Message, peer: str) -> Message | None:
            called.append(request)
            return await answer_success(request, peer)

        server = build_server(on_request=handle)
        await nursery.start(server.run)
        client = build_client()
        for first in (build_request(client), STRANGER.dwr()):
            async with await trio.open_tcp_stream(*server.addresses[0]) as stranger:
                await stranger.send_all(first.encode())
                assert await read_to_end(stranger) == b""
        assert called == []
        assert server.counters["first message is no CER"] == 2

    run_trio(scenario)


def test_stranger_without_cer_is_dropped_in_time() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = DiameterNode(NodeConfig(origin_host="server", origin_realm="realm", listen=((HOST, 0),), wait_s=0.05))
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as stranger:
            assert await read_to_end(stranger) == b""

    run_trio(scenario)


def test_no_common_application() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(applications=(Application(4),))
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as stranger:
            await stranger.send_all(STRANGER.cer(HOST).encode())
            assert (await read_message(stranger)).number(base.RESULT_CODE) == 5010
            assert await read_to_end(stranger) == b""
            client = build_client(*server.addresses)
            await nursery.start(client.run)
            await until(lambda: client.counters["capabilities_refused"] > 1)
            assert not client.is_open()

    run_trio(scenario)


def test_peer_with_another_name_than_configured_is_not_used() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server("impostor")
        await nursery.start(server.run)
        host, port = server.addresses[0]
        client = DiameterNode(
            NodeConfig(
                origin_host="client", origin_realm="realm", peers=(PeerConfig(host, port, origin_host="server"),)
            )
        )
        await nursery.start(client.run)
        await until(lambda: client.counters["unexpected_origin_host"] == 1)
        assert not client.is_open()

    run_trio(scenario)


def test_watchdog_finds_a_peer_that_hangs_and_fails_over() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        hung_port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(serve_hung, listeners[0])
        second = build_server("second")
        await nursery.start(second.run)
        client = build_client((HOST, hung_port), *second.addresses, watchdog_s=0.1)
        await nursery.start(client.run)
        await client.wait_open(2)
        answer = await client.request(build_request(client), deadline_s=5.0)
        assert answer.text(base.ORIGIN_HOST) == "server"
        assert client.peer_states()[0]["watchdog"] == "SUSPECT"
        await until(lambda: client.peer_states()[0]["watchdog"] == "DOWN")
        assert client.counters["peer_suspect"] >= 1

    async def serve_hung(listener: trio.SocketListener) -> None:
        async with listener, await listener.accept() as stream:
            cer = await read_message(stream)
            await stream.send_all(STRANGER.cea(cer, HOST, 2001).encode())
            await trio.sleep_forever()

    run_trio(scenario)


def test_watchdogs_keep_an_idle_connection() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(watchdog_s=30.0)
        await nursery.start(server.run)
        wire: list[tuple[str, int, bool]] = []
        client = DiameterNode(
            NodeConfig(origin_host="client", origin_realm="realm", peers=(PeerConfig(*server.addresses[0]),)),
            watchdog_s=0.03,
            on_wire=lambda direction, peer, message: wire.append((direction, message.code, message.is_request)),
        )
        await nursery.start(client.run)
        await until(lambda: wire.count(("in", 280, False)) >= 3)
        assert client.peer_states()[0]["watchdog"] == "OKAY"
        assert client.counters["link_up"] == 1
        assert wire[:2] == [("out", 257, True), ("in", 257, False)]

    run_trio(scenario)


def test_goodbye_of_ours() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        client = build_client(*server.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        await client.disconnect(DisconnectCause.REBOOTING)
        assert client.peer_states()[0]["state"] == "Closed"
        with pytest.raises(NoPeerError):
            await client.request(build_request(client), deadline_s=1.0)
        await until(lambda: server.peer_states() == [])
        assert client.counters["link_up"] == 1

    run_trio(scenario)


@pytest.mark.parametrize(("cause", "comes_back"), [(DisconnectCause.REBOOTING, True), (DisconnectCause.BUSY, False)])
def test_goodbye_of_the_peer(cause: DisconnectCause, comes_back: bool) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first = build_server()
        life = await nursery.start(run_until_cancelled, first)
        client = build_client(*first.addresses)
        await nursery.start(client.run)
        await client.wait_open()
        await first.disconnect(cause)
        life.cancel()
        again = build_server(port=first.addresses[0][1])
        await nursery.start(again.run)
        with trio.move_on_after(3.0 if comes_back else 0.3) as patience:
            await until(lambda: client.counters["link_up"] == 2)
        assert patience.cancelled_caught != comes_back

    run_trio(scenario)


def test_restarted_peer_is_noticed_by_its_origin_state_id() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first = build_server(clock=lambda: 1000.0)
        life = await nursery.start(run_until_cancelled, first)
        client = build_client(*first.addresses)
        restarted: list[str] = []
        client.on_restart = restarted.append
        await nursery.start(client.run)
        await client.wait_open()
        life.cancel()
        again = build_server(port=first.addresses[0][1], clock=lambda: 2000.0)
        await nursery.start(again.run)
        await until(lambda: restarted == ["server"])

    run_trio(scenario)


def test_both_sides_may_connect_and_one_connection_stays() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        ports = [free_port(), free_port()]
        nodes = [
            DiameterNode(
                NodeConfig(
                    origin_host=name,
                    origin_realm="realm",
                    listen=((HOST, ports[mine]),),
                    peers=(PeerConfig(HOST, ports[theirs], origin_host=other),),
                    reconnect_first_s=0.02,
                    wait_s=1.0,
                ),
                on_request=answer_success,
            )
            for name, other, mine, theirs in (("alpha", "beta", 0, 1), ("beta", "alpha", 1, 0))
        ]
        for node in nodes:
            await nursery.start(node.run)
        for node in nodes:
            await node.wait_open()
        for node in nodes:
            await node.request(build_request(node), deadline_s=2.0)
            assert len(node.peer_states()) == 1

    run_trio(scenario)


def test_answers_for_requests_that_cannot_be_served() -> None:
    async def refuse(request: Message, peer: str) -> Message | None:
        raise RemoteDiameterError("no such thing", 5012)

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=refuse)
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as stream:
            await stream.send_all(STRANGER.cer(HOST).encode())
            await read_message(stream)
            session = base.SESSION_ID.avp("s")

            async def ask(message: Message) -> Message:
                await stream.send_all(message.encode())
                return await read_message(stream)

            refused = await ask(Message(306, 16777217, 0xC0, Avps([session]), 1, 2))
            assert (refused.number(base.RESULT_CODE), refused.is_error) == (5012, False)
            foreign = await ask(Message(272, 4, 0xC0, Avps([session]), 3, 4))
            assert (foreign.number(base.RESULT_CODE), foreign.is_error, foreign.hop_by_hop) == (3007, True, 3)
            looped = await ask(Message(306, 16777217, 0xC0, Avps([base.ROUTE_RECORD.avp("SERVER")]), 5, 6))
            assert looped.number(base.RESULT_CODE) == 3005
            wrong_bits = Message(306, 16777217, 0xE0, Avps([session]), 7, 8)
            assert (await ask(wrong_bits)).number(base.RESULT_CODE) == 3008
            broken = bytearray(Message(306, 16777217, 0xC0, Avps([Avp(1, b"abcd")]), 9, 10).encode())
            broken[27] = 3
            await stream.send_all(bytes(broken))
            assert (await read_message(stream)).number(base.RESULT_CODE) == 5014

    run_trio(scenario)


def test_re_sent_request_is_answered_as_the_first_time() -> None:
    handled: list[int] = []

    async def count(request: Message, peer: str) -> Message | None:
        handled.append(request.end_to_end)
        return request.build_answer([base.RESULT_CODE.avp(2000 + len(handled))])

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=count)
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as stream:
            await stream.send_all(STRANGER.cer(HOST).encode())
            await read_message(stream)
            avps = Avps([base.SESSION_ID.avp("s"), base.ORIGIN_HOST.avp("stranger")])
            codes = []
            for flags, hop_by_hop in ((0xC0, 1), (0xD0, 2), (0xD0, 3)):
                await stream.send_all(Message(306, 16777217, flags, avps, hop_by_hop, 4711).encode())
                answer = await read_message(stream)
                codes.append((answer.hop_by_hop, answer.number(base.RESULT_CODE)))
            assert codes == [(1, 2001), (2, 2001), (3, 2001)]
            assert handled == [4711]

    run_trio(scenario)


def test_too_many_requests_at_once_are_answered_busy() -> None:
    async def hang(request: Message, peer: str) -> Message | None:
        await trio.sleep_forever()
        return None

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=hang, max_inbound=2)
        await nursery.start(server.run)
        async with await trio.open_tcp_stream(*server.addresses[0]) as stream:
            await stream.send_all(STRANGER.cer(HOST).encode())
            await read_message(stream)
            await stream.send_all(b"".join(Message(306, 16777217, 0xC0, Avps(), i, i).encode() for i in range(3)))
            busy = await read_message(stream)
            assert (busy.number(base.RESULT_CODE), busy.is_error) == (3004, True)

    run_trio(scenario)


def test_busy_peer_is_not_the_last_word() -> None:
    async def busy(request: Message, peer: str) -> Message | None:
        raise RemoteDiameterError("too busy", 3004)

    async def scenario(nursery: trio.Nursery) -> None:
        seen: list[Message] = []

        async def serve(request: Message, peer: str) -> Message | None:
            seen.append(request)
            return await answer_success(request, peer)

        first, second = build_server("first", on_request=busy), build_server("second", on_request=serve)
        await nursery.start(first.run)
        await nursery.start(second.run)
        client = build_client(*first.addresses, *second.addresses)
        await nursery.start(client.run)
        await client.wait_open(2)
        answer = await client.request(build_request(client), deadline_s=1.0)
        assert answer.number(base.RESULT_CODE) == 2001
        assert not seen[0].is_retransmitted
        await second.disconnect()
        # the first one has asked for a pause; after it its answer is the last word
        with pytest.raises(PeerBusyError):
            await client.request(build_request(client), deadline_s=1.0)
        await trio.sleep(0.1)
        alone = await client.request(build_request(client), deadline_s=1.0)
        assert alone.number(base.RESULT_CODE) == 3004
        assert client.n_pending == 0

    run_trio(scenario)


def test_named_host_is_asked_when_it_is_open() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        asked: list[str] = []

        def recorder(name: str):  # type: ignore[no-untyped-def]
            async def record(request: Message, peer: str) -> Message | None:
                asked.append(name)
                return await answer_success(request, peer)

            return record

        servers = [build_server(name, on_request=recorder(name)) for name in ("first", "second")]
        for server in servers:
            await nursery.start(server.run)
        client = build_client(*(server.addresses[0] for server in servers))
        await nursery.start(client.run)
        await client.wait_open(2)
        for host in ("second", "first", "third"):
            await client.request(build_request(client, destination_host=host), deadline_s=1.0)
        assert asked == ["second", "first", "first"]

    run_trio(scenario)


def test_ids_are_never_used_twice() -> None:
    client = build_client()
    assert len({client.new_session_id() for _ in range(1000)}) == 1000
    assert client.new_session_id().startswith("client;")
    assert len({client.next_end_to_end() for _ in range(1000)}) == 1000


def test_other_transports_are_refused_early() -> None:
    with pytest.raises(LocalDiameterError):
        DiameterNode(
            NodeConfig(origin_host="a", origin_realm="r", peers=(PeerConfig("127.0.0.1", 3868, transport="sctp"),))
        )


def test_base_commands_on_the_wire_are_sound() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        wire: list[Message] = []
        server = build_server()
        await nursery.start(server.run)
        client = DiameterNode(
            NodeConfig(origin_host="client", origin_realm="realm", peers=(PeerConfig(*server.addresses[0]),)),
            on_wire=lambda direction, peer, message: wire.append(message),
            watchdog_s=0.03,
        )
        await nursery.start(client.run)
        await until(lambda: len(wire) >= 4)
        await client.disconnect()
        for message in wire:
            command = BASE.find_command(message)
            assert command is not None
            BASE.check_untrusted(message, command)
        assert {message.code for message in wire} == {257, 280, 282}

    run_trio(scenario)
