from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
import trio.testing

from ims_as.api import server as server_module
from ims_as.api.app import MAX_BODY_BYTES, build_api
from ims_as.api.server import MAX_CONNECTIONS, serve_api
from ims_as.call.order import OrderError
from ims_as.config_reload import ReloadOutcome
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog

Address = tuple[str, int]


@attrs.define
class FakeState:
    metrics: Metrics = attrs.Factory(Metrics)
    reasons: list[str] = attrs.Factory(list)
    known: dict[str, dict[str, Any]] = attrs.Factory(dict)
    users: list[str] = attrs.Factory(list)
    orders: list[tuple[object, str | None]] = attrs.Factory(list)
    refusal: OrderError | None = None
    drained: int = 0
    reloads: ReloadOutcome = attrs.Factory(lambda: ReloadOutcome("unchanged"))
    failure: Exception | None = None
    blocked: bool = False

    def is_ready(self) -> tuple[bool, list[str]]:
        return not self.reasons, self.reasons

    def calls(self) -> list[dict[str, Any]]:
        if self.failure is not None:
            raise self.failure
        return list(self.known.values())

    def call(self, call_id: str, /) -> dict[str, Any] | None:
        return self.known.get(call_id)

    def registrations(self, limit: int, /) -> list[dict[str, Any]]:
        return [{"impu": user} for user in self.users][:limit]

    def registration(self, impu: str, /) -> dict[str, Any] | None:
        return {"impu": impu} if impu in self.users else None

    def alarms(self) -> dict[str, list[dict[str, Any]]]:
        return {"alarms": [{"id": "7-1"}], "cleared": []}

    def acknowledge_alarm(self, alarm_id: str, by: str, /) -> dict[str, Any] | None:
        return {"id": alarm_id, "acknowledged_by": by} if alarm_id == "7-1" else None

    def place_call(self, order: object, key: str | None, /) -> tuple[str, bool]:
        self.orders.append((order, key))
        if self.refusal is not None:
            raise self.refusal
        self.known["new"] = {"id": "new", "state": "setting-up"}
        return "new", len(self.orders) > 1

    def hang_up(self, call_id: str, /) -> bool:
        return self.known.get(call_id, {}).get("state") == "talking"

    def workers(self) -> list[dict[str, Any]]:
        return [{"worker": "w0", "legs": 2}]

    async def drain_worker(self, name: str, /) -> bool:
        return name == "w0"

    async def drain(self) -> None:
        if self.blocked:
            await trio.sleep_forever()
        self.drained += 1

    async def reload(self) -> ReloadOutcome:
        return self.reloads

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"ims_as_{name}_total", labels) or 0.0


@asynccontextmanager
async def served(state: FakeState, log: OperatorLog | None = None, token: str | None = None) -> AsyncIterator[Address]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_api, build_api(state, log, token=token), ("127.0.77.1", 0))
        nursery.cancel_scope.cancel()


async def ask(address: Address, method: str, path: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://{address[0]}:{address[1]}{path}", **more)


def get(state: FakeState, path: str, method: str = "GET", *, token: str | None = None, **more: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        async with served(state, OperatorLog(stream=io.StringIO()), token) as address:
            return await ask(address, method, path, **more)

    return trio.run(main)


async def raw(address: Address, wire: bytes) -> bytes:
    """Sends bytes, ends our side, returns all that comes back."""
    with trio.fail_after(5):
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            await stream.send_all(wire)
            await stream.send_eof()
            received = b""
            while chunk := await stream.receive_some():
                received += chunk
            return received


def test_health() -> None:
    state = FakeState()
    assert get(state, "/health/live").json() == {"status": "alive"}
    assert get(state, "/health/ready").status_code == 200
    state.reasons = ["no media worker"]
    response = get(state, "/health/ready")
    assert (response.status_code, response.json()["reasons"]) == (503, ["no media worker"])
    assert get(state, "/health/live").status_code == 200


def test_metrics_in_the_format_asked_for() -> None:
    state = FakeState()
    response = get(state, "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "ims_as_calls_active 0.0" in response.text
    response = get(state, "/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert response.text.endswith("# EOF\n")


def test_registrations() -> None:
    state = FakeState(users=["sip:bob@example.net;user=phone", "tel:+1555"])
    assert get(state, "/registrations").json() == {"registrations": [{"impu": user} for user in state.users]}
    assert get(state, "/registrations?limit=1").json() == {"registrations": [{"impu": state.users[0]}]}
    assert get(state, "/registrations?limit=x").status_code == 400
    for user in state.users:
        assert get(state, f"/registrations/{user}").json() == {"impu": user}
    assert get(state, "/registrations/sip:carol@example.net").status_code == 404


def test_calls_can_be_listed_limited_and_filtered() -> None:
    state = FakeState(known={f"c{n}": {"id": f"c{n}", "state": "ended" if n else "talking"} for n in range(120)})
    body = get(state, "/calls").json()
    assert (len(body["calls"]), body["total"]) == (100, 120)
    assert [call["id"] for call in get(state, "/calls?limit=2").json()["calls"]] == ["c0", "c1"]
    assert get(state, "/calls?state=talking").json()["total"] == 1
    for limit in ("x", "-1", "1" * 30, "٣"):
        response = get(state, "/calls", params={"limit": limit})
        assert (response.status_code, response.json()) == (400, {"error": "limit must be a number"})


def test_one_call_by_any_id() -> None:
    state = FakeState(known={"a/b@c": {"id": "x", "transcript": ["ü"], "odd": {1, 2}}})
    response = get(state, "/calls/a%2Fb@c")
    assert response.json()["transcript"] == ["ü"]
    assert get(state, "/calls/a/b@c").status_code == 200
    response = get(state, "/calls/none")
    assert (response.status_code, response.json()) == (404, {"error": "no such call"})


def test_reload() -> None:
    state = FakeState(reloads=ReloadOutcome("applied", ("limits.calls",), ("media.workers",)))
    response = get(state, "/reload", "POST")
    assert response.status_code == 200
    assert response.json() == {
        "outcome": "applied",
        "applied": ["limits.calls"],
        "needs_restart": ["media.workers"],
        "problems": [],
        "warnings": [],
    }
    state.reloads = ReloadOutcome("rejected", problems=("limits: nonsense",))
    response = get(state, "/reload", "POST")
    assert (response.status_code, response.json()["problems"]) == (422, ["limits: nonsense"])


def test_drain() -> None:
    state = FakeState()
    assert get(state, "/drain", "POST").status_code == 202
    assert state.drained == 1
    response = get(state, "/drain")
    assert (response.status_code, response.json()) == (405, {"error": "method not allowed"})
    assert response.headers["allow"] == "POST"
    assert state.drained == 1


def test_error_of_ours_is_a_500_that_tells_nothing_and_is_counted() -> None:
    state = FakeState(failure=RuntimeError("secret detail"))
    stream = io.StringIO()

    async def main() -> None:
        async with served(state, OperatorLog(stream=stream)) as address:
            response = await ask(address, "GET", "/calls")
            assert (response.status_code, response.json()) == (500, {"error": "internal error"})
            state.failure = None
            assert (await ask(address, "GET", "/calls")).status_code == 200

    trio.run(main)
    assert state.count("guard_errors", where="api") == 1
    assert state.count("api_requests", status="500") == 1
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["id"], line["path"]) == ("API_ERROR", "/calls")


def test_large_body_is_refused_before_it_is_read() -> None:
    state = FakeState()
    assert get(state, "/drain", "POST", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert state.drained == 0
    assert get(state, "/drain", "POST", content=b"x" * 100).status_code == 202


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"200"),
        (b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", b"200"),
        (b"GET /health/live HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", b"200"),
        (b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", b"200"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"4"),
        (b"POST /drain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n", b"413"),
        (b"POST /drain HTTP/1.1\r\nhost: x\r\ncontent-length: 9x\r\n\r\n", b"400"),
        (b"GET /%ff%00%2e%2e/ HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET /calls/%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"4"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000 + b"\r\n", b"4"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"\x00" * 100, b"400"),
        (b"", b""),
        (b"GET", b""),
    ],
)
def test_wire_input_gets_a_clear_answer_and_the_server_goes_on(wire: bytes, status: bytes) -> None:
    state = FakeState()

    async def main() -> None:
        async with served(state) as address:
            answer = await raw(address, wire)
            assert answer.startswith(b"HTTP/1.1 " + status if status else b"")
            assert (await ask(address, "GET", "/health/live")).status_code == 200

    trio.run(main)
    assert state.count("guard_errors", where="api-connection") == 0


def test_request_byte_by_byte_and_two_on_one_connection() -> None:
    async def main() -> None:
        async with served(FakeState()) as address:
            stream = await trio.open_tcp_stream(*address)
            async with stream:
                for byte in b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n":
                    await stream.send_all(bytes([byte]))
                await stream.send_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                received = b""
                with trio.fail_after(5):
                    while chunk := await stream.receive_some():
                        received += chunk
            assert received.count(b"HTTP/1.1 200") == 1
            assert received.count(b"HTTP/1.1 404") == 1

    trio.run(main)


def test_failure_inside_the_protocol_machine_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    state = FakeState()

    async def main() -> None:
        async with served(state) as address:
            with monkeypatch.context() as patch:

                async def broken(*_: object) -> None:
                    raise RuntimeError("from inside")

                patch.setattr(server_module._Http11, "_create_stream", broken)
                assert await raw(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") == b""
            assert (await ask(address, "GET", "/health/live")).status_code == 200

    trio.run(main)
    assert state.count("guard_errors", where="api-connection") == 1


def test_idle_clients_cannot_lock_out_the_health_check() -> None:
    async def main() -> None:
        async with served(FakeState()) as address:
            idle = [await trio.open_tcp_stream(*address) for _ in range(MAX_CONNECTIONS + 5)]
            for _ in range(3):
                assert (await ask(address, "GET", "/health/live")).status_code == 200
            with trio.fail_after(5):
                assert await idle[0].receive_some() == b""
            for stream in idle:
                await stream.aclose()

    trio.run(main)


def test_slow_client_is_dropped_at_its_deadline() -> None:
    async def main() -> None:
        async with served(FakeState()) as address:
            stream = await trio.open_tcp_stream(*address)
            async with stream:
                await stream.send_all(b"GET /health")
                with trio.fail_after(60):
                    assert await stream.receive_some() == b""

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_stops_at_once_and_leaves_no_socket_whatever_clients_do() -> None:
    state = FakeState(blocked=True)
    # a response that does not fit into the socket buffers of a client that does not read
    state.known = {"big": {"x": "y" * 20_000_000}}

    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> float:
        before = open_descriptors()
        async with trio.open_nursery() as nursery:
            address = await nursery.start(serve_api, build_api(state), ("127.0.77.1", 0))
            clients = []
            for wire in (
                b"",
                b"GET /he",
                b"POST /drain HTTP/1.1\r\nhost: x\r\n\r\n",
                b"GET /calls/big HTTP/1.1\r\nhost: x\r\n\r\n",
            ):
                client = socket.create_connection(address)
                client.sendall(wire)
                clients.append(client)
            await trio.testing.wait_all_tasks_blocked(0.05)
            started = time.monotonic()
            nursery.cancel_scope.cancel()
        took = time.monotonic() - started
        for client in clients:
            client.close()
        with pytest.raises(OSError):
            await trio.open_tcp_stream(*address)
        assert open_descriptors() <= before
        return took

    assert trio.run(main) < 1.0


def test_address_in_use_is_told() -> None:
    async def main() -> None:
        async with served(FakeState()) as address:
            with pytest.raises(OSError):
                await serve_api(build_api(FakeState()), address)

    trio.run(main)


def test_an_order() -> None:
    state = FakeState()
    response = get(state, "/calls", "POST", json={"to": "x"}, headers={"idempotency-key": "k"})
    assert (response.status_code, response.headers["location"]) == (201, "/calls/new")
    assert response.json() == {"id": "new", "state": "setting-up"}
    assert "idempotent-replayed" not in response.headers
    assert state.orders == [({"to": "x"}, "k")]
    assert get(state, "/calls", "POST", json={"to": "x"}).headers["idempotent-replayed"] == "true"


def test_an_order_that_is_refused_says_why() -> None:
    state = FakeState(refusal=OrderError(503, "overload-calls", "no room", retry_after_s=2))
    response = get(state, "/calls", "POST", json={})
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert response.json() == {"error": "no room", "code": "overload-calls"}
    state.refusal = OrderError(422, "bad-uri", "to: malformed", "to")
    assert get(state, "/calls", "POST", json={}).json()["field"] == "to"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b" " * (MAX_BODY_BYTES + 1), "application/json", 413),
    ],
)
def test_what_is_no_order(body: bytes, content_type: str, status: int) -> None:
    state = FakeState()
    response = get(state, "/calls", "POST", content=body, headers={"content-type": content_type})
    assert response.status_code == status
    assert "error" in response.json()
    assert not state.orders


def test_hanging_up() -> None:
    state = FakeState(known={"a": {"state": "talking"}, "b": {"state": "ended"}})
    assert get(state, "/calls/a", "DELETE").status_code == 202
    assert get(state, "/calls/b", "DELETE").status_code == 409
    assert get(state, "/calls/c", "DELETE").status_code == 404
    assert get(state, "/calls", "DELETE").status_code == 405


@pytest.mark.parametrize(("method", "path"), [("POST", "/calls"), ("DELETE", "/calls/a"), ("POST", "/drain")])
@pytest.mark.parametrize("shown", [None, "Bearer wrong", "Basic s3cret", "Bearer", "Bearer s3cre", "Bearer \u00fc"])
def test_who_changes_something_shows_the_token(method: str, path: str, shown: str | None) -> None:
    state = FakeState(known={"a": {"state": "talking"}})
    headers = {} if shown is None else {"authorization": shown.encode("latin-1")}
    response = (
        get(state, path, method, json={}, headers=headers, token="s3cret")
        if method == "POST"
        else get(state, path, method, headers=headers, token="s3cret")
    )
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert not state.orders
    assert not state.drained


def test_the_token_opens() -> None:
    state = FakeState()
    response = get(state, "/calls", "POST", json={}, headers={"authorization": "bearer s3cret"}, token="s3cret")
    assert response.status_code == 201
    assert get(state, "/calls", token="s3cret").status_code == 200  # reading needs none


def test_without_a_token_only_the_loopback_interface_changes_anything() -> None:
    async def main() -> None:
        state = FakeState()
        app = build_api(state)
        for host, status in (("127.0.0.1", 202), ("::1", 202), ("192.0.2.7", 403), ("nonsense", 403)):
            transport = httpx.ASGITransport(app=app, client=(host, 4000))
            async with httpx.AsyncClient(transport=transport, base_url="http://as") as client:
                assert (await client.post("/drain")).status_code == status
        assert state.drained == 2

    trio.run(main)


def test_alarms_are_listed_and_acknowledged() -> None:
    state = FakeState()
    assert get(state, "/alarms").json() == {"alarms": [{"id": "7-1"}], "cleared": []}
    path = "/alarms/7-1/acknowledge"
    assert get(state, path, "POST").json() == {"id": "7-1", "acknowledged_by": ""}
    assert get(state, path, "POST", json={"by": "noc"}).json() == {"id": "7-1", "acknowledged_by": "noc"}
    assert get(state, "/alarms/8/acknowledge", "POST").status_code == 404
    assert get(state, path, "POST", json={"by": 1}).status_code == 400
    assert get(state, path, "POST", json=["noc"]).status_code == 400
    assert get(state, path, "POST", content=b"by=noc").status_code == 415
    assert get(state, path, "GET").status_code == 405
    assert get(state, path, "POST", token="secret").status_code == 401


def test_media_workers_are_listed_and_drained():
    state = FakeState()
    assert get(state, "/workers").json() == {"workers": [{"worker": "w0", "legs": 2}]}
    assert get(state, "/workers/w0/drain", "POST").status_code == 202
    assert get(state, "/workers/w9/drain", "POST").status_code == 404
    assert get(state, "/workers/w0/drain", "POST", token="secret").status_code == 401
