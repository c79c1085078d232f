"""The splits of a task that was added: read from the home, as they were drawn and digested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Example
from limpet.training.task_types import task_type

__all__ = ["read_once", "read_split"]

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
    kind = task_type(task.definition.type)
    return [kind.example(row) for row in map(json.loads, store.blobs.read(digest).splitlines())]
