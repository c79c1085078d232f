"""Units of scores: which of them have a mean, and what is chosen by where they have none.

A mean over tasks exists only where the scores of all of them have one unit and one range: shares in 0 to 1 are one
unit, an error in pounds and an error in metres are two. Where something must be chosen over unlike tasks, it is by
mean rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "CORRELATION",
    "EXPLAINED",
    "PERPLEXITY",
    "SHARE",
    "TARGETS",
    "Unit",
    "mean_ranks",
]


@dataclass(frozen=True)
class Unit:
    """What a score is counted in, and the range that it can have.

    Args:
        name: What people call it.
        lowest: The least that a score can be; null where there is no bound.
        highest: The most that it can be; null where there is no bound.
        of_task: Whether every task has its own, as where it is the unit of the targets: no two tasks share it, for
            nothing says that their targets are in the same.
    """

    name: str
    lowest: float | None
    highest: float | None
    of_task: bool = False


SHARE = Unit("share in 0 to 1", 0.0, 1.0)
CORRELATION = Unit("correlation in -1 to 1", -1.0, 1.0)
EXPLAINED = Unit("share of variance, at most 1", None, 1.0)
PERPLEXITY = Unit("negated perplexity", None, -1.0)
TARGETS = Unit("unit of the task's targets", None, 0.0, of_task=True)


def mean_ranks(candidates: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the mean over tasks of each candidate's rank on the task: 1 is the best, equal scores share a rank.

    Args:
        candidates: Scores by task, of the same tasks for each; higher is better.
    """
    tasks = list(candidates[0]) if candidates else []
    return [
        sum(_rank(candidate[task], [other[task] for other in candidates]) for task in tasks) / len(tasks)
        for candidate in candidates
    ]


def _rank(score: float, scores: Sequence[float]) -> float:
    better = sum(other > score for other in scores)
    return better + (1 + sum(other == score for other in scores)) / 2
