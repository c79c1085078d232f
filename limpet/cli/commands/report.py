"""`limpet report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

if TYPE_CHECKING:
    from limpet.forgetting.report.values import Report

__all__ = ["command", "render_text"]


@click.command("report", cls=Command)
@click.argument("stream", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "html", "csv", "markdown"]),
    help="[table; --json is --format json]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="PATH", help="A file instead of stdout; html always has one."
)
@pass_invocation
def command(invocation: Invocation, stream: str | None, form: str | None, *, out: Path | None) -> None:
    """Show who forgot what: matrices, metrics, comparisons and cost.

    By default of the stream that moved last; the stream "home" is what limpet train has learned. Without --out, html
    goes to limpet-report-STREAM.html.
    """
    if invocation.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other.", "limpet report --json")
    form = "json" if invocation.json else form or "table"
    home = invocation.open()
    report = home.report(stream)
    if form == "html" and out is None:
        out = Path(f"limpet-report-{report.stream}.html")
    if out is None and form == "table":
        from limpet.cli.terminal import output
        from limpet.forgetting.render.terminal_report import render_table

        output.render(render_table(report))
    elif out is None:
        click.echo(render_text(report, form).rstrip("\n"))
    else:
        _write(invocation, report, form, out=out)


def render_text(report: Report, form: str) -> str:
    """Return a report as the text of a file in one of the formats."""
    if form == "json":
        import json

        return json.dumps(report.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    if form == "html":
        from limpet.forgetting.render.html_report import render_html

        return render_html(report)
    if form == "csv":
        from limpet.forgetting.render.csv_report import render_csv

        return render_csv(report)
    if form == "markdown":
        from limpet.forgetting.render.markdown_report import render_markdown

        return render_markdown(report)
    from limpet.cli.terminal import output
    from limpet.forgetting.render.terminal_report import render_table

    return output.drawn(render_table(report))


def _write(invocation: Invocation, report: Report, form: str, *, out: Path) -> None:
    from limpet.cli.terminal import output

    output.write(out, render_text(report, form))
    if invocation.json:
        output.emit(stream=report.stream, path=out)
    else:
        click.echo(out)
