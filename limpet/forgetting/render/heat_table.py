"""A score matrix as a table of coloured cells: text that can be read, searched, printed, and scrolled on a phone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from limpet.forgetting.metrics.matrix import Row
from limpet.forgetting.render.plots import is_dark, score_range, viridis
from limpet.forgetting.render.tables import AUDITED, MISSING, arrow, number

__all__ = ["HeatCell", "HeatTable", "Range", "heat_table", "ranges", "scale"]

_WIDE = 8  # tasks; beyond that two digits have to do
_STEPS = 8

Range = tuple[float, float]


@dataclass(frozen=True)
class HeatCell:
    """A score as text with its background and whether that is dark; no colour where it was not evaluated."""

    text: str
    colour: str | None = None
    dark: bool = False


@dataclass(frozen=True)
class HeatTable:
    """The matrix of an arm: a row for each step under the name of its task, a column for each task."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]

    @property
    def wide(self) -> bool:
        """Whether its cells must be small."""
        return len(self.columns) > _WIDE


def heat_table(
    title: str,
    steps: Sequence[str],
    matrix: Sequence[Row],
    *,
    limits: Sequence[Range],
    audited: Collection[tuple[int, int]] = (),
) -> HeatTable:
    """Return the matrix of an arm, an arrow where a score is not what it was when its task was learned.

    Args:
        title: What it is the matrix of.
        steps: The task that each step learned; a column for each of them in the order of their first.
        matrix: Their scores, one row for each step.
        limits: For each task the scores that are darkest and brightest.
        audited: The rows and columns of the scores that an audit carried forward.
    """
    tasks = tuple(dict.fromkeys(steps))
    learned = [steps.index(task) for task in tasks]
    digits = 3 if len(learned) <= _WIDE else 2
    rows = []
    for step, task in enumerate(steps):
        cells = tuple(
            _cell([row[column] for row in matrix], step, first, limits=limits[column], digits=digits)
            for column, first in enumerate(learned)
        )
        marked = (
            replace(cell, text=f"{cell.text}{AUDITED}") if (step, column) in audited else cell
            for column, cell in enumerate(cells)
        )
        rows.append((f"{step + 1} {task}", tuple(marked)))
    return HeatTable(title, tasks, tuple(rows))


def ranges(units: Sequence[str], matrices: Iterable[Sequence[Row]]) -> dict[str, Range]:
    """Return each unit's range of colours: that of all arms' scores, so that arms can be compared.

    Args:
        units: The unit of each task's scores, in the order of the matrices' columns.
        matrices: The score matrices of all arms.
    """
    found: Mapping[str, list[float]] = {unit: [] for unit in units}
    for matrix in matrices:
        for row in matrix:
            for unit, score in zip(units, row, strict=True):
                if score is not None:
                    found[unit].append(score)
    return {unit: score_range(scores) for unit, scores in found.items()}


def scale() -> list[str]:
    """Return the colours from the lowest score to the highest, for a legend."""
    return [viridis(step / _STEPS) for step in range(_STEPS + 1)]


def _cell(scores: Sequence[float | None], step: int, first: int, *, limits: Range, digits: int) -> HeatCell:
    """One cell of a column, whose task was learned first at the step `first`."""
    value, learned = scores[step], scores[first]
    if value is None:
        return HeatCell(MISSING)
    mark = arrow(value - learned) if learned is not None and step > first else ""
    share = (value - limits[0]) / (limits[1] - limits[0])
    return HeatCell(f"{number(value, digits)}{mark}", viridis(share), is_dark(share))
