"""Metrics agree with the field's own implementations, and are made of sums over examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from limpet.forgetting.metrics import intervals
from limpet.training.metrics.entities import ENTITY_F1, TOKEN_ACCURACY, entities
from limpet.training.task_types import metric

GENERATOR = np.random.default_rng(5)
TARGETS = GENERATOR.normal(1e6, 3.0, 80).round(1).tolist()
PREDICTIONS = [value + GENERATOR.normal(0.0, 2.0) for value in TARGETS]


def test_correlations_agree_with_scipy_far_from_zero() -> None:
    assert metric("pearson").score(PREDICTIONS, TARGETS) == pytest.approx(stats.pearsonr(PREDICTIONS, TARGETS)[0])
    found = metric("spearman").score(PREDICTIONS, TARGETS)
    assert found == pytest.approx(stats.spearmanr(PREDICTIONS, TARGETS)[0], abs=1e-12)


def test_a_constant_correlates_with_nothing() -> None:
    for name in ("pearson", "spearman"):
        assert metric(name).score([2.5] * 80, TARGETS) == 0.0
        assert metric(name).score(TARGETS, [2.5] * 80) == 0.0


def test_errors_by_hand() -> None:
    predictions, targets = [1.0, 2.0, 5.0], [1.0, 4.0, 4.0]
    assert metric("neg-rmse").score(predictions, targets) == pytest.approx(-((5 / 3) ** 0.5))
    assert metric("neg-mae").score(predictions, targets) == -1.0
    # SST is 6, SSE is 5
    assert metric("r2").score(predictions, targets) == pytest.approx(1 - 5 / 6)
    assert metric("r2").score([3.0] * 3, targets) == pytest.approx(0.0)


def test_sets_of_labels_by_hand() -> None:
    predictions, targets = [(0, 1), (), (2,), ()], [(0,), (1,), (2,), ()]
    # TP 2, FP 1, FN 1
    assert metric("micro-f1").score(predictions, targets) == pytest.approx(4 / 6)
    assert metric("macro-f1").score(predictions, targets) == pytest.approx((1 + 0 + 1) / 3)
    assert metric("subset-accuracy").score(predictions, targets) == 0.5


# targets, predictions, and the F1 that seqeval 1.2.2 gave for them
SEQEVAL = [
    (["I-LOC I-LOC B-PER", "I-LOC B-LOC B-MISC I-LOC"], ["O I-LOC I-PER", "I-LOC B-LOC I-LOC I-LOC"], 0.4),
    (
        ["B-PER B-MISC B-PER", "B-LOC B-MISC O B-MISC I-MISC O"],
        ["B-PER B-MISC B-PER", "B-LOC B-LOC O B-MISC B-LOC I-MISC"],
        0.5714285714285715,
    ),
    (
        ["B-PER I-PER O O B-PER", "B-PER I-PER B-MISC B-LOC I-MISC"],
        ["B-PER B-LOC O O I-LOC", "B-LOC I-PER B-MISC B-LOC I-LOC"],
        0.15384615384615383,
    ),
    (
        ["O I-LOC", "I-MISC O B-LOC B-MISC I-LOC I-PER"],
        ["O I-LOC", "I-MISC O O B-MISC I-LOC I-PER"],
        0.9090909090909091,
    ),
    (["B-MISC B-LOC O I-LOC", "B-MISC O"], ["B-MISC B-LOC I-PER I-LOC", "B-MISC O"], 0.888888888888889),
]


@pytest.mark.parametrize(("targets", "predictions", "expected"), SEQEVAL)
def test_entity_f1_is_that_of_seqeval(targets: list[str], predictions: list[str], expected: float) -> None:
    sides = [[tuple(text.split()) for text in side] for side in (predictions, targets)]
    assert ENTITY_F1.score(*sides) == pytest.approx(expected)


def test_entities_by_hand() -> None:
    assert entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]) == {("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5)}
    # without a scheme each word stands alone; a type may have a dash
    assert entities(["NOUN", "NOUN", "B-a-b", "I-a-b"]) == {("NOUN", 0, 1), ("NOUN", 1, 2), ("a-b", 2, 4)}
    assert TOKEN_ACCURACY.score([("O", "O"), ("O",)], [("O", "B-a"), ("O",)]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["pearson", "neg-rmse", "neg-mae", "r2"])
def test_an_interval_holds_the_score_it_resamples(name: str) -> None:
    low, high = intervals.score_interval(name, PREDICTIONS, TARGETS)
    assert low < metric(name).score(PREDICTIONS, TARGETS) < high


def test_what_is_no_sum_has_no_interval() -> None:
    with pytest.raises(Exception, match="'spearman' can't be resampled"):
        intervals.score_interval("spearman", PREDICTIONS, TARGETS)
