"""The forgetting monitor: evaluates a task again, under its fixed batch plan, and keeps what it saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from limpet.registry.formats.canonical import canonical_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import (
    SERVED_AGREEMENT,
    UNREADABLE_ANSWERS,
    EvaluationDraft,
    EvaluationKind,
    EvaluationRecord,
    SplitRecord,
    TaskRecord,
    VersionDraft,
    VersionRecord,
)
from limpet.registry.versions.costs import figures
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example
from limpet.training.batching.inference import Outcome
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation import reference_outputs
from limpet.training.evaluation.cost import efficiency
from limpet.training.evaluation.inputs import describe_inputs
from limpet.training.evaluation.latency import BRIEF_SECONDS
from limpet.training.evaluation.predict_split import AttachedModel, predict_split
from limpet.training.evaluation.seen_before import seen_before
from limpet.training.evaluation.served import agreement
from limpet.training.model.task_model import Answering, active, version_files
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import metric as find_metric
from limpet.training.task_types import score, task_type

__all__ = [
    "EVERYTHING",
    "FULL",
    "Answering",
    "KeptAs",
    "Measured",
    "Part",
    "evaluate",
    "evaluate_parts",
    "evaluate_sample",
    "measure",
    "measure_candidate",
    "measure_examples",
    "pooled",
    "record_evaluation",
]


@dataclass(frozen=True)
class Measured:
    """An outcome on examples of a split, with the score it amounts to, and the digest of its batch plan.

    The predictions are those of the outcome, under the label map of the task. `counts` says what the texts lost on
    their way, such as words beyond the longest text. `loaded` has the digests of what was on the base in memory
    afterwards: the head, the adapter's weights, and every buffer of the model.
    `inputs` is what the model was given; see `limpet.training.evaluation.inputs`. `served` says how the answers that
    are served agree with these, for a version that is to be registered.
    """

    split: SplitRecord
    metric: str
    outcome: Outcome
    predictions: Sequence[Any]
    score: float
    targets: tuple[Any, ...]
    plan_digest: str
    counts: Mapping[str, int]
    loaded: Mapping[str, str]
    inputs: Mapping[str, Any]
    served: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """Which examples are answered: a split of a task, or those of its examples at `indices`.

    `task` is the revision that has the split; null takes the newest.

    The layers of the frozen base that no method stands before give for the same texts what they gave (see
    `limpet.training.evaluation.predict_split`). Some examples, and whatever has to `bypass_cache`, are
    answered by every layer.
    """

    split: str = "evaluation"
    indices: tuple[int, ...] | None = None
    bypass_cache: bool = False
    task: TaskRecord | None = None


EVERYTHING = Part()
"""All examples of the split that a task was evaluated on from the beginning, in its newest revision."""


@dataclass(frozen=True)
class KeptAs:
    """As what a measurement is kept: its kind, and what else is said of it beside the predictions."""

    kind: EvaluationKind = "full"
    more: Mapping[str, Any] = field(default_factory=dict)


FULL = KeptAs()
"""An evaluation of all examples of a task's split."""


def measure(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    answering: Answering,
    part: Part,
    progress: Progress = SILENT,
) -> Measured:
    """Score a task on examples of one split; nothing is registered."""
    examples = read_split(store, task, part.split)
    if part.indices is not None:
        examples = [examples[index] for index in part.indices]
    part = replace(part, task=task, bypass_cache=part.bypass_cache or part.indices is not None)
    split = task.split(part.split)
    return measure_examples(backbone, examples, answering=answering, part=part, split=split, progress=progress)


def measure_examples(
    backbone: Backbone,
    examples: Sequence[Example],
    *,
    answering: Answering,
    part: Part,
    split: SplitRecord,
    progress: Progress = SILENT,
) -> Measured:
    """Score examples that were read already.

    Args:
        backbone: The base in memory.
        examples: The examples, their targets under the label map of `part.task`.
        answering: What answers.
        part: The task that says by which metric they are scored, and whether every layer is asked.
        split: What they are kept as.
        progress: Receives every batch.
    """
    task = part.task
    assert task is not None
    with active(backbone, answering.method, answering.state, head=answering.head) as model:
        attached = AttachedModel(backbone, methods.get(answering.method), model)
        asked = _Asked(task, split, answering.labels or task.labels, answering.max_length, part.bypass_cache)
        return _measure(attached, asked, examples, progress=progress)[1]


@dataclass(frozen=True)
class _Asked:
    """What is asked about: a split of a task, the label map that it is answered under, the longest text in tokens."""

    task: TaskRecord
    split: SplitRecord
    labels: tuple[str, ...]
    max_length: int
    bypass_cache: bool = False


def _measure(
    attached: AttachedModel, asked: _Asked, examples: Sequence[Example], *, progress: Progress
) -> tuple[Encoded, Measured]:
    """Score what is attached on examples; return them as they were encoded for it, too."""
    backbone, model, task = attached.backbone, attached.model, asked.task
    texts = model.encode(backbone.tokenizer, examples, asked.max_length)
    targets = tuple(example.target for example in examples)
    name = f"evaluate {task.name}"
    outcome = predict_split(attached, texts, progress=progress, name=name, bypass_cache=asked.bypass_cache)
    loaded = model.loaded()
    inputs = describe_inputs(backbone.tokenizer, backbone.model, model.head, encoded=texts)
    predictions: Sequence[Any] = outcome.predictions
    if asked.labels != task.labels:
        kind = task_type(task.definition.type)
        predictions = [kind.relabelled(answer, asked.labels, task.labels) for answer in predictions]
    metric = task.definition.metric
    return texts, Measured(
        split=asked.split,
        metric=metric,
        outcome=outcome,
        predictions=predictions,
        score=score(metric, predictions, targets),
        targets=targets,
        plan_digest=texts.plan.digest,
        counts=texts.counts,
        loaded=loaded,
        inputs=inputs,
    )


def evaluate(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord | None = None,
    part: Part = EVERYTHING,
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Evaluate a version on an evaluation split of its task, and keep predictions and environment.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: Gives task, head and label map.
        state: Gives the method's tensors; by default the version itself.
        part: Of which revision, which split, and whether every layer is asked; by default what was always evaluated.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or a version belongs to another base.
    """
    state = state or version
    answering = Answering(
        method=state.method,
        state=version_files(store, backbone, state),
        head=version_files(store, backbone, version),
        max_length=int(version.config["max_length"]),
        labels=version.labels,
    )
    task = part.task or tasks.get(store, version.task)
    measured = measure(store, backbone, task, answering=answering, part=part, progress=progress)
    return record_evaluation(store, backbone, version, state=state, measured=measured)


def evaluate_sample(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    indices: Sequence[int],
    of: int,
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Predict some examples of a version's evaluation split again, and keep that as an audit.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: The version.
        indices: The examples, by their place in the split.
        of: The full evaluation that is audited.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    task, files = tasks.get(store, version.task), version_files(store, backbone, version)
    answering = Answering(version.method, files, files, int(version.config["max_length"]), version.labels)
    part = Part(indices=tuple(indices))
    measured = measure(store, backbone, task, answering=answering, part=part, progress=progress)
    return record_evaluation(
        store,
        backbone,
        version,
        state=version,
        measured=measured,
        kept=KeptAs("audit", {"examples": list(indices), "audit_of": of}),
    )


def evaluate_parts(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord | None = None,
    part: Part = EVERYTHING,
    progress: Progress = SILENT,
) -> tuple[EvaluationRecord, ...]:
    """Evaluate a version on every evaluation split of its task, or of the revision that `part` names; see `evaluate`.

    Returns:
        The evaluations in the order of `task.evaluation_parts`.
    """
    task = part.task or tasks.get(store, version.task)
    return tuple(
        evaluate(
            store,
            backbone,
            version,
            state=state,
            part=replace(part, split=split.name, task=task),
            progress=progress,
        )
        for split in task.evaluation_parts
    )


def measure_candidate(
    store: Store,
    backbone: Backbone,
    draft: VersionDraft,
    *,
    files: Mapping[str, Path],
    timed_seconds: float = BRIEF_SECONDS,
    progress: Progress = SILENT,
) -> tuple[VersionDraft, tuple[Measured, ...]]:
    """Score a learned adapter on its evaluation splits and measure what it costs; nothing is registered.

    Also hold the answers that it would serve against those that the score is made of. Its answers are timed for
    `timed_seconds`.

    Returns:
        The draft with its score over all of them and all figures of its cost, and what was measured on each.

    Raises:
        IntegrityError: A file does not fit the base, or the base was changed.
    """
    task = tasks.of_version(store, draft)
    with active(backbone, draft.method, files, head=files) as model:
        attached = AttachedModel(backbone, methods.get(draft.method), model)
        measured = []
        for split in task.evaluation_parts:
            asked = _Asked(task, split, draft.labels, int(draft.config["max_length"]))
            texts, one = _measure(attached, asked, read_split(store, task, split.name), progress=progress)
            # the layers that the evaluation has skipped are asked again: what is served skips none
            model.lower = None
            agreed = agreement(attached, texts, outcome=one.outcome, progress=progress)
            measured.append(one if agreed is None else replace(one, served=agreed.content()))
    probes = reference_outputs.reference_inputs(store, task)
    cost = {**draft.cost, **efficiency(backbone, draft, files, texts=probes, seconds=timed_seconds)}
    backbone.check_untouched()
    counts: Counter[str] = Counter()
    for one in measured:
        counts.update(one.counts)
    metrics = {
        **draft.metrics,
        **_scores(measured, task.revision),
        **_unseen(store, draft, task, measured=measured),
        **counts,
    }
    evaluated = {one.split.name: one.inputs["tokens"] for one in measured}
    inputs = {**draft.inputs, **evaluated, "template": measured[0].inputs["template"]}
    cost = figures(cost | {"base_unchanged": True})
    return replace(draft, metrics=metrics, cost=cost, inputs=inputs), tuple(measured)


def _unseen(store: Store, draft: VersionDraft, task: TaskRecord, *, measured: Sequence[Measured]) -> JsonObject:
    """Return how many rows the parents were trained on for other tasks, and the score without them; or nothing.

    In a stream, tasks follow each other by design, and the matrix says what comes of it.
    """
    seen = {} if "stream" in draft.lineage else seen_before(store, task, draft.parent)
    if not seen:
        return {}
    pairs = [
        pair
        for part in measured
        for at, pair in enumerate(zip(part.predictions, part.targets, strict=True))
        if at not in set(seen.get(part.split.name, ()))
    ]
    rest = score(measured[0].metric, *map(list, zip(*pairs, strict=True))) if pairs else None
    return {"seen_before": {"examples": sum(map(len, seen.values())), "from": draft.parent, "score_without": rest}}


def pooled(measured: Sequence[Measured]) -> tuple[list[Any], list[Any]]:
    """Return the predictions and the targets of several splits together."""
    predictions = [answer for part in measured for answer in part.predictions]
    return predictions, [target for part in measured for target in part.targets]


def _scores(measured: Sequence[Measured], revision: int) -> JsonObject:
    """Return the score over all rows that were evaluated; also on old and new ones, if the revision brought some."""
    metric = measured[0].metric

    total = score(metric, *pooled(measured))
    scores: JsonObject = {"score": total, metric: total}
    if (is_readable := find_metric(metric).is_readable) is not None:
        scores[UNREADABLE_ANSWERS] = sum(not is_readable(answer) for part in measured for answer in part.predictions)
    if len(measured) > 1 and measured[-1].split.since == revision:
        old, new = (score(metric, *pooled(parts)) for parts in (measured[:-1], measured[-1:]))
        scores["scores"] = {"old": old, "new": new, "all": total}
    served = [(len(one.targets), len(one.served["differing"])) for one in measured if one.served]
    if served:
        examples, differing = map(sum, zip(*served, strict=True))
        scores[SERVED_AGREEMENT] = 1 - differing / examples
    return scores


def record_evaluation(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord,
    measured: Measured,
    kept: KeptAs = FULL,
) -> EvaluationRecord:
    """Keep what was measured of a version under the weights of `state`."""
    outcome = measured.outcome
    predictions = {
        "schema": 1,
        "predictions": measured.predictions,
        "targets": measured.targets,
        "loaded": measured.loaded,
        "inputs": measured.inputs,
        **({"served": measured.served} if measured.served else {}),
        **kept.more,
    }
    return evaluations.add(
        store,
        EvaluationDraft(
            version=version.reference,
            state=state.reference,
            kind=kept.kind,
            split=measured.split.name,
            metric=measured.metric,
            score=measured.score,
            examples=len(measured.targets),
            predictions_digest=store.blobs.put_bytes(canonical_json(predictions)),
            logits_digest=outcome.logits_digest,
            plan_digest=measured.plan_digest,
            data_digest=measured.split.digest,
            base_digest=backbone.record.digest,
            environment=backbone.environment(backbone.evaluation_dtype),
            seconds=outcome.seconds,
        ),
    )
