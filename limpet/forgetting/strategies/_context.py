"""What every strategy works with, and how a step is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.registry.store import Store
    from limpet.registry.values import TaskRecord
    from limpet.training.base.backbone import Backbone
    from limpet.training.learning.joint_training import JointTraining
    from limpet.training.learning.runs.run_folder import Staged, Start
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.learning.training_run import TrainingRun
    from limpet.training.progress import Progress

__all__ = ["Context", "run_of", "stage"]


@dataclass(frozen=True)
class Context:
    """One arm under one seed, with one candidate of its settings.

    Args:
        store: The open home.
        backbone: The base in memory.
        tasks: The tasks of the stream, in order.
        training: How each task is learned: method, its settings, those of the loop, and the seed.
        settings: The strategy's own settings, resolved.
        lineage: Recorded with every version.
        progress: Receives every step.
        memory: What a strategy keeps from step to step; it can be made again from what was learned.
    """

    store: Store
    backbone: Backbone
    tasks: tuple[TaskRecord, ...]
    training: TrainingSettings
    settings: Mapping[str, Any]
    lineage: Mapping[str, Any]
    progress: Progress
    memory: dict[str, Any] = field(default_factory=dict)


def run_of(
    context: Context, index: int, start: Start | None = None, *, joint: JointTraining | None = None
) -> TrainingRun:
    """Return how a step learns the task at `index`."""
    from limpet.training.learning.joint_training import NO_JOINT
    from limpet.training.learning.training_run import TrainingRun

    return TrainingRun(
        context.store,
        context.backbone,
        context.tasks[index],
        context.training,
        start=start,
        joint=joint or NO_JOINT,
        lineage={**context.lineage, "step": index},
        progress=context.progress,
    )


def stage(context: Context, index: int, start: Start | None = None, *, joint: JointTraining | None = None) -> Staged:
    """Learn the task at `index`, or go on where an interrupted run had stopped."""
    from limpet.training.learning.learn import learn

    return learn(run_of(context, index, start, joint=joint), resume=True)
