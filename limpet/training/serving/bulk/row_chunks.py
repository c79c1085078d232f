"""Rows of a file, some at a time, as every format gives them and takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Chunk", "Format", "Row", "RowFile"]

Format = Literal["csv", "tsv", "jsonl", "parquet", "lines"]
"""Formats of rows; `lines` are texts, one a line."""

Row = Mapping[str, object]
"""Cells by column; a column that the row lacks is not among them."""


@dataclass(frozen=True)
class Chunk:
    """Some rows, in their order.

    Args:
        rows: The cells.
        lines: The rows as they stand, where they are lines of JSON.
        batch: The rows as Arrow has them, where they come out of Parquet.
        broken: The places of rows that have fewer cells than the header: where a text ends is not known there.
    """

    rows: Sequence[Row]
    lines: Sequence[str] | None = None
    batch: pyarrow.RecordBatch | None = None
    broken: frozenset[int] = frozenset()


class RowFile(Protocol):
    """A file of rows, which was read through once: it is whole, and its rows are counted."""

    @property
    def format(self) -> Format:
        """How the rows stand in it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns, in their order."""

    @property
    def count(self) -> int:
        """How many rows it has."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be found out to read it."""

    def chunks(self, size: int, done: int) -> Iterator[Chunk]:
        """Yield the rows from number `done` on, `size` at a time; a chunk may have fewer.

        The same file gives the same chunks, wherever one began.
        """
