"""The peak of a stretch of work is its own, not that of what the process did before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limpet.training.learning.runs import peak_memory

MEGABYTE = 2**20


def use(megabytes: int) -> None:
    """Have so much in memory for a moment."""
    np.ones(megabytes * MEGABYTE, dtype=np.uint8)


def test_the_peak_is_that_of_the_stretch_and_not_of_earlier_work() -> None:
    use(300)
    mark = peak_memory.begin()
    use(100)
    found = peak_memory.peak(mark)
    assert found is not None and found.added is not None
    assert 95 * MEGABYTE < found.added < 200 * MEGABYTE
    assert found.total > found.added


def test_memory_that_is_held_all_the_time_counts_as_part_of_the_peak_but_not_as_added() -> None:
    held = np.ones(150 * MEGABYTE, dtype=np.uint8)
    found = peak_memory.peak(peak_memory.begin())
    assert found is not None and found.added is not None
    assert found.total > held.nbytes
    assert found.added < 20 * MEGABYTE


def test_where_the_mark_can_not_be_set_back_a_peak_below_it_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak_memory, "_CLEAR", tmp_path / "no" / "such" / "file")
    memory_before = peak_memory._resident()
    assert memory_before[0] is not None
    room = (memory_before[1] - memory_before[0]) // MEGABYTE
    use(room + 200)
    mark = peak_memory.begin()
    use(100)
    assert peak_memory.peak(mark) is None
    use(room + 350)
    found = peak_memory.peak(mark)
    assert found is not None and found.total > mark.highest
