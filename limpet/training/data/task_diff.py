"""What tells two revisions of a task apart, or two tasks: rows, targets, labels and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import flat_text
from limpet.training.data.duplicates import normalise
from limpet.training.data.revise_task import plain_rows

__all__ = ["ChangedRow", "TaskDifference", "compare_tasks"]


@dataclass(frozen=True)
class ChangedRow:
    """A text that both have, with its targets and the splits that it is in; targets by name."""

    text: str
    before: Hashable
    now: Hashable
    split_before: str
    split_now: str


@dataclass(frozen=True)
class TaskDifference:
    """What tells one revision `a` from another, `b`.

    `added` and `removed` are texts with their targets, by split; `corrected` have another target, `moved` the same
    one in another split. `label_counts` has, for each label, how many examples of all splits have it in `a` and in
    `b`. `definition` has each field of the definition that differs, with both values.
    """

    a: str
    b: str
    definition: Mapping[str, tuple[object, object]]
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    examples: Mapping[str, tuple[int, int]]
    label_counts: Mapping[str, tuple[int, int]]
    unchanged: int
    added: Mapping[str, Sequence[tuple[str, Hashable]]]
    removed: Mapping[str, Sequence[tuple[str, Hashable]]]
    corrected: tuple[ChangedRow, ...]
    moved: tuple[ChangedRow, ...]


@dataclass(frozen=True)
class _Placed:
    text: str
    target: Hashable
    split: str


def compare_tasks(store: Store, a: TaskRecord, b: TaskRecord) -> TaskDifference:
    """Compare two revisions by their texts: what differs only by case, spacing or Unicode form is one text.

    Raises:
        IntegrityError: The bytes of a split are missing or changed.
    """
    before, now = _rows(store, a), _rows(store, b)
    shared = [(before[key], now[key]) for key in now if key in before]
    changed = [
        ChangedRow(new.text, old.target, new.target, old.split, new.split)
        for old, new in shared
        if (old.target, old.split) != (new.target, new.split)
    ]
    names = dict.fromkeys(split.name for task in (a, b) for split in task.splits)
    sizes = [{split.name: split.examples for split in task.splits} for task in (a, b)]
    counts = [_label_counts(task) for task in (a, b)]
    return TaskDifference(
        a=a.reference,
        b=b.reference,
        definition={
            name: (vars(a.definition)[name], value)
            for name, value in vars(b.definition).items()
            if vars(a.definition)[name] != value
        },
        labels_added=tuple(label for label in b.labels if label not in a.labels),
        labels_removed=tuple(label for label in a.labels if label not in b.labels),
        examples={name: (sizes[0].get(name, 0), sizes[1].get(name, 0)) for name in names},
        label_counts={label: (counts[0][label], counts[1][label]) for label in dict.fromkeys((*a.labels, *b.labels))},
        unchanged=len(shared) - len(changed),
        added=_by_split(row for key, row in now.items() if key not in before),
        removed=_by_split(row for key, row in before.items() if key not in now),
        corrected=tuple(row for row in changed if row.before != row.now),
        moved=tuple(row for row in changed if row.before == row.now),
    )


def _rows(store: Store, task: TaskRecord) -> dict[str, _Placed]:
    return {
        normalise(flat_text(text)): _Placed(flat_text(text), target, split.name)
        for split in task.splits
        for text, target in plain_rows(store, task, split)
    }


def _label_counts(task: TaskRecord) -> Counter[str]:
    counts: Counter[str] = Counter()
    for split in task.splits:
        counts.update(split.label_counts)
    return counts


def _by_split(rows: Iterable[_Placed]) -> dict[str, list[tuple[str, Hashable]]]:
    by_split: dict[str, list[tuple[str, Hashable]]] = {}
    for row in rows:
        by_split.setdefault(row.split, []).append((row.text, row.target))
    return by_split
