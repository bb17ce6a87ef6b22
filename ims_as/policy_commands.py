"""``ims-as policy``: asks the policy of a configuration, without a call."""

from __future__ import annotations

import sys

import click

from ims_as.cli_options import EXIT_PROBLEM, fail, load_or_exit, with_config
from ims_as.config import TRANSFER_TARGETS, Config
from ims_as.defence.calling_codes import country_of, groups_of
from ims_as.defence.destination_policy import DestinationPolicy
from ims_as.defence.policy_build import build_destination_policy, build_incoming_policy

__all__ = ["explain_destination", "explain_incoming", "policy_group"]


@click.group("policy")
def policy_group() -> None:
    """Ask whom agents may call, and whose calls they take."""


def _describe(policy: DestinationPolicy, uri: str) -> str:
    target = policy.read(uri)
    if target.dialled is None:
        return "no telephone number"
    if target.number is None:
        return f"{target.dialled}, no international form"
    country = country_of(target.number)
    parts = [target.number, country.name if country is not None else "no country", *sorted(groups_of(target.number))]
    return ", ".join(parts)


def explain_destination(config: Config, uri: str, agent: str, purpose: str) -> tuple[bool, str]:
    """Whether the agent may call the URI, and lines for people. ``purpose``: ``transfer`` or ``call``."""
    policy = build_destination_policy(config.policy, config.identity)
    its = config.agents[agent]
    also = [each for each in its.transfer.allow if each not in TRANSFER_TARGETS]
    if purpose == "call":
        also = list(its.outbound.allow)
    verdict = policy.check(uri, agent=agent, also=also)
    lines = [
        f"{'allowed' if verdict.allowed else 'refused'}: {verdict.rule}",
        f"number:  {_describe(policy, uri)}",
        f"agent:   {agent}, {len(also)} pattern{'s' if len(also) != 1 else ''} of its own for a {purpose}",
    ]
    return verdict.allowed, "\n".join(lines)


def explain_incoming(config: Config, caller: str, called: str) -> str:
    """What becomes of a call, for people."""
    verdict = build_incoming_policy(config.policy).decide(caller, called)
    policy = build_destination_policy(config.policy, config.identity)
    status = f" with {verdict.status}" if verdict.action.value == "reject" else ""
    lines = [
        f"{verdict.action.value}{status}: {verdict.rule}",
        f"caller:  {_describe(policy, caller)}",
        f"called:  {_describe(policy, called)}",
    ]
    return "\n".join(lines)


@policy_group.command()
@with_config
@click.argument("uri")
@click.option("--agent", default="default", show_default=True, help="Name of the agent.")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["transfer", "call"]),
    default="transfer",
    show_default=True,
    help="A transfer of its caller, or a call of its own.",
)
def check(path: str | None, overrides: tuple[str, ...], uri: str, agent: str, purpose: str) -> None:
    """Whether an agent may call URI, and what says so; exit status 1 when it may not."""
    config = load_or_exit(path, overrides)
    if agent not in config.agents:
        fail(f"no agent is called {agent!r} (there are: {', '.join(sorted(config.agents))})")
    allowed, text = explain_destination(config, uri, agent, purpose)
    click.echo(text)
    sys.exit(0 if allowed else EXIT_PROBLEM)


@policy_group.command()
@with_config
@click.argument("caller")
@click.argument("called")
def incoming(path: str | None, overrides: tuple[str, ...], caller: str, called: str) -> None:
    """What becomes of a call of CALLER to CALLED by ``policy.incoming``."""
    click.echo(explain_incoming(load_or_exit(path, overrides), caller, called))
