"""Diameter over TLS: both certificates, their names, and everything that is no TLS. Uses 127.0.78.x."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from diameter import transport
from diameter.base_commands import SH_APPLICATION, BaseCommands
from diameter.dictionary.base import ResultCode
from diameter.errors import FramingError, LocalDiameterError
from diameter.message import decode_message_untrusted
from diameter.node import DiameterNode, Listen, NodeConfig, PeerConfig
from diameter.tls import TlsConnection, TlsError, certificate_hosts_untrusted, connect_tls, listen_tls
from diameter.transport import Connection
from ims_as.transport.tls import TlsContexts, TlsOptions
from tests.diameter.support import answer_success, build_request, run_trio, until
from tests.diameter.test_framing import build_frame
from tests.support.certificates import Authority

HOST = "127.0.78.1"
SERVER, CLIENT = "hss.example", "as.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def contexts(authority: Authority, name: str, **issued: Any) -> TlsContexts:
    return TlsContexts(authority.options(name, **({"dns": [name]} | issued)))


def build_server(tls: TlsContexts, **config: Any) -> DiameterNode:
    return DiameterNode(
        NodeConfig(
            origin_host=SERVER,
            origin_realm="example",
            listen=(Listen(HOST, 0, "tls"),),
            tls=tls,
            **({"wait_s": 1.0} | config),
        ),
        on_request=answer_success,
    )


def build_client(tls: TlsContexts, port: int, *, name: str = CLIENT, wanted: str | None = SERVER) -> DiameterNode:
    peer = PeerConfig(HOST, port, "tls", wanted)
    config = NodeConfig(
        origin_host=name, origin_realm="example", peers=(peer,), tls=tls, wait_s=1.0, reconnect_first_s=0.02
    )
    return DiameterNode(config)


async def start_both(
    nursery: trio.Nursery, server_tls: TlsContexts, client_tls: TlsContexts, **client: Any
) -> tuple[DiameterNode, DiameterNode]:
    server = build_server(server_tls)
    await nursery.start(server.run)
    node = build_client(client_tls, server.addresses[0][1], **client)
    await nursery.start(node.run)
    return server, node


def failure(node: DiameterNode) -> str:
    return str(node.peer_states()[0]["failure"])


# nodes


def test_nodes_talk(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server, client = await start_both(nursery, contexts(authority, SERVER), contexts(authority, CLIENT))
        await client.wait_open()
        for _ in range(20):
            answer = await client.request(build_request(client), deadline_s=1.0)
            assert answer.result() is not None
        assert failure(client) == ""
        await client.disconnect()
        await until(lambda: server.peer_states() == [])

    run_trio(scenario)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("other name", "TLS: certificate of somebody else"),
        ("expired", "TLS: certificate has expired"),
        ("self-signed", "TLS: self-signed certificate"),
        ("other authority", "TLS: self-signed certificate in certificate chain"),
    ],
)
def test_server_with_the_wrong_certificate_is_not_used(
    authority: Authority, tmp_path: Path, kind: str, told: str
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    wrong = {
        "other name": lambda: contexts(authority, SERVER, dns=["mallory.example"]),
        "expired": lambda: contexts(authority, SERVER, days=(-2, -1)),
        "self-signed": lambda: contexts(authority, SERVER, self_signed=True),
        "other authority": lambda: contexts(other, SERVER),
    }[kind]()

    async def scenario(nursery: trio.Nursery) -> None:
        _, client = await start_both(nursery, wrong, contexts(authority, CLIENT))
        await until(lambda: client.counters["connect_failed"] >= 2)
        assert not client.is_open()
        assert failure(client) == told

    run_trio(scenario)


@pytest.mark.parametrize(
    ("issued", "counted"),
    [
        ({"days": (-2, -1)}, "TLS: certificate has expired"),
        ({"self_signed": True}, "TLS: self-signed certificate"),
        ({"dns": ["mallory.example"]}, "certificate of somebody else"),
        ({"dns": ["*.example"]}, "certificate of somebody else"),
    ],
)
def test_client_with_the_wrong_certificate_is_refused(
    authority: Authority, issued: dict[str, Any], counted: str
) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server, client = await start_both(nursery, contexts(authority, SERVER), contexts(authority, CLIENT, **issued))
        await until(lambda: server.counters[counted] >= 2)
        assert not client.is_open()
        assert server.peer_states() == []
        assert failure(client) != ""

    run_trio(scenario)


def test_peer_must_be_called_as_its_certificate_says(authority: Authority) -> None:
    """The address leads to a host of ours, but its Origin-Host is another one's."""

    async def scenario(nursery: trio.Nursery) -> None:
        tls = contexts(authority, SERVER, dns=["other.example"], addresses=[HOST])
        _, client = await start_both(nursery, tls, contexts(authority, CLIENT), wanted=None)
        await until(lambda: client.counters["certificate of somebody else"] >= 1)
        assert not client.is_open()
        assert failure(client) == "certificate of somebody else"

    run_trio(scenario)


def test_renewed_certificates_count_from_the_next_connection(authority: Authority) -> None:
    server_tls, client_tls = contexts(authority, SERVER, days=(-2, -1)), contexts(authority, CLIENT)

    async def scenario(nursery: trio.Nursery) -> None:
        _, client = await start_both(nursery, server_tls, client_tls)
        await until(lambda: client.counters["connect_failed"] >= 1)
        authority.issue(SERVER, dns=[SERVER])
        server_tls.reload()
        await client.wait_open()

    run_trio(scenario)


def test_tls_without_certificates_is_refused_early() -> None:
    with pytest.raises(LocalDiameterError, match="tls needs certificates"):
        DiameterNode(NodeConfig(origin_host="a", origin_realm="b", peers=(PeerConfig(HOST, 1, "tls"),)))


def test_unknown_peers_are_told_so(authority: Authority) -> None:
    """A node that takes its own peers only: RFC 6733 §5.3, DIAMETER_UNKNOWN_PEER."""

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(contexts(authority, SERVER), accept_from=())
        await nursery.start(server.run)
        connection = await connect_tls(
            HOST, server.addresses[0][1], contexts(authority, CLIENT), wanted=SERVER, source_host="127.0.78.2"
        )
        answers: list[bytes] = []
        commands = BaseCommands(CLIENT, "example", "test", 0, 1, (SH_APPLICATION,))
        connection.send(commands.cer("127.0.78.2").encode())
        await connection.run(answers.append)
        result = decode_message_untrusted(answers[0]).result()
        assert result is not None
        assert result.code == ResultCode.UNKNOWN_PEER
        assert server.counters["unknown peer"] == 1

    run_trio(scenario)


# whatever comes to the port


async def start_listener(
    nursery: trio.Nursery, authority: Authority, accepted: list[Connection], failures: list[str]
) -> tuple[str, int]:
    async def listen(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        await listen_tls(
            HOST,
            0,
            contexts(authority, SERVER),
            accepted.append,
            handshake_s=0.2,
            on_failure=failures.append,
            task_status=task_status,
        )

    address: tuple[str, int] = await nursery.start(listen)
    return address


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (build_frame(1), "TLS: wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", "TLS: http request"),
        (b"\x16\x03\x01\x02\x00\x01" + bytes(600), "TLS: length too short"),
        (b"\x16\x03\x01", "TLS: handshake takes too long"),
        (b"", "TLS: handshake takes too long"),
    ],
)
def test_what_is_no_tls_costs_its_own_connection_only(authority: Authority, octets: bytes, told: str) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        accepted: list[Connection] = []
        failures: list[str] = []
        address = await start_listener(nursery, authority, accepted, failures)
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(octets)
        with trio.fail_after(2):
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        assert failures == [told]
        assert accepted == []
        good = await connect_tls(*address, contexts(authority, CLIENT), wanted=SERVER)
        await until(lambda: len(accepted) == 1)
        good.close()
        accepted[0].close()
        await stream.aclose()

    run_trio(scenario)


def test_client_without_certificate_is_refused(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        accepted: list[Connection] = []
        failures: list[str] = []
        address = await start_listener(nursery, authority, accepted, failures)
        context = ssl.create_default_context(cafile=str(authority.ca))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await trio.to_thread.run_sync(lambda: _shake_hands_and_read(context, address))
        assert failures == ["TLS: peer did not return a certificate"]
        assert accepted == []

    run_trio(scenario)


def _shake_hands_and_read(context: ssl.SSLContext, address: tuple[str, int]) -> None:
    plain = socket.create_connection(address, timeout=2)
    with plain, context.wrap_socket(plain, server_hostname=SERVER) as secure:
        # with TLS 1.3 the refusal comes after the client's own handshake
        secure.recv(1)


def test_old_tls_is_refused(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        failures: list[str] = []
        address = await start_listener(nursery, authority, [], failures)
        tls = contexts(authority, CLIENT)
        tls.client.set_ciphers("ALL:@SECLEVEL=0")
        tls.client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            tls.client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(TlsError):
            await connect_tls(*address, tls, wanted=SERVER)
        assert failures == ["TLS: unsupported protocol"]

    run_trio(scenario)


def test_plain_server_is_no_tls(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        port = listeners[0].socket.getsockname()[1]

        async def serve() -> None:
            async with await listeners[0].accept() as stream:
                await stream.send_all(build_frame(1))

        nursery.start_soon(serve)
        with pytest.raises(TlsError, match="wrong version number"):
            await connect_tls(HOST, port, contexts(authority, CLIENT), wanted=SERVER)
        await listeners[0].aclose()

    run_trio(scenario)


# one connection


async def build_pair(nursery: trio.Nursery, authority: Authority) -> tuple[TlsConnection, TlsConnection]:
    """Ours and the far end's."""
    accepted: list[Connection] = []
    address = await start_listener(nursery, authority, accepted, [])
    ours = await connect_tls(*address, contexts(authority, CLIENT), wanted=SERVER)
    await until(lambda: len(accepted) == 1)
    theirs = accepted[0]
    assert isinstance(theirs, TlsConnection)
    return ours, theirs


def test_messages_of_every_size_in_order(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = await build_pair(nursery, authority)
        received: list[bytes] = []
        nursery.start_soon(theirs.run, received.append)
        nursery.start_soon(ours.run, lambda frame: None)
        frames = [build_frame(n, fill=n & 0xFF) for n in (0, 1, 50, 4096, 5000, 60_000)] * 5
        for frame in frames:
            assert ours.send(frame)
        await until(lambda: len(received) == len(frames))
        assert received == frames
        ours.close()
        await until(lambda: theirs.is_closed)
        assert theirs.end_reason == ""

    run_trio(scenario)


def test_records_that_arrive_byte_by_byte(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = await build_pair(nursery, authority)
        near, far = socket.socketpair()
        near.setblocking(False)
        slow = TlsConnection(near, "slow", theirs._session, theirs.hosts)
        received: list[bytes] = []
        nursery.start_soon(slow.run, received.append)
        session = ours._session
        frames = [build_frame(1), build_frame(200), build_frame(2)]
        # two messages in one record, one in two
        session.tls.write(frames[0] + frames[1] + frames[2][:10])
        session.tls.write(frames[2][10:])
        with far:
            for octet in session.outgoing.read():
                far.send(bytes([octet]))
                await trio.lowlevel.checkpoint()
            await until(lambda: len(received) == 3)
        assert received == frames
        ours.close()
        theirs.close()

    run_trio(scenario)


def test_altered_record_ends_the_connection(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = await build_pair(nursery, authority)
        ours._session.tls.write(build_frame(5))
        record = bytearray(ours._session.outgoing.read())
        record[-1] ^= 1
        ours._sock.send(record)
        with pytest.raises(FramingError, match="TLS: decryption failed"):
            await theirs.run(lambda frame: pytest.fail("must not be believed"))
        assert theirs.is_closed
        ours.close()

    run_trio(scenario)


def test_broken_diameter_inside_tls(authority: Authority) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = await build_pair(nursery, authority)
        ours.send(bytes(20))
        with pytest.raises(FramingError, match="version"):
            await theirs.run(lambda frame: None)
        ours.close()

    run_trio(scenario)


def test_half_close_ends_the_connection(authority: Authority) -> None:
    """With close_notify, and by a bare FIN: what came before is still handed out."""

    async def scenario(nursery: trio.Nursery) -> None:
        for is_polite in (True, False):
            ours, theirs = await build_pair(nursery, authority)
            received: list[bytes] = []
            ours.send(build_frame(7))
            if is_polite:
                with pytest.raises(ssl.SSLWantReadError):
                    ours._session.tls.unwrap()
                ours._sock.send(ours._session.outgoing.read())
            else:
                ours._sock.shutdown(socket.SHUT_WR)
            await theirs.run(received.append)
            assert received == [build_frame(7)]
            assert theirs.is_closed
            ours.close()

    run_trio(scenario)


def test_peer_that_stops_reading_is_dropped(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_QUEUED_BYTES", 200_000)

    async def scenario(nursery: trio.Nursery) -> None:
        ours, theirs = await build_pair(nursery, authority)
        nursery.start_soon(ours.run, lambda frame: None)
        n_sent = 0
        while ours.send(build_frame(20_000)):
            n_sent += 1
            assert n_sent < 1000
        assert ours.is_closed
        assert ours.end_reason == "peer does not read"
        assert not ours.send(build_frame(1))
        theirs.close()

    run_trio(scenario)


# names


@pytest.mark.parametrize(
    ("certificate", "hosts"),
    [
        (None, set()),
        ({}, set()),
        ({"subjectAltName": (("DNS", "HSS.example."), ("URI", "sip:x"))}, {"hss.example"}),
        ({"subjectAltName": (("DNS", "*.example"), ("DNS", ""))}, set()),
        ({"subjectAltName": (("IP Address", "2001:DB8:0::1"),)}, {"2001:db8::1"}),
        ({"subject": ((("commonName", "hss.example"),),)}, {"hss.example"}),
        (
            {"subject": ((("commonName", "hss.example"),),), "subjectAltName": (("DNS", "b.example"),)},
            {"b.example"},
        ),
        ({"subjectAltName": tuple(("DNS", f"h{i}") for i in range(1000))}, {f"h{i}" for i in range(256)}),
    ],
)
def test_names_of_certificates(certificate: dict[str, Any] | None, hosts: set[str]) -> None:
    assert certificate_hosts_untrusted(certificate) == hosts


def test_contexts_that_verify_nothing_vouch_for_nobody(authority: Authority) -> None:
    certificate, key = authority.issue(CLIENT, dns=[CLIENT])
    lax = TlsContexts(TlsOptions(certificate, key_file=key, ca=authority.ca, verify_peer=False))

    async def scenario(nursery: trio.Nursery) -> None:
        address = await start_listener(nursery, authority, [], [])
        with pytest.raises(TlsError, match="somebody else"):
            await connect_tls(*address, lax, wanted=SERVER)

    run_trio(scenario)
