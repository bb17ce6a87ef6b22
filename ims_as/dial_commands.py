"""``ims-as dial``: a thin client of ``POST /calls``."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from ims_as.cli_options import EXIT_PROBLEM, fail
from ims_as.errors import ImsAsError

if TYPE_CHECKING:
    import httpx

__all__ = ["DialPlan", "dial_command", "follow_call", "place_order"]

DEADLINE_S: Final = 10.0
POLL_S: Final = 0.5
MAX_TRIES: Final = 3

Sleep = Callable[[float], object]


@attrs.frozen
class DialPlan:
    """What to order, and where."""

    order: dict[str, Any]
    api: str
    token: str | None = None
    key: str = attrs.Factory(lambda: secrets.token_hex(16))
    """Idempotency key: a lost response is asked for again without calling twice."""


def _client(plan: DialPlan) -> httpx.Client:
    import httpx

    headers = {"idempotency-key": plan.key}
    if plan.token:
        headers["authorization"] = f"Bearer {plan.token}"
    # trust_env: a proxy of the environment is not the way to a server's management address
    return httpx.Client(base_url=plan.api.rstrip("/"), headers=headers, timeout=DEADLINE_S, trust_env=False)


def place_order(plan: DialPlan) -> dict[str, Any]:
    """Orders the call; what the server says of it.  Raises ImsAsError with a line for people."""
    import httpx

    problem = ""
    for _ in range(MAX_TRIES):
        try:
            with _client(plan) as client:
                response = client.post("/calls", json=plan.order)
        except httpx.TransportError as error:
            problem = f"{plan.api} cannot be asked: {error}"
            continue
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ImsAsError(f"{plan.api} cannot be asked: {error}") from error
        content = _read(response)
        if response.status_code != 201:
            raise ImsAsError(f"refused ({response.status_code}): {content.get('error', 'no reason given')}")
        return content
    raise ImsAsError(problem)


def _read(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def follow_call(
    plan: DialPlan, call_id: str, on_state: Callable[[str], object], *, sleep: Sleep = time.sleep
) -> dict[str, Any]:
    """Tells each new state until the call has ended; its last record.  Raises ImsAsError."""
    import httpx

    state = ""
    while True:
        try:
            with _client(plan) as client:
                call = _read(client.get(f"/calls/{call_id}"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ImsAsError(f"{plan.api} cannot be asked: {error}") from error
        if "state" not in call:
            raise ImsAsError(f"no call {call_id} at {plan.api}")
        if call["state"] != state:
            state = str(call["state"])
            on_state(state)
        if state == "ended":
            return call
        sleep(POLL_S)


def _split(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ImsAsError(f"--header {text!r}: expected NAME:VALUE")
    return name.strip(), value.strip()


@click.command("dial")
@click.argument("to")
@click.option("--agent", "-A", default="default", show_default=True, help="The agent that calls.")
@click.option("--on-behalf-of", metavar="URI", help="The user for whom it calls; by that user's S-CSCF.")
@click.option("--from", "from_", metavar="URI", help="The service as which it calls; default: the server's identity.")
@click.option("--ring-timeout", type=click.FloatRange(1, 300), metavar="S", help="Longest ringing, seconds.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A further header of the INVITE.")
@click.option("--data", metavar="JSON", help="An object for the agent's engine.")
@click.option("--api", envvar="IMS_AS_API", default="http://127.0.0.1:8080", show_default=True, help="$IMS_AS_API")
@click.option("--token", envvar="IMS_AS_API_TOKEN", help="The API's token; better in $IMS_AS_API_TOKEN.")
@click.option("--wait", is_flag=True, help="Tell how far the call is, until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the call's record as JSON.")
def dial_command(
    to: str,
    agent: str,
    on_behalf_of: str | None,
    from_: str | None,
    ring_timeout: float | None,
    headers: tuple[str, ...],
    data: str | None,
    api: str,
    token: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Have an agent call TO; with --wait, exit status 0 only when the call was answered."""
    fields = {"to": to, "agent": agent, "on_behalf_of": on_behalf_of, "from": from_, "ring_timeout_s": ring_timeout}
    order: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    try:
        if headers:
            order["headers"] = dict(_split(header) for header in headers)
        if data is not None:
            order["data"] = json.loads(data)
        plan = DialPlan(order, api, token)
        call = place_order(plan)
        if wait:
            call = follow_call(plan, str(call["id"]), (lambda _: None) if as_json else click.echo)
    except ImsAsError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"--data: {error}")
    if as_json:
        click.echo(json.dumps(call, ensure_ascii=False))
    elif wait:
        ended = call.get("termination") or {}
        click.echo(f"{ended.get('result')} · by {ended.get('by')} · {ended.get('reason')}")
    else:
        click.echo(call["id"])
    if wait and not call.get("answered_at"):
        sys.exit(EXIT_PROBLEM)
