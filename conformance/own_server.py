"""A server of our own for the cases to be run against: ims-as as an operator would start it, with all that cases need.

==============  ==============================================================
PREFIX.30:5060  ims-as, UDP and TCP; TLS on 5061, with certificates of both sides
[::1]:N         the same on IPv6
PREFIX.31:5060  ims-as that takes one call at a time (place ``limited``)
PREFIX.40:9000  the voice agent of all of them, which does what the user's name says
PREFIX.50       where the cases speak from
==============  ==============================================================
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import trio
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from conformance.case import PLACES
from conformance.certificate import make_certificates
from conformance.lab.processes import ChildProcess, LabError
from conformance.target import Target, Targets

__all__ = ["OwnServer", "own_server"]

IDENTITY: Final = "sip:ai-as.ims.example.net"
READY_DEADLINE_S: Final = 30.0
READY_POLL_S: Final = 0.05
CLEAR_DEADLINE_S: Final = 5.0
ENGINE_ACTS_AFTER_S: Final = 0.5
ENGINE_SLOW_S: Final = 1.0
SIP_PORT, TLS_PORT, API_PORT, ENGINE_PORT, CLOSED_PORT = 5060, 5061, 8080, 9000, 9
SLOW_PATH: Final = "slow"
CAROL: Final = "sip:carol@ims.example.net"
REFERABLE: Final = re.escape(CAROL)
_IMS_AS = (sys.executable, "-c", "import sys; from ims_as.cli import main; sys.exit(main(prog_name='ims-as'))")
_counts = itertools.count()


class OwnServer:
    """Where it is, and what it says of itself."""

    def __init__(self, targets: Targets, api_urls: list[str]) -> None:
        self.targets = targets
        self._api_urls = api_urls

    async def calls(self) -> list[dict[str, Any]]:
        """The calls that are up or were, of all its processes, newest first."""
        found: list[dict[str, Any]] = []
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
            for url in self._api_urls:
                found += (await http.get(f"{url}/calls", params={"limit": 10_000})).json()["calls"]
        return found

    async def metrics(self) -> str:
        """The metrics of the main process."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
            return (await http.get(f"{self._api_urls[0]}/metrics")).text


@asynccontextmanager
async def own_server(directory: Path, places: Collection[str] = tuple(PLACES)) -> AsyncIterator[OwnServer]:
    """Starts it, and ends all of it.

    Args:
        directory: for configuration and logs.
        places: which of its other addresses are wanted.

    Raises:
        LabError: a process does not get ready.
    """
    prefix = _free_prefix()
    targets = {place: target for place, target in _places(prefix).items() if place in places}
    children: list[ChildProcess] = []
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        stack.push_async_callback(_end, children)
        await nursery.start(_serve_engine, f"{prefix}.40")
        configs = {f"{prefix}.30": _config(prefix, f"{prefix}.30", targets)}
        if "limited" in places:
            configs[f"{prefix}.31"] = limited = _config(prefix, f"{prefix}.31", {})
            limited["limits"]["calls"] = 1
        tls = None
        if "tls" in targets:
            files = make_certificates(directory, f"{prefix}.30", f"{prefix}.50")
            main_sip = configs[f"{prefix}.30"]["sip"]
            main_sip["listen"].append(f"tls:{prefix}.30:{TLS_PORT}")
            main_sip["tls"] = {"certificate": str(files.server), "ca": str(files.authority)}
            tls = ssl.create_default_context(cafile=str(files.authority))
            tls.load_cert_chain(files.client)
        for host, config in configs.items():
            path = directory / f"{host}.yaml"
            path.write_text(yaml.safe_dump(config))
            log = directory / f"{host}.log"
            children.append(await ChildProcess.start("ims-as", [*_IMS_AS, "run", "-c", str(path)], log))
        for host, child in zip(configs, children, strict=True):
            await _until_ready(f"http://{host}:{API_PORT}", child)
        main = Target(f"{prefix}.30", SIP_PORT, "udp", f"{prefix}.50")
        urls = [f"http://{host}:{API_PORT}" for host in configs]
        yield OwnServer(Targets(main, targets, lambda: _clear(urls[-1]), tls), urls)
        await _end(children)
        nursery.cancel_scope.cancel()


async def _end(children: list[ChildProcess]) -> None:
    while children:
        await children.pop().end()


def _free_prefix() -> str:
    for count in _counts:
        prefix = f"127.{220 + os.getpid() % 30}.{count % 255}"
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((f"{prefix}.30", SIP_PORT))
            return prefix
    raise AssertionError


def _places(prefix: str) -> dict[str, Target]:
    places = {
        "limited": Target(f"{prefix}.31", SIP_PORT, "udp", f"{prefix}.50"),
        "tls": Target(f"{prefix}.30", TLS_PORT, "tls", f"{prefix}.50"),
    }
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
        places["ipv6"] = Target("::1", port, "udp", "::1")
        places["ipv6-tcp"] = Target("::1", port, "tcp", "::1")
    return places


def _config(prefix: str, host: str, targets: dict[str, Target]) -> dict[str, Any]:
    listen = [f"udp:{host}:{SIP_PORT}", f"tcp:{host}:{SIP_PORT}"]
    for place in ("ipv6", "ipv6-tcp"):
        if place in targets:
            listen.append(f"{targets[place].transport}:[::1]:{targets[place].port}")

    def agent(port: int = ENGINE_PORT, path: str = "", **more: Any) -> dict[str, Any]:
        engine = {"type": "websocket", "url": f"ws://{prefix}.40:{port}/{path}", "connect_timeout_ms": 5000}
        if path == SLOW_PATH:
            engine["ready"] = "event"
        return {"engines": [engine], "transfer": {"allow": ["served-user", REFERABLE]}, **more}

    after = {"after_ms": 300}
    agents = {
        "default": agent(answer={"resources_ms": 1500}),
        "slow": agent(path=SLOW_PATH),
        "dead": agent(CLOSED_PORT),
        "ringing": agent(answer={"mode": "ringing", **after}),
        "early": agent(answer={"mode": "early-media", **after}),
        "refer": agent(transfer={"allow": [REFERABLE], "method": "refer"}),
    }
    return {
        "identity": IDENTITY,
        "sip": {"listen": listen, "trusted_peers": [f"{prefix}.0/24", "::1/128"]},
        "media": {"address": host, "ports": "20000-21999", "max_load": 1},
        "agents": agents,
        "routing": [
            {"match": {"request_uri": "^sip:b2bua@"}, "role": "b2bua"},
            *({"match": {"request_uri": f"^sip:{name}@"}, "agent": name} for name in agents),
            {"match": {"request_uri": ".*"}, "agent": "default"},
        ],
        # a busy machine is no reason to refuse a case
        "limits": {"calls": 1000, "calls_per_second": 1000, "latency_target_ms": 0},
        "api": {"listen": f"{host}:{API_PORT}"},
    }


async def _until_ready(url: str, child: ChildProcess) -> None:
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
        with trio.move_on_after(READY_DEADLINE_S):
            while child.is_running:
                with suppress(httpx.HTTPError):
                    if (await http.get(f"{url}/health/ready")).status_code == 200:
                        return
                await trio.sleep(READY_POLL_S)
    raise LabError(f"ims-as did not get ready{child.last_words()}")


async def _clear(url: str) -> None:
    """Ends all calls of a process."""
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        with trio.move_on_after(CLEAR_DEADLINE_S):
            while True:
                calls = (await http.get(f"{url}/calls")).json()["calls"]
                left = [call["id"] for call in calls if call["state"] != "ended"]
                if not left:
                    return
                for call_id in left:
                    await http.delete(f"{url}/calls/{call_id}")
                await trio.sleep(READY_POLL_S)


# ---------------------------------------------------------------- the voice agent


async def _serve_engine(host: str, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
    await serve(
        _converse,
        ENGINE_PORT,
        host=host,
        subprotocols=[Subprotocol("ims-as.v1")],
        compression=None,
        task_status=task_status,
    )


async def _converse(connection: ServerConnection) -> None:
    """Listens, and does once what the called user's name says."""
    with suppress(ConnectionClosed):
        if connection.request is not None and connection.request.path.endswith(SLOW_PATH):
            await trio.sleep(ENGINE_SLOW_S)
            await connection.send(json.dumps({"event": "ready"}))
        async with trio.open_nursery() as nursery:
            async for message in connection:
                if isinstance(message, bytes):
                    continue
                event = json.loads(message)
                if event.get("event") == "start":
                    nursery.start_soon(_act, connection, str(event.get("to", "")))
            nursery.cancel_scope.cancel()


async def _act(connection: ServerConnection, user: str) -> None:
    await trio.sleep(ENGINE_ACTS_AFTER_S)
    with suppress(ConnectionClosed):
        if "hangup@" in user:
            await connection.send(json.dumps({"event": "hangup", "reason": "done"}))
        elif "transfer@" in user:
            await connection.send(json.dumps({"event": "transfer", "target": "served-user"}))
        elif "refer@" in user:
            await connection.send(json.dumps({"event": "transfer", "target": CAROL}))
