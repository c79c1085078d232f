"""`limpet gate`."""

from __future__ import annotations

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.errors import UsageError

__all__ = ["command"]


@click.command("gate", cls=Command)
@click.argument("stream", required=False)
@click.option("--max-forgetting", type=float, metavar="X", help="The most that forgetting_max may be.")
@click.option("--max-worst", type=float, metavar="X", help="The most that worst_forgetting may be.")
@click.option("--require-identical", is_flag=True, help="Every earlier prediction must be what it was.")
@pass_invocation
def command(
    invocation: Invocation,
    stream: str | None,
    max_forgetting: float | None,
    max_worst: float | None,
    require_identical: bool,
) -> None:
    """Hold a stream against rules; exit code 6 where one is crossed.

    The isolated arms are held against them, or all arms where there is none; by default those of the stream that
    moved last.
    """
    if max_forgetting is None and max_worst is None and not require_identical:
        raise UsageError(
            "The gate needs a rule: --max-forgetting X, --max-worst X or --require-identical.",
            "limpet gate --require-identical",
        )
    home = invocation.open()
    from limpet.cli import _output
    from limpet.forgetting.gate import GateRules

    rules = GateRules(max_forgetting, max_worst, require_identical)
    report = home.gate(stream, rules)
    if invocation.json:
        _output.emit(stream=report.stream, crossed=False, rules=rules)
    else:
        click.echo(f"{report.stream} passes the gate")
