"""What a linear probe makes of each example's labels that it has not seen: logistic regression by cross-validation.

Features of the frozen base are centred and of unit length. The strength of the L2 penalty is the one by which most
left-out examples are answered as they are labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpet.training.progress import SILENT, Progress

__all__ = ["FOLDS", "PENALTIES", "ProbeAnswers", "probe_answers"]

FOLDS = 5
"""Into how many parts examples are split, each answered by a probe of the others."""
PENALTIES = (3e-3, 1e-3, 3e-4)
"""Strengths of the L2 penalty that are tried, the strongest first: each fit begins where the one before ended."""
_MOST_STEPS = 60


@dataclass(frozen=True)
class ProbeAnswers:
    """What the probe answers to examples that it was not fitted to.

    `probabilities` is (examples, labels): of one label each row sums to 1, of several each number stands alone.
    `agreement` is the share of the examples, or of their labels, that are answered as they are labelled.
    """

    probabilities: Tensor
    penalty: float
    agreement: float


def probe_answers(
    features: Tensor,
    targets: Tensor,
    *,
    exclusive: bool,
    penalties: Sequence[float] = PENALTIES,
    progress: Progress = SILENT,
) -> ProbeAnswers:
    """Answer each example by a probe that was fitted to the other parts of the examples.

    Args:
        features: Of the frozen base, (examples, hidden).
        targets: 1 where an example has a label, else 0, (examples, labels).
        exclusive: Each example has exactly one label.
        penalties: Strengths of the L2 penalty to choose from, the strongest first.
        progress: Receives every fit.
    """
    rows = features.double() - features.double().mean(dim=0)
    rows = nn.functional.normalize(rows, dim=1)
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
    wanted = targets.double()
    folds = _folds(targets, exclusive)
    answers = torch.zeros(len(penalties), *wanted.shape, dtype=rows.dtype)
    progress.start("cross-validation", FOLDS * len(penalties))
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        weights = torch.zeros(rows.shape[1], wanted.shape[1], dtype=rows.dtype, requires_grad=True)
        for at, penalty in enumerate(penalties):
            _fit(weights, rows[inside], wanted[inside], penalty=penalty, exclusive=exclusive)
            answers[at, outside] = _probabilities(rows[outside] @ weights.detach(), exclusive)
            progress.advance(fold * len(penalties) + at + 1)
    progress.finish()
    agreements = [_agreement(answer, wanted, exclusive) for answer in answers]
    best = max(range(len(penalties)), key=agreements.__getitem__)
    return ProbeAnswers(answers[best], penalties[best], agreements[best])


def _folds(targets: Tensor, exclusive: bool) -> Tensor:
    """Return the part of each example; where each has one label, every part has its share of each."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    if exclusive:
        labels = targets.double().argmax(dim=1)
        order = order[torch.sort(labels[order], stable=True).indices]
    folds = torch.empty(len(targets), dtype=torch.long)
    folds[order] = torch.arange(len(targets)) % FOLDS
    return folds


def _fit(weights: Tensor, rows: Tensor, wanted: Tensor, *, penalty: float, exclusive: bool) -> None:
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_MOST_STEPS, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def closure() -> float:
        optimizer.zero_grad()
        logits = rows @ weights
        if exclusive:
            loss = nn.functional.cross_entropy(logits, wanted)
        else:
            loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted) * wanted.shape[1]
        # the last row is the intercept
        loss = loss + penalty / 2 * weights[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    return logits.softmax(dim=1) if exclusive else logits.sigmoid()


def _agreement(answers: Tensor, wanted: Tensor, exclusive: bool) -> float:
    if exclusive:
        return float((answers.argmax(dim=1) == wanted.argmax(dim=1)).double().mean())
    return float(((answers > 0.5) == (wanted > 0.5)).double().mean())
