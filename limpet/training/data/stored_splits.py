"""The splits of a task that was added: read from the home, as they were drawn and digested."""

from __future__ import annotations

import json

from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Example
from limpet.training.task_types import task_type

__all__ = ["read_split"]


def read_split(store: Store, task: TaskRecord, name: str) -> list[Example]:
    """Return the examples of a task's split, in the order that its digest covers.

    Args:
        store: The home.
        task: The task.
        name: `train`, `validation` or `evaluation`.

    Raises:
        IntegrityError: The split's bytes are missing or changed.
    """
    kind = task_type(task.definition.type)
    lines = store.blobs.read(task.split(name).digest).splitlines()
    return [kind.example(row) for row in map(json.loads, lines)]
