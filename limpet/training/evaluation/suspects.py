"""Which training examples are likely to be labelled wrongly: those that a probe of the others answers otherwise.

The probe is a logistic regression on the features of the frozen base (see `label_probe`), and answers only examples
that it was not fitted to. Suspects stand in the order of self-confidence, the probability that the probe gives to the
label in the data, the least first (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels"). `benchmarks/suspects.py` holds that score against others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from limpet.errors import UsageError
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.base.backbone import Backbone
from limpet.training.batching.examples import Example, Text
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.frozen_features import frozen_features
from limpet.training.evaluation.label_probe import FOLDS, ProbeAnswers, probe_answers
from limpet.training.model.head_files import build_head
from limpet.training.progress import SILENT, Progress

__all__ = ["Suspect", "Suspects", "check_suspectable", "find_suspects"]

_TYPES = ("classification", "multi-label")


@dataclass(frozen=True)
class Suspect:
    """A training example whose labels the probe doubts.

    `row` is its place in the split, from 1, as `limpet task rows` numbers them. `labels` are those in the data, and
    `probe` those that the probe gives it. `confidence` is the probability that the probe gives to what the data say,
    of several labels to the most doubtful one; `probe_confidence` that of what it says itself.
    """

    row: int
    text: Text
    labels: tuple[str, ...]
    probe: tuple[str, ...]
    confidence: float
    probe_confidence: float


@dataclass(frozen=True)
class Suspects:
    """What a probe doubts of a task's training examples.

    `examples` are those that were judged, `agreement` the share of them (of several labels: of all their decisions)
    that the probe answers as they are labelled. `not_judged` has the labels with too few examples to judge by, with
    their number. `suspects` are in order, the most doubtful first.
    """

    task: str
    examples: int
    agreement: float
    not_judged: Mapping[str, int]
    suspects: tuple[Suspect, ...]


def check_suspectable(task: TaskRecord) -> None:
    """Refuse a task whose texts have no labels of their own.

    Raises:
        UsageError: It is of another type.
    """
    if task.definition.type not in _TYPES:
        raise UsageError(
            f"The task {task.name!r} is of type {task.definition.type}, and a probe can only doubt labels of whole "
            f"texts, those of {' and '.join(_TYPES)} tasks.",
            f"limpet task show {task.name} --examples",
        )


def find_suspects(store: Store, backbone: Backbone, task: TaskRecord, *, progress: Progress = SILENT) -> Suspects:
    """Return the training examples of a task that a probe by cross-validation answers otherwise.

    Args:
        store: The home's registry.
        backbone: The base in memory; it is left as it is.
        task: The task.
        progress: Receives every batch of texts, and every fit.

    Raises:
        UsageError: The task is of a type whose texts have no labels of their own, or no label has enough examples.
        IntegrityError: The split's bytes are missing or changed.
    """
    check_suspectable(task)
    examples = read_split(store, task, "train")
    exclusive = task.definition.type == "classification"
    ids = [(example.target,) if exclusive else example.target for example in examples]
    counts = Counter(label for some in ids for label in some)
    judged = [label for label in range(len(task.labels)) if counts[label] >= FOLDS]
    if len(judged) < (2 if exclusive else 1):
        raise UsageError(
            f"Too few labels of {task.name!r} have {FOLDS} training examples or more: there is nothing to judge by.",
            f"limpet task show {task.name}",
        )
    places = [at for at, some in enumerate(ids) if not exclusive or some[0] in judged]
    head = build_head(task, backbone.record, examples).to(backbone.device)
    features = frozen_features(backbone, head, examples, max_length=task.definition.max_length, progress=progress)[
        places
    ]
    targets = torch.tensor([[label in ids[at] for label in judged] for at in places])
    answers = probe_answers(features, targets, exclusive=exclusive, progress=progress)
    names = [task.labels[label] for label in judged]
    return Suspects(
        task=task.name,
        examples=len(places),
        agreement=answers.agreement,
        not_judged={task.labels[label]: count for label, count in sorted(counts.items()) if label not in judged},
        suspects=_ranked(
            answers, targets, [examples[at] for at in places], names=names, places=places, exclusive=exclusive
        ),
    )


def _ranked(
    answers: ProbeAnswers,
    targets: Tensor,
    examples: Sequence[Example],
    *,
    names: Sequence[str],
    places: Sequence[int],
    exclusive: bool,
) -> tuple[Suspect, ...]:
    """Return the examples that the probe answers otherwise, those first whose labels it doubts most."""
    probabilities = answers.probabilities
    if exclusive:
        said = one_hot(probabilities.argmax(dim=1), len(names)).bool()
        confidence, probe_confidence = probabilities[targets], probabilities.max(dim=1).values
    else:
        said = probabilities > 0.5
        confidence = torch.where(targets, probabilities, 1 - probabilities).min(dim=1).values
        probe_confidence = 1 - confidence
    return tuple(
        Suspect(
            row=places[at] + 1,
            text=examples[at].text,
            labels=_named(targets[at], names),
            probe=_named(said[at], names),
            confidence=float(confidence[at]),
            probe_confidence=float(probe_confidence[at]),
        )
        for at in confidence.argsort(stable=True).tolist()
        if bool((said[at] != targets[at]).any())
    )


def _named(has: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, there in zip(names, has.tolist(), strict=True) if there)
