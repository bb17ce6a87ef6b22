"""``ims-as alarms``: a thin client of ``GET /alarms`` and ``POST /alarms/{id}/acknowledge``.

Exit status: 0 no alarm is active, 1 one is, 3 the server cannot be asked or refuses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import click

from ims_as.cli_options import EXIT_PROBLEM, fail
from ims_as.errors import ImsAsError

__all__ = ["EXIT_NO_SERVER", "alarm_lines", "alarms_command"]

EXIT_NO_SERVER: Final = 3
DEADLINE_S: Final = 5.0
INDENT: Final = " " * 10


def _ask(api: str, path: str, token: str | None, body: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object that the server answers.  Raises ImsAsError with a line for people."""
    import httpx

    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        # trust_env: a proxy of the environment is not the way to a server's management address
        with httpx.Client(base_url=api.rstrip("/"), headers=headers, timeout=DEADLINE_S, trust_env=False) as client:
            response = client.get(path) if body is None else client.post(path, json=body)
        content = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ImsAsError(f"{api} cannot be asked: {error}") from error
    if not isinstance(content, dict):
        raise ImsAsError(f"{api} is no server of this kind")
    if response.status_code != 200:
        raise ImsAsError(f"refused ({response.status_code}): {content.get('error', 'no reason given')}")
    return content


def _alarms(found: object) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _moment(seconds: object) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if isinstance(seconds, int | float) else "?"


def _printable(text: object) -> str:
    return "".join(char if char.isprintable() else "·" for char in str(text))


def alarm_lines(alarm: Mapping[str, Any]) -> Iterator[str]:
    """One alarm of the API, for people."""
    head = f"{alarm.get('severity', '?'):<9} {alarm.get('alarm', '?')} of {alarm.get('object', '?')}"
    yield _printable(f"{head} since {_moment(alarm.get('raised_at'))}, id {alarm.get('id', '?')}")
    if alarm.get("detail"):
        yield _printable(f"{INDENT}{alarm['detail']}")
    if alarm.get("cleared_at") is not None:
        yield f"{INDENT}over at {_moment(alarm['cleared_at'])}"
        return
    for name in ("effect", "action"):
        if alarm.get(name):
            yield _printable(f"{INDENT}{alarm[name]}")
    if alarm.get("acknowledged_at") is not None:
        by = f" by {alarm['acknowledged_by']}" if alarm.get("acknowledged_by") else ""
        yield _printable(f"{INDENT}acknowledged at {_moment(alarm['acknowledged_at'])}{by}")


@click.command("alarms")
@click.option("--all", "shows_all", is_flag=True, help="Also those that were cleared lately.")
@click.option("--acknowledge", "alarm_id", metavar="ID", help="Note that somebody looks after this alarm.")
@click.option("--by", default="", metavar="NAME", help="With --acknowledge: who.")
@click.option("--api", envvar="IMS_AS_API", default="http://127.0.0.1:8080", show_default=True, help="$IMS_AS_API")
@click.option("--token", envvar="IMS_AS_API_TOKEN", help="The API's token; better in $IMS_AS_API_TOKEN.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def alarms_command(shows_all: bool, alarm_id: str | None, by: str, api: str, token: str | None, as_json: bool) -> None:
    """List the alarms of a running server, the most severe first; exit status 1 when there is one."""
    try:
        if alarm_id is not None:
            found = _ask(api, f"/alarms/{quote(alarm_id, safe='')}/acknowledge", token, {"by": by})
            click.echo(json.dumps(found) if as_json else "\n".join(alarm_lines(found)))
            return
        told = _ask(api, "/alarms", token)
        active, cleared = _alarms(told.get("alarms")), _alarms(told.get("cleared"))
    except ImsAsError as error:
        fail(str(error), EXIT_NO_SERVER)
    if as_json:
        click.echo(json.dumps({"alarms": active, "cleared": cleared} if shows_all else {"alarms": active}))
    else:
        for alarm in [*active, *(cleared if shows_all else ())]:
            click.echo("\n".join(alarm_lines(alarm)))
        if not active:
            click.echo("no alarm is active")
    sys.exit(EXIT_PROBLEM if active else 0)
