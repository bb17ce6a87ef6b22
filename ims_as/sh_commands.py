"""The commands ``ims-as sh get|put|watch``.

Exit status: 2 usage (configuration and input included), 3 no HSS or no answer, 4 the HSS refused.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, fail, load_or_exit, with_config
from ims_as.errors import ImsAsError

if TYPE_CHECKING:
    from diameter.sh.client import ShProfile
    from diameter.sh.userdata import ShData
    from ims_as.sh_tool import Subscription

__all__ = ["sh_group"]

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")


def _sh_options(command: C) -> C:
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
        with_config,
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
    from ims_as.sh_tool import ServiceDataError, ShToolError, run

    try:
        return run(action, *arguments, **options)
    except ServiceDataError as error:
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
@_impu
def get_command(
    path: str | None,
    overrides: tuple[str, ...],
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    impu: str,
) -> None:
    """Print the user's service data, state, S-CSCF and criteria (UDR)."""
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    from ims_as.sh_report import describe_profile, profile_lines
    from ims_as.sh_tool import get_profile

    profile = _run(get_profile, config, impu, origin_host=origin_host, wait_s=wait_s)
    told = describe_profile(profile, config.diameter.sh.service_indication)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _echo(profile_lines(told))


@sh_group.command("put")
@_sh_options
@click.option("--delete", is_flag=True, help="Delete the service data; without FILE.")
@_impu
@click.argument("file", type=click.File("rb"), required=False)
def put_command(
    path: str | None,
    overrides: tuple[str, ...],
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    delete: bool,
    impu: str,
    file: Any,
) -> None:
    """Store the XML element in FILE as the user's service data (UDR, PUR); - is standard input."""
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    if delete is (file is not None):
        raise click.UsageError("give FILE or --delete")
    from diameter.sh.userdata import MAX_USER_DATA_BYTES
    from ims_as.sh_tool import put_service_data

    xml = None if delete else file.read(MAX_USER_DATA_BYTES + 1)
    update = _run(put_service_data, config, impu, xml, origin_host=origin_host, wait_s=wait_s)
    if as_json:
        click.echo(json.dumps({"impu": impu, "sequence_before": update.before, "sequence": update.after}))
    elif update.after is None:
        click.echo(f"deleted (sequence number was {update.before})")
    else:
        click.echo(f"stored with sequence number {update.after} ({_before(update.before)})")


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
    """Subscribe to the user's data and print each notification (SNR, PNR); JSON comes one object per line."""
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    from ims_as.sh_report import describe_profile, describe_push, profile_lines, push_lines

    def show(event: str, told: dict[str, Any], lines: Iterable[str]) -> None:
        if as_json:
            click.echo(json.dumps({"event": event, "at": round(time.time(), 3), **told}))
        else:
            click.echo(f"{time.strftime('%H:%M:%S')} {event}")
            _echo(lines)

    def on_profile(profile: ShProfile, subscription: Subscription) -> None:
        told = describe_profile(profile, config.diameter.sh.service_indication)
        told["subscribed"], told["refused"] = list(subscription.accepted), dict(subscription.refused)
        show("profile", told, profile_lines(told))
        if not as_json:
            _echo([f"{'watching':<12} {', '.join(subscription.accepted)}"])
            _echo(f"{'not watching':<12} {name}: {reason}" for name, reason in subscription.refused)

    def on_push(data: ShData) -> None:
        told = describe_push(data)
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
