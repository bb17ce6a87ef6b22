"""An HSS for the tests of the Sh tools: in the same loop, or in a thread for commands that run their own."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.config import Config, parse_config

HOST = "127.0.91.1"
BOB = "sip:bob@example.net"
OTHER = "sip:bobby@example.net"
SERVER = "sip:as.example.net"
SCSCF = "sip:scscf.example.net:5060"
SETTINGS = b"<AgentProfile><Agent>default</Agent></AgentProfile>"
IFCS = f"""<IFCs><InitialFilterCriteria><Priority>7</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint>
<ApplicationServer><ServerName>{SERVER}</ServerName><DefaultHandling>1</DefaultHandling></ApplicationServer>
</InitialFilterCriteria></IFCs>""".encode()


def build_hss() -> LabHss:
    """One user with everything."""
    bob = Subscriber("bob@example.net", (BOB, OTHER), {b"agent": SETTINGS}, IFCS, SCSCF, 1)
    return LabHss(HOST, 0, {"bob": bob}, origin_host="hss.example.net", origin_realm="example.net")


def config_text(*ports: int) -> str:
    peers = ", ".join(f'{{address: "tcp:{HOST}:{port}"}}' for port in ports)
    return f"""
identity: {SERVER}
diameter:
  origin_host: as.example.net
  origin_realm: example.net
  destination_realm: example.net
  peers: [{peers}]
  sh: {{service_indication: agent}}
"""


def build_config(*ports: int) -> Config:
    return parse_config(config_text(*ports))[0]


def with_hss(scenario: Callable[[LabHss, Config], Awaitable[None]], *, limit_s: float = 10.0) -> None:
    """Runs a scenario beside an HSS, in one loop."""

    async def main() -> None:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                hss = build_hss()
                await nursery.start(hss.run)
                await scenario(hss, build_config(hss.address[1]))
                nursery.cancel_scope.cancel()

    trio.run(main)


class ThreadedHss:
    """An HSS in a thread of its own."""

    def __init__(self, hss: LabHss, token: trio.lowlevel.TrioToken) -> None:
        self.hss, self._token = hss, token

    @property
    def port(self) -> int:
        return self.hss.address[1]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)


@contextmanager
def threaded_hss() -> Iterator[ThreadedHss]:
    with run_in_thread(build_hss()) as running:
        yield running


@contextmanager
def run_in_thread(hss: LabHss) -> Iterator[ThreadedHss]:
    """The HSS, ended with the block."""
    started = threading.Event()
    shared: list[Any] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(hss.run)
            shared.extend((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(5)
    token, scope = shared
    try:
        yield ThreadedHss(hss, token)
    finally:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join(5)
