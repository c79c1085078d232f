"""The audit: a sample of a task's examples instead of all of them, where a full evaluation is on record.

The sample is drawn without replacement, so that the chance to miss every one of K changed examples among N is
hypergeometric; its size is the smallest for which that chance is at most 1 - confidence.
"""

from __future__ import annotations

import math
import secrets

from limpet.errors import IntegrityError, UsageError
from limpet.forgetting import monitor
from limpet.forgetting.identity import find_difference, read_contents
from limpet.registry import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, VersionRecord
from limpet.training.backbone import Backbone
from limpet.training.environment import current_environment
from limpet.training.progress import SILENT, Progress

__all__ = ["CONFIDENCE", "DRIFT", "audit", "sample_size"]

DRIFT = 0.01
CONFIDENCE = 0.99


def sample_size(examples: int, drift: float = DRIFT, confidence: float = CONFIDENCE) -> int:
    """Return how many of `examples` to check, so that a drift is seen with the given probability.

    Args:
        examples: How many there are.
        drift: The share of them that changed, above 0 to 1; at least one example.
        confidence: The probability of finding at least one of them, from 0 to below 1.

    Raises:
        UsageError: A number is out of its range.
    """
    if not 0 < drift <= 1:
        raise UsageError(f"A drift of {drift:g} of the examples can't be looked for.", "--drift 0.01")
    if not 0 <= confidence < 1:
        raise UsageError(f"No sample gives a confidence of {confidence:g}.", "--confidence 0.99")
    # 0.07 * 100 is 7.000000000000001, and means 7
    changed = max(1, math.ceil(drift * examples - 1e-9))
    missed, size = 1.0, 0
    while missed > 1 - confidence and size < examples:
        missed *= max(0, examples - changed - size) / (examples - size)
        size += 1
    return size


def audit(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    drift: float = DRIFT,
    confidence: float = CONFIDENCE,
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Check a version against a full evaluation of the same base, adapter, data and environment.

    Where there is none, the version is evaluated in full. Else a random sample of the examples is predicted again,
    and kept as an audit, which is no evaluation of the task and stands in no matrix. If a prediction differs, the
    version is evaluated in full, which decides: another batch can change an answer between two labels that are as
    good as equal.

    Raises:
        IntegrityError: The predictions are no longer what was recorded; or a file is corrupt.
        UsageError: Drift or confidence is out of its range.
    """
    task = tasks.get(store, version.task)
    size = sample_size(task.split("evaluation").examples, drift, confidence)
    on_record = _on_record(store, backbone, version)
    if on_record is None:
        return monitor.evaluate(store, backbone, version, progress=progress, anew=True)
    read = read_contents(store)
    kept = read(on_record)
    drawn = sorted(secrets.SystemRandom().sample(range(len(kept["targets"])), size))
    audited = monitor.evaluate_sample(store, backbone, version, drawn, on_record.id, progress)
    found = evaluations.predictions(store, audited)
    if all(
        (found["predictions"][at], found["targets"][at]) == (kept["predictions"][place], kept["targets"][place])
        for at, place in enumerate(drawn)
    ):
        return audited
    now = monitor.evaluate(store, backbone, version, progress=progress, anew=True)
    if difference := find_difference(store, on_record, now, read):
        raise IntegrityError(
            f"{version.reference} no longer answers as on {on_record.created_at[:10]}. {difference.sentence()}.",
            "limpet verify --probe",
        )
    return now


def _on_record(store: Store, backbone: Backbone, version: VersionRecord) -> EvaluationRecord | None:
    """The newest full evaluation of this very version, base, data and environment."""
    data = tasks.get(store, version.task).split("evaluation").digest
    wanted = (backbone.record.digest, data, current_environment(backbone.evaluation_dtype))
    return next(
        (
            one
            for one in evaluations.full(store, version.reference, version.reference)
            if (one.base_digest, one.data_digest, one.environment) == wanted
        ),
        None,
    )
