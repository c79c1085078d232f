"""The score of the same answer to every text, for every type of task."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.training import task_types
from limpet.training.batching.examples import Example
from limpet.training.data.build_task import build_task
from limpet.training.data.description.baseline import constant_score
from limpet.training.data.task_request import TaskRequest
from tests.training.typed_data import SPECS, write_rows


def examples(*targets: object) -> list[Example]:
    return [Example(f"text {at}", target) for at, target in enumerate(targets)]


@pytest.mark.parametrize(
    ("kind", "metric", "train", "evaluation", "score"),
    [
        ("classification", "accuracy", [0, 1, 1], [1, 1, 1, 0], 0.75),
        # label 1: 2 * 3 / (2 * 3 + 1); label 0: 0
        ("classification", "macro-f1", [0, 1, 1], [1, 1, 1, 0], (6 / 7) / 2),
        ("multi-label", "subset-accuracy", [(0,), (0,), (0, 1)], [(0,), (1,)], 0.5),
        ("regression", "neg-mae", [1.0, 3.0], [2.0, 4.0], -1.0),
        ("regression", "pearson", [1.0, 3.0], [2.0, 4.0], 0.0),
        ("generation", "exact-match-v2", ["yes", "yes", "no"], ["Yes.", "no"], 0.5),
        ("generation", "neg-perplexity", ["yes"], ["yes"], None),
    ],
)
def test_the_commonest_target_or_the_mean_is_the_answer(
    kind: str, metric: str, train: list[object], evaluation: list[object], score: float | None
) -> None:
    found = constant_score(kind, metric, train, evaluation=examples(*evaluation))
    assert found is None if score is None else found == pytest.approx(score)


def test_words_get_the_commonest_tag() -> None:
    train = [("O", "B-x"), ("O", "B-x"), ("O",)]
    evaluation = [Example(("a", "b", "c"), ("O", "O", "B-x"))]
    assert constant_score("token-classification", "token-accuracy", train, evaluation=evaluation) == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize("kind", SPECS)
def test_every_task_records_it(tmp_path: Path, kind: str) -> None:
    record, _ = build_task(TaskRequest("typed", write_rows(tmp_path / "rows.jsonl", kind), type=kind))
    assert isinstance(record.checks["majority_baseline"], float)
    assert set(SPECS) | {"generation"} == set(task_types.names())
