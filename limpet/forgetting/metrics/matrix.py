"""The score matrix: `R[i][j]` is the score on task j after learning task i, null where not evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from limpet.errors import UsageError

__all__ = ["Row", "ScoreMatrix"]

Row = tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreMatrix:
    """The scores of an arm: one row for each task learned so far, one column for each task of the stream.

    A finished stream has as many rows as columns, one in progress has fewer rows, and a home that grows has one for
    each addition. Higher is better; a cell that was not evaluated is None, never 0.

    Args:
        tasks: Names of the tasks in the order they are learned, one for each column.
        rows: Scores; row i was measured after learning task i.

    Raises:
        UsageError: Rows and tasks do not fit, a task is named twice, or a score is not a finite number.
    """

    tasks: tuple[str, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        width = len(self.tasks)
        if len(set(self.tasks)) != width:
            raise UsageError("A score matrix names a task twice.", "give each task of the stream once")
        for index, row in enumerate(self.rows, start=1):
            _check_row(index, row, width)

    @classmethod
    def of(cls, tasks: Sequence[str], rows: Sequence[Sequence[float | None]]) -> ScoreMatrix:
        """Make a matrix of any sequences, such as lists read from JSON.

        Raises:
            UsageError: As for the class.
        """
        return cls(tuple(tasks), tuple(tuple(row) for row in rows))


def _check_row(index: int, row: Row, width: int) -> None:
    if len(row) != width:
        raise UsageError(
            f"Row {index} of a score matrix has {len(row)} cells for {width} tasks.",
            "give one cell for each task; null where it was not evaluated",
        )
    for cell in row:
        if cell is None:
            continue
        if isinstance(cell, bool) or not isinstance(cell, (int, float)) or not math.isfinite(cell):
            raise UsageError(
                f"Row {index} of a score matrix holds {cell!r}, which is not a finite number.",
                "give a number, or null where it was not evaluated",
            )
