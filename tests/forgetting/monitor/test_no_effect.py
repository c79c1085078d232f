"""Every procedure that concludes, on data in which nothing happens: at most 5 % of reports may find anything.

The quick tests would fail a procedure that finds something in half of them, as `forgetting_max` above 0 does from ten
tasks on; the large ones, run apart, hold the 5 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import bdtrc

from limpet.forgetting.metrics import forgetting, intervals
from limpet.forgetting.metrics.inference import MARGIN, equality_p_value, holm, seeds_p_value
from limpet.forgetting.metrics.intervals import Column
from limpet.forgetting.metrics.no_drift import forgetting_max_null
from tests.forgetting.monitor.no_effect import World, rates

OVER_SEEDS = ("forgot", "arms", "peft", "equal")


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    monkeypatch.setattr(intervals, "EXCHANGES", 1500)


@pytest.fixture
def many_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    monkeypatch.setattr(intervals, "EXCHANGES", 4000)


def most(trials: int) -> int:
    """Return how many false findings a procedure with 5 % of them has at most, in 999 of 1000 such simulations."""
    return next(count for count in range(trials + 1) if bdtrc(count, trials, 0.05) < 0.001)


@pytest.mark.parametrize("tasks", [3, 5, 10, 15])
def test_a_report_of_runs_in_which_nothing_happens_finds_nothing(tasks: int, few_draws: None) -> None:
    trials = 8
    found = rates(World(tasks, examples=60), trials, seed=tasks)
    # all kinds of finding together
    assert found["any"] * trials <= most(trials), found


def test_the_luck_of_single_runs_is_not_told_of_arms(few_draws: None) -> None:
    trials = 15
    found = rates(World(3, seeds=3, examples=60, luck=0.05), trials, seed=1, hedged=False)
    assert max(found[kind] for kind in OVER_SEEDS) * trials <= most(trials), found


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [3, 5, 10, 15])
@pytest.mark.parametrize("seeds", [1, 3])
def test_at_most_5_percent_of_reports_find_anything_where_nothing_happens(
    tasks: int, seeds: int, many_draws: None
) -> None:
    found = rates(World(tasks, seeds), trials=100, seed=100 + tasks)
    assert found["any"] <= 0.05, found


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [3, 5, 10, 15])
def test_at_most_5_percent_of_reports_tell_of_arms_what_is_luck(tasks: int, many_draws: None) -> None:
    found = rates(World(tasks, seeds=3, luck=0.03), trials=100, seed=200 + tasks, hedged=False)
    assert max(found[kind] for kind in OVER_SEEDS) <= 0.05, found


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [3, 5])
def test_at_most_5_percent_of_reports_call_arms_equal_that_are_a_margin_apart(tasks: int, many_draws: None) -> None:
    world = World(tasks, seeds=5, examples=400, luck=0.005, ahead=MARGIN)
    assert rates(world, trials=60, seed=300 + tasks, hedged=False)["equal"] <= 0.05


@pytest.mark.parametrize("tasks", [3, 5, 10, 15])
def test_forgetting_max_without_drift_is_what_its_null_says(tasks: int) -> None:
    generator = np.random.default_rng(tasks)
    measured, by_permutation = [], []
    for _ in range(12):
        columns = [_steady_column(generator, task, tasks, examples=100) for task in range(tasks)]
        rows = [[None if one is None else float(np.mean(one)) for one in step] for step in _steps(columns)]
        measured.append(forgetting.forgetting_max(rows))
        by_permutation.append(forgetting_max_null(columns, range(tasks), permutations=40))
    assert np.mean(by_permutation) == pytest.approx(np.mean(measured), abs=3 * np.std(measured) / 12**0.5)
    # it is above 0, the more so the longer the stream
    assert np.mean(by_permutation) > {3: 0.005, 5: 0.015, 10: 0.03, 15: 0.04}[tasks]


def _steady_column(generator: np.random.Generator, task: int, tasks: int, examples: int) -> Column:
    rows = [None] * task + [(generator.random(examples) < 0.8).astype(int) for _ in range(task, tasks)]
    predictions = tuple(None if row is None else tuple(row.tolist()) for row in rows)
    return Column(f"task-{task}", "accuracy", (1,) * examples, predictions)


def _steps(columns: list[Column]) -> list[list[tuple[int, ...] | None]]:
    return [[column.predictions[step] for column in columns] for step in range(len(columns))]


def test_what_is_answered_the_same_at_every_step_has_no_forgetting_by_chance() -> None:
    row = (1, 0, 1, 1)
    columns = [Column("a", "accuracy", (1, 1, 1, 1), (row, row, row)), Column("b", "accuracy", row, (None, row, row))]
    assert forgetting_max_null(columns, (0, 1)) == 0


def test_a_task_that_was_not_evaluated_again_has_no_forgetting_by_chance_either() -> None:
    row = (1, 0)
    columns = [Column("a", "accuracy", row, (row, None, row)), Column("b", "accuracy", row, (None, row, row))]
    assert forgetting_max_null(columns, (0, 1)) is None


def test_holms_correction_is_the_published_one() -> None:
    # Holm 1979: the smallest by all, the next by one less, never below the one before
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.01, None, 0.04]) == (0.02, None, 0.04)
    assert holm([]) == ()


def test_of_many_true_nulls_holm_finds_one_in_at_most_5_percent() -> None:
    generator = np.random.default_rng(0)
    found = [min(one for one in holm(generator.random(30).tolist()) if one is not None) < 0.05 for _ in range(2000)]
    assert 0.03 < np.mean(found) < 0.065


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("luck", "examples"), [(1.0, 0.0), (1.0, 0.5), (0.3, 1.0)])
def test_a_mean_over_seeds_is_found_by_luck_and_examples_in_at_most_5_percent(
    seeds: int, luck: float, examples: float
) -> None:
    generator = np.random.default_rng(seeds)
    trials = 1500
    found = equal = 0
    for _ in range(trials):
        # the examples are the same under every seed, so what they do is common to all
        values = (examples * generator.standard_normal() + luck * generator.standard_normal(seeds)).tolist()
        p_value = seeds_p_value(values, examples)
        at_the_margin = equality_p_value([value + 3.0 for value in values], examples, margin=3.0)
        assert p_value is not None and at_the_margin is not None
        found += p_value < 0.05
        equal += at_the_margin < 0.05
    assert found <= most(trials)
    assert equal <= most(trials)


def test_a_single_seed_shows_neither_a_difference_between_arms_nor_equality() -> None:
    assert seeds_p_value([0.3], 0.001) is None
    assert equality_p_value([0.0], 0.001) is None


def test_arms_that_hardly_differ_under_any_seed_are_equal_within_the_margin() -> None:
    near = equality_p_value([0.001, 0.0, -0.001, 0.0005], 0.001)
    far = equality_p_value([0.001, 0.0, -0.001, 0.0005], 0.02)
    assert near is not None and near < 0.005
    assert far is not None and far > 0.05
