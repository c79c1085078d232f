"""The replay buffer: how large it is, what it holds, and that it never takes back what it let go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.forgetting.strategies._replay_buffer import buffered

# 90 examples of one label and 10 of another, then a small task
LABELS = {"a": [0] * 90 + [1] * 10, "b": [0, 1] * 10}


def test_a_share_is_taken_of_each_task() -> None:
    kept = buffered(LABELS, 0.1, "reservoir", seed=0)
    assert {task: len(indices) for task, indices in kept.items()} == {"a": 10, "b": 2}
    assert all(list(indices) == sorted(set(indices)) for indices in kept.values())


def test_a_number_is_that_of_all_tasks_together() -> None:
    for selection in ("reservoir", "balanced"):
        assert sum(map(len, buffered(LABELS, 24, selection, seed=0).values())) == 24
        assert sum(map(len, buffered(LABELS, 500, selection, seed=0).values())) == 120


def test_a_balanced_buffer_has_as_many_of_each_task_and_label_as_there_are() -> None:
    kept = buffered(LABELS, 24, "balanced", seed=0)
    assert {task: len(indices) for task, indices in kept.items()} == {"a": 12, "b": 12}
    assert Counter(LABELS["a"][index] for index in kept["a"]) == {0: 6, 1: 6}
    assert Counter(LABELS["a"][index] for index in buffered(LABELS, 0.4, "balanced", seed=0)["a"]) == {0: 30, 1: 10}


def test_a_reservoir_holds_examples_of_each_task_as_they_come() -> None:
    # five sixths of the examples are of task a: within five standard deviations over 200 seeds
    counts = [len(buffered(LABELS, 12, "reservoir", seed=seed)["a"]) for seed in range(200)]
    assert sum(counts) / len(counts) == pytest.approx(10, abs=0.5)


@given(st.integers(1, 40), st.integers(0, 5))
def test_a_buffer_of_fixed_size_takes_nothing_back(size: int, seed: int) -> None:
    before = buffered({"a": LABELS["a"]}, size, "reservoir", seed=seed)
    after = buffered(LABELS, size, "reservoir", seed=seed)
    assert set(after["a"]) <= set(before["a"])


def test_the_seed_alone_decides() -> None:
    assert buffered(LABELS, 12, "reservoir", seed=1) == buffered(LABELS, 12, "reservoir", seed=1)
    assert buffered(LABELS, 12, "reservoir", seed=1) != buffered(LABELS, 12, "reservoir", seed=2)


def test_targets_that_are_no_labels_are_balanced_by_task_alone() -> None:
    kept = buffered({"a": [None] * 30, "b": [None] * 30}, 10, "balanced", seed=0)
    assert {len(indices) for indices in kept.values()} == {5}
