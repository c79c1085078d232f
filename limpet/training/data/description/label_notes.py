"""What the counts of labels say: which may be misspelt, which are rare, and which outweigh others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from limpet.first_few import first_few
from limpet.registry.values import TaskRecord
from limpet.training.data.description.misspelt import misspelt_labels

__all__ = ["label_notes"]

_FEW = 5
"""From so many training examples on, a label is not called rare."""
_OUTWEIGHS = 10
"""From so many times the examples of the rarest label on, the commonest is said to outweigh it."""


def label_notes(task: TaskRecord) -> list[str]:
    """Say in sentences what is to be looked at among a task's labels; nothing where all is well, or it has none."""
    if not task.labels:
        return []
    counts: Counter[str] = Counter()
    for split in task.splits:
        counts.update(split.label_counts)
    train = {label: count for label, count in task.split("train").label_counts.items() if count}
    misspelt = misspelt_labels({label: count for label, count in counts.items() if count})
    notes = [
        f"the label {rare!r} ({_examples(counts[rare])}) may be {common!r} misspelt ({_examples(counts[common])}): "
        "they are learned as two labels"
        for rare, common in misspelt
    ]
    return notes + _rare(train) + _outweighed(task, train)


def _rare(train: Mapping[str, int]) -> list[str]:
    rare = sorted((count, label) for label, count in train.items() if count < _FEW)
    if not rare:
        return []
    named = first_few(f"{label!r} ({count})" for count, label in rare)
    number = "1 label has" if len(rare) == 1 else f"{len(rare)} labels have"
    return [f"{number} fewer than {_FEW} training examples, which is hardly enough to learn from: {named}"]


def _outweighed(task: TaskRecord, train: Mapping[str, int]) -> list[str]:
    if len(train) < 2 or task.definition.type == "token-classification":
        # that most words are outside of every entity is how texts are
        return []
    (common, most), (rare, least) = (pick(train.items(), key=lambda item: item[1]) for pick in (max, min))
    if most < _OUTWEIGHS * least:
        return []
    metric = task.definition.metric
    hint = (
        ""
        if metric == "macro-f1"
        else f"; --metric macro-f1 gives every label the same weight, and {metric} does not"
    )
    return [
        f"the label {common!r} has {most / least:.0f} times as many training examples as {rare!r} ({most} to {least})"
        f"{hint}"
    ]


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"
