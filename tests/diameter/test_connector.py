"""Where connections lead: names with several addresses, IPv6, own address, looked up anew. Uses 127.0.80.x."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest
import trio
import trio.abc

from diameter.connector import Connector
from diameter.errors import LocalDiameterError
from diameter.node import DiameterNode, Listen, NodeConfig, PeerConfig
from diameter.tls import TlsError
from diameter.transport import connect_stream, connect_tcp, listen_tcp
from tests.diameter.support import answer_success, build_request, run_trio, until


class Names(trio.abc.HostnameResolver):
    """The system's names, for `hss.test` only."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.n_asked = 0

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *rest: Any) -> list[Any]:  # type: ignore[override]
        self.n_asked += 1
        await trio.lowlevel.checkpoint()
        found = [
            (kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.addresses
            if (kind := socket.AF_INET6 if ":" in address else socket.AF_INET) == family or not family
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


def use(names: Names) -> None:
    trio.socket.set_custom_hostname_resolver(names)


def build_server(*listen: Listen | tuple[str, int], name: str = "server") -> DiameterNode:
    return DiameterNode(NodeConfig(origin_host=name, origin_realm="realm", listen=listen), on_request=answer_success)


def build_client(peers: Iterable[PeerConfig], **config: Any) -> DiameterNode:
    settings: dict[str, Any] = {"wait_s": 1.0, "reconnect_first_s": 0.02} | config
    return DiameterNode(NodeConfig(origin_host="client", origin_realm="realm", peers=tuple(peers), **settings))


def test_all_addresses_of_a_name_are_tried_and_it_is_looked_up_each_time() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        names = Names()
        use(names)
        server = build_server(("127.0.80.3", 3868))
        await nursery.start(server.run)
        client = build_client([PeerConfig("hss.test")])
        await nursery.start(client.run)
        await until(lambda: client.counters["connect_failed"] >= 2)
        assert client.peer_states()[0]["failure"] == "Name or service not known"
        # nothing listens on the first two
        names.addresses = ["127.0.80.1", "127.0.80.2", "127.0.80.3"]
        await client.wait_open()
        assert names.n_asked >= 3
        assert client.peer_states()[0]["peer"] == "hss.test:3868"

    run_trio(scenario)


def test_silent_address_does_not_use_up_the_time_of_the_others() -> None:
    """A listener whose queue is full answers no SYN, as a dead host."""

    async def scenario(nursery: trio.Nursery) -> None:
        full = socket.socket()
        fillers = [socket.socket() for _ in range(4)]
        try:
            full.bind(("127.0.80.4", 0))
            full.listen(0)
            port = full.getsockname()[1]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.80.4", port))
            use(Names("127.0.80.4", "127.0.80.5"))
            await nursery.start(listen_tcp, "127.0.80.5", port, lambda connection: connection.close())
            with trio.fail_after(1.0):
                connection = await connect_tcp("hss.test", port)
            connection.close()
            assert connection.name == f"hss.test:{port}"
        finally:
            for each in (full, *fillers):
                each.close()

    run_trio(scenario)


def test_the_last_refusal_is_told() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        use(Names("127.0.80.1", "127.0.80.2"))
        with pytest.raises(ConnectionRefusedError):
            await connect_stream("hss.test", 1)

    run_trio(scenario)


def test_over_ipv6_with_an_address_of_our_own() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(("::1", 0))
        await nursery.start(server.run)
        host, port = server.addresses[0]
        client = build_client([PeerConfig(host, port)], source_host="::1")
        await nursery.start(client.run)
        await client.wait_open()
        await client.request(build_request(client), deadline_s=1.0)
        assert client.peer_states()[0]["peer"] == f"[::1]:{port}"

    run_trio(scenario)


def test_own_address_decides_the_family() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        use(Names("::1", "127.0.80.6"))
        seen: list[str] = []

        def take(connection: Any) -> None:
            seen.append(connection.name.rpartition(":")[0])
            connection.close()

        _, port = await nursery.start(listen_tcp, "127.0.80.6", 0, take)
        connection = await connect_tcp("hss.test", port, source_host="127.0.80.7")
        await until(lambda: seen == ["127.0.80.7"])
        assert connection.local_host == "127.0.80.7"
        connection.close()

    run_trio(scenario)


def test_ipv6_listener_leaves_ipv4_alone() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        _, port = await nursery.start(listen_tcp, "::", 0, lambda connection: connection.close())
        await nursery.start(listen_tcp, "0.0.0.0", port, lambda connection: connection.close())

    run_trio(scenario)


def test_unknown_transport() -> None:
    with pytest.raises(LocalDiameterError, match="transport udp is not supported"):
        build_client([PeerConfig("127.0.80.1", 3868, "udp")])


def test_peer_over_tls_is_never_had_in_clear_text() -> None:
    """Not even one that was learned of after the start, on a node without certificates."""

    async def scenario(nursery: trio.Nursery) -> None:
        seen: list[str] = []
        address = await nursery.start(listen_tcp, "127.0.80.8", 0, lambda connection: seen.append(connection.name))
        connector = Connector(["tcp"], tls=None, source_host=None, handshake_s=1.0, count=seen.append)
        with pytest.raises(TlsError, match="no certificates are configured"):
            await connector.connect(PeerConfig(*address, "tls"))
        assert seen == []

    run_trio(scenario)
