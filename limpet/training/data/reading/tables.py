"""A table of a user's data: columns of cells, with what had to be noted while it was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limpet.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Table", "check_names", "of_dataset"]


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


def of_dataset(data: Dataset, wanted: Sequence[str]) -> Table:
    """Return some columns of a dataset of the library `datasets`; class labels are there by their names."""
    names_of_column = {name: _class_names(data.features[name]) for name in wanted}
    cells = {name: _named(list(data[name]), names) for name, names in names_of_column.items()}
    return Table(cells, {name: tuple(names) for name, names in names_of_column.items() if names})


def _class_names(feature: object) -> Sequence[str] | None:
    """The names that a class label, or a list of class labels, is an index into."""
    inner = getattr(feature, "feature", None)
    names: Sequence[str] | None = getattr(feature if inner is None else inner, "names", None)
    return names


def _named(cells: list[Any], names: Sequence[str] | None) -> list[Any]:
    if names is None:
        return cells

    def named(cell: int | list[Any] | None) -> str | list[Any] | None:
        if isinstance(cell, list):
            return [named(one) for one in cell]
        # the hub's convention: -1 stands for "not published"
        return None if cell is None or cell < 0 else names[cell]

    return [named(cell) for cell in cells]
