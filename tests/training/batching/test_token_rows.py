"""Token ids in two arrays: as lists are, without their memory."""

from __future__ import annotations

import numpy as np
import pytest

from limpet.training.batching.token_rows import TokenRows

ROWS = [[5, 6], [], [7], [8, 9, 10]]


def test_rows_are_the_lists_that_they_were_made_of() -> None:
    rows = TokenRows.of([ROWS[:1], ROWS[1:3], [], ROWS[3:]])
    assert list(rows) == ROWS
    assert [rows[at] for at in (0, 1, -1)] == [[5, 6], [], [8, 9, 10]]
    assert rows[1:3] == ROWS[1:3]
    assert rows.lengths == [2, 0, 1, 3]
    assert rows == tuple(ROWS) and rows != ROWS[:3] and rows != [[5, 6], [], [7], [8, 9, 11]]
    with pytest.raises(IndexError):
        rows[4]


def test_none_are_none() -> None:
    assert list(TokenRows.of([])) == [] and TokenRows.of([]).lengths == []
    assert TokenRows.of([[[]]]).flat.dtype == np.int32
