"""A version evaluated on its own base and on another form of the same files, such as `SPEC#nf4` and `SPEC`.

Only the form may differ: the dtype that weights are held in, or the bits. Other files are another model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limpet.errors import IntegrityError, UsageError
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, with_label_names
from limpet.forgetting.monitor.monitor import KeptAs, Measured, Part, measure, pooled, record_evaluation
from limpet.forgetting.monitor.replacement import change_interval
from limpet.names import shown_method
from limpet.registry import versions
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import bases, tasks
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord, EvaluationRecord, TaskRecord, VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.holding.recipes import recipe_of
from limpet.training.metrics.units import PERPLEXITY
from limpet.training.model.task_model import Answering, check_base
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import metric as find_metric
from limpet.training.task_types import score

__all__ = ["BaseComparison", "OtherAnswer", "ScoreOnBase", "check_other_form", "compare_bases"]

_SHOWN = 20  # answers that differ and are returned with both texts


@dataclass(frozen=True)
class ScoreOnBase:
    """A version's score on one form of a base, with its bootstrap interval (null where the metric has none)."""

    base: str
    base_digest: str
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class OtherAnswer:
    """An example that is answered otherwise on the other form: its split and its row there, from 1."""

    split: str
    row: int
    own: JsonValue
    other: JsonValue
    target: JsonValue


@dataclass(frozen=True)
class BaseComparison:
    """A version's answers to its evaluation examples on its own base and on another form of it, computed in turn.

    `difference` is the score on the other less that on its own, and `difference_interval` its paired bootstrap
    interval. `differing` counts the examples that are not answered the same, to the letter where texts are written;
    it is null where targets are scored and nothing is answered. `answers` has the first of them. `evaluations` are
    those on the other form, as they were kept: they stand in no matrix, and no version is held against them.
    """

    version: str
    metric: str
    examples: int
    own: ScoreOnBase
    other: ScoreOnBase
    difference: float
    difference_interval: Interval | None
    differing: int | None
    answers: tuple[OtherAnswer, ...]
    evaluations: tuple[EvaluationRecord, ...]


def check_other_form(version: VersionRecord, own: BaseRecord, other: BaseRecord) -> None:
    """Refuse to compare a version's base with what is not another form of the same files.

    Raises:
        UsageError: It is the same base, or the version's method can't work on that form.
        IntegrityError: It is another model.
    """
    parts = {"weights": "weights_digest", "configuration": "config_digest", "tokenizer": "tokenizer_digest"}
    differing = [part for part, field in parts.items() if getattr(own, field) != getattr(other, field)]
    if differing:
        raise IntegrityError(
            f"{version.reference} was learned on {own.name!r}, and the files of {other.name!r} have another "
            f"{' and another '.join(differing)}: another base is another model, on which it has no answers.",
            f"limpet evaluate {version.reference} --on SPEC, with the SPEC of {own.name!r} and another #FORM or none",
        )
    if own.digest == other.digest:
        raise UsageError(
            f"{other.name!r} is the very base that {version.reference} was learned on.",
            f"limpet evaluate {version.reference}",
        )
    method = methods.get(version.method)
    if method.capabilities.trains_base_copy:
        raise UsageError(
            f"{version.reference} was learned by {shown_method(method.name)}, which keeps weights of its own "
            "in place of the base's: no form of the base changes its answers alone.",
            "compare a version of a method that leaves the base's weights alone: limpet methods",
        )
    reason = methods.obstacle(method, other)
    if not reason and version.config["method"].get("dora") and "quantize" in (recipe_of(other) or {}):
        reason = "DoRA reads the base's own weights, which are quantised"
    if reason:
        raise UsageError(f"{version.reference} can't answer on {other.name!r}: {reason}.", "limpet methods")


def compare_bases(
    store: Store,
    version: VersionRecord,
    *,
    own: Callable[[], Backbone],
    other: Callable[[], Backbone],
    progress: Progress = SILENT,
) -> BaseComparison:
    """Answer the evaluation examples of a version's task on its own base, then on another form of it.

    What it answers on the other form is kept as an evaluation of the kind `comparison`.

    Args:
        store: The open home.
        version: The version.
        own: Loads its own base.
        other: Loads the other form; nothing here holds the own base by then, for there may be room for one alone.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or what `own` loads is not the base that the version was learned on.
    """
    task, base = tasks.get(store, version.task), bases.get(store, version.base_digest)
    at_home = _on_own(store, own(), version, task=task, progress=progress)
    backbone = other()
    measured = _answers(store, backbone, version, task=task, progress=progress)
    kept = KeptAs("comparison", {"source": {"base": backbone.record.name}})
    evaluations = tuple(
        record_evaluation(store, backbone, version, state=version, measured=part, kept=kept) for part in measured
    )
    was, now = _pooled(at_home), _pooled(measured)
    ours, theirs = (_scored(record, task, answers) for record, answers in ((base, was), (backbone.record, now)))
    writes = find_metric(task.definition.metric).unit != PERPLEXITY
    differing = _differing(task, at_home, measured) if writes else []
    return BaseComparison(
        version=version.reference,
        metric=task.definition.metric,
        examples=len(was.targets),
        own=ours,
        other=theirs,
        difference=theirs.score - ours.score,
        difference_interval=change_interval(task.name, task.definition.metric, was, now=now),
        differing=len(differing) if writes else None,
        answers=tuple(differing[:_SHOWN]),
        evaluations=evaluations,
    )


def _on_own(
    store: Store, backbone: Backbone, version: VersionRecord, *, task: TaskRecord, progress: Progress
) -> list[Measured]:
    check_base(backbone, version)
    return _answers(store, backbone, version, task=task, progress=progress)


def _answers(
    store: Store, backbone: Backbone, version: VersionRecord, *, task: TaskRecord, progress: Progress
) -> list[Measured]:
    """Measure a version on every evaluation split of its task, on whatever base is given: who asks has checked it."""
    files = versions.files(store, version)
    answering = Answering(version.method, files, files, int(version.config["max_length"]), version.labels)
    return [
        measure(
            store,
            backbone,
            task,
            answering=answering,
            part=Part(split.name, bypass_cache=True),
            progress=progress,
        )
        for split in task.evaluation_parts
    ]


def _pooled(measured: Sequence[Measured]) -> KeptPredictions:
    predictions, targets = pooled(measured)
    return KeptPredictions.of({"predictions": predictions, "targets": targets})


def _scored(base: BaseRecord, task: TaskRecord, answers: KeptPredictions) -> ScoreOnBase:
    scored_by = task.definition.metric
    given = (scored_by, answers.predictions, answers.targets)
    interval = None if find_metric(scored_by).counts is None else intervals.score_interval(*given)
    return ScoreOnBase(base.name, base.digest, score(*given), interval)


def _differing(task: TaskRecord, own: Sequence[Measured], other: Sequence[Measured]) -> list[OtherAnswer]:
    return [
        OtherAnswer(
            part.split.name, row, *(with_label_names(answer, task.labels) for answer in (before, now, target))
        )
        for part, others in zip(own, other, strict=True)
        for row, (before, now, target) in enumerate(
            zip(part.predictions, others.predictions, part.targets, strict=True), start=1
        )
        if before != now
    ]
