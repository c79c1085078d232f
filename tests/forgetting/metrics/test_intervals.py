from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.errors import UsageError
from limpet.forgetting.metrics import forgetting, intervals
from limpet.forgetting.metrics.intervals import Column
from limpet.training.task_types import score

GENERATOR = np.random.default_rng(7)


def column(right: list[int], examples: int = 200, task: str = "a", metric: str = "accuracy") -> Column:
    """A column whose first `right[i]` examples are right after step i."""
    targets = tuple(n % 2 for n in range(examples))
    rows = tuple(tuple(t if n < count else 1 - t for n, t in enumerate(targets)) for count in right)
    return Column(task, metric, targets, rows)


def drawn_of(matrices: intervals.Resampled) -> np.ndarray:
    """The resampled scores of the first task after the first step."""
    scores = matrices[0][0]
    assert scores is not None
    return scores


def test_a_score_interval_has_the_width_of_its_standard_error() -> None:
    one = column([160])
    low, high = intervals.score_interval("accuracy", one.predictions[0] or (), one.targets)
    error = (0.8 * 0.2 / 200) ** 0.5
    assert low == pytest.approx(0.8 - 1.96 * error, abs=0.01)
    assert high == pytest.approx(0.8 + 1.96 * error, abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    one = column([150])
    row = one.predictions[0] or ()
    first = [intervals.bootstrap_matrices([one], seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(first[0][0][0], first[1][0][0])
    assert not np.array_equal(first[0][0][0], first[2][0][0])
    assert intervals.score_interval("accuracy", row, one.targets, seed=3) == intervals.score_interval(
        "accuracy", row, one.targets, seed=3
    )


def test_average_accuracy_is_resampled_task_by_task() -> None:
    columns = [column([160, 160], task="a"), column([0, 100], task="b")]
    values = intervals.replicates(forgetting.average_accuracy, intervals.bootstrap_matrices(columns))
    assert values is not None
    # independent tasks: variances add up, divided by T squared
    expected = ((0.8 * 0.2 + 0.5 * 0.5) / 200) ** 0.5 / 2
    assert values.std() == pytest.approx(expected, rel=0.08)
    assert values.mean() == pytest.approx(0.65, abs=0.005)


def test_steps_are_paired_so_unchanged_predictions_have_no_spread() -> None:
    columns = [column([160, 160], task="a"), column([150, 150], task="b")]
    values = intervals.replicates(forgetting.bwt_gem, intervals.bootstrap_matrices(columns))
    assert values is not None
    assert intervals.percentile_interval(values) == (0.0, 0.0)


def test_a_paired_interval_is_narrower_than_that_of_either_arm() -> None:
    a, b = ([column([right], task="a")] for right in (160, 150))
    drawn = [drawn_of(intervals.bootstrap_matrices(arm)) for arm in (a, b)]
    low, high = intervals.percentile_interval(drawn[0] - drawn[1])
    alone = intervals.percentile_interval(drawn[0])
    assert 0 < low < 0.05 < high
    assert high - low < (alone[1] - alone[0]) / 1.5


def test_a_metric_undefined_on_the_matrix_is_undefined_on_every_resample() -> None:
    hole = Column("a", "accuracy", (0, 1), ((0, 1), None))
    matrices = intervals.bootstrap_matrices([hole, column([0, 1], examples=2, task="b")])
    assert matrices[1][0] is None
    assert intervals.replicates(forgetting.average_accuracy, matrices) is None


@pytest.mark.parametrize("key", ["average_accuracy", "learning_accuracy", "bwt_gem", "forgetting_max"])
@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda steps: st.lists(
            st.lists(st.one_of(st.none(), st.integers(0, 8)), min_size=steps, max_size=steps),
            min_size=steps,
            max_size=steps,
        )
    )
)
def test_a_metric_of_arrays_is_the_metric_of_each_matrix(key: str, right: list[list[int | None]]) -> None:
    columns = []
    for task, steps in enumerate(right):
        drawn = column([count or 0 for count in steps], examples=8, task=str(task))
        rows = tuple(None if count is None else row for count, row in zip(steps, drawn.predictions, strict=True))
        columns.append(Column(drawn.task, drawn.metric, drawn.targets, rows))
    matrices = intervals.bootstrap_matrices(columns, resamples=5)
    metric = getattr(forgetting, key)
    found = intervals.replicates(metric, matrices)
    one_by_one = [metric([[None if c is None else float(c[n]) for c in row] for row in matrices]) for n in range(5)]
    if found is None:
        assert one_by_one == [None] * 5
    else:
        assert found == pytest.approx(one_by_one, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@pytest.mark.parametrize("metric", ["accuracy", "macro-f1"])
def test_the_score_resampled_is_the_score_that_is_reported(metric: str, pairs: list[tuple[int, int]]) -> None:
    predictions, targets = (tuple(side) for side in zip(*pairs, strict=True))
    one = Column("a", metric, targets, (predictions,))
    # an exchange between an arm and itself changes nothing, so that only the scoring is left
    left, right = intervals.swapped_matrices([one], [one], resamples=3)
    assert drawn_of(left) == pytest.approx(score(metric, predictions, targets), abs=1e-12)
    assert drawn_of(right) == pytest.approx(drawn_of(left))


def test_a_bootstrap_of_macro_f1_scatters_around_the_score() -> None:
    targets = tuple(GENERATOR.integers(0, 4, 300).tolist())
    predictions = tuple(t if GENERATOR.random() < 0.7 else 0 for t in targets)
    low, high = intervals.score_interval("macro-f1", predictions, targets)
    assert low < score("macro-f1", predictions, targets) < high
    assert 0.05 < high - low < 0.2


def test_many_examples_are_resampled_in_parts_with_the_same_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    one = column([160])
    monkeypatch.setattr(intervals, "_CHUNK", 7 * 200)
    values = drawn_of(intervals.bootstrap_matrices([one]))
    assert values.shape == (intervals.RESAMPLES,)
    assert values.std() == pytest.approx((0.8 * 0.2 / 200) ** 0.5, rel=0.08)


def test_arms_that_are_alike_have_a_p_value_of_1() -> None:
    arm = [column([150])]
    left, right = (drawn_of(matrix) for matrix in intervals.swapped_matrices(arm, arm))
    assert intervals.difference_p_value(0.0, left - right) == 1.0


def test_the_sign_flip_test_agrees_with_the_exact_test() -> None:
    a, b = [column([110])], [column([100])]
    left, right = (drawn_of(matrix) for matrix in intervals.swapped_matrices(a, b, resamples=20_000))
    # ten examples differ, all in favour of one arm: the exact sign-flip test is McNemar's
    assert intervals.difference_p_value(0.05, left - right) == pytest.approx(2 / 2**10, abs=0.001)


def test_a_p_value_is_never_0() -> None:
    assert intervals.difference_p_value(1.0, np.zeros(99)) == 0.01


def test_exchanged_matrices_hold_the_same_scores_together() -> None:
    a, b = [column([110, 90]), column([100, 50], task="b")], [column([100, 80]), column([90, 150], task="b")]
    left, right = intervals.swapped_matrices(a, b, resamples=50)
    assert drawn_of(left) + drawn_of(right) == pytest.approx(np.full(50, 110 / 200 + 100 / 200))


@pytest.mark.parametrize(
    "other",
    [column([100], task="b"), column([100], examples=100), Column("a", "accuracy", (0, 1), (None,))],
)
def test_arms_with_other_examples_are_not_compared(other: Column) -> None:
    with pytest.raises(UsageError, match="can't be compared"):
        intervals.swapped_matrices([column([100])], [other])


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [(0, 0, 1.0), (10, 0, 2 / 2**10), (0, 10, 2 / 2**10), (5, 5, 1.0), (6, 2, 0.2890625)],
)
def test_mcnemar_is_exact(lost: int, gained: int, expected: float) -> None:
    assert intervals.mcnemar_exact(lost, gained) == pytest.approx(expected)


def test_a_t_interval_over_three_seeds() -> None:
    # mean 0.8, standard deviation 0.1, t(0.975, 2) = 4.302653
    low, high = intervals.t_interval([0.7, 0.8, 0.9]) or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.8)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)


def test_a_single_seed_has_no_interval() -> None:
    assert intervals.t_interval([0.8]) is None


@pytest.mark.parametrize(("metric", "predictions"), [("rouge", (0, 1)), ("accuracy", (0,)), ("accuracy", ())])
def test_what_can_not_be_resampled_is_refused(metric: str, predictions: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        intervals.score_interval(metric, predictions, (0, 1) if predictions else ())
