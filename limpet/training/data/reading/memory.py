"""Data given in Python: lists of dicts, pandas and datasets objects, made into rows that have a digest.

The rows are kept under it, so that the SPEC of such data, `memory:sha256:...`, leads to the same rows again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from limpet.errors import DataError, UsageError
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.training.data.reading.data_spec import MEMORY, complete
from limpet.training.data.reading.dataset_tables import of_dataset
from limpet.training.data.reading.tables import Table

__all__ = ["Rows", "contents_of", "parse_rows", "rows_of", "spec_of"]

_PARTS = {
    "train": "train",
    "eval": "evaluation",
    "evaluation": "evaluation",
    "test": "evaluation",
    "validation": "validation",
}
_FORMS = "a list of dicts, a pandas DataFrame, a datasets Dataset or DatasetDict, or a dict with such under 'train'"
_HINT = "home.task.add('news', [{'text': 'a text', 'label': 'a label'}, ...])"


@dataclass(frozen=True)
class Rows:
    """Data given in Python, by part (`train`, `evaluation`, `validation`); `content` is how it is kept."""

    tables: Mapping[str, Table]
    content: bytes

    @staticmethod
    def where(part: str) -> str:
        """Return what messages call a part."""
        return "the data" if part == "train" else f"the data ({part})"

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return digest_bytes(self.content)

    @property
    def spec(self) -> str:
        """The SPEC that a task records."""
        return f"{MEMORY}:{self.digest}"


def spec_of(data: str | Rows) -> str:
    """Return the SPEC that a task records of its data, in its full form.

    Raises:
        UsageError: It names no data.
    """
    return complete(data) if isinstance(data, str) else data.spec


def contents_of(data: str | Rows) -> tuple[bytes, ...]:
    """Return what of some data is kept beside the splits: rows that were given in Python."""
    return () if isinstance(data, str) else (data.content,)


def rows_of(data: object) -> Rows:
    """Return data given in Python as rows; equal rows have one digest, whatever object they came in.

    A part `test` is for evaluation; of a `DatasetDict` without one, `validation` is.

    Raises:
        UsageError: It is none of the forms that are understood, or a cell holds what can't be kept.
        DataError: There are no rows.
    """
    parts = _parts(data)
    tables = {name: _table(name, part) for name, part in parts.items()}
    return Rows(tables, _content(tables))


def parse_rows(content: bytes) -> Rows:
    """Return rows as they were kept."""
    kept = json.loads(content)
    names = {column: tuple(of_column) for column, of_column in kept["class_names"].items()}
    tables = {
        name: Table(dict(zip(part["columns"], part["cells"], strict=True)), names)
        for name, part in kept["parts"].items()
    }
    return Rows(tables, content)


def _content(tables: Mapping[str, Table]) -> bytes:
    parts = {
        name: {"columns": list(table.columns), "cells": [list(cells) for cells in table.cells.values()]}
        for name, table in tables.items()
    }
    names = {column: list(of_column) for table in tables.values() for column, of_column in table.class_names.items()}
    return canonical_json({"parts": parts, "class_names": names})


def _parts(data: object) -> dict[str, object]:
    if not isinstance(data, Mapping):
        return {"train": data}
    if unknown := [name for name in data if name not in _PARTS]:
        raise UsageError(
            f"Data has no part {unknown[0]!r}; its parts are 'train', 'evaluation' and 'validation'.", _HINT
        )
    parts: dict[str, object] = {}
    for name, part in data.items():
        if _PARTS[name] in parts:
            raise UsageError(f"Data has the part {_PARTS[name]!r} twice.", "leave one of the two out")
        parts[_PARTS[name]] = part
    if "train" not in parts:
        raise UsageError("Data has no part 'train'.", _HINT)
    if _is_of("datasets", "DatasetDict", data) and "evaluation" not in parts and "validation" in parts:
        parts["evaluation"] = parts.pop("validation")
    return parts


def _table(name: str, data: object) -> Table:
    where = Rows.where(name)
    if _is_of("datasets", "Dataset", data):
        table = of_dataset(data, data.column_names)  # type: ignore[attr-defined]
    elif _is_of("pandas", "DataFrame", data):
        columns = [str(column) for column in data.columns]  # type: ignore[attr-defined]
        if len(set(columns)) < len(columns):
            raise UsageError(f"{where} has several columns of one name.", "give each column a name of its own")
        table = Table({column: data.iloc[:, at].tolist() for at, column in enumerate(columns)})  # type: ignore[attr-defined]
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        table = _of_dicts(where, data)
    else:
        raise UsageError(f"Data is a {type(data).__name__}, and it is a SPEC or {_FORMS}.", _HINT)
    if not any(len(cells) for cells in table.cells.values()):
        raise DataError(f"{where} has no rows: there is no example to learn from.", _HINT)
    cells = {column: [_plain(where, column, cell) for cell in of_column] for column, of_column in table.cells.items()}
    return Table(cells, table.class_names)


def _of_dicts(where: str, rows: Sequence[object]) -> Table:
    dicts: list[Mapping[str, Any]] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
            raise UsageError(f"{where}, row {number} is a {type(row).__name__}, not a dict of columns.", _HINT)
        dicts.append(row)
    # a key that a row lacks is an empty cell
    columns = dict.fromkeys(key for row in dicts for key in row)
    return Table({column: [row.get(column) for row in dicts] for column in columns})


def _plain(where: str, column: str, cell: Any) -> Any:
    """Return a cell as JSON has it; what is missing is null.

    Raises:
        UsageError: It can't be kept.
    """
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return None if cell != cell else cell
    if isinstance(cell, date):
        # a time that is missing is none either
        return None if cell != cell else cell.isoformat()
    if isinstance(cell, Mapping):
        return {str(key): _plain(where, column, value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(where, column, value) for value in cell]
    if type(cell).__module__.partition(".")[0] == "numpy" and hasattr(cell, "tolist"):
        return _plain(where, column, cell.tolist())
    if type(cell).__name__ in {"NAType", "NaTType"}:
        return None
    raise UsageError(
        f"{where}: column {column!r} holds a {type(cell).__name__}, which can't be kept.",
        f"leave the column out: data.drop(columns=[{column!r}]), or write its cells as texts and numbers",
    )


def _is_of(library: str, name: str, value: object) -> bool:
    """Tell whether a value is of a class of a library, which is not imported for that."""
    module = sys.modules.get(library)
    kind = getattr(module, name, None)
    return isinstance(kind, type) and isinstance(value, kind)
