"""Evaluation rows that a version's parents were trained on: what it may have learned by heart elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from limpet.errors import IntegrityError
from limpet.registry import versions
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord, VersionRecord
from limpet.training.batching.examples import flat_text
from limpet.training.data.duplicates import Shingles, normalise
from limpet.training.data.stored_splits import read_split

__all__ = ["seen_before"]


def seen_before(store: Store, task: TaskRecord, parent: str | None) -> dict[str, list[int]]:
    """Return which evaluation rows resemble a row that the parents of a version were trained on, for other tasks.

    Within a task no revision evaluates on what another one trains on; across tasks nobody has seen to it.

    Args:
        store: The open home.
        task: The revision that is evaluated on.
        parent: The version that training began with; null for none.

    Returns:
        The places of such rows in each evaluation split that has some.
    """
    trained_on = [text for version in _ancestors(store, parent) for text in _training_texts(store, version, task)]
    if not trained_on:
        return {}
    places, texts = [], []
    for split in task.evaluation_parts:
        for at, example in enumerate(read_split(store, task, split.name)):
            places.append((split.name, at))
            texts.append(normalise(flat_text(example.text)))
    known, number = set(trained_on), len(texts)
    near = Shingles([*texts, *trained_on]).resembling(range(number), range(number, number + len(trained_on)))
    seen: dict[str, list[int]] = {}
    for index, (split_name, at) in enumerate(places):
        if index in near or texts[index] in known:
            seen.setdefault(split_name, []).append(at)
    return seen


def _ancestors(store: Store, parent: str | None) -> Iterator[VersionRecord]:
    while parent is not None:
        version = versions.look_up(store, parent)
        yield version
        parent = version.parent


def _training_texts(store: Store, version: VersionRecord, task: TaskRecord) -> list[str]:
    if version.task == task.name:
        return []
    data = tasks.of_version(store, version)
    try:
        return [normalise(flat_text(example.text)) for example in read_split(store, data, "train")]
    except IntegrityError:
        # the rows of a task that was removed may be gone
        return []
