"""Where a head that has grown begins for its new labels: at the means of their texts, beside the labels that it knew.

A row of random numbers has to be learned at a rate that moves the old rows too. A row in the direction of a label's
mean features answers for the label from the first step on (Qi, Brown & Lowe 2018, "Low-shot learning with imprinted
weights", arXiv 1712.07136), scaled here so that its own texts stand out as much as those of the old labels do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from limpet.training.batching.examples import Example
from limpet.training.data.stored_splits import read_split
from limpet.training.heads.classification import ClassificationHead
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.feature_cache import extract
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT

__all__ = ["imprinted", "place_new_labels"]

_TEXTS_PER_LABEL = 16


def place_new_labels(run: TrainingRun, model: TaskModel) -> float:
    """Give the new labels of a head that began with an older version's rows of their own.

    Only classification has one mean for each label; other heads keep the random rows that they have.

    Args:
        run: What is learned; it begins with a version of the task.
        model: The backbone with that version's method attached, and the head, grown.

    Returns:
        The seconds that it took; 0 where no label is new.
    """
    start, head = run.start, model.head
    if start is None or start.task != run.task.name or not isinstance(head, ClassificationHead):
        return 0.0
    new = [number for number, label in enumerate(run.task.labels) if label not in start.labels]
    if not new:
        return 0.0
    started = time.perf_counter()
    examples = _some_of_each(read_split(run.store, run.task, "train"))
    texts = model.eval().encode(run.backbone.tokenizer, examples, run.max_length)
    read = extract(model, texts, run.backbone.device, path=None, progress=SILENT, dtype=run.loop.dtype)
    features, targets = torch.stack(read.rows).float(), torch.tensor([example.target for example in examples])
    means = torch.stack([features[targets == label].mean(dim=0) for label in range(len(run.task.labels))])
    linear = head.linear
    rows = imprinted(
        means, linear.weight.detach().cpu(), None if linear.bias is None else linear.bias.detach().cpu(), new=new
    )
    if rows is not None:
        with torch.no_grad():
            linear.weight[new] = rows[0].to(linear.weight)
            if linear.bias is not None:
                linear.bias[new] = rows[1].to(linear.bias)
    return time.perf_counter() - started


def _some_of_each(examples: Sequence[Example]) -> list[Example]:
    """The first examples of each label."""
    counts: dict[int, int] = {}
    chosen = []
    for example in examples:
        counts[example.target] = counts.get(example.target, 0) + 1
        if counts[example.target] <= _TEXTS_PER_LABEL:
            chosen.append(example)
    return chosen


def imprinted(
    means: Tensor, weight: Tensor, bias: Tensor | None, *, new: Sequence[int]
) -> tuple[Tensor, Tensor] | None:
    """Return the weights and biases of new labels.

    With the mean m of a label's features, the mean c of all labels' means and the old rows w, a new row is
    a (m - c), and a is such that m stands as far above c under it as the old labels' means do under their own rows.
    At c it gives what the old rows give there on average.

    Args:
        means: The mean features of every label (labels, hidden).
        weight: The head's weights (labels, hidden).
        bias: Its biases (labels); null where it has none.
        new: The new labels.

    Returns:
        Weights (new, hidden) and biases (new); null where the old rows don't tell their labels apart.
    """
    old = [label for label in range(len(means)) if label not in set(new)]
    centre = means.mean(dim=0)
    offsets = means - centre
    height = (weight[old] * offsets[old]).sum(dim=1).mean()
    if height <= 0:
        return None
    rows = height * offsets[new] / offsets[new].square().sum(dim=1, keepdim=True)
    level = (weight[old] @ centre).mean() + (0.0 if bias is None else bias[old].mean())
    return rows, level - rows @ centre
