"""A report for the terminal, as rich renderables; the caller prints them."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from limpet.forgetting.render.provenance_tables import baseline_line
from limpet.forgetting.render.result_tables import matrix_table
from limpet.forgetting.render.sections import Part, sections
from limpet.forgetting.render.tables import MISSING, Table
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.report.values import Report

__all__ = ["fitted", "matrices", "render_table"]

_GAP = 2


def render_table(report: Report) -> RenderableType:
    """Return the whole report: matrices, metrics, comparisons, cost and conclusion."""
    parts: list[RenderableType] = [
        Text(f"{report.stream} on {report.base.name}", style="bold"),
        matrices(report),
    ]
    if baselines := baseline_line(report):
        parts.append(Text(baselines))
    parts += [_Fitted(section.table) for section in sections(report) if section.part is Part.RESULT]
    spaced = [line for part in parts for line in (part, Text(""))]
    return Group(*spaced, Text(conclusion(report)))


def matrices(report: Report) -> RenderableType:
    """Return the score matrices of all arms, side by side where the terminal is wide enough."""
    drawn = [_draw(matrix_table(arm)) for arm in report.arms if arm.matrix]
    if not drawn:
        return Text("no task learned yet", style="dim")
    arrows = Text("↓ lower, ↑ higher than when the task was learned", style="dim")
    return Group(Columns(drawn, padding=(1, 2)), arrows)


def fitted(table: Table) -> RenderableType:
    """Return one table, as wide as the terminal lets it be."""
    return _Fitted(table)


@dataclass(frozen=True)
class _Fitted:
    """A table that keeps words whole where the terminal has room for them, and else loses nothing."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = _longest_words(self.table)
        fits = sum(widths) + _GAP * len(widths) <= options.max_width
        yield _draw(self.table, widths if fits else [0] * len(widths))


def _draw(table: Table, widths: list[int] | None = None) -> RichTable:
    # user text goes in as Text, which has no markup to misread
    drawn = RichTable(
        title=Text(table.title, style="bold"),
        title_justify="left",
        caption=Text(table.note, style="dim") if table.note else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for index, column in enumerate(table.columns):
        # a header is as narrow as its words, so that the numbers decide the width
        header = column.replace(" ", "\n") if index else column
        least = widths[index] if widths else None
        drawn.add_column(Text(header), justify="right" if index else "left", min_width=least)
    for row in table.rows:
        drawn.add_row(*(_styled(cell) for cell in row))
    return drawn


def _longest_words(table: Table) -> list[int]:
    columns = zip(table.columns, *table.rows, strict=True)
    return [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]


def _styled(cell: str) -> Text:
    if cell.endswith("↓"):
        return Text(cell, style="bold red")
    # an interval stands below its value
    return Text(cell.replace(" [", "\n["), style="dim" if cell == MISSING else "")
