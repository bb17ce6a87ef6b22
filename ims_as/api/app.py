"""The HTTP API for health checks, metrics and operators.

======================= ============================================================================================
GET /health/live        200 as long as the process answers; depends on nothing else.
GET /health/ready       200 when a call could be served now, else 503 with ``reasons``.
GET /metrics            Prometheus text format, OpenMetrics where the Accept header asks for it.
GET /calls              Summaries, newest first; ``?limit=`` (default 100), ``?state=``.
GET /calls/{id}         One call by our id or a SIP Call-ID: parties, transcript, termination, trace.
GET /registrations      Registered users as the S-CSCF told, newest first; ``?limit=`` (default 100).
GET /registrations/{u}  One user by public identity (a ``sip:`` or ``tel:`` URI), or by one of the same implicit set.
GET /alarms             Alarms that are active, the most severe first, and those cleared last; ``docs/alarms.md``.
POST /alarms/{id}/acknowledge
                        Notes that somebody looks after an alarm, ``{"by": name}``; 200 with the alarm.
POST /calls             An agent calls somebody: 201 with the call's id and Location; ``docs/outbound.md``.
DELETE /calls/{id}      Hangs a call up: 202; what became of it is in ``GET /calls/{id}``.
GET /workers            The media workers: load, legs by codec, whether they are being drained; ``docs/workers.md``.
POST /workers/{name}/drain
                        A media worker gets no new calls and ends with its last one, another one takes its place: 202.
POST /drain             No new calls from now on, the old ones end within ``limits.drain_s``; 202 at once.
POST /reload            Reads the configuration again: 200 with what was applied and what waits for a restart, 422 with
                        the problems when nothing was.
======================= ============================================================================================

What changes something (POST, DELETE) needs ``Authorization: Bearer`` with the token of ``api.token``; where none is
configured, it must come from the loopback interface.

Errors are JSON, ``{"error": text}``, with ``code`` and ``field`` where an order is refused.  What goes wrong in here
costs that request only: 500, counted, logged, and nothing of the error goes to the client.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ims_as.call.order import OrderError
from ims_as.config_reload import ReloadOutcome
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog

__all__ = ["MAX_BODY_BYTES", "MAX_LISTED_CALLS", "ApiState", "build_api"]

MAX_BODY_BYTES = 64 * 1024
"""An order with all that it may carry is a third of it."""
MAX_LISTED_CALLS = 10_000
DEFAULT_LISTED_CALLS = 100


class ApiState(Protocol):
    """What the API shows; the server provides it."""

    @property
    def metrics(self) -> Metrics: ...

    def is_ready(self) -> tuple[bool, list[str]]:
        """Whether a call could be served now, and if not, why."""
        ...

    def calls(self) -> list[dict[str, Any]]:
        """Summaries of the calls that are up and of the last that ended, newest first."""
        ...

    def call(self, call_id: str, /) -> dict[str, Any] | None:
        """One call by our id or a SIP Call-ID."""
        ...

    def registrations(self, limit: int, /) -> list[dict[str, Any]]:
        """Registered users, the one refreshed last first."""
        ...

    def registration(self, impu: str, /) -> dict[str, Any] | None:
        """One registered user by public identity."""
        ...

    def alarms(self) -> dict[str, list[dict[str, Any]]]:
        """``alarms`` that are active and those that were ``cleared`` lately."""
        ...

    def acknowledge_alarm(self, alarm_id: str, by: str, /) -> dict[str, Any] | None:
        """Notes who looks after an alarm; None when there is none of that id."""
        ...

    def place_call(self, order: object, key: str | None, /) -> tuple[str, bool]:
        """Calls somebody: the call's id, and whether an earlier order under the same key has made it already.

        Raises:
            OrderError: why not.
        """
        ...

    def hang_up(self, call_id: str, /) -> bool:
        """Ends a call; False when none of that id is up."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """The media workers."""
        ...

    async def drain_worker(self, name: str, /) -> bool:
        """Another media worker takes its place; False when there is none of that name."""
        ...

    async def drain(self) -> None:
        """Starts draining; returns at once."""
        ...

    async def reload(self) -> ReloadOutcome:
        """Reads the configuration again."""
        ...


def _json(content: Any, status: int = 200) -> Response:
    # default=str: a record may hold what JSON does not know; an operator is better served by its text than by a 500
    body = json.dumps(content, ensure_ascii=False, default=str, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


class _Guard:
    """Bounds the request, counts it, and turns an unforeseen error into a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: OperatorLog | None) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if _body_length(scope) > MAX_BODY_BYTES:
                await _json({"error": "request too large"}, 413)(scope, receive, counting_send)
            else:
                await self._app(scope, receive, counting_send)
        # the guard: an error of ours in a request must cost that request only
        except Exception as error:
            self._metrics.guard_errors.labels("api").inc()
            if self._log is not None:
                self._log.event("API_ERROR", error=repr(error), path=str(scope["path"])[:200])
            if not status:
                await _json({"error": "internal error"}, 500)(scope, receive, counting_send)
        finally:
            self._metrics.api_requests.labels(status).inc()


def _body_length(scope: Scope) -> int:
    """Declared length; a length that is not a number, and chunks, count as too long."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return MAX_BODY_BYTES + 1
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 12 else MAX_BODY_BYTES + 1
    return 0


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LISTED_CALLS))
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise HTTPException(400, "limit must be a number")
    return min(int(text), MAX_LISTED_CALLS)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_writer(request: Request, token: str | None) -> None:
    """Raises HTTPException where the client may not change anything."""
    if token is None:
        if request.client is None or not _is_loopback(request.client.host):
            raise HTTPException(403, "only from the loopback interface, as no api.token is configured")
        return
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
        raise HTTPException(401, "the bearer token is missing or wrong", {"www-authenticate": "Bearer"})


async def _read_json(request: Request) -> object:
    # a browser asks before it sends this type across sites, so no web page can place calls through its visitor
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    try:
        content: object = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    return content


def build_api(state: ApiState, log: OperatorLog | None = None, *, token: str | None = None) -> Starlette:
    """The ASGI application; ``app.state.metrics`` and ``app.state.log`` are there for ``serve_api``.

    Args:
        token: what writers must show; None: they must come from the loopback interface.
    """

    async def live(_: Request) -> Response:
        return _json({"status": "alive"})

    async def ready(_: Request) -> Response:
        is_ready, reasons = state.is_ready()
        if is_ready:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reasons": reasons}, 503)

    async def metrics(request: Request) -> Response:
        body, content_type = state.metrics.render(request.headers.get("accept"))
        return Response(body, headers={"content-type": content_type})

    async def calls(request: Request) -> Response:
        limit = _limit(request)
        found = state.calls()
        if (wanted := request.query_params.get("state")) is not None:
            found = [call for call in found if call.get("state") == wanted]
        return _json({"calls": found[:limit], "total": len(found)})

    async def call(request: Request) -> Response:
        if (found := state.call(request.path_params["call_id"])) is None:
            raise HTTPException(404, "no such call")
        return _json(found)

    async def registrations(request: Request) -> Response:
        return _json({"registrations": state.registrations(_limit(request))})

    async def registration(request: Request) -> Response:
        if (found := state.registration(request.path_params["impu"])) is None:
            raise HTTPException(404, "not registered")
        return _json(found)

    async def alarms(_: Request) -> Response:
        return _json(state.alarms())

    async def acknowledge(request: Request) -> Response:
        _check_writer(request, token)
        content = await _read_json(request) if await request.body() else {}
        by = content.get("by", "") if isinstance(content, dict) else None
        if not isinstance(by, str):
            raise HTTPException(400, 'the body must be {"by": name}')
        if (found := state.acknowledge_alarm(request.path_params["alarm_id"], by)) is None:
            raise HTTPException(404, "no such alarm")
        return _json(found)

    async def place(request: Request) -> Response:
        _check_writer(request, token)
        content = await _read_json(request)
        try:
            call_id, is_repeated = state.place_call(content, request.headers.get("idempotency-key"))
        except OrderError as error:
            problem = {"error": str(error), "code": error.code, "field": error.field or None}
            response = _json({name: value for name, value in problem.items() if value is not None}, error.status)
            if error.retry_after_s is not None:
                response.headers["retry-after"] = str(error.retry_after_s)
            return response
        response = _json(state.call(call_id) or {"id": call_id}, 201)
        response.headers["location"] = f"/calls/{call_id}"
        if is_repeated:
            response.headers["idempotent-replayed"] = "true"
        return response

    async def hang_up(request: Request) -> Response:
        _check_writer(request, token)
        call_id = request.path_params["call_id"]
        if state.hang_up(call_id):
            return _json({"status": "hanging up"}, 202)
        if state.call(call_id) is None:
            raise HTTPException(404, "no such call")
        raise HTTPException(409, "the call has ended")

    async def workers(_: Request) -> Response:
        return _json({"workers": state.workers()})

    async def drain_worker(request: Request) -> Response:
        _check_writer(request, token)
        if not await state.drain_worker(request.path_params["name"]):
            raise HTTPException(404, "no such worker")
        return _json({"status": "draining"}, 202)

    async def drain(request: Request) -> Response:
        _check_writer(request, token)
        await state.drain()
        return _json({"status": "draining"}, 202)

    async def reload(request: Request) -> Response:
        _check_writer(request, token)
        outcome = await state.reload()
        return _json(outcome.as_dict(), 422 if outcome.outcome == "rejected" else 200)

    def route(path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        return Route(path, endpoint, methods=[method])

    async def http_error(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        response = _json({"error": error.detail.lower()}, error.status_code)
        response.headers.update(error.headers or {})
        return response

    app = Starlette(
        routes=[
            route("/health/live", live),
            route("/health/ready", ready),
            route("/metrics", metrics),
            route("/alarms", alarms),
            route("/alarms/{alarm_id}/acknowledge", acknowledge, "POST"),
            route("/calls", calls),
            route("/calls", place, "POST"),
            route("/calls/{call_id:path}", call),
            route("/registrations", registrations),
            route("/registrations/{impu:path}", registration),
            route("/calls/{call_id:path}", hang_up, "DELETE"),
            route("/workers", workers),
            route("/workers/{name}/drain", drain_worker, "POST"),
            route("/drain", drain, "POST"),
            route("/reload", reload, "POST"),
        ],
        middleware=[Middleware(_Guard, metrics=state.metrics, log=log)],
        exception_handlers={HTTPException: http_error},
    )
    app.state.metrics = state.metrics
    app.state.log = log
    return app
