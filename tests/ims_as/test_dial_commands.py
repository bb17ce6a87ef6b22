"""``ims-as dial`` against a small HTTP server in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from ims_as.cli import main
from ims_as.dial_commands import DialPlan, follow_call

ENDED = {"result": "unanswered", "by": "callee", "reason": "busy"}


class Api(HTTPServer):
    """Plays the server's API."""

    def __init__(self) -> None:
        super().__init__(("127.0.93.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.answer: tuple[int, Any] = (201, {"id": "c1", "state": "setting-up"})
        self.drop_first = 0
        self.states = [
            {"state": "ringing"},
            {"state": "ringing"},
            {"state": "ended", "termination": ENDED, "answered_at": None},
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.93.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, json.loads(body)))
        if self.server.drop_first:
            self.server.drop_first -= 1
            return  # closed without a response
        self._respond(*self.server.answer)

    def do_GET(self) -> None:
        self._respond(200, self.server.states.pop(0))

    def _respond(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def dial(api: Api, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["dial", *arguments, "--api", api.url], env={"IMS_AS_API_TOKEN": "t"})
    return result.exit_code, result.output


def test_an_order_is_sent_and_its_id_printed(api: Api) -> None:
    arguments = ["tel:+49891", "-A", "a", "--on-behalf-of", "sip:x@y", "--ring-timeout", "9", "--header", "X-A: b:c"]
    assert dial(api, *arguments, "--data", '{"k":1}') == (0, "c1\n")
    path, headers, order = api.seen[0]
    assert path == "/calls"
    assert headers["authorization"] == "Bearer t"
    assert order == {
        "to": "tel:+49891",
        "agent": "a",
        "on_behalf_of": "sip:x@y",
        "ring_timeout_s": 9.0,
        "headers": {"X-A": "b:c"},
        "data": {"k": 1},
    }


def test_a_lost_response_is_asked_for_under_the_same_key(api: Api) -> None:
    api.drop_first = 2
    assert dial(api, "sip:b@h") == (0, "c1\n")
    assert len({headers["idempotency-key"] for _, headers, _ in api.seen}) == 1
    api.drop_first = 9
    status, output = dial(api, "sip:b@h")
    assert (status, "cannot be asked" in output) == (1, True)


def test_a_refusal(api: Api) -> None:
    api.answer = 403, {"error": "this agent may not call there"}
    assert dial(api, "sip:b@h") == (1, "ims-as: refused (403): this agent may not call there\n")
    api.answer = 500, []
    assert dial(api, "sip:b@h")[0] == 1


@pytest.mark.parametrize("wrong", [["--header", "X"], ["--data", "{"]])
def test_wrong_input(api: Api, wrong: list[str]) -> None:
    assert dial(api, "sip:b@h", *wrong)[0] == 1
    assert not api.seen


def test_following_tells_each_state_once(api: Api) -> None:
    told: list[str] = []
    slept: list[float] = []
    call = follow_call(DialPlan({}, api.url), "c1", told.append, sleep=slept.append)
    assert told == ["ringing", "ended"]
    assert len(slept) == 2
    assert call["termination"] == ENDED


def test_waiting_for_a_call_that_is_not_answered(api: Api) -> None:
    del api.states[1:-1], api.states[0]
    assert dial(api, "sip:b@h", "--wait") == (1, "ended\nunanswered · by callee · busy\n")
    api.states = [{"state": "ended", "termination": {**ENDED, "result": "answered"}, "answered_at": 1.0}]
    status, output = dial(api, "sip:b@h", "--wait", "--json")
    assert (status, json.loads(output)["answered_at"]) == (0, 1.0)
