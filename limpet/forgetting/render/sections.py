"""The sections of a report in their order: said once here, and drawn by each writer in its own form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from limpet.forgetting.render import ability_tables, context_tables, provenance_tables, result_tables
from limpet.forgetting.render.tables import Table
from limpet.forgetting.report.values import Report

__all__ = ["MATRICES", "Part", "Section", "sections"]

MATRICES = "score matrices"
"""The title over the score matrices of all arms, which stand before the sections."""


class Part(Enum):
    """What a section is for; a terminal has room for results alone."""

    RESULT = "what was measured"
    DETAIL = "what lies behind it"
    PROVENANCE = "what it was measured on, and where"


@dataclass(frozen=True)
class Section:
    """One section: a table, whose title is the section's, with the sentences that explain it as its note."""

    part: Part
    table: Table


_SECTIONS: tuple[tuple[Part, Callable[[Report], Table]], ...] = (
    (Part.RESULT, result_tables.metric_table),
    (Part.RESULT, result_tables.drift_table),
    (Part.RESULT, result_tables.comparison_table),
    (Part.RESULT, ability_tables.ability_table),
    (Part.RESULT, ability_tables.adapter_table),
    (Part.DETAIL, result_tables.flip_table),
    (Part.RESULT, result_tables.cost_table),
    (Part.RESULT, result_tables.efficiency_table),
    (Part.DETAIL, provenance_tables.sweep_table),
    (Part.DETAIL, context_tables.budget_table),
    (Part.RESULT, context_tables.order_table),
    (Part.RESULT, context_tables.difference_table),
    (Part.RESULT, context_tables.replaced_table),
    (Part.RESULT, context_tables.lost_table),
    (Part.DETAIL, context_tables.label_table),
    (Part.DETAIL, context_tables.confusion_table),
    (Part.DETAIL, context_tables.wrong_table),
    (Part.RESULT, context_tables.published_table),
    (Part.PROVENANCE, provenance_tables.task_table),
    (Part.PROVENANCE, provenance_tables.version_table),
    (Part.PROVENANCE, lambda report: provenance_tables.environment_table(report.environments)),
)


def sections(report: Report) -> tuple[Section, ...]:
    """Return the sections of which a report has something to show."""
    drawn = (Section(part, table(report)) for part, table in _SECTIONS)
    return tuple(section for section in drawn if section.table.rows)
