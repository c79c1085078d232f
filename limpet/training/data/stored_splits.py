"""The splits of a task that was added: read from the home, as they were drawn and digested."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord, TaskRecord
from limpet.training.batching.examples import Example, Text
from limpet.training.task_types import TaskType, task_type

__all__ = ["make_split", "parse_examples", "read_once", "read_split"]

# what was read of the splits of one task, by digest; null for those that were not read yet
_KEPT: ContextVar[dict[str, list[Example] | None] | None] = ContextVar("kept splits", default=None)


@contextmanager
def read_once(task: TaskRecord) -> Iterator[None]:
    """Keep the splits of a task in memory, once they were read and checked, for the length of a `with` block.

    Learning, measuring and registering a version ask for the same examples again and again.
    """
    outside = _KEPT.set({split.digest: None for split in task.splits})
    try:
        yield
    finally:
        _KEPT.reset(outside)


def read_split(store: Store, task: TaskRecord, name: str) -> list[Example]:
    """Return the examples of a task's split, in the order that its digest covers.

    Args:
        store: The home.
        task: The task.
        name: `train`, `validation` or `evaluation`.

    Raises:
        IntegrityError: The split's bytes are missing or changed.
    """
    kept, digest = _KEPT.get(), task.split(name).digest
    if kept is None or digest not in kept:
        return _read(store, task, digest)
    examples = kept[digest]
    if examples is None:
        examples = kept[digest] = _read(store, task, digest)
    return examples.copy()


def _read(store: Store, task: TaskRecord, digest: str) -> list[Example]:
    return parse_examples(task_type(task.definition.type), store.blobs.read(digest))


def parse_examples(kind: TaskType[Any], content: bytes) -> list[Example]:
    """Return the examples of a split's bytes, in their order."""
    return [kind.example(row) for row in map(json.loads, content.splitlines())]


def make_split(
    kind: TaskType[Any], name: str, rows: Sequence[tuple[Text, Hashable]], *, labels: tuple[str, ...]
) -> tuple[SplitRecord, bytes]:
    """Return a split of texts with their plain targets, and its bytes: canonical JSON lines under a label map."""
    content = b"".join(canonical_json(kind.row(text, target, labels)) + b"\n" for text, target in rows)
    counts = Counter(label for _, target in rows for label in kind.labels_of(target))
    return SplitRecord(name, digest_bytes(content), len(rows), {label: counts[label] for label in labels}), content
