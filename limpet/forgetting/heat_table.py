"""A score matrix as a table of coloured cells: text that can be read, searched, printed, and scrolled on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from limpet.forgetting.matrix import Row
from limpet.forgetting.plots import is_dark, score_range, viridis
from limpet.forgetting.report_tables import MISSING, arrow, number

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
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]

    @property
    def wide(self) -> bool:
        """Whether its cells must be small."""
        return len(self.rows) > _WIDE


def heat_table(title: str, tasks: Sequence[str], matrix: Sequence[Row], limits: Sequence[Range]) -> HeatTable:
    """Return the matrix of an arm, an arrow where a score is not what it was when its task was learned.

    Args:
        title: What it is the matrix of.
        tasks: The tasks learned so far, in order.
        matrix: Their scores, one row for each step.
        limits: For each task the scores that are darkest and brightest.
    """
    digits = 3 if len(tasks) <= _WIDE else 2
    rows = []
    for step, task in enumerate(tasks):
        cells = tuple(_cell(matrix, step, column, limits[column], digits) for column in range(len(tasks)))
        rows.append((f"{step + 1} {task}", cells))
    return HeatTable(title, tuple(rows))


def ranges(metrics: Sequence[str], matrices: Iterable[Sequence[Row]]) -> dict[str, Range]:
    """Return each metric's range of colours: that of all arms' scores, so that arms can be compared.

    Args:
        metrics: The metric of each task, in the order of the matrices' columns.
        matrices: The score matrices of all arms.
    """
    found: Mapping[str, list[float]] = {metric: [] for metric in metrics}
    for matrix in matrices:
        for row in matrix:
            for metric, score in zip(metrics, row, strict=True):
                if score is not None:
                    found[metric].append(score)
    return {metric: score_range(scores) for metric, scores in found.items()}


def scale() -> list[str]:
    """Return the colours from the lowest score to the highest, for a legend."""
    return [viridis(step / _STEPS) for step in range(_STEPS + 1)]


def _cell(matrix: Sequence[Row], step: int, column: int, limits: Range, digits: int) -> HeatCell:
    value, learned = matrix[step][column], matrix[column][column]
    if value is None:
        return HeatCell(MISSING)
    mark = arrow(value - learned) if learned is not None and step > column else ""
    share = (value - limits[0]) / (limits[1] - limits[0])
    return HeatCell(f"{number(value, digits)}{mark}", viridis(share), is_dark(share))
