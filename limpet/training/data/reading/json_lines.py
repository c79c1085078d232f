"""JSON lines: one object a line, its keys the columns; a file that is one list of objects is read too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from limpet.errors import DataError
from limpet.training.data.reading.table_writer import TableWriter
from limpet.training.data.reading.tables import Table

__all__ = ["json_row", "read_json_lines"]

_HINT = "check the file, or name another: --data jsonl:PATH"


class _SeveralError(ValueError):
    """An object has a key more than once."""


def read_json_lines(path: Path) -> Table:
    """Read a file of JSON objects; a key that an object lacks is an empty cell.

    Raises:
        DataError: A line is no JSON object, an object has a key twice, or there are none.
    """
    writer = TableWriter()
    for row, size in _rows(path):
        writer.append(row, size)
    if not len(writer):
        raise DataError(f"{path} has no rows: there is no example to learn from.", "name a file with examples")
    return writer.table()


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every object, and how many characters it has."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        start = next((line for line in file if line.strip()), "")
        if start.lstrip().startswith("["):
            file.seek(0)
            content = file.read()
            if (objects := _whole(content)) is not None:
                yield from ((row, len(content) // len(objects)) for row in objects)
                return
        file.seek(0)
        # only a line feed ends a line: U+0085 and U+2028 stand inside texts
        for number, line in enumerate(file, 1):
            if line.strip():
                yield json_row(path, number, line.removesuffix("\n").removesuffix("\r")), len(line)


def _whole(content: str) -> list[dict[str, Any]] | None:
    """Return the objects of one list; null where the file is something else."""
    try:
        found = json.loads(content, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(row, dict) for row in found) else None


def json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """Return the object of a line.

    Args:
        path: The file, for messages.
        number: The line's number.
        line: The line.

    Raises:
        DataError: It is no JSON object, or has a key twice.
    """
    try:
        row = _DECODER.decode(line)
    except _SeveralError as error:
        raise DataError(f"{path}: line {number} has {error}.", "give each value a key of its own") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON lines: line {number}: {error}.", _HINT) from error
    if not isinstance(row, dict):
        raise DataError(f"{path}: line {number} is not a JSON object with columns.", _HINT)
    return row


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _SeveralError(f"several columns called {key!r}")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
