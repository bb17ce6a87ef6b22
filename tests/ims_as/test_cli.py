from __future__ import annotations

import json
import sys
import threading
import types
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from ims_as import call_tool, cli
from ims_as.cli import main, render_call
from ims_as.config import Config
from ims_as.errors import ImsAsError
from ims_as.reloading import ConfigSource


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMS_AS_CONFIG", "IMS_AS_API"):
        monkeypatch.delenv(name, raising=False)


def ims_as(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environment)


def write(path: Path, text: str) -> str:
    (path / "as.yaml").write_text(text)
    return str(path / "as.yaml")


def test_version_and_help() -> None:
    assert ims_as("--version").output.startswith("ims-as, version ")
    output = ims_as("--help").output
    for command in ("run", "media", "config", "trace"):
        assert f"\n  {command} " in output


def test_check_prints_every_problem_and_fails(tmp_path: Path) -> None:
    path = write(tmp_path, "sip: {answer_budget_ms: x}\nlog: {level: loud}\n")
    result = ims_as("config", "check", "-c", path)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "error: sip.answer_budget_ms: expected a whole number, not 'x' (line 1)",
        "error: log.level: expected debug or info or warning or error, not 'loud' (line 2)",
    ]


def test_check_prints_warnings_and_passes(tmp_path: Path) -> None:
    path = write(tmp_path, "sip: {answer_budget_ms: 3000}\n")
    result = ims_as("config", "check", IMS_AS_CONFIG=path)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: sip.answer_budget_ms: ")
    assert result.stdout == f"{path}: ok\n"


def test_configuration_must_be_named() -> None:
    for command in (["run"], ["config", "check"]):
        result = ims_as(*command)
        assert result.exit_code == 1
        assert "give -c FILE or set IMS_AS_CONFIG" in result.output


def test_show_prints_the_effective_configuration(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("hunter2")
    path = write(tmp_path, f"sip: {{bypass_key: {{file: {key}}}}}\n")
    result = ims_as("config", "show", "-c", path, "--set", "limits.calls=3", IMS_AS__LOG__LEVEL="debug")
    shown = yaml.safe_load(result.output)
    assert shown["limits"]["calls"] == 3
    assert shown["log"]["level"] == "debug"
    assert shown["sip"]["bypass_key"] == {"file": str(key)}
    assert "hunter2" not in result.output


def test_schema_is_json() -> None:
    assert json.loads(ims_as("config", "schema").output)["type"] == "object"


# --- run and media ----------------------------------------------------------------------------------------------------


def fake_app(monkeypatch: pytest.MonkeyPatch, serve: Any) -> None:
    module = types.ModuleType("ims_as.app")
    module.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ims_as.app", module)


def test_run_serves_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Config] = []

    async def serve(config: Config, source: ConfigSource) -> None:
        served.append(config)
        write(tmp_path, "limits: {calls: 5}")
        served.append(source()[0])

    fake_app(monkeypatch, serve)
    assert ims_as("run", "-c", write(tmp_path, "limits: {calls: 4}")).exit_code == 0
    assert [config.limits.calls for config in served] == [4, 5]


@pytest.mark.parametrize("nested", [False, True])
def test_run_tells_what_an_operator_can_mend_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    async def serve(_: Config, __: ConfigSource) -> None:
        error = OSError(98, "Address already in use")
        raise ExceptionGroup("", [ExceptionGroup("", [error])]) if nested else error

    fake_app(monkeypatch, serve)
    result = ims_as("run", "-c", write(tmp_path, ""))
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert result.output == "ims-as: OSError: [Errno 98] Address already in use\n"


def test_run_does_not_hide_what_only_we_can_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(_: Config, __: ConfigSource) -> None:
        raise ZeroDivisionError

    fake_app(monkeypatch, serve)
    result = ims_as("run", "-c", write(tmp_path, ""))
    assert isinstance(result.exception, ZeroDivisionError)


def test_media_hands_its_section_to_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def work(arguments: list[str]) -> int:
        given.append(arguments)
        return 0

    module = types.ModuleType("media.worker")
    module.main = work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "media.worker", module)
    path = write(tmp_path, "media: {address: 127.0.77.2, ports: 30000-39999}")
    assert ims_as("media", "-c", path, "--control-fd", "7", "--name", "w3").exit_code == 0
    assert given == [["--control-fd", "7", "--address", "127.0.77.2", "--ports", "30000-39999", "--name", "w3"]]


# --- plug-ins ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("plugin_for_test")
    module.works = click.Command("works", callback=lambda: click.echo("it works"), help="Works.")  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plugin_for_test", module)
    points = [
        EntryPoint("works", "plugin_for_test:works", cli.COMMAND_GROUP),
        EntryPoint("missing", "no_such_module:x", cli.COMMAND_GROUP),
        EntryPoint("nothing", "plugin_for_test:nothing", cli.COMMAND_GROUP),
        EntryPoint("number", "plugin_for_test:number", cli.COMMAND_GROUP),
        EntryPoint("trace", "plugin_for_test:works", cli.COMMAND_GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)


@pytest.mark.usefixtures("plugins")
def test_plugin_adds_a_command_and_cannot_replace_ours() -> None:
    assert ims_as("works").output == "it works\n"
    assert "Draw the ladder" in ims_as("trace", "--help").output


@pytest.mark.usefixtures("plugins")
def test_plugin_that_cannot_be_loaded_says_so_in_one_line_and_breaks_nothing() -> None:
    for name in ("missing", "nothing", "number"):
        result = ims_as(name, "--any", "thing")
        assert result.exit_code == 1
        assert result.output.startswith(f"ims-as: the command {name!r} is not available: ")
        assert result.output.count("\n") == 1
    result = ims_as("--help")
    assert result.exit_code == 0
    assert "Works." in result.output
    assert "(not available)" in result.output


# --- trace ------------------------------------------------------------------------------------------------------------

CALL: dict[str, Any] = {
    "from": "sip:a@x",
    "to": "sip:b@x",
    "state": "ended",
    "setup_ms": 6.8,
    "ttfb_ms": None,
    "termination": {"result": "answered", "by": "caller", "reason": "bye", "cause": None},
    "trace": [
        {"at": 1.0, "kind": "sip", "source": "s-cscf", "target": "ims-as", "label": "INVITE", "text": "INVITE x\n\x1b"},
        {"at": 2.0, "kind": "sip", "source": "s-cscf", "target": "ims-as", "label": "BYE", "text": ""},
    ],
}


@contextmanager
def api(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.77.3", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.77.3:{server.server_port}", paths
        finally:
            server.shutdown()
            thread.join()


def test_trace_draws_the_ladder_of_a_call() -> None:
    with api(200, json.dumps(CALL).encode()) as (url, paths):
        result = ims_as("trace", "a/b@c d", "--api", url, "--width", "80", "--messages")
    assert paths == ["/calls/a%2Fb%40c%20d"]
    assert result.exit_code == 0, result.output
    assert "sip:a@x → sip:b@x" in result.output
    assert "answered · by caller · bye\nsetup 6.8 ms" in result.output
    assert "INVITE" in result.output
    assert "▶" in result.output
    assert "── s-cscf → ims-as: INVITE\nINVITE x\n·" in result.output


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error": "no such call"}', "no call x at"),
        (500, b"oops", "answered 500"),
        (200, b"oops", "cannot be asked"),
        (200, b"[]", "answered 200"),
        (200, b'{"trace": [{}]}', "not a trace event"),
    ],
)
def test_trace_says_what_is_wrong_in_one_line(status: int, body: bytes, expected: str) -> None:
    with api(status, body) as (url, _):
        result = ims_as("trace", "x", "--api", url)
    assert result.exit_code == 1
    assert expected in result.output
    assert result.output.count("\n") == 1


def test_trace_without_a_server(tmp_path: Path) -> None:
    path = write(tmp_path, 'api: {listen: "127.0.77.3:9"}')
    result = ims_as("trace", "x", "-c", path)
    assert result.exit_code == 1
    assert result.output.startswith("ims-as: http://127.0.77.3:9 cannot be asked: ")


def test_call_without_anything_can_be_drawn() -> None:
    assert render_call({}, width=80).startswith("? → ?")


# --- call -------------------------------------------------------------------------------------------------------------


def test_call_plays_records_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[call_tool.CallPlan] = []

    async def place(plan: call_tool.CallPlan, _: object) -> call_tool.CallReport:
        plans.append(plan)
        return call_tool.CallReport(status=200, ttfb_ms=300.0, heard=np.zeros(800, np.int16))

    monkeypatch.setattr(call_tool, "place_call", place)
    call_tool.write_wav(tmp_path / "in.wav", np.full(1600, 9000, np.int16))
    files = ["--play", str(tmp_path / "in.wav"), "--record", str(tmp_path / "out.wav")]
    result = ims_as("call", "sip:a@127.0.77.5", *files, "--json", "--header", "P-Served-User: <sip:b@c>")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["ttfb_ms"] == 300.0
    assert len(plans[0].speech) == 10
    assert plans[0].headers == (("P-Served-User", "<sip:b@c>"),)
    with wave.open(str(tmp_path / "out.wav")) as reader:
        assert reader.getnframes() == 800


@pytest.mark.parametrize(
    "arguments",
    [
        ["tel:+1"],
        ["sip:a@127.0.77.5", "--header", "nonsense"],
        ["sip:a@127.0.77.5", "--local", "203.0.113.9"],
        ["sip:a@127.0.77.5", "--header", "X: a\nb", "--local", "127.0.77.5"],
        ["sip:a@127.0.77.5", "--play", __file__],
    ],
)
def test_call_that_cannot_be_placed_says_so_in_one_line(arguments: list[str]) -> None:
    result = ims_as("call", *arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.output.count("\n") == 1


def test_errors_of_ours_share_a_base() -> None:
    assert issubclass(ImsAsError, Exception)
