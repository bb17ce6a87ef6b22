"""What the commands have in common: where the configuration comes from, and how a command gives up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ims_as.config import Config, ConfigError, Problem, read_config

__all__ = ["EXIT_PROBLEM", "EXIT_USAGE", "fail", "load_or_exit", "with_config"]

EXIT_PROBLEM = 1
EXIT_USAGE = 2
"""As click has it for unknown options."""


def fail(text: str, status: int = EXIT_PROBLEM) -> NoReturn:
    """One line on standard error, and the end of the program."""
    click.echo(f"ims-as: {text}", err=True)
    sys.exit(status)


def with_config(command: Any) -> Any:
    """Adds ``-c`` and ``--set``; the command gets ``path`` and ``overrides``."""
    for option in (
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, such as limits.calls=10."
        ),
        click.option(
            "-c", "--config", "path", envvar="IMS_AS_CONFIG", metavar="FILE", help="The YAML file ($IMS_AS_CONFIG)."
        ),
    ):
        command = option(command)
    return command


def _tell(problems: Sequence[Problem], kind: str) -> None:
    for problem in problems:
        click.echo(f"{kind}: {problem}", err=True)


def load_or_exit(
    path: str | None, overrides: Sequence[str], *, needs_file: bool = True, status: int = EXIT_PROBLEM
) -> Config:
    """The configuration; its warnings and errors go to standard error, errors end the program with that status."""
    if path is None and needs_file:
        fail("no configuration: give -c FILE or set IMS_AS_CONFIG", status)
    try:
        config, warnings = read_config(path, overrides=overrides)
    except ConfigError as error:
        _tell(error.problems, "error")
        sys.exit(status)
    _tell(warnings, "warning")
    return config
