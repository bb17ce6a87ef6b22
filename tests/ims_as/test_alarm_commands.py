"""``ims-as alarms`` against the real API in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from ims_as.alarm_commands import EXIT_NO_SERVER, alarm_lines
from ims_as.api.app import build_api
from ims_as.api.server import serve_api
from ims_as.cli import main
from ims_as.oss.alarms import AlarmList
from tests.ims_as.test_api import FakeState


@attrs.define
class AlarmState(FakeState):
    list_: AlarmList = attrs.Factory(lambda: AlarmList("7-"))

    def alarms(self) -> dict[str, list[dict[str, object]]]:
        return {
            "alarms": [each.as_dict() for each in self.list_.active()],
            "cleared": [each.as_dict() for each in self.list_.cleared()],
        }

    def acknowledge_alarm(self, alarm_id: str, by: str, /) -> dict[str, object] | None:
        found = self.list_.acknowledge(alarm_id, by, now=1_700_000_100.0)
        return None if found is None else found.as_dict()


class Server:
    """The API on loopback, with a token for writers."""

    def __init__(self) -> None:
        self.state = AlarmState()
        self.url = ""

    def run(self, *arguments: str, token: str = "secret") -> Result:
        return CliRunner().invoke(main, ["alarms", "--api", self.url, "--token", token, *arguments])


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    started = threading.Event()
    scopes: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            api = build_api(found.state, token="secret")
            host, port = await nursery.start(serve_api, api, ("127.0.95.1", 0))
            found.url = f"http://{host}:{port}"
            scopes.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(5)
    yield found
    token, scope = scopes[0]
    trio.from_thread.run_sync(scope.cancel, trio_token=token)
    thread.join(5)


def test_no_alarm_is_good(server: Server):
    result = server.run()
    assert (result.exit_code, result.stdout) == (0, "no alarm is active\n")


def test_alarms_are_told_with_what_to_do(server: Server):
    alarms = server.state.list_
    alarms.raise_alarm("hss-peer-down", "hss:3868", now=1_700_000_000.0)
    alarms.raise_alarm("hss-unreachable", "realm", "no Diameter peer is open", now=1_700_000_001.0)
    alarms.clear("hss-peer-down", "hss:3868", now=1_700_000_002.0)
    result = server.run()
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "major     hss-unreachable of realm since 2023-11-14 22:13:21Z, id 7-2",
        "          no Diameter peer is open",
    ]
    assert any("Check the HSS" in line for line in lines)
    assert "hss-peer-down of" not in result.stdout
    assert "over at 2023-11-14 22:13:22Z" in server.run("--all").stdout
    assert [each["id"] for each in json.loads(server.run("--json").stdout)["alarms"]] == ["7-2"]


def test_somebody_looks_after_it(server: Server):
    server.state.list_.raise_alarm("hss-unreachable", "realm", now=1_700_000_000.0)
    result = server.run("--acknowledge", "7-1", "--by", "noc")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "          acknowledged at 2023-11-14 22:15:00Z by noc"
    result = server.run("--acknowledge", "7-1", token="wrong")
    assert (result.exit_code, result.stderr) == (
        EXIT_NO_SERVER,
        "ims-as: refused (401): the bearer token is missing or wrong\n",
    )
    assert server.run("--acknowledge", "8").exit_code == EXIT_NO_SERVER


def test_a_server_that_is_not_there():
    result = CliRunner().invoke(main, ["alarms", "--api", "http://127.0.95.2:1"])
    assert result.exit_code == EXIT_NO_SERVER
    assert "cannot be asked" in result.stderr


def test_what_a_stranger_answers_stays_on_its_line():
    told = {"severity": "m\x1b[2J", "object": "a\nb", "detail": "\x07", "raised_at": "x"}
    assert all(line.isprintable() for line in alarm_lines(told))
