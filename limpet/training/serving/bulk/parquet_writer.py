"""Rows with their answers as Parquet.

A Parquet file has its table of contents at the end, so that nothing can be appended to one. Until the last row is
answered, rows are kept as frames, each a small Parquet file behind its length; then the frames become row groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonValue
from limpet.training.serving.bulk.parquet_rows import ParquetRows
from limpet.training.serving.bulk.row_chunks import Chunk, RowFile
from limpet.training.task_types import AnswerColumn

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ParquetRowWriter", "schema_with"]

_ROW_GROUP = 1 << 16
_LENGTH = 8
_LOOKED_AT = 4096
_AS_JSON = {b"limpet": b"json"}
"""Marks a column of cells that have no type in common, which are kept as the JSON that they are."""


@dataclass(frozen=True)
class ParquetRowWriter:
    """See `RowWriter`; the last columns of `schema` are those of the answers."""

    schema: pyarrow.Schema
    answers: tuple[str, ...]

    def beginning(self) -> bytes:
        """Nothing."""
        return b""

    def rows(self, chunk: Chunk, answers: Sequence[Sequence[JsonValue] | None]) -> bytes:
        """See `RowWriter.rows`."""
        import pyarrow
        from pyarrow import parquet

        carried = self.schema.names[: -len(self.answers)]
        try:
            if chunk.batch is not None:
                arrays = list(chunk.batch.columns)
            else:
                arrays = [_array([row.get(name) for row in chunk.rows], self.schema.field(name)) for name in carried]
            for at, name in enumerate(self.answers):
                cells = [None if row is None else row[at] for row in answers]
                arrays.append(pyarrow.array(cells, self.schema.field(name).type))
            table = pyarrow.Table.from_arrays(arrays, schema=self.schema)
        except (pyarrow.ArrowException, OverflowError) as error:
            first = str(error).splitlines()[0]
            raise DataError(f"A row can't be written as Parquet: {first}", "--out answers.jsonl") from error
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(table, sink)
        content: bytes = sink.getvalue().to_pybytes()
        return len(content).to_bytes(_LENGTH, "big") + content

    def finish(self, written: Path, target: Path) -> Path:
        """See `RowWriter.finish`."""
        import pyarrow
        from pyarrow import parquet

        with parquet.ParquetWriter(target, self.schema) as file:
            kept: list[pyarrow.Table] = []
            for table in _frames(written):
                kept.append(table)
                if sum(len(one) for one in kept) >= _ROW_GROUP:
                    file.write_table(pyarrow.concat_tables(kept))
                    kept = []
            if kept:
                file.write_table(pyarrow.concat_tables(kept))
        return target


def schema_with(source: RowFile, answers: Sequence[AnswerColumn]) -> pyarrow.Schema:
    """Return the columns of a file with their types, and behind them those of the answers."""
    import pyarrow

    number = pyarrow.float64()
    types = {
        "text": pyarrow.string(),
        "number": number,
        "texts": pyarrow.list_(pyarrow.string()),
        "numbers": pyarrow.list_(number),
    }
    more = [pyarrow.field(one.name, types[one.kind]) for one in answers]
    if isinstance(source, ParquetRows):
        return pyarrow.schema([*source.schema, *more], metadata=source.schema.metadata)
    if source.format == "jsonl":
        return pyarrow.schema([*_inferred(source), *more])
    return pyarrow.schema([*(pyarrow.field(name, pyarrow.string()) for name in source.columns), *more])


def _inferred(source: RowFile) -> list[pyarrow.Field]:
    """Look through all rows for the type that the cells of each column have in common."""
    import pyarrow

    types: dict[str, pyarrow.DataType | None] = dict.fromkeys(source.columns, pyarrow.null())
    for chunk in source.chunks(_LOOKED_AT, 0):
        for name, known in types.items():
            if known is not None:
                types[name] = _common(known, [row.get(name) for row in chunk.rows])
    plain = pyarrow.string()
    return [
        pyarrow.field(name, plain, metadata=_AS_JSON) if kind is None else pyarrow.field(name, kind)
        for name, kind in types.items()
    ]


def _common(known: pyarrow.DataType, cells: Sequence[object]) -> pyarrow.DataType | None:
    import pyarrow

    try:
        fields = [pyarrow.schema([("cell", one)]) for one in (known, pyarrow.array(cells).type)]
        return pyarrow.unify_schemas(fields, promote_options="permissive").field("cell").type
    except (pyarrow.ArrowException, OverflowError):
        return None


def _array(cells: Sequence[object], field: pyarrow.Field) -> pyarrow.Array:
    import pyarrow

    if field.metadata == _AS_JSON:
        cells = [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells]
    return pyarrow.array(cells, field.type)


def _frames(path: Path) -> Iterator[pyarrow.Table]:
    import pyarrow
    from pyarrow import parquet

    with path.open("rb") as file:
        while length := file.read(_LENGTH):
            yield parquet.read_table(pyarrow.py_buffer(file.read(int.from_bytes(length, "big"))))
