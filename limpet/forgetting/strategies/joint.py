"""Joint training: all tasks so far, learned together from the base. It gives a* of `intransigence`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from limpet.forgetting.strategies._context import Context, stage
from limpet.forgetting.strategies._defaults import StrategyDefaults

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Joint"]


class Joint(StrategyDefaults):
    """Step k learns tasks 1 to k anew, with one set of weights and a head for each (multi-task learning).

    Every epoch has every example of every task once. The best epoch is that with the best mean validation score, or
    the best mean rank where the tasks' scores have no common unit.
    """

    name = "joint"
    summary = "all tasks so far learned together from the base"
    measures: Literal["baseline", "joint"] | None = "joint"
    learns_all = True

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.learning.joint_training import JointTask, JointTraining

        earlier = tuple(JointTask(task, None, None) for task in context.tasks[:index])
        staged = stage(context, index, joint=JointTraining(earlier))
        return (staged, *staged.joint)


STRATEGY = Joint()
