"""Which column has the texts, what a row's text is, and how the columns of the answers are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from limpet.errors import DataError, UsageError
from limpet.training.batching.examples import Text, flat_text
from limpet.training.serving.bulk.row_chunks import Row
from limpet.training.task_types import AnswerColumn, TaskType

__all__ = ["TextColumn", "choose_text_column", "name_answers"]

_JOIN = "+"


@dataclass(frozen=True)
class TextColumn:
    """The column of the texts; `premise+hypothesis` stands for two, one a line."""

    name: str
    kind: TaskType[Any]
    parts: tuple[str, ...]

    def read(self, row: Row) -> tuple[Text | None, str]:
        """Return a row's text; where it has none, null and why."""
        if not any(part in row for part in self.parts):
            return None, "no such column"
        cells = [row.get(part) for part in self.parts]
        if all(cell is None for cell in cells):
            return None, "null"
        cell = cells[0] if len(cells) == 1 else _joined(cells)
        try:
            text = self.kind.read_text(list(cell) if isinstance(cell, tuple) else cell)
            if text is None:
                return None, "empty"
            flat_text(text).encode("utf-8")
        except DataError:
            return None, "no text"
        except UnicodeEncodeError:
            return None, "not UTF-8"
        return text, ""


def _joined(cells: Sequence[object]) -> str:
    # an instruction that has no input ends where it ends
    return "\n".join("" if cell is None else str(cell) for cell in cells).rstrip("\n")


def choose_text_column(
    kind: TaskType[Any], columns: Sequence[str], *, asked: str | None, learned: str, where: str
) -> TextColumn:
    """Return the column of the texts: that which was asked for, that which the task learned from, or a usual one.

    Args:
        kind: The type of task.
        columns: Those that there are.
        asked: The column that somebody named; null where nobody did.
        learned: The column that the task's texts were in.
        where: The file, for messages.

    Raises:
        DataError: There is no such column, or none of the usual ones.
    """
    for name in [asked] if asked else [learned, *kind.text_columns]:
        parts = (name,) if name in columns else tuple(name.split(_JOIN))
        if set(parts) <= set(columns):
            return TextColumn(name, kind, parts)
    if not asked and len(columns) == 1:
        return TextColumn(columns[0], kind, (columns[0],))
    usual = ", ".join(dict.fromkeys([learned, *kind.text_columns]))
    named = f"no column {asked!r}" if asked else f"no column of texts that is known by its name (none of {usual})"
    hint = "--text COL" if asked else "--text COL, or --text - where every line of the file is a text"
    raise DataError(f"{where} has {named}; its columns are: {', '.join(map(repr, columns))}.", hint)


def name_answers(answers: Sequence[AnswerColumn], columns: Sequence[str], task: str) -> tuple[AnswerColumn, ...]:
    """Return the answers' columns under names that the file does not have: those of a second task have its name.

    Raises:
        UsageError: It has those too.
    """
    if not {one.name for one in answers} & set(columns):
        return tuple(answers)
    named = tuple(replace(one, name=f"{task}_{one.name}") for one in answers)
    if taken := sorted({one.name for one in named} & set(columns)):
        raise UsageError(
            f"The file has a column {taken[0]!r} already, which would be that of the answers.",
            "rename that column, or take it out",
        )
    return named
