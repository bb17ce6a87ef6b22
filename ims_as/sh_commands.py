"""The commands ``ims-as sh get|put|watch``.

Exit status: 2 usage (configuration and input included), 3 no HSS or no answer, 4 the HSS refused.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, fail, load_or_exit, with_config
from ims_as.errors import ImsAsError

if TYPE_CHECKING:
    from diameter.sh.client import ShProfile
    from diameter.sh.userdata import ShData
    from ims_as.sh_tool import Subscription, Update

__all__ = ["sh_group"]

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")


def _sh_options(command: C) -> C:
    return cast(C, _connection_options(with_config(command)))


def _connection_options(command: Any) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(0.1, 60),
            default=5.0,
            show_default=True,
            help="Seconds for the connection, and for each answer.",
        ),
        click.option(
            "--origin-host",
            metavar="NAME",
            help="Our Diameter identity instead of the configured one, which a running server uses; "
            "without a dot: put in front of it.",
        ),
    ):
        command = option(command)
    return command


def _check_impu(_: click.Context, __: click.Parameter, impu: str) -> str:
    if not impu.lower().startswith(("sip:", "sips:", "tel:")):
        raise click.BadParameter("a public identity begins with sip: or tel:")
    return impu


_impu = click.argument("impu", callback=_check_impu)


@click.group("sh")
def sh_group() -> None:
    """Read, change and watch a user's data in the HSS (Sh, TS 29.328).

    IMPU is a public identity as provisioned, such as sip:bob@example.net or tel:+15550100.
    Exit status: 3 no HSS or no answer, 4 the HSS refused.
    """


def _run(action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    from ims_as.call.profile_document import ProfileDocumentError
    from ims_as.sh_tool import ServiceDataError, ShToolError, run

    try:
        return run(action, *arguments, **options)
    except (ServiceDataError, ProfileDocumentError) as error:
        fail(str(error), EXIT_USAGE)
    except ShToolError as error:
        fail(str(error), error.status)


def _echo(lines: Iterable[str]) -> None:
    """Labels stand out on a terminal; what the HSS sent is never taken for markup."""
    from rich.console import Console
    from rich.text import Text

    from ims_as.sh_report import LABEL_CHARS

    console = Console()
    for line in lines:
        text = Text(line)
        text.stylize("bold", 0, LABEL_CHARS)
        console.print(text, soft_wrap=True)


@sh_group.command("get")
@_sh_options
@click.option("--xml", "as_xml", is_flag=True, help="Print the stored service data as it is, and nothing else.")
@_impu
def get_command(
    path: str | None,
    overrides: tuple[str, ...],
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    as_xml: bool,
    impu: str,
) -> None:
    """Print the user's settings, state, S-CSCF and criteria (UDR)."""
    if as_json and as_xml:
        raise click.UsageError("give --json or --xml")
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    from ims_as.sh_report import describe_profile, profile_lines
    from ims_as.sh_tool import get_profile

    profile = _run(get_profile, config, impu, origin_host=origin_host, wait_s=wait_s)
    if as_xml:
        if profile.service_data is None:
            fail("there is no service data")
        click.echo(profile.service_data)
        return
    told = describe_profile(profile, config.diameter.sh.service_indication)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _echo(profile_lines(told))


@sh_group.command("put")
@_connection_options
@click.option(
    "--set",
    "words",
    multiple=True,
    metavar="SETTING=VALUE",
    help="Change one setting of the stored profile, such as agent=night or limits.call_seconds=600; an empty value "
    "takes it away.  Keys of the configuration are taken as well.",
)
@click.option("-c", "--config", "path", envvar="IMS_AS_CONFIG", metavar="FILE", help="The YAML file ($IMS_AS_CONFIG).")
@click.option("--delete", is_flag=True, help="Delete the service data; without FILE.")
@click.option("--force", is_flag=True, help="Store any XML element, also one that is no valid profile.")
@_impu
@click.argument("file", type=click.File("rb"), required=False)
def put_command(
    path: str | None,
    words: tuple[str, ...],
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    delete: bool,
    force: bool,
    impu: str,
    file: Any,
) -> None:
    """Store a profile: the XML in FILE (- is standard input), or the stored one with other settings (UDR, PUR).

    A profile that is not valid is refused, with line and reason.
    """
    from ims_as.call.profile_document import ProfileDocumentError, edit_profile_untrusted, parse_edits, profile_problems

    settings, overrides = _split_words(words)
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    if [delete, file is not None, bool(settings)].count(True) != 1:
        raise click.UsageError("give FILE, --set SETTING=VALUE or --delete")
    from diameter.sh.userdata import MAX_USER_DATA_BYTES
    from ims_as.sh_tool import change_service_data, put_service_data

    options = {"origin_host": origin_host, "wait_s": wait_s}
    if settings:
        try:
            edits = parse_edits(settings)
        except ProfileDocumentError as error:
            fail(str(error), EXIT_USAGE)
        _warn_of_agent(edits.get("agent"), config.agents)
        update = _run(
            change_service_data, config, impu, lambda stored: edit_profile_untrusted(stored, edits), **options
        )
    else:
        xml = None if delete else file.read(MAX_USER_DATA_BYTES + 1)
        if xml is not None and not force:
            _refuse_invalid(profile_problems(xml), getattr(file, "name", "standard input"))
            _warn_of_agent(_agent_in(xml), config.agents)
        update = _run(put_service_data, config, impu, xml, **options)
    _tell_update(update, impu, as_json=as_json)


def _split_words(words: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Settings of a profile, and keys of the configuration, which no setting is called like."""
    from ims_as.call.service_settings import SETTINGS
    from ims_as.config import Config

    names = [setting.name for setting in SETTINGS]
    sections = {field.name for field in attrs.fields(Config)}
    settings: dict[str, str] = {}
    overrides = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in names and equals:
            settings[name] = value
        elif "." in name and name.split(".")[0] in sections and equals:
            overrides.append(word)
        else:
            raise click.UsageError(f"--set {word}: expected SETTING=VALUE with one of {', '.join(names)}")
    return settings, tuple(overrides)


def _agent_in(xml: bytes) -> str | None:
    from ims_as.call.service_settings import parse_service_settings_untrusted

    return parse_service_settings_untrusted(xml).agent


def _warn_of_agent(agent: str | None, agents: Container[str]) -> None:
    if agent is not None and agent not in agents:
        click.echo(f"warning: this configuration has no agent {agent}: calls will get the one of `routing`", err=True)


def _refuse_invalid(problems: Sequence[str], name: str) -> None:
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        fail(f"{name} is not a valid profile (--force stores it all the same):\n{lines}", EXIT_USAGE)


def _tell_update(update: Update, impu: str, *, as_json: bool) -> None:
    from ims_as.sh_report import change_lines, describe_changes

    changes = describe_changes(update.data_before, update.data_after)
    if as_json:
        told = {"impu": impu, "sequence_before": update.before, "sequence": update.after}
        click.echo(json.dumps(told if changes is None else {**told, "changes": changes}))
        return
    if update.data_after is not None and update.data_before == update.data_after and update.before == update.after:
        click.echo(f"nothing to change (sequence number {update.after})")
        return
    if update.after is None:
        click.echo(f"deleted (sequence number was {update.before})")
        return
    click.echo(f"stored with sequence number {update.after} ({_before(update.before)})")
    if changes is not None:
        _echo(change_lines(changes))


def _before(sequence: int | None) -> str:
    return "there was none" if sequence is None else f"was {sequence}"


@sh_group.command("watch")
@_sh_options
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N notifications; default: on Ctrl-C.")
@_impu
def watch_command(
    path: str | None,
    overrides: tuple[str, ...],
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    count: int | None,
    impu: str,
) -> None:
    """Subscribe to the user's data and print each change (SNR, PNR); JSON comes one object per line."""
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    from ims_as.sh_report import describe_profile, describe_push, profile_lines, push_lines

    def show(event: str, told: dict[str, Any], lines: Iterable[str]) -> None:
        if as_json:
            click.echo(json.dumps({"event": event, "at": round(time.time(), 3), **told}))
        else:
            click.echo(f"{time.strftime('%H:%M:%S')} {event}")
            _echo(lines)

    stored: bytes | None = None

    def on_profile(profile: ShProfile, subscription: Subscription) -> None:
        nonlocal stored
        stored = profile.service_data
        told = describe_profile(profile, config.diameter.sh.service_indication)
        told["subscribed"], told["refused"] = list(subscription.accepted), dict(subscription.refused)
        show("profile", told, profile_lines(told))
        if not as_json:
            _echo([f"{'watching':<12} {', '.join(subscription.accepted)}"])
            _echo(f"{'not watching':<12} {name}: {reason}" for name, reason in subscription.refused)

    def on_push(data: ShData) -> None:
        nonlocal stored
        told = describe_push(data, config.diameter.sh.service_indication, stored)
        item = data.find_repository(config.diameter.sh.service_indication.encode())
        if item is not None:
            stored = item.service_data
        show("notification", told, push_lines(told))

    async def watch() -> None:
        import trio

        from ims_as.sh_tool import watch_profile

        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:

                async def until_signal() -> None:
                    async for _ in signals:
                        stop.set()

                nursery.start_soon(until_signal)
                failures: list[Exception] = []
                try:
                    await watch_profile(
                        config,
                        impu,
                        on_profile=on_profile,
                        on_push=on_push,
                        count=count,
                        stop=stop,
                        origin_host=origin_host,
                        wait_s=wait_s,
                    )
                except ImsAsError as error:
                    failures.append(error)
                nursery.cancel_scope.cancel()
        for failure in failures:
            raise failure

    has_reader = True
    try:
        _run(watch)
    except* BrokenPipeError:  # whoever read our output has seen enough
        has_reader = False
    if not has_reader:
        sys.exit(EXIT_PROBLEM)
