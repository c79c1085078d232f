"""Tables of datasets of the library `datasets`: class labels are there by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limpet.training.data.reading.table_writer import TableWriter
from limpet.training.data.reading.tables import Table

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["of_dataset"]

_ROWS_AT_ONCE = 1000


def of_dataset(data: Dataset, wanted: Sequence[str]) -> Table:
    """Return some columns of a dataset."""
    names_of_column = {name: _class_names(data.features[name]) for name in wanted}
    class_names = {name: tuple(names) for name, names in names_of_column.items() if names}
    writer = TableWriter()
    size = data.data.nbytes // max(len(data), 1)
    for batch in data.select_columns(list(wanted)).iter(_ROWS_AT_ONCE):
        columns = [_named(batch[name], names) for name, names in names_of_column.items()]
        for cells in zip(*columns, strict=True):
            writer.append(dict(zip(names_of_column, cells, strict=True)), size)
    return writer.table(class_names, columns=wanted)


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
