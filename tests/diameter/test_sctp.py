"""SCTP: over loopback where the kernel has it, else a clear error; and a socket that keeps message boundaries."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from diameter import sctp
from diameter.errors import LocalDiameterError
from diameter.node import DiameterNode, Listen, NodeConfig, PeerConfig
from diameter.sctp import PPID_DIAMETER, build_send_param, connect_sctp, sctp_problem
from diameter.transport import Connection
from tests.diameter.support import answer_success, build_request, run_trio, until
from tests.diameter.test_framing import build_frame

HOST = "127.0.79.1"
HAS_SCTP = sctp_problem() is None


def build_node(name: str, **config: object) -> DiameterNode:
    return DiameterNode(
        NodeConfig(origin_host=name, origin_realm="realm", wait_s=1.0, **config),  # type: ignore[arg-type]
        on_request=answer_success,
    )


async def talk(nursery: trio.Nursery) -> None:
    server = build_node("server", listen=(Listen(HOST, 0, "sctp"),))
    await nursery.start(server.run)
    client = build_node("client", peers=(PeerConfig(*server.addresses[0], "sctp"),))
    await nursery.start(client.run)
    await client.wait_open()
    answer = await client.request(build_request(client), deadline_s=1.0)
    assert answer.result() is not None
    await client.disconnect()


def test_nodes_talk_or_the_error_is_clear() -> None:
    """Which of both this machine can show depends on its kernel; the other one is below, with a kernel made up."""
    if HAS_SCTP:
        run_trio(talk)
        return
    with pytest.raises(LocalDiameterError, match="SCTP: the kernel of this machine has none") as raised:
        build_node("server", listen=(Listen(HOST, 0, "sctp"),))
    assert "\n" not in str(raised.value)
    with pytest.raises(OSError, match=r"[Pp]rotocol not supported"):
        trio.run(connect_sctp, HOST, 3868)


@pytest.mark.parametrize("config", [{"peers": (PeerConfig(HOST, 1, "sctp"),)}, {"listen": (Listen(HOST, 0, "sctp"),)}])
def test_kernel_without_sctp_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, config: dict[str, object]) -> None:
    monkeypatch.setattr(sctp.socket, "IPPROTO_SCTP", 255 - 1)
    with pytest.raises(LocalDiameterError, match="SCTP: the kernel of this machine has none") as raised:
        build_node("client", **config)
    assert "\n" not in str(raised.value)


def test_the_payload_protocol_identifier_is_where_the_kernel_looks_for_it() -> None:
    """`struct sctp_sndrcvinfo` of <linux/sctp.h>: 32 bytes, the identifier in network order at 8."""
    param = build_send_param(PPID_DIAMETER)
    assert len(param) == 32
    assert struct.unpack_from("!I", param, 8) == (46,)
    assert param[:8] == param[12:][:8] == bytes(8)


def test_messages_stay_whole_on_a_socket_that_keeps_boundaries() -> None:
    """What SCTP demands of a connection: never a part of a message, never two in one write; not even when it waits."""

    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        connection = Connection(ours, "pair")
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        frames = [build_frame(10_000, fill=i) for i in range(20)]
        with theirs:
            for frame in frames:
                assert connection.send(frame)
            for frame in frames:
                await trio.lowlevel.wait_readable(theirs)
                assert theirs.recv(1 << 20) == frame
                await trio.lowlevel.checkpoint()
            for frame in (build_frame(1), build_frame(2)):
                theirs.send(frame)
            await until(lambda: received == [build_frame(1), build_frame(2)])
        await until(lambda: connection.is_closed)

    run_trio(scenario)
