"""The splits of a task that was added: read from the home, as they were drawn and digested."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from limpet.registry.cache import scratch_file
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord, TaskRecord
from limpet.training.batching.examples import Example, Text
from limpet.training.task_types import TaskType, task_type

__all__ = ["make_split", "parse_examples", "parse_targets", "read_once", "read_split"]

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
    with store.blobs.path(digest).open("rb") as lines:
        return parse_examples(task_type(task.definition.type), lines)


def parse_examples(kind: TaskType[Any], lines: IO[bytes]) -> list[Example]:
    """Return the examples of a split's lines, in their order."""
    lines.seek(0)
    return [kind.example(json.loads(line)) for line in lines]


def parse_targets(kind: TaskType[Any], lines: IO[bytes]) -> list[Any]:
    """Return the targets alone of a split's lines, in their order."""
    lines.seek(0)
    return [kind.decode(json.loads(line)[kind.key]) for line in lines]


def make_split(
    kind: TaskType[Any], name: str, rows: Iterable[tuple[Text, Hashable]], *, labels: tuple[str, ...]
) -> tuple[SplitRecord, IO[bytes]]:
    """Return a split of texts with their plain targets, and its file: canonical JSON lines under a label map."""
    content, digest, counts, examples = scratch_file(), hashlib.sha256(), Counter[str](), 0
    for text, target in rows:
        line = canonical_json(kind.row(text, target, labels)) + b"\n"
        content.write(line)
        digest.update(line)
        counts.update(kind.labels_of(target))
        examples += 1
    record = SplitRecord(name, f"sha256:{digest.hexdigest()}", examples, {label: counts[label] for label in labels})
    return record, content
