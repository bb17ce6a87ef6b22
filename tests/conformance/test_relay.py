"""The man in the middle on real sockets: what it hides, and what it does to messages."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from conformance.fault import FaultyLink, parse_fault
from conformance.relay import Relay

HOST, SERVER = "127.0.94.1", "127.0.94.2"
DEADLINE_S = 3.0


class Party:
    """A datagram socket."""

    def __init__(self, host: str) -> None:
        self.socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.host = host

    async def __aenter__(self) -> Party:
        await self.socket.bind((self.host, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return str(host), int(port)

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        with trio.fail_after(DEADLINE_S):
            data, sender = await self.socket.recvfrom(65_535)
        return data, sender


def request(port: int, method: str = "INVITE", hop: int = 0) -> bytes:
    route = f"Route: <sip:{HOST}:{hop}>\r\n" if hop else ""
    return (
        f"{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP name.example:{port};branch=z9\r\n{route}"
        f"Contact: <sip:a@{HOST}:{port}>\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        yield relay
        nursery.cancel_scope.cancel()


def link(*faults: str) -> FaultyLink:
    return FaultyLink([parse_fault(fault) for fault in faults])


def test_each_side_sees_what_it_would_see_without_it():
    async def main() -> None:
        async with Party(SERVER) as server, Party(HOST) as case, Party(HOST) as hop:
            relay = Relay(link(), server.address, case.address, "udp", hop.address)
            async with running(relay):
                await case.socket.sendto(request(case.address[1], hop=hop.address[1]), relay.near)
                seen, sender = await server.receive()
                text = seen.decode()
                assert f":{case.address[1]}" not in text
                assert f"name.example:{sender[1]};" in text  # answers and later requests come back to the relay
                far_hop = int(text.partition(f"Route: <sip:{HOST}:")[2].partition(">")[0])
                assert far_hop != hop.address[1]
                await server.socket.sendto(seen, sender)
                assert (await case.receive())[0] == request(case.address[1], hop=hop.address[1])
                # and the next hop
                await server.socket.sendto(seen, (HOST, far_hop))
                heard, from_ = await hop.receive()
                assert heard == request(case.address[1], hop=hop.address[1])
                await hop.socket.sendto(heard, from_)
                assert (await server.receive())[0] == seen

    trio.run(main)


def test_faults_strike_datagrams():
    async def main() -> None:
        async with Party(SERVER) as server, Party(HOST) as case:
            relay = Relay(
                link("drop to:INVITE", "answer to:BYE 481", "double to:INFO 10"), server.address, case.address, "udp"
            )
            async with running(relay):
                for method in ("INVITE", "BYE", "INFO"):
                    await case.socket.sendto(request(case.address[1], method), relay.near)
                assert (await server.receive())[0].startswith(b"INFO")
                assert (await server.receive())[0].startswith(b"INFO")
                assert (await case.receive())[0].startswith(b"SIP/2.0 481 ")
            assert relay.link.unused == []

    trio.run(main)


@pytest.mark.parametrize("answer", [b"\r\n", b""])
def test_a_stream_is_cut_put_together_and_kept_alive(answer: bytes):
    async def main() -> None:
        got = bytearray()
        done = trio.Event()

        async def serve(stream: trio.SocketStream) -> None:
            while chunk := await stream.receive_some(4096):
                got.extend(chunk)
                if got.endswith(b"\r\n\r\n") and b"INFO" in got:
                    done.set()
                    await stream.send_all(answer + b"SIP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc")

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, serve, 0)
            port = listeners[0].socket.getsockname()[1]
            relay = Relay(
                link(r"before to:INFO \r\n\r\n", "split to:INFO 9"), ("127.0.0.1", port), (HOST, 25060), "tcp"
            )
            await nursery.start(relay.run)
            message = request(5070, "INFO")
            received = b""
            async with await trio.open_tcp_stream(*relay.near) as stream:
                await stream.send_all(message[:40])
                await stream.send_all(message[40:])
                with trio.fail_after(DEADLINE_S):
                    await done.wait()
                    while not received.endswith(b"abc"):
                        received += await stream.receive_some(4096)
            assert received == b"SIP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
            assert bytes(got) == b"\r\n\r\n" + message
            assert relay.n_unanswered_pings == (0 if answer else 1)
            nursery.cancel_scope.cancel()

    trio.run(main)
