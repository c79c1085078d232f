"""Rows of JSON lines, which are carried through as the lines that they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from limpet.errors import DataError
from limpet.training.data.reading.json_lines import json_row
from limpet.training.serving.bulk.row_chunks import Chunk, Format

__all__ = ["JsonRows", "open_json_lines"]


@dataclass(frozen=True)
class JsonRows:
    """A file of JSON objects, one a line; its columns are the keys of all of them."""

    path: Path
    columns: tuple[str, ...]
    count: int
    format: Format = "jsonl"
    notes: tuple[str, ...] = ()

    def chunks(self, size: int, done: int) -> Iterator[Chunk]:
        """See `RowFile.chunks`."""
        lines = islice(_lines(self.path), done, None)
        while some := list(islice(lines, size)):
            yield Chunk([json.loads(line) for _, line in some], [line for _, line in some])


def open_json_lines(path: Path) -> JsonRows:
    """Read a file of JSON lines through, and count its rows; empty lines are none.

    Raises:
        DataError: A line is no JSON object, or has a key twice.
    """
    columns: dict[str, None] = {}
    count = 0
    for number, line in _lines(path):
        if not count and line.lstrip().startswith("["):
            raise DataError(
                f"{path} is one list of JSON, and is not read row by row.",
                f"jq -c '.[]' {path} > {path.with_suffix('.rows.jsonl')}",
            )
        columns |= dict.fromkeys(json_row(path, number, line))
        count += 1
    return JsonRows(path, tuple(columns), count)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of every line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.removesuffix("\n").removesuffix("\r")
