"""`limpet gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import GateError, UsageError

if TYPE_CHECKING:
    from limpet.forgetting.gate.gate_report import GateReport
    from limpet.forgetting.gate.rules import GateRules

__all__ = ["command"]

# bytes are whole numbers, scores and rates are not
_WITH_DIGITS = 1000


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
    moved last. Rules come from [gate] in limpet.toml; options win over it. It shows each rule with what was measured.
    """
    home = invocation.open()
    from limpet.forgetting.gate.gate_report import GateReport
    from limpet.forgetting.gate.parse import has_rule, read_rules, with_limits

    rules = with_limits(read_rules(home.path), limits, require_identical)
    if not has_rule(rules):
        raise UsageError(
            "The gate needs a rule: an option such as --max-forgetting X, or [gate] in limpet.toml.",
            "limpet gate --require-identical",
        )
    try:
        with invocation.progress() as progress:
            report = home.gate(stream, rules, progress)
    except GateError as error:
        if isinstance(error.outcome, GateReport):
            _show(invocation, error.outcome, rules)
        raise
    _show(invocation, report, rules)
    if not invocation.json:
        click.echo(f"{report.stream} passes the gate")


def _show(invocation: Invocation, report: GateReport, rules: GateRules) -> None:
    """Show every rule with what was measured, the limit, and whether it is crossed."""
    from limpet.cli.terminal import output

    if invocation.json:
        replaced = [replacement.to_json() for replacement in report.replaced]
        output.emit(
            stream=report.stream, crossed=report.crossed, rules=rules, verdicts=report.verdicts, replaced=replaced
        )
        return
    rows = [
        (
            *((verdict.arm,) if _with_arms(report) else ()),
            verdict.rule,
            verdict.version or verdict.task,
            _shown(verdict.value),
            _shown(verdict.limit),
            "crossed" if verdict.crossed else "kept",
        )
        for verdict in report.verdicts
    ]
    columns = ("rule", "about", "measured", "limit", "")
    output.table(("arm", *columns) if _with_arms(report) else columns, rows)


def _with_arms(report: GateReport) -> bool:
    """Tell whether a table needs the arms of a stream; a home's own growth has none."""
    return any(verdict.arm for verdict in report.verdicts)


def _shown(value: float | bool | None) -> str | None:
    """Return what was measured, or its limit, for a table."""
    if value is None or isinstance(value, bool):
        return {None: None, True: "yes", False: "no"}[value]
    return f"{value:.4f}" if abs(value) < _WITH_DIGITS else f"{value:.0f}"
