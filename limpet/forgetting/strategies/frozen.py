"""The base alone: what a task scores before any training. It gives b of `fwt_gem`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from limpet.forgetting.strategies._context import Context
from limpet.forgetting.strategies._defaults import Plain

if TYPE_CHECKING:
    from limpet.training.learning.learn import Staged, Start

__all__ = ["STRATEGY", "Frozen"]


class Frozen(Plain):
    """Nothing is trained, no head either: each task is answered by the nearest class mean of the base's features."""

    name = "frozen"
    summary = "the untouched base, read out by class means: nothing is trained"
    method: str | None = "probe"
    measures: Literal["baseline", "joint"] | None = "baseline"
    # class means need one label for each example
    task_types: frozenset[str] | None = frozenset({"classification"})

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.evaluation.class_means import stage_readout

        task = context.tasks[index]
        max_length = context.training.max_length or task.definition.max_length
        lineage = {**context.lineage, "step": index}
        return (
            stage_readout(
                context.store,
                context.backbone,
                task,
                max_length=max_length,
                lineage=lineage,
                progress=context.progress,
            ),
        )


STRATEGY = Frozen()
