"""Evaluations carried forward: a version is shown to be as it was evaluated, without answering every example again.

A home with a hundred tasks would answer ninety-nine of them again after each addition, though adapters of their own
leave each other alone. So the audit looks at what answers depend on. The adapter's files are those of the record, and
what lies on the base in memory (head, weights, buffers) has the digests that the full evaluation kept; the base's
digest is taken once for all. Then a few inputs, the version's reference outputs, are answered again: their bits must
be those on record. The same weights give the same bits in one environment, so the score of the full evaluation
stands, and is carried forward as an evaluation of its own kind, which no one can take for one that was made.

Whatever is not as it was sends the version through a full evaluation, which decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from limpet.forgetting.monitor.drift import hold_against_reference
from limpet.forgetting.monitor.kept_predictions import ReadContent
from limpet.forgetting.monitor.monitor import Part, evaluate_parts
from limpet.forgetting.monitor.replacement import reference_evaluation
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.records import alarms, evaluations
from limpet.registry.records import reference_outputs as recorded_outputs
from limpet.registry.store import Store
from limpet.registry.values import EvaluationDraft, EvaluationRecord, SplitRecord, TaskRecord, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation import reference_outputs
from limpet.training.evaluation.reference_outputs import Answered
from limpet.training.progress import SILENT, Progress

__all__ = ["carry_or_evaluate"]


def carry_or_evaluate(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    task: TaskRecord,
    read: ReadContent,
    progress: Progress = SILENT,
) -> tuple[EvaluationRecord, ...]:
    """Carry a version's evaluations forward if an audit shows that nothing changed; else evaluate it in full.

    In another environment than that of registration, one full evaluation that raises no alarm is the ground that
    later audits in that environment stand on.

    Args:
        store: The open home.
        backbone: The base in memory, whose digest was just taken.
        version: What answers for the task under its own weights.
        task: The task as it is now.
        read: Reads kept predictions.
        progress: Receives every batch, and what a full evaluation found.

    Returns:
        One evaluation for each evaluation split, in their order; their kind says whether it was carried forward.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    answered = _answer_again(store, backbone, version)
    known = [_ground(store, backbone, version, task=task, split=split) for split in task.evaluation_parts]
    grounds = [evaluation for evaluation in known if evaluation is not None]
    whole = (
        answered is not None and len(grounds) == len(known) and alarms.open_alarm(store, version.reference) is None
    )
    if answered is not None and whole and _as_recorded(answered, grounds, read):
        return tuple(_carry(store, evaluation, answered.canaries) for evaluation in grounds)
    parts = evaluate_parts(store, backbone, version, part=Part(task=task), progress=progress)
    for evaluation in parts:
        if note := hold_against_reference(store, evaluation, read):
            progress.note(note)
    if answered is not None and answered.moved and alarms.open_alarm(store, version.reference) is None:
        for evaluation in parts:
            _carry(store, evaluation, answered.canaries)
    return parts


@dataclass(frozen=True)
class _Audited:
    """A version's reference outputs, answered now.

    `canaries` are the answers, `as_known` says whether they are the bits on record for this environment, and `moved`
    that there are none for it yet.
    """

    canaries: Answered
    as_known: bool
    moved: bool


def _answer_again(store: Store, backbone: Backbone, version: VersionRecord) -> _Audited | None:
    """Answer a version's reference outputs again; null where a version of an older home has none."""
    recorded = recorded_outputs.of(store, version.reference)
    if recorded is None:
        return None
    answered = reference_outputs.answer_again(store, backbone, version, recorded=recorded)
    known = {
        evaluation.logits_digest
        for evaluation in evaluations.carried(store, version.reference)
        if evaluation.environment == backbone.environment(backbone.evaluation_dtype)
        and evaluation.base_digest == backbone.record.digest
    }
    if recorded.environment == answered.environment:
        known.add(_digest(recorded.logits))
    return _Audited(answered, _digest(answered.logits) in known, not known)


def _ground(
    store: Store, backbone: Backbone, version: VersionRecord, *, task: TaskRecord, split: SplitRecord
) -> EvaluationRecord | None:
    """Return the full evaluation on these rows that can be carried forward here; null for none.

    It is the one that the version is held against, if it was made in this environment, else the first that was.
    """
    here = backbone.environment(backbone.evaluation_dtype)
    wanted = (split.digest, task.definition.metric, backbone.record.digest, here)
    known = evaluations.full(store, version.reference, version.reference, split=split.name)[::-1]
    reference = reference_evaluation(store, version.reference, split.digest)
    for evaluation in (reference, *known) if reference else known:
        made = (evaluation.data_digest, evaluation.metric, evaluation.base_digest, evaluation.environment)
        if made == wanted:
            return evaluation
    return None


def _as_recorded(audited: _Audited, grounds: list[EvaluationRecord], read: ReadContent) -> bool:
    return audited.as_known and all(
        read(evaluation).get("loaded") == audited.canaries.loaded for evaluation in grounds
    )


def _carry(store: Store, ground: EvaluationRecord, answered: Answered) -> EvaluationRecord:
    """Keep a full evaluation's score and predictions as carried forward, with the digest of what was answered now."""
    return evaluations.add(
        store,
        EvaluationDraft(
            version=ground.version,
            state=ground.state,
            kind="carried",
            split=ground.split,
            metric=ground.metric,
            score=ground.score,
            examples=ground.examples,
            predictions_digest=ground.predictions_digest,
            logits_digest=_digest(answered.logits),
            plan_digest=answered.plan_digest,
            data_digest=ground.data_digest,
            base_digest=ground.base_digest,
            environment=ground.environment,
            seconds=answered.seconds,
        ),
    )


def _digest(logits: tuple[tuple[float, ...], ...]) -> str:
    """Return the digest of the exact bits: a hexadecimal float tells -0.0 from 0.0."""
    return digest_bytes(canonical_json([[value.hex() for value in row] for row in logits]))
