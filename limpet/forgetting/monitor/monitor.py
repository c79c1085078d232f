"""The forgetting monitor: evaluates a task again, under its fixed batch plan, and keeps what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import (
    SERVED_AGREEMENT,
    EvaluationDraft,
    EvaluationRecord,
    TaskRecord,
    VersionDraft,
    VersionRecord,
)
from limpet.registry.versions.costs import figures
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.environment import current_environment
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation import reference_outputs
from limpet.training.evaluation.cost import efficiency
from limpet.training.evaluation.inputs import describe_inputs
from limpet.training.evaluation.predict_split import AttachedModel, predict_split
from limpet.training.evaluation.served import agreement
from limpet.training.model.task_model import Answering, active, version_files
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import score

__all__ = [
    "Answering",
    "Measured",
    "Part",
    "evaluate",
    "evaluate_sample",
    "measure",
    "measure_candidate",
    "record_evaluation",
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
class Part:
    """Which examples are answered: a split, or those of its examples at `indices`.

    The layers of the frozen base that no method stands before give for the same texts what they gave (see
    `limpet.training.evaluation.predict_split`). Some examples, and whatever has to `bypass_cache`, are
    answered by every layer.
    """

    split: Literal["validation", "evaluation"] = "evaluation"
    indices: tuple[int, ...] | None = None
    bypass_cache: bool = False


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
    bypass_cache = part.bypass_cache or part.indices is not None
    with active(backbone, answering.method, answering.state, head=answering.head) as model:
        attached = AttachedModel(backbone, methods.get(answering.method), model)
        texts = model.encode(backbone.tokenizer, examples, answering.max_length)
        targets = tuple(example.target for example in examples)
        return _measure(attached, task, texts, targets=targets, bypass_cache=bypass_cache, progress=progress)


def _measure(
    attached: AttachedModel,
    task: TaskRecord,
    texts: Encoded,
    *,
    targets: tuple[Any, ...],
    bypass_cache: bool,
    progress: Progress,
) -> Measured:
    """Score what is attached on texts that were encoded for it."""
    backbone, model, name = attached.backbone, attached.model, f"evaluate {task.name}"
    outcome = predict_split(attached, texts, progress=progress, name=name, bypass_cache=bypass_cache)
    loaded = model.loaded()
    inputs = describe_inputs(backbone.tokenizer, backbone.model, model.head, encoded=texts)
    value = score(task.definition.metric, outcome.predictions, targets)
    return Measured(outcome, value, targets, texts.plan.digest, texts.counts, loaded, inputs)


def evaluate(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord | None = None,
    progress: Progress = SILENT,
    bypass_cache: bool = False,
) -> EvaluationRecord:
    """Evaluate a version on its task's evaluation split, and keep predictions and environment.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: Gives task, head and label map.
        state: Gives the method's tensors; by default the version itself.
        progress: Receives every batch.
        bypass_cache: Ask every layer; see `measure`.

    Raises:
        IntegrityError: A file is corrupt, or a version belongs to another base.
    """
    state = state or version
    answering = Answering(
        method=state.method,
        state=version_files(store, backbone, state),
        head=version_files(store, backbone, version),
        max_length=int(version.config["max_length"]),
    )
    task, part = tasks.get(store, version.task), Part(bypass_cache=bypass_cache)
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
    answering = Answering(version.method, files, files, int(version.config["max_length"]))
    part = Part(indices=tuple(indices))
    measured = measure(store, backbone, task, answering=answering, part=part, progress=progress)
    return record_evaluation(
        store,
        backbone,
        version,
        state=version,
        measured=measured,
        audited={"examples": list(indices), "audit_of": of},
    )


def measure_candidate(
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
    examples = read_split(store, task, "evaluation")
    targets = tuple(example.target for example in examples)
    with active(backbone, draft.method, files, head=files) as model:
        attached = AttachedModel(backbone, methods.get(draft.method), model)
        texts = model.encode(backbone.tokenizer, examples, length)
        measured = _measure(attached, task, texts, targets=targets, bypass_cache=False, progress=progress)
        # the layers that the evaluation has skipped are asked again: what is served skips none
        model.lower = None
        agreed = agreement(attached, texts, outcome=measured.outcome, progress=progress)
    cost = {**draft.cost, **efficiency(backbone, draft, files, texts=reference_outputs.reference_inputs(store, task))}
    backbone.check_untouched()
    scores = {"score": measured.score, task.definition.metric: measured.score}
    if agreed is not None:
        scores[SERVED_AGREEMENT] = agreed.share
        measured = replace(measured, served=agreed.content())
    metrics = {**draft.metrics, **scores, **measured.counts}
    inputs = {**draft.inputs, "evaluation": measured.inputs["tokens"], "template": measured.inputs["template"]}
    cost = figures(cost | {"base_unchanged": True})
    return replace(draft, metrics=metrics, cost=cost, inputs=inputs), measured


def record_evaluation(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    state: VersionRecord,
    measured: Measured,
    audited: Mapping[str, Any] | None = None,
) -> EvaluationRecord:
    """Keep what was measured of a version under the weights of `state`; `audited` says what an audit looked at."""
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
        EvaluationDraft(
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
        ),
    )
