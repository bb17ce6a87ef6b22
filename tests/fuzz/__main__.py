"""``python -m tests.fuzz list`` · ``python -m tests.fuzz run TARGET… [--inputs N] [--seed S]``; status 1 on a find."""

from __future__ import annotations

import sys
import time

import click

from tests.fuzz.target import FINDS, run_target
from tests.fuzz.targets import TARGETS


@click.group()
def main() -> None:
    """Feed mutated messages to the readers of wire bytes."""


@main.command("list")
def list_targets() -> None:
    for name, target in TARGETS.items():
        click.echo(f"{name:24} {len(target.seeds)} seeds; may raise {', '.join(e.__name__ for e in target.allowed)}")


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--inputs", default=1_000_000, help="how many")
@click.option("--seed", default=0, help="of the dice")
def run(names: tuple[str, ...], inputs: int, seed: int) -> None:
    """Run the targets (default: all) and save what breaks them."""
    failed = False
    for name in names or tuple(TARGETS):
        target = TARGETS[name]
        began = time.process_time()
        outcomes, finds = run_target(target, inputs=inputs, seed=seed)
        took = time.process_time() - began
        total = sum(outcomes.values())
        told = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
        click.echo(f"{name}: {total} inputs, {took / max(total, 1) * 1e6:.1f} µs each: {told}")
        for find in finds:
            failed = True
            folder = FINDS / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / find.file_name).write_bytes(find.data)
            click.echo(f"  {find.problem}\n  {find.data[:300]!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
