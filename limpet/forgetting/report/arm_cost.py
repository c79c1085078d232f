"""What an arm cost, out of the figures of its versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

from limpet.forgetting.report.arm_values import Cost
from limpet.registry.values import VersionRecord
from limpet.registry.versions.costs import COMPARED, against_full

__all__ = ["arm_cost"]

Number = TypeVar("Number", int, float)


def arm_cost(versions: Sequence[VersionRecord], fully: Sequence[VersionRecord | None] = ()) -> Cost:
    """Return what making some versions cost.

    Args:
        versions: The version that each step made.
        fully: For each of them the fully fine-tuned version of the same task, where there is one.
    """
    costs = [version.cost for version in versions]
    latencies = [cost.get("latency") or {} for cost in costs]
    sizes = [version.size for version in versions]
    shares = [against_full(version, full) for version, full in zip(versions, fully, strict=False)]
    size, checkpoint = _mean(sizes), _mean(cost.get("full_checkpoint_bytes") for cost in costs)
    return Cost(
        trainable_parameters=_largest(cost.get("trainable_parameters") for cost in costs),
        trainable_share=_largest(cost.get("trainable_share") for cost in costs),
        bytes_per_task=None if size is None else round(size),
        train_seconds=tuple(cost.get("train_seconds") for cost in costs),
        examples_per_second=tuple(cost.get("examples_per_second") for cost in costs),
        examples_seen=tuple(cost.get("examples_seen") for cost in costs),
        optimiser_steps=tuple(cost.get("optimiser_steps") for cost in costs),
        peak_memory_bytes=_largest(cost.get("peak_memory_bytes") for cost in costs),
        peak_memory_added_bytes=_largest(cost.get("peak_memory_added_bytes") for cost in costs),
        full_checkpoint_bytes=None if checkpoint is None else round(checkpoint),
        bytes_share=size / checkpoint if size and checkpoint else None,
        latency_milliseconds=_median(latencies, "milliseconds"),
        base_latency_milliseconds=_median(latencies, "base_milliseconds"),
        latency_ratio=_median(latencies, "ratio"),
        merged_latency_ratio=_median(latencies, "merged_ratio"),
        base_unchanged=_all(cost.get("base_unchanged") for cost in costs),
        against_full={key: _mean(share[key] for share in shares) for key in COMPARED},
    )


def _largest(values: Iterable[Number | None]) -> Number | None:
    return max((value for value in values if value is not None), default=None)


def _median(latencies: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [value for latency in latencies if (value := latency.get(key)) is not None]
    return median(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; null where one value is not known, for it would be the mean of other tasks."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if known and len(known) == len(listed) else None


def _all(values: Iterable[bool | None]) -> bool | None:
    listed = list(values)
    return None if not listed or None in listed else all(listed)
