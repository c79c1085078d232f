"""CSV files as people have them: every cell as it stands, and no row that says something else than the header.

Columns are counted in every row. A row with more or fewer fields than the header means that a separator or a quote is
not what it seems, and whatever is read of it is wrong; so the file is refused by that row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path

from limpet.errors import DataError
from limpet.training.data.reading.table_writer import TableWriter
from limpet.training.data.reading.tables import Table, check_names

__all__ = ["SEPARATORS", "header_of", "long_fields", "possible_separators", "read_csv", "read_rows"]

_LONGEST = 2**31 - 1
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may separate fields, and what it is called."""


@dataclass(frozen=True)
class _Misfit:
    """The first row that does not fit, how many there are, and what a reader sees of it."""

    row: int
    fields: int
    count: int
    start: str
    backslash: bool


def read_csv(path: Path) -> Table:
    """Read a CSV file with a header; fields are separated by commas, or by what separates the header's.

    Raises:
        DataError: A row has another number of fields than the header, quotes are not closed, or there are no rows.
    """
    with long_fields():
        header = header_of(path, ",")
        first_misfit: _Misfit | None = None
        for separator in possible_separators(path):
            names = header_of(path, separator)
            table, misfit = _read(path, separator, names)
            if table is not None:
                check_names(str(path), names)
                if not table.columns:
                    message = f"{path} has no rows: there is no example to learn from."
                    raise DataError(message, "name a file with examples")
                return table
            first_misfit = first_misfit or misfit
            header = names if first_misfit is misfit else header
    assert first_misfit is not None
    raise _refusal(path, first_misfit, header)


def possible_separators(path: Path) -> list[str]:
    """Separators that give the header more than one field, commas first; commas where none does."""
    return [one for one in SEPARATORS if len(header_of(path, one)) > 1] or [","]


def header_of(path: Path, separator: str) -> list[str]:
    """Return the names of a CSV file's columns.

    Raises:
        DataError: The first row can't be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return next((row for row in csv.reader(file, delimiter=separator) if not _blank(row)), [])
        except csv.Error as error:
            raise DataError(f"{path} can't be read as csv: {error}.", "check the file's first line") from error


def _read(path: Path, separator: str, names: Sequence[str]) -> tuple[Table | None, _Misfit | None]:
    """Return the table of all rows but the header's; or, where a row does not fit, what is wrong with the first."""
    writer = TableWriter()
    try:
        for row in _below_header(path, separator, strict=True):
            if len(row) != len(names):
                break
            # columns without a name are what spreadsheets leave at the right
            cells = {name: cell for name, cell in zip(names, row, strict=True) if name}
            writer.append(cells, sum(map(len, row)))
        else:
            notes = () if separator == "," else (f"{path.name}: fields are separated by {SEPARATORS[separator]}",)
            return writer.table(notes=notes), None
    except csv.Error:
        pass
    return None, _misfit(path, separator, len(names))


def _misfit(path: Path, separator: str, wanted: int) -> _Misfit:
    # what a strict reader stops at, a lenient one reads to the end: so the row can be named, with its fields
    first, count = None, 0
    for at, row in enumerate(_below_header(path, separator, strict=False)):
        if len(row) != wanted:
            count += 1
            first = (at, row) if first is None else first
    if first is None:
        at = _unquoted(path, separator)
        first = at, next(islice(_below_header(path, separator, strict=False), at, None))
    at, row = first
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        escapes = content.find(b'\\"') >= 0
    return _Misfit(at + 1, len(row), count, separator.join(row)[:60], escapes)


def _below_header(path: Path, separator: str, *, strict: bool) -> Iterator[list[str]]:
    rows = (row for row in read_rows(path, separator, strict=strict) if not _blank(row))
    return islice(rows, 1, None)


def _unquoted(path: Path, separator: str) -> int:
    """Return the place of the row that a strict reader stops at."""
    done = -1
    try:
        for row in read_rows(path, separator, strict=True):
            done += not _blank(row)
    except csv.Error:
        pass
    return done


def read_rows(path: Path, separator: str, *, strict: bool) -> Iterator[list[str]]:
    """Yield every row of a CSV file, the header and empty ones among them; a strict reader stops at a wrong quote."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.reader(file, delimiter=separator, strict=strict)


def _blank(row: Sequence[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _refusal(path: Path, misfit: _Misfit, header: Sequence[str]) -> DataError:
    row, fields = f"row {misfit.row}", f"{misfit.fields} field{'s' if misfit.fields != 1 else ''}"
    if misfit.backslash:
        hint = 'write "" for a quote inside a quoted text, not \\"; or use JSON lines: --data jsonl:PATH'
    elif misfit.fields > len(header):
        hint = 'put texts with separators in them between quotes: "first, second"'
    else:
        hint = 'close every quote that is opened, and write "" for a quote inside a quoted text'
    if misfit.fields == len(header):
        what = f"{row} has a quote that is not closed, or stands inside a quoted text"
    else:
        what = f"{row} has {fields}, the header {len(header)}"
        what += f"; {misfit.count} rows do not fit" if misfit.count > 1 else ""
    return DataError(f"{path}: {what}. The row begins: {misfit.start!r}.", hint)


@contextmanager
def long_fields() -> Iterator[None]:
    """Let a field be as long as it is; the reader's own limit is 128 KiB."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)
