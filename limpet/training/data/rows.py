"""The rows of a task's splits for people and other programs: numbered, with the names of their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from limpet.errors import NotFoundError
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Conversation, Text, Turn, stored_text
from limpet.training.task_types import task_type

__all__ = ["Row", "examples_of_labels", "read_rows"]


@dataclass(frozen=True)
class Row:
    """One example: its place in the split, from 1, its text and its target by name.

    `key` is what the target is called: `label`, `labels`, `tags` or `target`. `labels` are those that it has, each
    once.
    """

    row: int
    text: Text
    key: str
    target: JsonValue
    labels: tuple[str, ...]

    def content(self) -> JsonObject:
        """Return the row as a line of JSON has it, which `limpet task add` reads again."""
        if isinstance(self.text, Conversation):
            answer = Turn("assistant", str(self.target))
            return {"row": self.row, "messages": [turn._asdict() for turn in (*self.text.turns, answer)]}
        return {"row": self.row, "text": stored_text(self.text), self.key: self.target}


def read_rows(store: Store, task: TaskRecord, split: str, *, first: int = 1) -> Iterator[Row]:
    """Return the rows of a task's split in their order, one by one.

    Args:
        store: The home.
        task: The task, in the revision that is asked for.
        split: `train`, `validation`, `evaluation`, or what a revision added for evaluation.
        first: The row to begin with, from 1.

    Raises:
        NotFoundError: The task has no such split, or was removed, and its rows with it.
        IntegrityError: The split's bytes are missing or changed.
    """
    names = [record.name for record in task.splits]
    if split not in names:
        raise NotFoundError(
            f"The task {task.name!r} has no split {split!r}, but {', '.join(names)}.", f"--split {names[0]}"
        )
    digest = task.split(split).digest
    if task.removed is not None and not store.blobs.exists(digest):
        raise NotFoundError(
            f"The task {task.name!r} was removed by {task.removed.actor} on {task.removed.created_at[:10]}: "
            f"{task.removed.reason}. Its rows went at a limpet gc.",
            "limpet task list",
        )
    # whatever is wrong is known before anybody opens a file for the rows
    return _rows(task, store.blobs.read(digest).splitlines(), max(first, 1))


def _rows(task: TaskRecord, lines: Sequence[bytes], first: int) -> Iterator[Row]:
    kind = task_type(task.definition.type)
    for number, line in enumerate(lines[first - 1 :], first):
        content = json.loads(line)
        plain = kind.plain(content[kind.key], task.labels)
        target = list(plain) if isinstance(plain, tuple) else plain
        yield Row(number, kind.example(content).text, kind.key, target, tuple(dict.fromkeys(kind.labels_of(plain))))


def examples_of_labels(store: Store, task: TaskRecord, split: str, *, most: int) -> dict[str, list[Row]]:
    """Return the first rows of each label in a split, in the order of the labels; of a task without labels, of all.

    Args:
        store: The home.
        task: The task.
        split: The split; see `read_rows`.
        most: How many rows of each label.
    """
    rows: dict[str, list[Row]] = {label: [] for label in task.labels or ("",)}
    for row in read_rows(store, task, split):
        for label in row.labels or ("",):
            if label in rows and len(rows[label]) < most:
                rows[label].append(row)
        if all(len(some) >= most for some in rows.values()):
            break
    return rows
