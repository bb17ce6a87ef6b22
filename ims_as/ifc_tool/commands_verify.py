"""``ims-as ifc verify``: whether the live criteria of users would bring their calls to us."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, fail, load_or_exit, with_config
from ims_as.ifc_tool.command_input import FILE, json_option, name_of, own_hosts_of, printable, read_file

if TYPE_CHECKING:
    from ims_as.config import Config
    from ims_as.ifc_tool.verify import Expectation, Verdict

__all__ = ["verify_command"]

MAX_LIST_BYTES = 16 * 1024 * 1024
_SIDES = ("terminating", "originating")
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan", "safe": "green", "unsafe": "red"}
_STATES = {0: "not registered", 1: "registered", 2: "registered for unregistered services", 3: "being authenticated"}
_ANSWERED = {
    "ours": "the HSS gives our criteria only",
    "all": "the HSS gives the criteria of other servers too",
    "none": "the HSS gives no criteria",
}


@click.command("verify")
@with_config
@click.option("--file", "file", type=FILE, help="Public identities, one in a line; # begins a comment; - is stdin.")
@click.option(
    "--sides",
    default="terminating",
    show_default=True,
    metavar="LIST",
    help="Which calls are to reach us: terminating, originating or both with a comma.",
)
@click.option("--message", type=FILE, help="A SIP request as the example, instead of an INVITE of our own.")
@click.option(
    "--dsai-tag", "dsai_tags", multiple=True, metavar="TAG", help="Activation tag of our criteria in the HSS."
)
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Users at a time.")
@click.option("--origin-host", metavar="NAME", help="Our Diameter identity, as for `ims-as sh`.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0.1, 60), default=5.0, show_default=True,
    help="Seconds for the connection, and for each answer.",
)  # fmt: skip
@json_option
@click.argument("impus", nargs=-1, metavar="IMPU...")
def verify_command(
    path: str | None,
    overrides: tuple[str, ...],
    file: Any,
    sides: str,
    message: Any,
    dsai_tags: tuple[str, ...],
    parallel: int,
    origin_host: str | None,
    wait_s: float,
    as_json: bool,
    impus: tuple[str, ...],
) -> None:
    """Read the live criteria of users over Sh and check that their calls come to us, and are not lost when we fail.

    Exit status: 0 all are safe, 1 one is unsafe, 3 no HSS or no answer, 4 the HSS refused one.
    """
    config = load_or_exit(path, overrides, status=EXIT_USAGE)
    users = _users(impus, file)
    expected = _expectation(config, sides, message)
    from ims_as.ifc_tool.live_criteria import verify_users
    from ims_as.sh_tool import ShToolError, run

    verdicts: list[Verdict] = []

    def take(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if not as_json:
            _print(verdict)

    failure: ShToolError | None = None
    try:
        run(
            verify_users, config, users, expected,
            on_verdict=take, dsai_tags=dsai_tags, parallel=parallel, origin_host=origin_host, wait_s=wait_s,
        )  # fmt: skip
    except ShToolError as error:
        failure = error
    counts = Counter(verdict.status.value for verdict in verdicts)
    if as_json:
        body = {
            "identity": config.identity,
            "users": [verdict.to_dict() for verdict in verdicts],
            "counts": {each: counts[each] for each in _EXITS},
            "error": None if failure is None else str(failure),
        }
        click.echo(json.dumps(body, indent=2))
    elif len(users) > 1 and verdicts:
        click.echo(f"{len(verdicts)} users: " + ", ".join(f"{counts[each]} {each}" for each in _EXITS))
    if failure is not None:
        if as_json:
            sys.exit(failure.status)
        fail(str(failure), failure.status)
    sys.exit(next((status for each, status in _EXITS.items() if status and counts[each]), 0))


_EXITS = {"safe": 0, "unsafe": EXIT_PROBLEM, "no-answer": 3, "refused": 4}
"""In the order in which one outcome of many decides."""


def _users(impus: Iterable[str], file: Any) -> list[str]:
    users = list(impus)
    if file is not None:
        try:
            lines = read_file(file, MAX_LIST_BYTES).decode().splitlines()
        except UnicodeDecodeError as error:
            fail(f"{name_of(file)}: not UTF-8 at byte {error.start}", EXIT_USAGE)
        for number, line in enumerate(lines, 1):
            user = line.partition("#")[0].strip()
            if user and not _is_identity(user):
                fail(f"{name_of(file)}:{number}: a public identity begins with sip: or tel:, not {user!r}", EXIT_USAGE)
            users += [user] if user else []
    elif not users:
        raise click.UsageError("give IMPUs or --file")
    for user in users:
        if not _is_identity(user):
            raise click.UsageError(f"a public identity begins with sip: or tel:, not {user!r}")
    return list(dict.fromkeys(users))


def _is_identity(text: str) -> bool:
    return text.lower().startswith(("sip:", "sips:", "tel:")) and not any(char.isspace() for char in text)


def _expectation(config: Config, sides: str, message: Any) -> Expectation:
    from ifc.model import SessionCase
    from ifc.view import RequestView
    from ims_as.call.profile import host_of
    from ims_as.ifc_tool.reading import IfcToolError, read_request_untrusted
    from ims_as.ifc_tool.verify import Expectation, example_invite

    chosen = tuple(dict.fromkeys(each.strip() for each in sides.split(",") if each.strip()))
    if not chosen or not set(chosen) <= set(_SIDES):
        raise click.UsageError(f"--sides: of {' and '.join(_SIDES)}, not {sides!r}")
    hosts = frozenset({host_of(config.identity)}) | own_hosts_of(config)
    if message is None:
        return Expectation(config.identity, hosts, chosen, example_invite)
    data = read_file(message)

    def example(_: str, case: SessionCase) -> RequestView:
        return read_request_untrusted(data, session_case=case).view

    try:
        example("", SessionCase.TERMINATING_REGISTERED)
    except IfcToolError as error:
        fail(f"{name_of(message)}: {error}", EXIT_USAGE)
    return Expectation(config.identity, hosts, chosen, example)


def _print(verdict: Verdict) -> None:
    status = click.style(verdict.status.value, fg=_COLOURS.get(verdict.status.value, "yellow"), bold=True)
    click.echo(f"{printable(verdict.impu)}: {status}" + (f": {printable(verdict.error)}" if verdict.error else ""))
    for each in verdict.reached:
        click.echo(
            f"    {each.session_case}: priority {each.priority} {printable(each.server_name)} {each.default_handling}"
        )
    for finding in verdict.findings:
        severity = finding.severity.value
        head = click.style(f"{severity} {finding.rule}", fg=_COLOURS[severity], bold=True)
        click.echo(f"    {head}: {printable(finding.text)}")
        click.echo(f"        {finding.consequence}  [{finding.clause}]")
    told = [_ANSWERED[verdict.answered]] if verdict.answered is not None else []
    if verdict.user_state is not None:
        told.append(f"the user is {_STATES.get(verdict.user_state, verdict.user_state)}")
    if told:
        click.echo(f"    {'; '.join(told)}")
