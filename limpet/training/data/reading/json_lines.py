"""JSON lines: one object a line, its keys the columns; a file that is one list of objects is read too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limpet.errors import DataError
from limpet.registry.system.lines import split_lines
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
    content = path.read_bytes().decode("utf-8-sig")
    rows = _whole(content) if content.lstrip().startswith("[") else None
    rows = _by_line(path, content) if rows is None else rows
    if not rows:
        raise DataError(f"{path} has no rows: there is no example to learn from.", "name a file with examples")
    columns = dict.fromkeys(key for row in rows for key in row)
    return Table({name: [row.get(name) for row in rows] for name in columns})


def _whole(content: str) -> list[dict[str, Any]] | None:
    """Return the objects of one list; null where the file is something else."""
    try:
        found = json.loads(content, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(row, dict) for row in found) else None


def _by_line(path: Path, content: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(split_lines(content), 1):
        if line.strip():
            rows.append(json_row(path, number, line))
    return rows


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
        row = json.loads(line, object_pairs_hook=_object)
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
