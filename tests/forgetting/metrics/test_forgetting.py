from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.forgetting.metrics import forgetting as metrics
from limpet.forgetting.metrics.forgetting import Rows, Scores, all_metrics

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors", "retention_metrics.json").read_text())

# the tasks are learned at .9, .8, .7; the first falls to .5 and recovers a little, the second gains
ROWS: Rows = [[0.9, None, None], [0.5, 0.8, None], [0.6, 0.85, 0.7]]


def measured(
    rows: Rows, baseline: Scores | None = None, joint: Scores | None = None, learned: Sequence[int] | None = None
) -> dict[str, float | None]:
    """Every metric of tasks that have a common unit."""
    return all_metrics(rows, baseline, joint, learned=learned, common_unit=True)


scores = st.floats(0.01, 1)
squares = st.integers(1, 6).flatmap(
    lambda size: st.lists(st.lists(scores, min_size=size, max_size=size), min_size=size, max_size=size)
)
several = squares.filter(lambda rows: len(rows) > 1)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_every_metric_equals_its_vector(case: dict[str, Any]) -> None:
    found = measured(case["R"], case["baseline"], case["joint"])
    assert found.keys() == case["expect"].keys()
    for key, expected in case["expect"].items():
        if expected is None:
            assert found[key] is None, key
        else:
            assert found[key] == pytest.approx(expected, rel=0, abs=VECTORS["tolerance"]), key


def test_scores_without_a_common_unit_have_no_mean_of_any_kind() -> None:
    pounds_and_shares: Rows = [[-120_000.0, None], [-125_000.0, 0.9]]
    found = all_metrics(pounds_and_shares, [-2.0, 0.5], [-3.0, 0.8], common_unit=False)
    assert found.keys() == measured(ROWS).keys()
    assert set(found.values()) == {None}


def test_every_key_has_its_definition() -> None:
    assert set(measured(ROWS)) <= set(metrics.DEFINITIONS)


# -- the known mistakes of public implementations


def test_backward_transfer_is_divided_by_the_earlier_tasks_not_by_all() -> None:
    assert metrics.bwt_gem(ROWS) == pytest.approx(((0.6 - 0.9) + (0.85 - 0.8)) / 2)
    assert metrics.forgetting_max(ROWS) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.85)) / 2)


def test_cells_above_the_diagonal_are_not_counted() -> None:
    filled = [[0.9, 0.0, 0.0], [0.5, 0.8, 0.0], [0.6, 0.85, 0.7]]
    assert measured(filled) == measured(ROWS)


def test_the_best_earlier_score_counts_not_the_first() -> None:
    rows = [[0.5, None, None], [0.9, 0.8, None], [0.6, 0.8, 0.7]]
    assert metrics.forgetting_terms(rows) == pytest.approx([0.3, 0.0])


def test_the_last_row_is_not_in_the_max_so_forgetting_may_be_negative() -> None:
    rows = [[0.5, None], [0.75, 0.8]]
    assert metrics.forgetting_max(rows) == -0.25
    assert metrics.worst_forgetting(rows) == -0.25


# a home: a was added, then b, then a again and worse
GROWN: Rows = [[0.9, None], [0.9, 0.8], [0.5, 0.8]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("average_accuracy", 0.65),
        ("learning_accuracy", 0.85),
        ("average_anytime_accuracy", (0.9 + 0.85 + 0.65) / 3),
        ("bwt_gem", -0.2),
        ("bwt_diaz", (0.0 - 0.4 + 0.0) / 3),
        ("forgetting_max", 0.2),
        ("worst_forgetting", 0.4),
        ("retention", (0.5 / 0.9 + 1) / 2),
    ],
)
def test_a_task_that_was_learned_again_is_an_earlier_task(key: str, value: float) -> None:
    assert measured(GROWN, learned=(0, 1))[key] == pytest.approx(value, abs=1e-12)


def test_a_home_with_one_task_forgets_by_a_worse_version_of_it() -> None:
    assert measured([[0.9], [0.2]], learned=(0,))["forgetting_max"] == pytest.approx(0.7)
    assert measured([[0.9]], learned=(0,))["forgetting_max"] is None


def test_the_latest_earlier_task_is_not_skipped() -> None:
    rows = [[0.9, None, None], [0.9, 0.8, None], [0.9, 0.2, 0.7]]
    assert metrics.worst_forgetting(rows) == pytest.approx(0.6)
    assert metrics.bwt_gem(rows) == pytest.approx(-0.3)


@pytest.mark.parametrize("key", ["average_accuracy", "bwt_gem", "bwt_diaz", "forgetting_max", "retention"])
def test_a_missing_cell_makes_a_metric_undefined_and_never_0(key: str) -> None:
    rows = [[0.9, None, None], [0.5, 0.8, None], [None, 0.85, 0.7]]
    assert measured(rows)[key] is None


def test_a_missing_cell_matters_only_to_the_metrics_that_read_it() -> None:
    rows = [[0.9, None, None], [None, 0.8, None], [0.6, 0.85, 0.7]]
    found = measured(rows)
    assert found["average_accuracy"] is not None and found["bwt_gem"] is not None
    assert found["forgetting_max"] is None and found["average_anytime_accuracy"] is None


def test_forgetting_and_backward_transfer_have_opposite_signs() -> None:
    rows = [[0.9, None], [0.5, 0.8]]
    assert metrics.bwt_gem(rows) == pytest.approx(-0.4)
    assert metrics.forgetting_max(rows) == pytest.approx(0.4)


# -- what is undefined


def test_one_task_can_forget_nothing_yet() -> None:
    found = measured([[0.5]])
    defined = {key for key, value in found.items() if value is not None}
    assert defined == {"average_accuracy", "learning_accuracy", "average_anytime_accuracy"}


def test_no_task_has_no_metric() -> None:
    assert set(measured([], [], []).values()) == {None}


def test_without_baseline_or_joint_scores_their_metrics_are_undefined() -> None:
    found = measured(ROWS)
    assert found["fwt_gem"] is None and found["intransigence"] is None


def test_a_missing_baseline_makes_forward_transfer_undefined() -> None:
    rows = [[0.9, 0.3], [0.8, 0.8]]
    assert metrics.fwt_gem(rows, [None, 0.2]) == pytest.approx(0.1)
    assert metrics.fwt_gem(rows, [0.2, None]) is None
    assert metrics.intransigence(rows, [0.9, None]) is None


@pytest.mark.parametrize("learned", [0.0, -1.5])
def test_retention_is_no_ratio_of_nothing_or_of_losses(learned: float) -> None:
    assert metrics.retention([[learned, None], [learned, 0.5]]) is None


def test_tasks_still_to_come_are_not_read() -> None:
    assert measured([[0.9, None, None], [0.5, 0.8, None]]) == measured([[0.9, None], [0.5, 0.8]])


# -- properties


@given(several)
def test_perfect_retention_forgets_exactly_nothing(rows: list[list[float]]) -> None:
    learned = [row[index] for index, row in enumerate(rows)]
    found = measured([learned for _ in rows])
    assert (found["bwt_gem"], found["bwt_diaz"], found["forgetting_max"], found["worst_forgetting"]) == (0, 0, 0, 0)
    assert found["retention"] == 1
    assert found["average_accuracy"] == found["learning_accuracy"]


@given(scores, st.integers(2, 6))
def test_constant_scores_are_their_own_averages(score: float, size: int) -> None:
    found = measured([[score] * size for _ in range(size)], [score] * size, [score] * size)
    for key in ("average_accuracy", "learning_accuracy", "average_anytime_accuracy"):
        assert found[key] == pytest.approx(score, abs=1e-12)
    for key in ("bwt_gem", "bwt_diaz", "forgetting_max", "worst_forgetting", "fwt_gem", "intransigence"):
        assert found[key] == 0


@given(several, st.randoms())
def test_the_order_of_earlier_tasks_does_not_change_backward_transfer(rows: list[list[float]], random: Any) -> None:
    order = list(range(len(rows) - 1))
    random.shuffle(order)
    order.append(len(rows) - 1)
    permuted = [[rows[i][j] for j in order] for i in order]
    assert metrics.bwt_gem(permuted) == metrics.bwt_gem(rows)
    assert metrics.average_accuracy(permuted) == metrics.average_accuracy(rows)
    assert metrics.learning_accuracy(permuted) == metrics.learning_accuracy(rows)
    assert metrics.retention(permuted) == metrics.retention(rows)


@given(several)
def test_forgetting_from_the_best_is_at_least_forgetting_from_the_first(rows: list[list[float]]) -> None:
    found = measured(rows)
    forgetting, worst, backward = found["forgetting_max"], found["worst_forgetting"], found["bwt_gem"]
    assert forgetting is not None and worst is not None and backward is not None
    assert forgetting >= -backward - 1e-12
    assert worst >= forgetting - 1e-12


@given(several, st.floats(-1, 1))
def test_a_shift_of_all_scores_changes_averages_but_no_difference(rows: list[list[float]], shift: float) -> None:
    before, after = measured(rows), measured([[cell + shift for cell in row] for row in rows])
    for key in ("bwt_gem", "bwt_diaz", "forgetting_max", "worst_forgetting"):
        assert after[key] == pytest.approx(before[key], abs=1e-9)
    assert after["average_accuracy"] == pytest.approx((before["average_accuracy"] or 0) + shift, abs=1e-9)


@given(squares)
def test_every_metric_is_finite_or_undefined(rows: list[list[float]]) -> None:
    assert all(value is None or math.isfinite(value) for value in measured(rows).values())


@given(several)
def test_rows_that_each_learn_a_task_of_their_own_need_not_say_so(rows: list[list[float]]) -> None:
    assert measured(rows, learned=range(len(rows))) == measured(rows)


# -- flips and identity


def test_flips_are_shares_of_all_examples() -> None:
    targets = [1, 1, 1, 0, 0]
    learned = [1, 1, 0, 0, 1]
    now = [0, 1, 1, 0, 0]
    assert metrics.negative_flip_rate(learned, now, targets) == 0.2
    assert metrics.positive_flip_rate(learned, now, targets) == 0.4


def test_wrong_in_another_way_is_no_flip() -> None:
    assert metrics.negative_flip_rate([1], [2], [0]) == 0
    assert metrics.positive_flip_rate([1], [2], [0]) == 0


def test_no_examples_have_no_flip_rate() -> None:
    assert metrics.negative_flip_rate([], [], []) is None


def test_predictions_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError):
        metrics.negative_flip_rate([1, 0], [1], [1])


def test_predictions_are_identical_only_example_by_example() -> None:
    assert metrics.identical_predictions([0, 1, 1], [0, 1, 1])
    assert not metrics.identical_predictions([0, 1, 1], [1, 0, 1])
    assert not metrics.identical_predictions([0, 1], [0, 1, 1])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_flips_account_for_the_whole_change_of_accuracy(triples: list[tuple[int, int, int]]) -> None:
    learned, now, targets = (list(column) for column in zip(*triples, strict=True))
    negative = metrics.negative_flip_rate(learned, now, targets)
    positive = metrics.positive_flip_rate(learned, now, targets)
    assert negative is not None and positive is not None
    accuracy = [sum(a == b for a, b in zip(some, targets, strict=True)) / len(targets) for some in (learned, now)]
    assert accuracy[1] - accuracy[0] == pytest.approx(positive - negative)
