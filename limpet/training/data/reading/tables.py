"""A table of a user's data: columns of cells, with what had to be noted while it was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limpet.errors import DataError

__all__ = ["Table", "check_names"]


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Args:
        cells: The cells of each column, from the first row to the last.
        class_names: The names of the classes of a column that says which it has, in its own order.
        notes: What the reader had to find out, such as which separator there is.
    """

    cells: Mapping[str, Sequence[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(self.cells)


def check_names(where: str, names: Sequence[str]) -> None:
    """Refuse columns of one name: which one is meant can't be told.

    Raises:
        DataError: A name stands more than once.
    """
    if several := [name for name, count in Counter(names).items() if name and count > 1]:
        raise DataError(
            f"{where} has {names.count(several[0])} columns called {several[0]!r}: which one is meant can't be told.",
            "give each column a name of its own",
        )
