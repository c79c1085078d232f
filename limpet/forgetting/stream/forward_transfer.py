"""The upper triangle: what a task scores before it is learned, for forward transfer (FWT).

A task's own head comes with learning it. Before that, it is answered by the nearest class mean of its training
examples' features under the weights of that moment (`limpet.training.evaluation.class_means`). On the untouched base
that is b of `fwt_gem`, so that the difference is what learning other tasks did to the features, and 0 for an
isolated arm.
"""

from __future__ import annotations

from limpet.forgetting.monitor import monitor
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, TaskRecord, VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation.class_means import has_class_means
from limpet.training.learning.runs.run_folder import Start, discard
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.stage_class_means import stage_class_means
from limpet.training.learning.training_run import TrainingRun
from limpet.training.progress import SILENT, Progress

__all__ = ["evaluate", "has_class_means"]


def evaluate(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    state: VersionRecord | None,
    max_length: int,
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Score a task that is not learned yet, and keep its head of class means as a version.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        task: The task, a classification.
        state: The version whose weights are on the base; null for the base alone.
        max_length: Longest text in tokens.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or a version belongs to another base.
    """
    start = Start.from_version(store, backbone, state.reference) if state else None
    settings = TrainingSettings(methods.NO_ADAPTER, max_length=max_length)
    staged = stage_class_means(TrainingRun(store, backbone, task, settings, start=start, progress=progress))
    version, _ = versions.register(store, staged.draft, staged.files)
    discard(staged)
    return monitor.evaluate(store, backbone, version, state=state, part=monitor.Part(task=task), progress=progress)
