"""A report as Markdown, for a pull request or a wiki page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from limpet.forgetting.render.provenance_tables import definition_table
from limpet.forgetting.render.result_tables import matrix_table
from limpet.forgetting.render.sections import MATRICES, sections
from limpet.forgetting.render.serving_table import serving_table
from limpet.forgetting.render.summary_table import summary_table
from limpet.forgetting.render.tables import Table
from limpet.forgetting.report.conclusion import sentences
from limpet.forgetting.report.values import Report

__all__ = ["render_markdown"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!])")


def render_markdown(report: Report) -> str:
    """Return the report as one Markdown document, tables in GitHub's form."""
    matrices = [matrix_table(arm) for arm in report.arms if arm.matrix]
    serving, summary = serving_table(report), summary_table(report)
    tables = [*(section.table for section in sections(report)), definition_table()]
    parts = [
        f"# {_escape(report.stream)}",
        f"Base: {_escape(report.base.name)}, {report.base.digest}",
        _draw(serving, "##") if serving.rows else "",
        _draw(summary, "##") if summary.rows else "",
        "\n".join(f"- {_escape(sentence)}" for sentence in sentences(report)),
        f"## {MATRICES}" if matrices else "",
        *(_draw(table, "###") for table in matrices),
        *(_draw(table, "##") for table in tables),
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
