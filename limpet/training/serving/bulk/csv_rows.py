"""Rows of CSV and TSV files, cell by cell as they stand; and lines of text, each a row of one cell."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from limpet.errors import DataError
from limpet.training.data.reading.csv_files import (
    SEPARATORS,
    header_of,
    long_fields,
    possible_separators,
    read_csv,
    read_rows,
)
from limpet.training.data.reading.tables import check_names
from limpet.training.serving.bulk.row_chunks import Chunk, Format

__all__ = ["LINES_COLUMN", "CsvRows", "TextLines", "open_csv", "open_lines"]

LINES_COLUMN = "text"
"""What the column of a file of lines is called."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CsvRows:
    """A CSV file; a row with fewer cells than the header has those that stand there.

    `line_end` and `marked` (with a byte order mark) say how the file is written.
    """

    path: Path
    format: Format
    separator: str
    columns: tuple[str, ...]
    count: int
    line_end: str
    marked: bool
    notes: tuple[str, ...] = ()

    def chunks(self, size: int, done: int) -> Iterator[Chunk]:
        """See `RowFile.chunks`."""
        with long_fields():
            rows = islice(_filled(self.path, self.separator), 1 + done, None)
            while some := list(islice(rows, size)):
                broken = frozenset(at for at, row in enumerate(some) if len(row) < len(self.columns))
                yield Chunk([dict(zip(self.columns, row, strict=False)) for row in some], broken=broken)


@dataclass(frozen=True)
class TextLines:
    """Texts, one a line; an empty line is a row too, so that answers stand where their texts stood."""

    path: Path
    count: int
    format: Format = "lines"
    columns: tuple[str, ...] = (LINES_COLUMN,)
    notes: tuple[str, ...] = ()

    def chunks(self, size: int, done: int) -> Iterator[Chunk]:
        """See `RowFile.chunks`."""
        rows = islice(_lines(self.path), done, None)
        while some := list(islice(rows, size)):
            yield Chunk([{LINES_COLUMN: line} for line in some])


def open_csv(path: Path, tabs: bool) -> CsvRows:
    """Read a CSV file through, and count its rows.

    Args:
        path: The file, UTF-8.
        tabs: Whether tabs separate its fields, and nothing else.

    Raises:
        DataError: It has no header, a column twice, a row with more fields than the header, or a quote that is not
            closed.
    """
    with long_fields():
        separators = ["\t"] if tabs else possible_separators(path)
        counts = [_count(path, separator) for separator in separators]
    fitting = [(count, separator) for count, separator in zip(counts, separators, strict=True) if count is not None]
    if not fitting:
        _refuse(path, separators[0])
    # the separator that most rows agree with, and of several the first
    found, separator = min(fitting, key=lambda pair: pair[0].short)
    names = header_of(path, separator)
    if not any(names):
        raise DataError(f"{path} has no header.", "write the names of the columns in a first row")
    check_names(str(path), names)
    if names.count("") > 1:
        raise DataError(f"{path} has {names.count('')} columns without a name.", "give each column a name of its own")
    notes = () if separator == "," or tabs else (f"{path.name}: fields are separated by {SEPARATORS[separator]}",)
    with path.open("rb") as file:
        marked = file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK
        line_end = "\r\n" if file.readline().endswith(b"\r\n") else "\n"
    return CsvRows(path, "tsv" if tabs else "csv", separator, tuple(names), found.rows, line_end, marked, notes)


def open_lines(path: Path) -> TextLines:
    """Count the lines of a file of texts."""
    return TextLines(path, sum(1 for _ in _lines(path)))


@dataclass(frozen=True)
class _Count:
    rows: int
    short: int


def _count(path: Path, separator: str) -> _Count | None:
    """Count the rows below the header, and those with fewer fields; null where a row has more or can't be read."""
    rows = short = 0
    try:
        filled = _filled(path, separator)
        wanted = len(next(filled, []))
        for row in filled:
            rows += 1
            short += len(row) < wanted
            if len(row) > wanted:
                return None
    except csv.Error:
        return None
    # where most rows do not fit, it is no table by this separator
    return _Count(rows, short) if 2 * short <= rows else None


def _refuse(path: Path, separator: str) -> None:
    """Say which row does not fit, by the reader that has the whole file in memory."""
    read_csv(path)
    raise DataError(f"{path} is no table by {SEPARATORS[separator]}.", "check the file's first lines")


def _filled(path: Path, separator: str) -> Iterator[Sequence[str]]:
    return (row for row in read_rows(path, separator, strict=True) if row and not _is_blank(row, separator))


def _is_blank(row: Sequence[str], separator: str) -> bool:
    # a quoted cell without text is a row; a line of blanks is none
    return len(row) == 1 and bool(row[0]) and not row[0].strip(f" \t{separator}")


def _lines(path: Path) -> Iterator[str]:
    # only a line feed ends a line, with or without a carriage return before it
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n").removesuffix("\r")
