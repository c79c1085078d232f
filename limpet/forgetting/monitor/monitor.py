"""The forgetting monitor: evaluates a task again, under its fixed batch plan, and keeps what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from limpet.errors import ConflictError
from limpet.forgetting.monitor.drift import hold_against_reference
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.registry import versions
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, streams, tasks
from limpet.registry.store import Store
from limpet.registry.values import (
    SERVED_AGREEMENT,
    EvaluationRecord,
    StepRecord,
    TaskRecord,
    VersionDraft,
    VersionRecord,
)
from limpet.registry.versions.costs import figures
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.environment import current_environment
from limpet.training.batching.inference import Outcome
from limpet.training.data.build_task import read_split
from limpet.training.evaluation import reference_outputs
from limpet.training.evaluation.cost import efficiency
from limpet.training.evaluation.inputs import describe_inputs
from limpet.training.evaluation.predict_split import answers
from limpet.training.evaluation.served import agreement
from limpet.training.metrics.metric import score
from limpet.training.model.task_model import active, version_files
from limpet.training.progress import SILENT, Progress

__all__ = [
    "Added",
    "Measured",
    "add_version",
    "after_addition",
    "check_growth",
    "evaluate",
    "evaluate_sample",
    "judge",
    "keep_version",
    "measure",
]


@dataclass(frozen=True)
class Measured:
    """An outcome with the score it amounts to, and the digest of the batch plan it was computed by.

    `counts` says what the texts lost on their way, such as words beyond the longest text. `loaded` has the digests of
    what was on the base in memory afterwards: the head, the adapter's weights, and every buffer of the model.
    `inputs` is what the model was given; see `limpet.training.evaluation.inputs`. `served` says how the answers that
    are served agree with these, for a version that is to be registered.
    """

    outcome: Outcome
    score: float
    targets: tuple[Any, ...]
    plan_digest: str
    counts: Mapping[str, int]
    loaded: Mapping[str, str]
    inputs: Mapping[str, Any]
    served: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Added:
    """A version with its own evaluation; `created` is false where identical bytes were registered before."""

    version: VersionRecord
    created: bool
    evaluation: EvaluationRecord


def measure(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    split: Literal["validation", "evaluation"],
    max_length: int,
    method: str,
    state: Mapping[str, Path],
    head: Mapping[str, Path],
    progress: Progress = SILENT,
    indices: Sequence[int] | None = None,
    anew: bool = False,
) -> Measured:
    """Score a task on one split, or on some examples of it, by a method's tensors (`state`) and a head.

    Nothing is registered. Some examples, and whatever is asked for `anew`, are answered by every layer; else the
    layers of the frozen base that no method stands before give for the same texts what they gave (see
    `limpet.training.evaluation.predict_split`).
    """
    examples = read_split(store, task, split)
    if indices is not None:
        examples = [examples[index] for index in indices]
    targets = tuple(example.target for example in examples)
    anew = anew or indices is not None
    with active(backbone, method, state, head=head) as model:
        encoded = model.encode(backbone.tokenizer, examples, max_length)
        name = f"evaluate {task.name}"
        outcome = answers(
            backbone, methods.get(method), model, texts=encoded, progress=progress, name=name, anew=anew
        )
        loaded = model.loaded()
        inputs = describe_inputs(backbone.tokenizer, backbone.model, model.head, encoded=encoded)
    value = score(task.definition.metric, outcome.predictions, targets)
    return Measured(outcome, value, targets, encoded.plan.digest, encoded.counts, loaded, inputs)


def evaluate(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord | None = None,
    progress: Progress = SILENT,
    anew: bool = False,
) -> EvaluationRecord:
    """Evaluate a version on its task's evaluation split, and keep predictions and environment.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: Gives task, head and label map.
        state: Gives the method's tensors; by default the version itself.
        progress: Told of every batch.
        anew: Ask every layer; see `measure`.

    Raises:
        IntegrityError: A file is corrupt, or a version belongs to another base.
    """
    state = state or version
    measured = measure(
        store,
        backbone,
        tasks.get(store, version.task),
        split="evaluation",
        max_length=int(version.config["max_length"]),
        method=state.method,
        state=version_files(store, backbone, state),
        head=version_files(store, backbone, version),
        progress=progress,
        anew=anew,
    )
    return _keep(store, backbone, version, state=state, measured=measured)


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
        progress: Told of every batch.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    task, files = tasks.get(store, version.task), version_files(store, backbone, version)
    length = int(version.config["max_length"])
    measured = measure(
        store,
        backbone,
        task,
        split="evaluation",
        max_length=length,
        method=version.method,
        state=files,
        head=files,
        progress=progress,
        indices=indices,
    )
    return _keep(
        store,
        backbone,
        version,
        state=version,
        measured=measured,
        audited={"examples": list(indices), "audit_of": of},
    )


def add_version(
    store: Store,
    backbone: Backbone,
    draft: VersionDraft,
    *,
    files: Mapping[str, Path],
    progress: Progress = SILENT,
) -> Added:
    """Score a learned adapter on its evaluation split, register it with that score; keep the evaluation and a probe.

    Raises:
        IntegrityError: A file does not fit the base, an answer is not finite, or the base was changed.
    """
    draft, measured = judge(store, backbone, draft, files=files, progress=progress)
    return keep_version(store, backbone, draft, files=files, measured=measured)


def keep_version(
    store: Store, backbone: Backbone, draft: VersionDraft, *, files: Mapping[str, Path], measured: Measured
) -> Added:
    """Register what `judge` has measured, and keep the evaluation and a probe.

    Raises:
        IntegrityError: A file does not fit the base, an answer is not finite, or the base was changed.
    """
    inputs = reference_outputs.probe_inputs(store, tasks.get(store, draft.task))
    answers = reference_outputs.compute(
        backbone, draft.method, files, inputs=inputs, max_length=int(draft.config["max_length"])
    )
    backbone.check_unchanged()
    version, created = versions.register(store, draft, files, probe=answers)
    return Added(version, created, _keep(store, backbone, version, state=version, measured=measured))


def judge(
    store: Store,
    backbone: Backbone,
    draft: VersionDraft,
    *,
    files: Mapping[str, Path],
    progress: Progress = SILENT,
) -> tuple[VersionDraft, Measured]:
    """Score a learned adapter on its evaluation split and measure what it costs; nothing is registered.

    Also hold the answers that it would serve against those that the score is made of.

    Returns:
        The draft with its score and all figures of its cost, and what was measured.

    Raises:
        IntegrityError: A file does not fit the base, or the base was changed.
    """
    task = tasks.get(store, draft.task)
    length = int(draft.config["max_length"])
    measured = measure(
        store,
        backbone,
        task,
        split="evaluation",
        max_length=length,
        method=draft.method,
        state=files,
        head=files,
        progress=progress,
    )
    examples = read_split(store, task, "evaluation")
    agreed = agreement(
        backbone,
        draft.method,
        files,
        examples=examples,
        max_length=length,
        outcome=measured.outcome,
        progress=progress,
    )
    cost = {**draft.cost, **efficiency(backbone, draft, files, texts=reference_outputs.probe_inputs(store, task))}
    backbone.check_unchanged()
    scores = {"score": measured.score, task.definition.metric: measured.score}
    if agreed is not None:
        scores[SERVED_AGREEMENT] = agreed.share
        measured = replace(measured, served=agreed.content())
    metrics = {**draft.metrics, **scores, **measured.counts}
    inputs = {**draft.inputs, "evaluation": measured.inputs["tokens"], "template": measured.inputs["template"]}
    cost = figures(cost | {"base_unchanged": True})
    return replace(draft, metrics=metrics, cost=cost, inputs=inputs), measured


def check_growth(store: Store, backbone: Backbone) -> None:
    """Find out before training that the home grows on another base: scores on two bases are no one matrix.

    Raises:
        ConflictError: The home's growth began on another base.
    """
    for stream in streams.list_all(store):
        if stream.name == streams.HOME_STREAM and stream.base_digest != backbone.record.digest:
            raise ConflictError(
                f"This home has grown on the base {stream.base_digest[:19]}..., and its base is now "
                f"{backbone.record.digest[:19]}...",
                "limpet init --home FOLDER --base SPEC makes a home for the other base",
            )


def after_addition(store: Store, backbone: Backbone, added: Added, *, progress: Progress = SILENT) -> StepRecord:
    """Evaluate every version that answers for a task again, and keep the row in the home's growth.

    The row has the new version for its own task. What still answers for it is evaluated too: it is one of those that
    the addition must not have touched. One that no longer answers as it did has an open alarm afterwards.

    Raises:
        IntegrityError: A file is corrupt, or the base was changed.
    """
    new = added.version
    others = [
        version
        for version in versions.current(store)
        if version.reference != new.reference and version.base_digest == backbone.record.digest
    ]
    evaluated = [evaluate(store, backbone, version, progress=progress) for version in others]
    read = read_contents(store)
    for evaluation in evaluated:
        if note := hold_against_reference(store, evaluation, read):
            progress.note(note)
    row = {evaluation.task: evaluation.id for evaluation in evaluated}
    backbone.check_unchanged()
    streams.extend(store, streams.HOME_STREAM, new.task, base_digest=backbone.record.digest)
    arm = streams.arm_run(
        store, streams.HOME_STREAM, "isolated", strategy="isolated", method="any", seed=0, settings={}
    )
    return streams.add_step(
        store,
        arm.id,
        index=None,
        task=new.task,
        version=new.reference,
        base_unchanged=True,
        row=row | {new.task: added.evaluation.id},
    )


def _keep(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord,
    measured: Measured,
    audited: Mapping[str, Any] | None = None,
) -> EvaluationRecord:
    task = tasks.get(store, version.task)
    outcome = measured.outcome
    predictions = {
        "schema": 1,
        "predictions": outcome.predictions,
        "targets": measured.targets,
        "loaded": measured.loaded,
        "inputs": measured.inputs,
        **({"served": measured.served} if measured.served else {}),
        **(audited or {}),
    }
    return evaluations.add(
        store,
        version=version.reference,
        state=state.reference,
        kind="audit" if audited else "full",
        split="evaluation",
        metric=task.definition.metric,
        score=measured.score,
        examples=len(measured.targets),
        predictions_digest=store.blobs.put_bytes(canonical_json(predictions)),
        logits_digest=outcome.logits_digest,
        plan_digest=measured.plan_digest,
        data_digest=task.split("evaluation").digest,
        base_digest=backbone.record.digest,
        environment=current_environment(backbone.evaluation_dtype),
        seconds=outcome.seconds,
    )
