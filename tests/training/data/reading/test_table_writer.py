"""Rows that are too many for memory come back from the file as they were given."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from limpet.training.data.reading import table_writer
from limpet.training.data.reading.table_writer import TableWriter

ROWS: list[dict[str, Any]] = [
    {"text": "plain", "label": 1},
    {"text": "ünï\u2028cöde", "label": 1.5, "turns": [{"role": "user", "content": "a"}]},
    {"text": None, "label": True},
    {"text": "half a pair \ud83d", "label": 10**30},
    {"text": "", "label": None, "turns": []},
    {"text": "last", "label": "a", "on": date(2026, 1, 2)},
]


@pytest.mark.parametrize("most", [1, 2, 4, 100])
def test_cells_are_what_they_were_in_memory_and_in_the_file(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(table_writer, "_ROWS", most)
    writer = TableWriter()
    for row in ROWS:
        writer.append(row, 10)
    table = writer.table()
    assert table.columns == ("text", "label", "turns", "on")
    for name, cells in table.cells.items():
        expected = [row.get(name) for row in ROWS]
        assert list(cells) == expected
        assert [type(cell) for cell in cells] == [type(cell) for cell in expected]
        assert [cells[at] for at in (*range(len(ROWS)), -1)] == [*expected, expected[-1]]
        assert list(cells[1:3]) == expected[1:3]
        with pytest.raises(IndexError):
            cells[len(ROWS)]


def test_long_rows_are_written_before_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writer, "_CHARACTERS", 100)
    writer = TableWriter()
    for number in range(5):
        writer.append({"text": str(number)}, 60)
    assert len(writer) == 5
    assert list(writer.table().cells["text"]) == ["0", "1", "2", "3", "4"]
