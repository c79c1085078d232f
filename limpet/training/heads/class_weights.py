"""Weights of labels in a loss: what is rare counts as much as what is frequent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["balanced_weights", "positive_weights", "weighted_cross_entropy"]


def balanced_weights(targets: Sequence[Tensor], labels: int) -> Tensor:
    """Return n / (k n_c) for every label c of k, with n examples of which n_c have it (King & Zeng 2001).

    Their mean over the examples is 1, so the loss keeps its scale. A label that no example has weighs nothing.

    Args:
        targets: Label ids of each example, one or one for each word; negative ones stand for what is not learned.
        labels: How many labels there are.

    Returns:
        Weights (labels,), float32.
    """
    ids = torch.cat([target.reshape(-1) for target in targets])
    counts = torch.bincount(ids[ids >= 0], minlength=labels).double()
    seen = int((counts > 0).sum())
    return torch.where(counts > 0, counts.sum() / (seen * counts.clamp(min=1)), 0.0).float()


def positive_weights(targets: Sequence[Tensor]) -> Tensor:
    """Return (n - n_c) / n_c for every label c, with n examples of which n_c have it, for where a label is there.

    So a label that is there weighs in sum as much as where it is not. One that no example has, or every one, is not
    weighed.

    Args:
        targets: 0 or 1 for each label (labels,), of each example.

    Returns:
        Weights (labels,), float32.
    """
    counts, examples = torch.stack(list(targets)).double().sum(dim=0), len(targets)
    there = (counts > 0) & (counts < examples)
    return torch.where(there, (examples - counts) / counts.clamp(min=1), 1.0).float()


def weighted_cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over examples of the cross-entropy of logits (n, labels) against label ids (n), each times its weight.

    The mean is over the number of examples, not over their weights, so that the parts of a batch add up to it.
    """
    if weights is None:
        return cross_entropy(outputs, targets)
    return (cross_entropy(outputs, targets, reduction="none") * weights.to(outputs.device)[targets]).mean()
