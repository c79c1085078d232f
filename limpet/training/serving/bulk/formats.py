"""Which format a file of rows has: by its suffix, else by what stands in it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

from limpet.errors import DataError, NotFoundError, UsageError
from limpet.training.data.reading.csv_files import SEPARATORS
from limpet.training.data.reading.encodings import fault_of_file
from limpet.training.serving.bulk.csv_rows import open_csv, open_lines
from limpet.training.serving.bulk.json_rows import open_json_lines
from limpet.training.serving.bulk.parquet_rows import open_parquet
from limpet.training.serving.bulk.row_chunks import Format, RowFile

__all__ = ["SUFFIXES", "format_of", "format_of_out", "open_rows"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""The format of a file by the end of its name."""
_LOOKED_AT = 50
_LONGEST_LINE = 1 << 16
# what a column is called: a few words, nothing of a sentence
_NAME = re.compile(r"[^\W\d][\w.:/()#%+-]*(?: [\w.:/()#%+-]+){0,2}")


def format_of(path: Path) -> Format:
    """Return the format of a file to be answered; `lines` where nothing says that it has columns.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return "parquet"
            file.seek(0)
            start = list(islice(iter(lambda: file.readline(_LONGEST_LINE), b""), _LOOKED_AT))
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {str(path)!r}.", f"ls {path.parent}") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", f"ls -ld {path}") from None
    if form := SUFFIXES.get(path.suffix.lower()):
        return form
    lines = [line.decode("utf-8-sig", "replace") for line in start]
    if _are_objects(lines):
        return "jsonl"
    separator = _separator_of(lines)
    return "lines" if separator is None else "tsv" if separator == "\t" else "csv"


def format_of_out(path: Path) -> Format:
    """Return the format that a file is to have.

    Raises:
        UsageError: Its name does not say so.
    """
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"{str(path)!r} does not say in which format the answers are to be written.",
            f"--out {path.with_suffix('.csv').name}; or .tsv, .jsonl, .parquet",
        )
    return form


def open_rows(path: Path, form: Format) -> RowFile:
    """Read a file of rows through, so that what is wrong with it is known before anything is answered.

    Raises:
        DataError: It is not of that format, or not whole.
    """
    assert form in get_args(Format)
    if form == "parquet":
        return open_parquet(path)
    if fault := fault_of_file(path):
        raise DataError(f"{path} {fault.message}.", fault.hint)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty: it has no bytes.", "name a file with rows")
    if form == "jsonl":
        return open_json_lines(path)
    return open_lines(path) if form == "lines" else open_csv(path, tabs=form == "tsv")


def _are_objects(lines: Sequence[str]) -> bool:
    """Whether each line is an object of JSON."""
    filled = [line for line in lines if line.strip()]
    try:
        return bool(filled) and all(isinstance(json.loads(line), dict) for line in filled)
    except (ValueError, RecursionError):
        return False


def _separator_of(lines: Sequence[str]) -> str | None:
    """Return what separates the fields of what looks like a table: names in a first row, as many fields in each."""
    for separator in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO("".join(lines)), delimiter=separator) if row]
        except csv.Error:
            continue
        # the last row may go on below
        rows = rows[:-1] if len(lines) == _LOOKED_AT else rows
        if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
            continue
        if len(set(rows[0])) == len(rows[0]) and all(_NAME.fullmatch(name) for name in rows[0]):
            return separator
    return None
