"""Media workers on other machines: two ``ims-as media`` hosts, reached over mutual TLS."""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ims_as.media_hello import CONTROL_VERSION
from ims_as.sip.invite_session import Answered, ReinviteReceived
from media.control import encode_line
from tests.integration.test_worker_lost import has_audio, port_in, slot_of
from tests.support.certificates import Authority
from tests.support.world import World, until, world

NAME = "media.ims.test"
PORT = 7070
WAIT_S = 20.0


def tls(authority: Authority, name: str, **issued: object) -> dict[str, object]:
    certificate, key = authority.issue(name, **issued)  # type: ignore[arg-type]
    return {"certificate": str(certificate), "key": {"file": str(key)}, "ca": str(authority.ca)}


class Host:
    """One ``ims-as media`` process."""

    def __init__(self, directory: Path, address: str, tls_config: dict[str, object] | None, workers: int = 1) -> None:
        self.address = address
        control: dict[str, object] = {"listen": f"{address}:{PORT}"}
        if tls_config is not None:
            control["tls"] = tls_config
        media = {"control": control, "address": address, "workers": workers, "ports": "24000-24099"}
        agents = {"default": {"engines": [{"type": "websocket", "url": "ws://127.0.0.1:9/"}]}}
        file = directory / f"{address}.yaml"
        file.write_text(json.dumps({"identity": "sip:media@ims.test", "media": media, "agents": agents}))
        argv = [sys.executable, "-c", "from ims_as.cli import main; main()", "media", "-c", str(file)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.log: list[dict[str, object]] = []

    async def started(self) -> None:
        with trio.fail_after(WAIT_S):
            while not self._listens():
                assert self.process.poll() is None, self.process.stdout.read()
                await trio.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, PORT)) == 0

    def end(self) -> list[dict[str, object]]:
        """Its log."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=10)
        return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


@asynccontextmanager
async def hosts(*each: Host) -> AsyncIterator[None]:
    try:
        for host in each:
            await host.started()
        yield
    finally:
        for host in each:
            host.log = host.end()


def remote(config: dict[str, object] | None) -> list[str]:
    overrides = ["media.mode=remote", f"media.discover={NAME if config else '127.0.0.1'}:{PORT}"]
    return overrides if config is None else [*overrides, f"media.control.tls={json.dumps(config)}"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Addresses of the name, as its DNS has them."""
    addresses: set[str] = set()

    async def resolve(_name: str, _port: int) -> frozenset[str]:
        return frozenset(addresses)

    monkeypatch.setattr("ims_as.remote_workers.resolve", resolve)
    monkeypatch.setattr("ims_as.remote_workers.RESOLVE_S", 0.1)
    return addresses


async def connected(here: World, count: int) -> None:
    with trio.fail_after(WAIT_S):
        while len(here.app.media.links) < count:
            await trio.sleep(0.02)


def test_a_host_that_is_killed_costs_no_call(tmp_path: Path, names: set[str]) -> None:
    authority = Authority(tmp_path)
    files = tls(authority, "media", dns=[NAME])
    machines = [Host(tmp_path, address, files) for address in ("127.0.78.1", "127.0.78.2")]
    names.update(machine.address for machine in machines)

    async def main() -> None:
        async with hosts(*machines), world(*remote(tls(authority, "node", dns=["node.ims.test"]))) as here:
            await connected(here, 2)
            leg = here.call()
            answered = await leg.wait(Answered)
            await here.engine.wait("start")
            first = slot_of(here, leg).split("#")[0]
            assert f"c=IN IP4 {first}".encode() in answered.body
            here.as_address = first
            await has_audio(here, port_in(answered.body))
            next(machine for machine in machines if machine.address == first).process.kill()
            offer = (await leg.wait(ReinviteReceived)).body
            second = ({"127.0.78.1", "127.0.78.2"} - {first}).pop()
            assert f"c=IN IP4 {second}".encode() in offer
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            assert (await here.engine.wait("start"))["resume"] is True
            here.as_address = second
            await has_audio(here, port_in(offer))
            assert [each["alarm"] for each in here.app.alarms()["alarms"]] == ["media-worker-lost"]
            leg.session.bye()
            await until(lambda: here.app.media.legs == 0)

    trio.run(main)


def test_a_host_that_its_name_does_not_have_any_more_is_drained(tmp_path: Path, names: set[str]) -> None:
    machines = [Host(tmp_path, address, None) for address in ("127.0.78.3", "127.0.78.4")]
    names.update(machine.address for machine in machines)

    async def main() -> None:
        async with hosts(*machines), world(*remote(None)) as here:
            await connected(here, 2)
            leg = here.call()
            answered = await leg.wait(Answered)
            first = slot_of(here, leg).split("#")[0]
            names.remove(first)
            await until(lambda: len(here.app.media.links) == 1)
            here.as_address = first
            await has_audio(here, port_in(answered.body))
            leg.session.bye()
            await until(lambda: here.app.media.legs == 0)
            assert here.app.media.restarts == 0

    trio.run(main)


@pytest.mark.parametrize("wrong", ["host", "node"])
def test_a_certificate_of_somebody_else_gets_no_connection(tmp_path: Path, names: set[str], wrong: str) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    at_host = tls(authority, "media", dns=["elsewhere.test" if wrong == "host" else NAME])
    at_node = tls(authority if wrong == "host" else stranger, "node", dns=["node.ims.test"])
    at_node["ca"] = str(authority.ca)
    machine = Host(tmp_path, "127.0.78.5", at_host)
    names.add(machine.address)

    async def main() -> None:
        async with hosts(machine), world(*remote(at_node)) as here:
            with trio.fail_after(WAIT_S):
                while not here.app.alarms()["alarms"]:
                    await trio.sleep(0.05)
            (alarm,) = here.app.alarms()["alarms"]
            assert (alarm["alarm"], alarm["object"]) == ("media-worker-lost", "127.0.78.5#0")
            assert not here.app.media.links
            assert here.app.is_ready() == (False, ["no media worker"])

    trio.run(main)
    assert "MEDIA_PEER_REFUSED" in [each["id"] for each in machine.log]
    assert "MEDIA_PEER_CONNECTED" not in [each["id"] for each in machine.log]


def test_strangers_get_nothing_from_a_host(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    machine = Host(tmp_path, "127.0.78.6", tls(authority, "media", dns=[NAME]))

    async def main() -> None:
        async with hosts(machine):
            for context in (None, ssl.create_default_context(cafile=str(authority.ca))):
                stream: trio.abc.Stream = await trio.open_tcp_stream(machine.address, PORT)
                if context is not None:  # TLS, but no certificate
                    stream = trio.SSLStream(stream, context, server_hostname=NAME)
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(encode_line({"cmd": "hello", "id": 1, "version": CONTROL_VERSION}))
                with trio.fail_after(WAIT_S), contextlib.suppress(trio.BrokenResourceError):
                    assert b'"re"' not in await stream.receive_some(1000)
                await trio.aclose_forcefully(stream)

    trio.run(main)


def test_what_is_no_hello_is_refused_and_a_host_that_is_full_says_so(tmp_path: Path) -> None:
    machine = Host(tmp_path, "127.0.78.7", None)

    async def ask(line: bytes) -> tuple[trio.SocketStream, bytes]:
        stream = await trio.open_tcp_stream(machine.address, PORT)
        with trio.fail_after(WAIT_S), contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(line)
            return stream, bytes(await stream.receive_some(1000))
        return stream, b""

    async def main() -> None:
        async with hosts(machine):
            hello = {"cmd": "hello", "id": 1, "version": CONTROL_VERSION}
            for line in (b"GET / HTTP/1.0\r\n\r\n", encode_line(hello | {"version": 99}), b"x" * 70000, b"[]\n"):
                stream, reply = await ask(line)
                assert reply == b""
                await stream.aclose()
            first, reply = await ask(encode_line(hello) + encode_line({"cmd": "ping", "id": 2}))
            assert json.loads(reply.splitlines()[0]) == {"re": 1, "ok": True}
            with trio.fail_after(WAIT_S):
                while b'"re":2' not in reply:
                    reply += bytes(await first.receive_some(1000))
            second, reply = await ask(encode_line(hello))
            assert json.loads(reply)["error"] == "full"
            await second.aclose()
            await first.aclose()

    trio.run(main)
