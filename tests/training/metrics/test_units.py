"""Units of scores: which tasks have a mean, and how something is chosen where they have none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limpet.training import task_types
from limpet.training.learning.loop import LoopSettings, Validation, fit
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.metrics.metric import Metric
from limpet.training.metrics.units import mean_ranks
from limpet.training.progress import SILENT
from limpet.training.task_types import metric, no_common_unit

METRICS = {one.name: one for kind in task_types.every() for one in kind.metrics}
SHARES = ("accuracy", "macro-f1", "micro-f1", "entity-f1", "token-accuracy", "rouge-l", "exact-match")


@pytest.mark.parametrize("first", SHARES)
@pytest.mark.parametrize("second", SHARES)
def test_shares_are_one_unit_whatever_they_are_shares_of(first: str, second: str) -> None:
    assert no_common_unit({"a": first, "b": second}) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("accuracy", "neg-rmse"),
        ("accuracy", "pearson"),
        ("accuracy", "neg-perplexity"),
        ("accuracy", "r2"),
        ("neg-rmse", "neg-mae"),
        ("pearson", "r2"),
        # in pounds and in metres: nothing says that they are in the same
        ("neg-rmse", "neg-rmse"),
    ],
)
def test_other_units_are_each_their_own_and_the_reason_names_them(first: str, second: str) -> None:
    reason = no_common_unit({"price": first, "length": second})
    assert reason == f"no common unit: price is scored by {first}, length is scored by {second}"


@pytest.mark.parametrize(("first", "second"), [("pearson", "spearman"), ("neg-perplexity", "neg-perplexity")])
def test_correlations_have_a_mean_and_so_have_perplexities_of_one_base(first: str, second: str) -> None:
    assert no_common_unit({"a": first, "b": second}) is None


def test_one_task_has_a_common_unit_with_itself() -> None:
    assert no_common_unit({"price": "neg-rmse"}) is None


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_score_leaves_the_range_of_its_unit(name: str) -> None:
    found: Metric = metric(name)
    worst, best = _answers(name)
    for predictions, targets in (worst, best):
        score = found.score(predictions, targets)
        assert (found.unit.lowest if found.unit.lowest is not None else -math.inf) <= score
        assert score <= (found.unit.highest if found.unit.highest is not None else math.inf)


def _answers(name: str) -> list[tuple[list[Any], list[Any]]]:
    """Wrong answers and right ones of a kind that the metric scores, each with the targets."""
    if name == "neg-perplexity":
        return [([[-50.0, 2.0], [-90.0, 3.0]], ["a", "b"]), ([[0.0, 2.0], [0.0, 3.0]], ["a", "b"])]
    kind = next(kind for kind in task_types.every() if name in [one.name for one in kind.metrics])
    wrong, right = {
        "classification": ([1, 0], [0, 1]),
        "regression": ([5.0, -900.0], [1.0, 2.0]),
        "multi-label": ([(1,), ()], [(0,), (0, 1)]),
        "token-classification": ([("O", "B-x"), ("B-y",)], [("B-x", "O"), ("B-x",)]),
        "generation": (["no", ""], ["yes it is", "so"]),
    }[kind.name]
    return [(list(wrong), list(right)), (list(right), list(right))]


def test_a_mean_rank_is_over_tasks_and_equal_scores_share_one() -> None:
    scores = [{"price": -9.0, "place": 0.5}, {"price": -8.0, "place": 0.5}, {"price": -70.0, "place": 0.9}]
    assert mean_ranks(scores) == [(2 + 2.5) / 2, (1 + 2.5) / 2, (3 + 1) / 2]


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5), st.integers(1, 1000))
def test_a_mean_rank_knows_no_unit(pairs: list[tuple[int, int]], pounds: int) -> None:
    as_given = [{"price": a, "place": b} for a, b in pairs]
    assert mean_ranks(as_given) == mean_ranks([{"price": a * pounds, "place": b} for a, b in pairs])


class _Constant:
    """An objective of one step an epoch."""

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        return [[0]]

    def losses(self, model: Any, batch: Any) -> Any:
        yield model(torch.ones(1, 1)).sum()


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        # in pounds the second epoch wins by far, and it is worse on both of the others
        ([(-9000.0, 0.8, 0.8), (-10.0, 0.7, 0.7), (-9500.0, 0.7, 0.7)], 1),
        ([(-9000.0, 0.8, 0.8), (-8999.0, 0.9, 0.7), (-9001.0, 0.9, 0.9)], 2),
        ([(-9.0, 0.5, 0.5), (-8.0, 0.6, 0.5)], 2),
        ([(-9.0, 0.5, 0.5), (-9.0, 0.5, 0.5)], 1),
    ],
)
def test_the_best_epoch_of_tasks_without_a_common_unit_has_the_best_mean_rank(
    tmp_path: Path, epochs: list[tuple[float, ...]], best: int
) -> None:
    names = ("price", "place", "team")
    scores = iter([dict(zip(names, epoch, strict=True)) for epoch in epochs])
    settings = LoopSettings(epochs=len(epochs), learning_rate=0.1, batch_size=1, seed=0, dtype="float32")
    checkpoint = Checkpoint(tmp_path / "state.safetensors", 1000)
    fitted = fit(
        torch.nn.Linear(1, 1),
        _Constant(),
        settings,
        validate=lambda: Validation(next(scores), 0.0),
        checkpoint=checkpoint,
        progress=SILENT,
    )
    assert fitted.best_epoch == best
    assert fitted.best_score == epochs[best - 1][0]
    assert [entry["validation/place"] for entry in fitted.history] == [epoch[1] for epoch in epochs]
