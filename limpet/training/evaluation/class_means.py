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
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.data.stored_splits import read_split
from limpet.training.heads.classification import ClassificationHead
from limpet.training.model.fast_paths import fast_paths
from limpet.training.model.feature_cache import cache_path, extract
from limpet.training.model.head_files import build_head
from limpet.training.model.task_model import TaskModel, base_modules
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
    method = methods.get(state[0] if state else methods.NO_ADAPTER)
    module = method.load(backbone.model, state[1] if state else {})
    dtype = backbone.evaluation_dtype
    try:
        model = TaskModel(module, head, base_modules(backbone)).eval()
        encoded = model.encode(backbone.tokenizer, examples, max_length)
        with fast_paths(method, module, dtype):
            path = cache_path(backbone, model, encoded, dtype=dtype)
            features = torch.stack(
                extract(model, encoded, backbone.device, path=path, progress=progress, dtype=dtype).rows
            ).float()
    finally:
        method.detach(module)
    targets = torch.tensor([example.target for example in examples])
    means = torch.stack([features[targets == label].mean(dim=0) for label in range(len(task.labels))])
    with torch.no_grad():
        head.linear.weight.copy_(means)
        head.linear.bias.copy_(-means.square().sum(dim=1) / 2)
    return head.eval()
