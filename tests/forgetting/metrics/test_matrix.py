from __future__ import annotations

import math

import pytest

from limpet.errors import UsageError
from limpet.forgetting.metrics.matrix import ScoreMatrix

TASKS = ("a", "b")


def test_a_finished_stream_has_as_many_rows_as_tasks() -> None:
    matrix = ScoreMatrix.of(TASKS, [[0.9, None], [0.8, 0.7]])
    assert matrix.rows == ((0.9, None), (0.8, 0.7))


def test_a_stream_in_progress_has_fewer_rows_than_tasks() -> None:
    assert ScoreMatrix.of(TASKS, [[0.9, None]]).rows == ((0.9, None),)


def test_a_stream_not_begun_has_no_rows() -> None:
    assert ScoreMatrix.of(TASKS, []).rows == ()


def test_a_loss_may_be_negative() -> None:
    assert ScoreMatrix.of(("a",), [[-2.5]]).rows == ((-2.5,),)


@pytest.mark.parametrize(
    ("tasks", "rows", "reason"),
    [
        (("a", "a"), [[0.9, None]], "twice"),
        (("a", "b"), [[0.9]], "1 cells for 2 tasks"),
        (("a",), [[math.nan]], "finite"),
        (("a",), [[math.inf]], "finite"),
        (("a",), [["0.9"]], "finite"),
        (("a",), [[True]], "finite"),
    ],
)
def test_what_is_no_score_matrix_is_refused(tasks: tuple[str, ...], rows: list[list[float]], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        ScoreMatrix.of(tasks, rows)
    assert error.value.hint
