"""Rows with their answers as bytes: CSV, TSV, JSON lines, and frames that are put together to Parquet at the end."""

from __future__ import annotations

import csv
import io
import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Protocol

from limpet.registry.formats.json_values import JsonValue
from limpet.training.serving.bulk.csv_rows import CsvRows
from limpet.training.serving.bulk.parquet_writer import ParquetRowWriter, schema_with
from limpet.training.serving.bulk.row_chunks import Chunk, Format, RowFile
from limpet.training.task_types import AnswerColumn

__all__ = ["RowWriter", "writer_for"]

AnswerCells = Sequence[Sequence[JsonValue] | None]
"""The cells of each row's answer, null where it has none."""
_BYTE_ORDER_MARK = "\ufeff"


class RowWriter(Protocol):
    """Turns rows into bytes, which are appended to what was written before."""

    def beginning(self) -> bytes:
        """Return what stands before the first row."""

    def rows(self, chunk: Chunk, answers: AnswerCells) -> bytes:
        """Return some rows with their answers."""

    def finish(self, written: Path, target: Path) -> Path:
        """Return the file that was asked for, made of all bytes that were written.

        Args:
            written: They are in this file.
            target: Where to make it, if it isn't the same.
        """


def writer_for(form: Format, source: RowFile, answers: Sequence[AnswerColumn]) -> RowWriter:
    """Return what writes the rows of a file with their answers.

    Raises:
        DataError: A column of JSON lines is of a type that Parquet has not.
    """
    if form == "jsonl":
        return _JsonWriter(answers)
    if form == "parquet":
        return ParquetRowWriter(schema_with(source, answers), tuple(one.name for one in answers))
    separator = "\t" if form == "tsv" else ","
    if isinstance(source, CsvRows):
        # a file of one's own program is read by it again
        separator = separator if source.format != form else source.separator
        return _CsvWriter(source.columns, answers, separator, source.line_end, source.marked)
    return _CsvWriter(source.columns, answers, separator)


@dataclass(frozen=True)
class _CsvWriter:
    columns: Sequence[str]
    answers: Sequence[AnswerColumn]
    separator: str
    line_end: str = "\n"
    marked: bool = False

    def beginning(self) -> bytes:
        mark = _BYTE_ORDER_MARK if self.marked else ""
        names = [*self.columns, *(one.name for one in self.answers)]
        return (mark + self._text([names])).encode("utf-8")

    def rows(self, chunk: Chunk, answers: AnswerCells) -> bytes:
        none = [None] * len(self.answers)
        written = [
            [
                *(_cell(row.get(name)) for name in self.columns),
                *(_listed(value, one) for value, one in zip(cells or none, self.answers, strict=True)),
            ]
            for row, cells in zip(chunk.rows, answers, strict=True)
        ]
        # half a surrogate has no bytes
        return self._text(written).encode("utf-8", "backslashreplace")

    def finish(self, written: Path, target: Path) -> Path:
        return written

    def _text(self, rows: Sequence[Sequence[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator=self.line_end).writerows(rows)
        return text.getvalue()


@dataclass(frozen=True)
class _JsonWriter:
    answers: Sequence[AnswerColumn]

    def beginning(self) -> bytes:
        return b""

    def rows(self, chunk: Chunk, answers: AnswerCells) -> bytes:
        none = [None] * len(self.answers)
        names = [one.name for one in self.answers]
        lines = []
        for at, (row, cells) in enumerate(zip(chunk.rows, answers, strict=True)):
            answer = dict(zip(names, cells or none, strict=True))
            if chunk.lines is None:
                lines.append(_json({**row, **answer}))
                continue
            # what stands there stays, to the last digit of a number
            inside = chunk.lines[at].strip()[:-1].rstrip()
            lines.append(f"{inside}{', ' if row else ''}{_json(answer)[1:]}")
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")

    def finish(self, written: Path, target: Path) -> Path:
        return written


def _json(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    """Return what JSON can hold of a cell: times in ISO 8601, bytes in base 64, null for what is not finite."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _cell(value: object) -> str:
    """Return a cell that is carried through as one text."""
    plain = _plain(value)
    if isinstance(plain, str) or plain is None:
        return plain or ""
    return json.dumps(plain, ensure_ascii=False)


def _listed(value: JsonValue, column: AnswerColumn) -> str:
    """Return an answer's cell as one text."""
    if column.kind in ("text", "number") or value is None:
        return _cell(value)
    assert isinstance(value, Sequence)
    return column.separator.join("nan" if part is None else _cell(part) for part in value)
