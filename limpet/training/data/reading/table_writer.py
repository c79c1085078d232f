"""Rows on their way into a table: in memory while they are few, else in an Arrow file that is mapped into memory.

The file has no name, and is gone with the table. A million rows of it take as much memory as the system has to spare:
what is not looked at is given back.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, repeat
from mmap import ACCESS_READ, mmap
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from limpet.registry.cache import scratch_file
from limpet.training.data.reading.lazy import Lazy
from limpet.training.data.reading.tables import Table

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatchFileWriter

__all__ = ["TableWriter"]

_ROWS, _CHARACTERS = 10_000, 1 << 24
"""So many are held in memory before they are written."""


class _Written(NamedTuple):
    """Where the cells of a column in a run of rows were written; of kinds that JSON lacks, they themselves."""

    batch: int
    as_json: bool
    cells: Sequence[Any] | None = None


class TableWriter:
    """Takes rows one by one, and makes a table of them; a column that a row lacks is an empty cell there."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, Any]] = []
        self._characters = 0
        self._columns: dict[str, None] = {}
        self._sizes: list[int] = []
        self._runs: dict[str, dict[int, _Written]] = {}
        self._file: IO[bytes] | None = None
        self._writer: RecordBatchFileWriter | None = None
        self._batches = 0

    def append(self, row: Mapping[str, Any], size: int) -> None:
        """Take a row.

        Args:
            row: Its cells by the names of their columns.
            size: About how many characters it has.
        """
        self._rows.append(row)
        self._characters += size
        if len(self._rows) >= _ROWS or self._characters >= _CHARACTERS:
            self._write()

    def __len__(self) -> int:
        return sum(self._sizes) + len(self._rows)

    def table(
        self,
        class_names: Mapping[str, tuple[str, ...]] | None = None,
        *,
        columns: Sequence[str] = (),
        notes: tuple[str, ...] = (),
    ) -> Table:
        """Return all rows that were taken.

        Args:
            class_names: See `Table`.
            columns: Those that there are even if no row has them.
            notes: See `Table`.
        """
        if self._writer is None:
            names = dict.fromkeys((*columns, *(key for row in self._rows for key in row)))
            cells: dict[str, Sequence[Any]] = {name: [row.get(name) for row in self._rows] for name in names}
        else:
            if self._rows:
                self._write()
            cells = self._mapped()
        return Table(cells, class_names or {}, notes)

    def _write(self) -> None:
        import pyarrow

        if self._writer is None:
            self._file = scratch_file()
            schema = pyarrow.schema([("cells", pyarrow.large_string())])
            self._writer = pyarrow.ipc.new_file(pyarrow.PythonFile(self._file, "w"), schema)
        for name in dict.fromkeys(key for row in self._rows for key in row):
            cells = [row.get(name) for row in self._rows]
            self._runs.setdefault(name, {})[len(self._sizes)] = self._put(cells)
        self._sizes.append(len(self._rows))
        self._rows, self._characters = [], 0

    def _put(self, cells: Sequence[Any]) -> _Written:
        import pyarrow

        as_json = not all(cell is None or isinstance(cell, str) for cell in cells)
        try:
            array = pyarrow.array(_as_json(cells) if as_json else cells, pyarrow.large_string())
        except UnicodeEncodeError:
            # half of a surrogate pair, which JSON escapes
            as_json, array = True, pyarrow.array(_as_json(cells), pyarrow.large_string())
        except (TypeError, ValueError):
            return _Written(-1, False, cells)
        assert self._writer is not None
        self._writer.write_batch(pyarrow.record_batch([array], names=["cells"]))
        self._batches += 1
        return _Written(self._batches - 1, as_json)

    def _mapped(self) -> dict[str, Sequence[Any]]:
        import pyarrow

        assert self._writer is not None and self._file is not None
        self._writer.close()
        self._file.flush()
        reader = pyarrow.ipc.open_file(pyarrow.py_buffer(mmap(self._file.fileno(), 0, access=ACCESS_READ)))

        def block(written: _Written | None, size: int) -> _Block:
            if written is None or written.cells is not None:
                return _Block(size, cells=written and written.cells)
            return _Block(size, reader.get_batch(written.batch).column(0), written.as_json)

        return {
            name: _column([block(runs.get(number), size) for number, size in enumerate(self._sizes)])
            for name, runs in self._runs.items()
        }


def _as_json(cells: Iterable[Any]) -> list[str | None]:
    return [None if cell is None else json.dumps(cell) for cell in cells]


class _Block(NamedTuple):
    """The cells of a column in a run of rows: of the file, else themselves, else none; perhaps each as JSON."""

    size: int
    array: Array | None = None
    as_json: bool = False
    cells: Sequence[Any] | None = None

    def cell(self, at: int) -> object:
        """Return the cell at a place of the run."""
        if self.array is None:
            return None if self.cells is None else self.cells[at]
        cell = self.array[at].as_py()
        return json.loads(cell) if self.as_json and cell is not None else cell

    def all(self) -> Iterable[Any]:
        """Return all cells."""
        if self.array is None:
            return repeat(None, self.size) if self.cells is None else self.cells
        cells: list[Any] = self.array.to_pylist()
        return (None if cell is None else json.loads(cell) for cell in cells) if self.as_json else cells


def _column(blocks: Sequence[_Block]) -> Sequence[Any]:
    """Return a column whose cells are read when they are asked for."""
    starts = [0, *accumulate(block.size for block in blocks)]

    def cell(at: int) -> object:
        number = bisect_right(starts, at) - 1
        return blocks[number].cell(at - starts[number])

    return Lazy(starts[-1], cell, lambda: chain.from_iterable(block.all() for block in blocks))
