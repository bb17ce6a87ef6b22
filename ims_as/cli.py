"""The command line ``ims-as``.  Each command is a thin call into a function; heavy imports wait until they are needed.

Other packages add commands by entry points of the group ``ims_as.commands``; one that cannot be loaded says so when it
is called and is in nobody's way.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any
from urllib.parse import quote

import click

from ims_as.alarm_commands import alarms_command
from ims_as.cli_options import EXIT_PROBLEM, fail, load_or_exit, with_config
from ims_as.config import Config, Problem, read_config
from ims_as.config_schema import build_schema, render_config
from ims_as.dial_commands import dial_command
from ims_as.errors import ImsAsError
from ims_as.ifc_tool.commands import ifc_group
from ims_as.oss.trace import TraceEvent, render_ladder
from ims_as.policy_commands import policy_group
from ims_as.recording_commands import recordings_group
from ims_as.sh_commands import sh_group

__all__ = ["COMMAND_GROUP", "PluginGroup", "fetch_call", "main", "render_call"]

COMMAND_GROUP = "ims_as.commands"
DEFAULT_API = "http://127.0.0.1:8080"
API_DEADLINE_S = 5.0

_PLUGIN_ERRORS = (ImportError, AttributeError, SyntaxError, TypeError, ValueError, OSError, RuntimeError)
"""What loading foreign code may raise."""


# --- plug-ins ---------------------------------------------------------------------------------------------------------


class PluginGroup(click.Group):
    """A group whose own commands come first and whose others are found by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(point.name for point in self._points())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        return next((_load(point) for point in self._points() if point.name == cmd_name), None)

    def _points(self) -> Sequence[EntryPoint]:
        return tuple(entry_points(group=COMMAND_GROUP))


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
        if not isinstance(command, click.Command):
            raise TypeError(f"{point.value} is not a command")
    except _PLUGIN_ERRORS as error:
        reason = f"the command {point.name!r} is not available: {error or type(error).__name__}".replace("\n", " ")
        settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
        return click.Command(
            point.name, callback=lambda: fail(reason), context_settings=settings, short_help="(not available)"
        )
    return command


# --- the server -------------------------------------------------------------------------------------------------------


@click.group(cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ims-as"), prog_name="ims-as")
def main() -> None:
    """An IMS SIP Application Server that puts AI voice agents behind a carrier core."""


@main.command()
@with_config
def run(path: str | None, overrides: tuple[str, ...]) -> None:
    """Run the server until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    config = load_or_exit(path, overrides)
    import trio

    from ims_as.app import serve

    def read_again() -> tuple[Config, list[Problem]]:
        return read_config(path, overrides=overrides)

    failures: list[BaseException] = []
    try:
        trio.run(serve, config, read_again)
    except* (ImsAsError, OSError) as group:
        # what an operator can mend (an address in use, a folder without permission) needs no traceback
        failures.extend(_leaves(group))
    for error in failures:
        click.echo(f"ims-as: {type(error).__name__}: {error}", err=True)
    if failures:
        sys.exit(EXIT_PROBLEM)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@main.command()
@with_config
@click.option("--control-fd", type=int, help="One worker on this descriptor, a connected socket.")
@click.option("--name", default="w0", show_default=True, help="Name of that worker in metrics.")
def media(path: str | None, overrides: tuple[str, ...], control_fd: int | None, name: str) -> None:
    """Run media workers for signalling nodes that connect to media.control.listen."""
    config = load_or_exit(path, overrides)
    if control_fd is None:
        _run_media_host(config)
        return
    from media.worker import main as work

    arguments = ["--control-fd", str(control_fd), "--address", config.media.address]
    sys.exit(work([*arguments, "--ports", str(config.media.ports), "--name", name]))


def _run_media_host(config: Config) -> None:
    import trio

    from ims_as.media_host import run_media_host
    from ims_as.media_setup import server_contexts
    from ims_as.oss.oplog import OperatorLog

    if config.media.control.listen is None:
        click.echo("ims-as: media.control.listen is not set: where should it listen?", err=True)
        sys.exit(EXIT_PROBLEM)
    try:
        trio.run(run_media_host, config.media, OperatorLog(config.log), server_contexts(config.media.control))
    except* OSError as group:
        for error in _leaves(group):
            click.echo(f"ims-as: {type(error).__name__}: {error}", err=True)
        sys.exit(EXIT_PROBLEM)


@main.group("config")
def config_group() -> None:
    """Check, show and describe the configuration."""


@config_group.command()
@with_config
def check(path: str | None, overrides: tuple[str, ...]) -> None:
    """Print every problem and warning; exit status 1 when the file cannot be used."""
    load_or_exit(path, overrides)
    click.echo(f"{path}: ok")


@config_group.command()
@with_config
def show(path: str | None, overrides: tuple[str, ...]) -> None:
    """Print the effective configuration; of secrets only where they come from."""
    click.echo(render_config(load_or_exit(path, overrides, needs_file=False)), nl=False)


@config_group.command()
def schema() -> None:
    """Print a JSON schema of the configuration file."""
    click.echo(json.dumps(build_schema(), indent=2, ensure_ascii=False))


# --- traces -----------------------------------------------------------------------------------------------------------


def fetch_call(api: str, call_id: str) -> dict[str, Any]:
    """One call from a running server's API.  Raises ImsAsError with a line for people."""
    import httpx

    try:
        # trust_env: a proxy of the environment is not the way to a server's management address
        with httpx.Client(timeout=API_DEADLINE_S, trust_env=False) as client:
            response = client.get(f"{api.rstrip('/')}/calls/{quote(call_id, safe='')}")
            body = response.json() if response.status_code in (200, 404) else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ImsAsError(f"{api} cannot be asked: {error}") from error
    if response.status_code == 404:
        raise ImsAsError(f"no call {call_id} at {api}")
    if not isinstance(body, dict):
        raise ImsAsError(f"{api} answered {response.status_code}")
    return body


def render_call(call: dict[str, Any], *, width: int, messages: bool = False) -> str:
    """A call for people: what it was, its ladder, on wish the full texts.  Raises ValueError on a malformed trace."""
    events = [TraceEvent.from_dict(event) for event in call.get("trace") or ()]
    lines = [f"{call.get('from', '?')} → {call.get('to', '?')}   {call.get('state', '')}"]
    if ended := call.get("termination"):
        cause = f" ({ended['cause']})" if ended.get("cause") else ""
        lines.append(f"{ended.get('result')} · by {ended.get('by')} · {ended.get('reason')}{cause}")
    times = {"setup": call.get("setup_ms"), "first audio": call.get("ttfb_ms")}
    if told := " · ".join(f"{name} {value:.1f} ms" for name, value in times.items() if isinstance(value, int | float)):
        lines.append(told)
    text = "\n".join("".join(char if char.isprintable() else "·" for char in line)[:width] for line in lines)
    text += "\n\n" + render_ladder(events, width)
    if messages:
        for event in events:
            if event.text:
                shown = "".join(char if char.isprintable() or char == "\n" else "·" for char in event.text)
                text += f"\n── {event.source} → {event.target}: {event.label}\n{shown.rstrip()}\n"
    return text


@main.command()
@with_config
@click.argument("call_id")
@click.option("--api", envvar="IMS_AS_API", metavar="URL", help=f"The server's API ($IMS_AS_API, or {DEFAULT_API}).")
@click.option("--width", type=click.IntRange(40, 400), help="Characters per line; default: the terminal's.")
@click.option("--messages", is_flag=True, help="Print the full messages too.")
def trace(
    path: str | None, overrides: tuple[str, ...], call_id: str, api: str | None, width: int | None, messages: bool
) -> None:
    """Draw the ladder of one call; CALL_ID is ours or a SIP Call-ID."""
    if api is None:
        api = f"http://{load_or_exit(path, overrides).api.listen}" if path is not None else DEFAULT_API
    try:
        call = fetch_call(api, call_id)
        drawn = render_call(
            call, width=width or min(shutil.get_terminal_size((100, 24)).columns, 120), messages=messages
        )
    except (ImsAsError, ValueError) as error:
        fail(str(error))
    click.echo(drawn, nl=False)


# --- a synthetic call -------------------------------------------------------------------------------------------------


@main.command()
@click.argument("uri")
@click.option("--play", type=click.Path(exists=True, dir_okay=False), metavar="WAV", help="What the caller says.")
@click.option("--record", type=click.Path(dir_okay=False), metavar="WAV", help="Where to put what the caller hears.")
@click.option("--proxy", metavar="ADDRESS", help="Next hop, such as udp:192.0.2.1:5060; default: by the URI.")
@click.option("--from", "from_", default="sip:ims-as-call@localhost", show_default=True, help="The caller's URI.")
@click.option("--local", metavar="IP", help="The caller's address; default: the one that leads to the next hop.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A further header of the INVITE.")
@click.option(
    "--max-s", type=click.FloatRange(0.1, 600), default=30.0, show_default=True, help="Longest call, seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def call(
    uri: str,
    play: str | None,
    record: str | None,
    proxy: str | None,
    from_: str,
    local: str | None,
    headers: tuple[str, ...],
    max_s: float,
    as_json: bool,
) -> None:
    """Place a synthetic call to URI and measure it; exit status 0 when it was answered."""
    from ims_as.call_tool import CallPlan, call_from_terminal, format_report

    try:
        plan = CallPlan(
            uri,
            from_=f"<{from_}>",
            local_host=local,
            max_s=max_s,
            headers=tuple(_split_header(header) for header in headers),
        )
        report = call_from_terminal(plan, proxy=proxy, play=play, record=record)
    except (ImsAsError, OSError) as error:
        fail(str(error))
    click.echo(format_report(report, as_json=as_json))
    sys.exit(0 if report.status == 200 else EXIT_PROBLEM)


def _split_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise ImsAsError(f"--header {text!r}: expected NAME:VALUE")
    return name.strip(), value.strip()


# --- commands with a module of their own ------------------------------------------------------------------------------

main.add_command(alarms_command)
main.add_command(dial_command)
main.add_command(ifc_group)
main.add_command(policy_group)
main.add_command(recordings_group)
main.add_command(sh_group)
