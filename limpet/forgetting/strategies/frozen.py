"""The base alone: what a task scores before any training. It gives b of `fwt_gem`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from limpet.forgetting.strategies._context import Context, run_of
from limpet.forgetting.strategies._defaults import StrategyDefaults

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Frozen"]


class Frozen(StrategyDefaults):
    """Nothing is trained, no head either: each task is answered by the nearest class mean of the base's features."""

    name = "frozen"
    summary = "the untouched base, read out by class means: nothing is trained"
    method: str | None = "probe"
    measures: Literal["baseline", "joint"] | None = "baseline"
    # class means need one label for each example
    task_types: frozenset[str] | None = frozenset({"classification"})

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.learning.stage_class_means import stage_class_means

        return (stage_class_means(run_of(context, index)),)


STRATEGY = Frozen()
