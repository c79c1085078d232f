"""One set of weights, trained task after task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from limpet.forgetting.strategies._context import Context, stage
from limpet.forgetting.strategies._defaults import StrategyDefaults

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Sequential"]


class Sequential(StrategyDefaults):
    """Each task begins with what the one before it left: the whole model, or one shared adapter."""

    name = "sequential"
    summary = "each task begins with what the one before it left"
    shares_state = True

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        return (stage(context, index, start=self.newest(context, index, learned)),)

    def newest(self, context: Context, index: int, learned: Mapping[str, Start]) -> Start | None:
        """Return what the task before `index` left."""
        return learned[context.tasks[index - 1].name] if index else None


STRATEGY = Sequential()
