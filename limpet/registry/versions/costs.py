"""What a version cost: the figures that are kept with it, their definitions, and how they compare with `full`.

None of them is a part of the version's identity. A version that was made before a figure existed, or elsewhere, has
null for it, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from limpet.errors import NotFoundError
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.versions.listing import VersionQuery, find

__all__ = ["COMPARED", "COSTS", "LATENCY", "against_full", "figures", "find_full", "full_versions", "summary"]

COSTS: dict[str, str] = {
    "trainable_parameters": "numbers that training could change, the head's included",
    "trainable_share": "trainable_parameters divided by the base's parameters; above 1 for full, which adds a head",
    "bytes": "all files of the version on disk, head and label map included",
    "full_checkpoint_bytes": "what full would store for the task: every tensor of the base, head and label map",
    "peak_memory_bytes": "most memory in use while it was trained: on a CPU the resident set of the process, with "
    "libraries and base; on CUDA what torch had allocated",
    "peak_memory_added_bytes": "peak_memory_bytes less what was in use before the method was attached to the base",
    "train_seconds": "wall-clock time of all training steps, validation not counted; with probe, features included",
    "examples_per_second": "training examples seen in all epochs, divided by train_seconds",
    "examples_seen": "training examples seen in all epochs, those of other tasks that were learned along included",
    "optimiser_steps": "optimizer steps of all epochs",
    "latency": "milliseconds to answer one example, with the version and with the base alone, measured in turn",
    "base_unchanged": "the base had the same digest after training, buffers too, and evaluation wrote nothing to it",
}
"""Every figure of `VersionRecord.cost` with its definition."""

LATENCY: dict[str, str] = {
    "milliseconds": "median over all requests of the time of an answer, or of its first word where it is written",
    "base_milliseconds": "median of the time in which the base alone, without adapter and head, reads the same texts",
    "ratio": "median of milliseconds divided by base_milliseconds, request by request; 1.0 adds nothing",
    "merged_milliseconds": "median with the update merged into the weights; null where the method can't be merged",
    "merged_ratio": "as ratio, merged",
    "requests": "how many requests were answered by each of them; one example each",
    "tokens": "mean length of a request, padding included",
    "threads": "threads of the processor that torch used",
    "device": "what it ran on",
}
"""Every figure of `cost["latency"]` with its definition."""

COMPARED = ("train_seconds", "examples_per_second", "peak_memory_bytes", "peak_memory_added_bytes")
"""The figures that are held against those of full fine-tuning on the same task."""

_FULL = "full"
_NEWEST = 100


def figures(cost: Mapping[str, Any]) -> JsonObject:
    """Return every figure of a version's cost, null where it has none."""
    found = {key: cost.get(key) for key in COSTS}
    # versions of one process were recorded before there were several
    return found | ({"processes": cost["processes"]} if "processes" in cost else {})


def full_versions(store: Store, task: str) -> tuple[VersionRecord, ...]:
    """Return the newest fully fine-tuned versions of a task that are not deleted, the newest first."""
    try:
        return find(store, VersionQuery(task=task, method=_FULL), limit=_NEWEST).items
    except NotFoundError:
        return ()  # the task was removed, and its versions with it


def find_full(version: VersionRecord, candidates: Iterable[VersionRecord]) -> VersionRecord | None:
    """Return the fully fine-tuned version that another is held against; a fully fine-tuned one is its own.

    That is the first of the candidates that learned the same data on the same base, in the same dtype on the same
    device with as many threads: other times can't be compared.
    """
    if version.method == _FULL:
        return version
    return next((one for one in candidates if _learned_alone(one) and _conditions(one) == _conditions(version)), None)


def _learned_alone(version: VersionRecord) -> bool:
    """Tell whether a version is a full fine-tuning of its task alone: other tasks' examples take time too."""
    return version.method == _FULL and not {"companions", "penalty"} & version.config.keys()


def against_full(version: VersionRecord, full: VersionRecord | None) -> dict[str, float | None]:
    """Return the figures of `COMPARED` divided by those of a fully fine-tuned version; null where one is unknown."""
    if full is None:
        return dict.fromkeys(COMPARED)
    return {key: _ratio(version.cost.get(key), full.cost.get(key)) for key in COMPARED}


def summary(store: Store, version: VersionRecord) -> JsonObject:
    """Return every figure of a version's cost, and what they are of full fine-tuning's; null where unknown.

    Beside the figures there are `bytes_share`, the share of a full checkpoint, and `against_full` with the figures of
    `COMPARED` divided by those of `version`, the fully fine-tuned version of the same task.
    """
    full = find_full(version, full_versions(store, version.task))
    cost = figures(version.cost) | {"bytes": version.size}
    share = _ratio(version.size, cost["full_checkpoint_bytes"])
    held = {"version": full.reference if full else None, **against_full(version, full)}
    return cost | {"bytes_share": share, "against_full": held}


def _conditions(version: VersionRecord) -> tuple[object, ...]:
    where = version.environment
    return (version.task, version.data_digest, version.base_digest, where.device, where.dtype, where.threads)


def _ratio(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None
