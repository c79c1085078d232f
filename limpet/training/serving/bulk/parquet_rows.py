"""Rows of Parquet files, read row group by row group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import DataError
from limpet.training.data.reading.tables import check_names
from limpet.training.serving.bulk.row_chunks import Chunk, Format

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ParquetRows", "open_parquet"]


@dataclass(frozen=True)
class ParquetRows:
    """A Parquet file; `schema` says the types of its columns, and what whoever wrote it noted."""

    path: Path
    columns: tuple[str, ...]
    count: int
    schema: pyarrow.Schema
    format: Format = "parquet"
    notes: tuple[str, ...] = ()

    def chunks(self, size: int, done: int) -> Iterator[Chunk]:
        """See `RowFile.chunks`; no chunk has rows of two row groups."""
        from pyarrow import ArrowException, parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if done >= rows:
                        done -= rows
                        continue
                    for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                        if done >= batch.num_rows:
                            done -= batch.num_rows
                            continue
                        yield Chunk(batch.to_pylist(), batch=batch)
        except (ArrowException, OSError) as error:
            raise _unreadable(self.path, error) from error


def open_parquet(path: Path) -> ParquetRows:
    """Read what a Parquet file says of itself.

    Raises:
        DataError: It is none, or has a column twice.
    """
    from pyarrow import ArrowException, parquet

    try:
        metadata, schema = parquet.read_metadata(path), parquet.read_schema(path)
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    check_names(str(path), schema.names)
    return ParquetRows(path, tuple(schema.names), metadata.num_rows, schema)


def _unreadable(path: Path, error: Exception) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} can't be read as Parquet: {first}", "check the file, or name another")
