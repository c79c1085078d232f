"""The audit: a sample of a task's examples instead of all of them, where a full evaluation is on record.

The sample is drawn without replacement, so that the chance to miss every one of K changed examples among N is
hypergeometric; its size is the smallest for which that chance is at most 1 - confidence.
"""

from __future__ import annotations

import math
import secrets

from limpet.errors import UsageError
from limpet.forgetting.monitor import monitor
from limpet.forgetting.monitor.drift import hold_against_reference
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.forgetting.monitor.replacement import reference_evaluation
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, VersionRecord
from limpet.training.base.backbone import Backbone
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
    *,
    drift: float = DRIFT,
    confidence: float = CONFIDENCE,
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Check a version against its reference: the evaluation made when it was registered, or one accepted since.

    Where base, data and environment are those of the reference, a random sample of the examples is predicted again,
    and kept as an audit, which is no evaluation of the task and stands in no matrix. Else, or if a prediction
    differs, the version is evaluated in full, which decides: another batch can change an answer between two labels
    that are as good as equal. What an audit writes is never what a later one checks against.

    Returns:
        The audit, or the full evaluation that decided. If it shows a drift, the version has an open alarm now.

    Raises:
        IntegrityError: A file is corrupt.
        UsageError: Drift or confidence is out of its range.
    """
    task = tasks.get(store, version.task)
    size = sample_size(task.split("evaluation").examples, drift, confidence)
    read = read_contents(store)
    reference = _reference(store, backbone, version)
    if reference is not None:
        kept = read(reference)
        drawn = sorted(secrets.SystemRandom().sample(range(len(kept["targets"])), size))
        audited = monitor.evaluate_sample(store, backbone, version, indices=drawn, of=reference.id, progress=progress)
        found = evaluations.predictions(store, audited)
        if all(
            (found["predictions"][at], found["targets"][at]) == (kept["predictions"][place], kept["targets"][place])
            for at, place in enumerate(drawn)
        ):
            return audited
    now = monitor.evaluate(store, backbone, version, part=monitor.Part(bypass_cache=True), progress=progress)
    if note := hold_against_reference(store, now, read):
        progress.note(note)
    return now


def _reference(store: Store, backbone: Backbone, version: VersionRecord) -> EvaluationRecord | None:
    """The version's reference, where it is of this very base, data and environment."""
    data = tasks.get(store, version.task).split("evaluation").digest
    wanted = (backbone.record.digest, data, backbone.environment(backbone.evaluation_dtype))
    reference = reference_evaluation(store, version.reference, data)
    if reference is None or (reference.base_digest, reference.data_digest, reference.environment) != wanted:
        return None
    return reference
