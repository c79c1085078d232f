"""What a task scores before anything is trained for it: a head of class means of the features as they are.

A task's own head does not exist before the task is learned, and a random one scores by chance. So the answer before
learning is that of the nearest class mean: the means of the training examples' features, label by label, decide by
distance. That is a linear head in closed form, with no step of training (Mensink et al. 2013, nearest class mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from limpet.errors import UsageError
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.base.backbone import Backbone
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.frozen_features import frozen_features
from limpet.training.heads.classification import ClassificationHead
from limpet.training.model.head_files import build_head
from limpet.training.progress import SILENT, Progress

__all__ = ["class_means", "has_class_means"]


def has_class_means(task: TaskRecord) -> bool:
    """Tell whether a task has one label for each example, and so class means."""
    return task.definition.type == "classification"


def class_means(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    max_length: int,
    state: tuple[str, Mapping[str, Path]] | None = None,
    progress: Progress = SILENT,
) -> ClassificationHead:
    """Return the head of class means of a task.

    With the mean m of a label, the logit of features x is m.x - |m|^2/2: the largest is that of the nearest mean.

    Args:
        store: The home's registry.
        backbone: The base in memory; it is left as it is.
        task: The task; it has one label for each example.
        max_length: Longest text in tokens.
        state: The method and files of the weights on the base; null for the base alone.
        progress: Receives every batch.

    Raises:
        UsageError: The task is of another type.
        IntegrityError: A file does not fit this base.
    """
    if not has_class_means(task):
        raise UsageError(
            f"{task.name!r} is no classification, so it has no class means.", f"limpet task show {task.name}"
        )
    examples = read_split(store, task, "train")
    head = build_head(task, backbone.record, examples).to(backbone.device)
    assert isinstance(head, ClassificationHead)
    features = frozen_features(backbone, head, examples, max_length=max_length, state=state, progress=progress)
    targets = torch.tensor([example.target for example in examples])
    means = torch.stack([features[targets == label].mean(dim=0) for label in range(len(task.labels))])
    with torch.no_grad():
        head.linear.weight.copy_(means)
        head.linear.bias.copy_(-means.square().sum(dim=1) / 2)
    return head.eval()
