"""A report for the terminal, as rich renderables; the caller prints them."""

from __future__ import annotations

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from limpet.forgetting import report_tables
from limpet.forgetting.conclusion import conclusion
from limpet.forgetting.report_tables import Table
from limpet.forgetting.report_values import Report

__all__ = ["matrices", "render_table"]


def render_table(report: Report) -> RenderableType:
    """Return the whole report: matrices, metrics, comparisons, cost and conclusion."""
    tables = [
        report_tables.metric_table(report),
        report_tables.comparison_table(report),
        report_tables.cost_table(report),
    ]
    parts: list[RenderableType] = [
        Text(f"{report.stream} on {report.base.name}", style="bold"),
        matrices(report),
        *(_draw(table) for table in tables if table.rows),
        Text(conclusion(report)),
    ]
    spaced = [part for pair in zip(parts, [Text("")] * len(parts), strict=True) for part in pair]
    return Group(*spaced[:-1])


def matrices(report: Report) -> RenderableType:
    """Return the score matrices of all arms, side by side where the terminal is wide enough."""
    drawn = [_draw(report_tables.matrix_table(arm)) for arm in report.arms if arm.matrix]
    if not drawn:
        return Text("no task learned yet", style="dim")
    arrows = Text("↓ lower, ↑ higher than when the task was learned", style="dim")
    return Group(Columns(drawn, padding=(1, 3)), arrows)


def _draw(table: Table) -> RichTable:
    # user text goes in as Text, which has no markup to misread
    drawn = RichTable(
        title=Text(table.title, style="bold"),
        title_justify="left",
        caption=Text(table.note, style="dim") if table.note else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        # a word is never broken: names stay whole in a narrow terminal
        longest = max(
            len(word) for row in (table.columns, *table.rows) for word in row[index].split() or [""]
        )
        drawn.add_column(Text(column), justify="right" if index else "left", min_width=longest)
    for row in table.rows:
        drawn.add_row(*(_styled(cell) for cell in row))
    return drawn


def _styled(cell: str) -> Text:
    if cell.endswith("↓"):
        return Text(cell, style="bold red")
    return Text(cell, style="dim" if cell == report_tables.MISSING else "")
