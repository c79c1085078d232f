"""A report as Markdown, for a pull request or a wiki page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from limpet.forgetting.render import ability_tables, context_tables
from limpet.forgetting.render import tables as report_tables
from limpet.forgetting.render.summary_table import summary_table
from limpet.forgetting.render.tables import Table
from limpet.forgetting.report.conclusion import sentences
from limpet.forgetting.report.values import Report

__all__ = ["render_markdown"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!])")


def render_markdown(report: Report) -> str:
    """Return the report as one Markdown document, tables in GitHub's form."""
    matrices = [report_tables.matrix_table(arm) for arm in report.arms if arm.matrix]
    summary = summary_table(report)
    tables = [
        report_tables.metric_table(report),
        report_tables.drift_table(report),
        report_tables.comparison_table(report),
        ability_tables.ability_table(report),
        ability_tables.adapter_table(report),
        report_tables.flip_table(report),
        report_tables.cost_table(report),
        report_tables.efficiency_table(report),
        report_tables.sweep_table(report),
        context_tables.budget_table(report),
        context_tables.order_table(report),
        context_tables.difference_table(report),
        context_tables.replaced_table(report),
        context_tables.lost_table(report),
        context_tables.published_table(report),
        report_tables.task_table(report),
        report_tables.version_table(report),
        report_tables.environment_table(report),
        report_tables.definition_table(),
    ]
    parts = [
        f"# {_escape(report.stream)}",
        f"Base: {_escape(report.base.name)}, {report.base.digest}",
        _draw(summary, "##") if summary.rows else "",
        "\n".join(f"- {_escape(sentence)}" for sentence in sentences(report)),
        "## score matrices" if matrices else "",
        *(_draw(table, "###") for table in matrices),
        *(_draw(table, "##") for table in tables if table.rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _draw(table: Table, level: str) -> str:
    alignments = [":--", *("--:" for _ in table.columns[1:])]
    lines = [
        f"{level} {_escape(table.title)}",
        "",
        _line(_escape(column) for column in table.columns),
        _line(alignments),
        *(_line(_escape(cell) for cell in row) for row in table.rows),
    ]
    return "\n".join([*lines, "", _escape(table.note)] if table.note else lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
