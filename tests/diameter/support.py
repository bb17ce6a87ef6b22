"""Nodes on loopback for tests, each with its own nursery and an end."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from diameter.dictionary import base
from diameter.dictionary.sh import SH
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig

HOST = "127.0.77.1"


def run_trio(scenario: Callable[[trio.Nursery], Awaitable[None]], *, limit_s: float = 10.0) -> None:
    """Runs a scenario with a nursery that is cancelled at its end; fails when it hangs."""

    async def main() -> None:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                await scenario(nursery)
                nursery.cancel_scope.cancel()

    trio.run(main)


async def answer_success(request: Message, peer: str) -> Message | None:
    """A server that says yes."""
    return request.build_answer([base.RESULT_CODE.avp(2001), base.ORIGIN_HOST.avp("server")])


def build_server(
    name: str = "server",
    *,
    on_request: Any = answer_success,
    port: int = 0,
    watchdog_s: float = 30.0,
    clock: Callable[[], float] = lambda: 1000.0,
    **config: Any,
) -> DiameterNode:
    """A node that listens."""
    return DiameterNode(
        NodeConfig(origin_host=name, origin_realm="realm", listen=((HOST, port),), wait_s=1.0, **config),
        on_request=on_request,
        watchdog_s=watchdog_s,
        clock=clock,
    )


def build_client(
    *addresses: tuple[str, int], name: str = "client", on_request: Any = None, watchdog_s: float = 30.0, **config: Any
) -> DiameterNode:
    """A node that connects, trying again after 20 ms."""
    settings: dict[str, Any] = {"reconnect_first_s": 0.02, "wait_s": 1.0} | config
    return DiameterNode(
        NodeConfig(
            origin_host=name,
            origin_realm="realm",
            peers=tuple(PeerConfig(host, port) for host, port in addresses),
            **settings,
        ),
        on_request=on_request,
        watchdog_s=watchdog_s,
    )


def build_request(node: DiameterNode, **extra: str) -> Message:
    """A small request of the Sh application."""
    return SH.command("UDR").message(
        [
            base.SESSION_ID.avp(node.new_session_id()),
            base.ORIGIN_HOST.avp(node.origin_host),
            base.ORIGIN_REALM.avp(node.origin_realm),
            base.DESTINATION_HOST.optional(extra.get("destination_host")),
            base.DESTINATION_REALM.avp("realm"),
        ]
    )


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that other tasks bring about; the scenario's own limit ends it."""
    while not condition():
        await trio.sleep(0.002)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
