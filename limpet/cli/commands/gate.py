"""`limpet gate`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

__all__ = ["command"]


@click.command("gate", cls=Command)
@click.argument("stream", required=False)
@click.option(
    "--max-forgetting",
    multiple=True,
    metavar="X|TASK=X",
    help="The most that forgetting_max may be, or the loss of one task; repeatable.",
)
@click.option("--max-worst", multiple=True, metavar="X", help="The most that worst_forgetting may be.")
@click.option("--require-identical", is_flag=True, help="Every earlier prediction must be what it was.")
@click.option(
    "--max-negative-flips",
    multiple=True,
    metavar="X|TASK=X",
    help="The most that an earlier task's negative_flip_rate may be; repeatable.",
)
@click.option(
    "--min-score", multiple=True, metavar="X|TASK=X", help="The least that a task's score may be; repeatable."
)
@click.option("--max-bytes", multiple=True, metavar="N", help="The most bytes that a version may have.")
@click.option("--max-train-seconds", multiple=True, metavar="S", help="The longest that a task may have trained.")
@click.option("--max-share", multiple=True, metavar="X", help="The most of the base's parameters trained for a task.")
@pass_invocation
def command(
    invocation: Invocation, /, stream: str | None, require_identical: bool, **limits: tuple[str, ...]
) -> None:
    """Hold a stream against rules; exit code 6 where one is crossed.

    The isolated arms are held against them, or all arms where there is none; by default those of the stream that
    moved last. Rules come from [gate] in limpet.toml; options win over it.
    """
    home = invocation.open()
    from limpet.cli.terminal import output
    from limpet.forgetting.gate.parse import has_rule, read_rules, with_limits

    rules = with_limits(read_rules(home.path), limits, require_identical)
    if not has_rule(rules):
        raise UsageError(
            "The gate needs a rule: an option such as --max-forgetting X, or [gate] in limpet.toml.",
            "limpet gate --require-identical",
        )
    with invocation.progress() as progress:
        report = home.gate(stream, rules, progress)
    if invocation.json:
        output.emit(stream=report.stream, crossed=False, rules=rules)
    else:
        click.echo(f"{report.stream} passes the gate")
