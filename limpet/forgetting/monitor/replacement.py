"""A version beside the one that it replaces: both scores, and the examples lost and gained, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from limpet.errors import NotFoundError
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.forgetting import flipped_examples, negative_flip_rate, positive_flip_rate
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadPredictions
from limpet.forgetting.monitor.replacement_values import Loss, Replacement
from limpet.registry import versions
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import alarms, evaluations, log, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, TaskRecord, VersionRecord
from limpet.registry.versions import VersionQuery, alias_history
from limpet.training.data.stored_splits import read_split
from limpet.training.task_types import metric as find_metric

__all__ = [
    "accepted_losses",
    "change_interval",
    "comparable",
    "compare_versions",
    "predecessor",
    "reference_evaluation",
]

_LOSSES = 20  # examples that are shown with their text
_LONGEST_TEXT = 200
_SEED = 0
_LOG_PAGE = 1000


def predecessor(store: Store, version: VersionRecord, alias: str) -> VersionRecord | None:
    """Return the version whose place another takes under an alias; null where it takes no other's.

    That is the version under the alias. Where `production` is not set, the newest other adapter answers for the task,
    and it is that one; any other alias that is not set replaces nothing.
    """
    try:
        stands = versions.resolve(store, f"{version.task}@{alias}")
    except NotFoundError:
        if alias != PRODUCTION:
            return None
        newest = versions.find(store, VersionQuery(task=version.task, where="role = adapter"), limit=2).items
        return next((other for other in newest if other.number != version.number), None)
    return stands if stands.number != version.number else None


def reference_evaluation(store: Store, version: str) -> EvaluationRecord | None:
    """Return the evaluation that a version is held against; null where it was never evaluated.

    It is the first one, made when the version was registered, and nothing that a check wrote since; only a person
    replaces it, by accepting what the version answers now (see `limpet.registry.records.alarms`).
    """
    if (accepted := alarms.accepted_evaluation(store, version)) is not None:
        return evaluations.get(store, accepted)
    of_version = evaluations.full(store, version, version)
    return of_version[-1] if of_version else None


def comparable(store: Store, version: str) -> EvaluationRecord | None:
    """Return the evaluation by which a version is compared: the first there is of its task's data as they are now."""
    data = tasks.get(store, version.partition("@")[0]).split("evaluation").digest
    reference = reference_evaluation(store, version)
    if reference is not None and reference.data_digest == data:
        return reference
    of_this_data = [
        evaluation for evaluation in evaluations.full(store, version, version) if evaluation.data_digest == data
    ]
    return of_this_data[-1] if of_this_data else None


def compare_versions(store: Store, old: str, new: str, *, read: ReadPredictions, answers: bool = True) -> Replacement:
    """Compare a version with the one that it replaces, by what both answered to the same examples.

    Args:
        store: The open home.
        old: The version that is replaced, as `task@1`.
        new: The version that takes its place.
        read: Reads kept predictions.
        answers: Whether the new version has taken the place.

    Raises:
        IntegrityError: Kept predictions are missing or corrupt.
    """
    task = tasks.get(store, new.partition("@")[0])
    before, now = comparable(store, old), comparable(store, new)
    entry = Replacement(task.name, old, new, task.definition.metric, answers=answers)
    missing = next((name for name, one in ((old, before), (new, now)) if one is None), None)
    if before is None or now is None:
        return replace(entry, reason=f"{missing} was not evaluated on the data that the task has now")
    was, answered = read(before), read(now)
    if before.metric != now.metric or was.targets != answered.targets:
        return replace(entry, reason="they were evaluated by other metrics, or on other examples")
    return replace(
        entry,
        old_score=before.score,
        new_score=now.score,
        change=now.score - before.score,
        interval=change_interval(task.name, before.metric, was, now=answered),
        examples=len(was.targets),
        **_flips(store, task, was, now=answered),
    )


def accepted_losses(store: Store, task: str) -> dict[tuple[str, str], str]:
    """Return the replacements of a task's versions that somebody accepted although a rule was crossed, with why.

    They are read from the log, which nobody can change unseen.
    """
    reasons: dict[tuple[str, str], str] = {}
    for alias in {event.alias for event in alias_history.moves(store, task)}:
        cursor = None
        while True:
            page = log.read(store, f"{task}@{alias}", _LOG_PAGE, cursor=cursor)
            for event in page.items:
                if accepted := event.detail.get("accepted"):
                    reasons[accepted["replaced"], f"{task}@{event.detail['to']}"] = event.detail["reason"]
            cursor = page.cursor
            if cursor is None:
                break
    return reasons


def _flips(store: Store, task: TaskRecord, was: KeptPredictions, *, now: KeptPredictions) -> Mapping[str, Any]:
    is_correct = find_metric(task.definition.metric).is_correct
    if is_correct is None:
        return {}
    triples = list(zip(was.predictions, now.predictions, was.targets, strict=True))
    answers = (was.predictions, now.predictions, was.targets)
    lost, gained = flipped_examples(*answers, is_correct=is_correct)
    return {
        "negative_flip_rate": negative_flip_rate(*answers, is_correct=is_correct),
        "positive_flip_rate": positive_flip_rate(*answers, is_correct=is_correct),
        "p_value": intervals.mcnemar_exact(len(lost), len(gained)),
        "lost_examples": lost,
        "gained_examples": gained,
        "losses": _losses(store, task, lost[:_LOSSES], triples=triples),
    }


def _losses(
    store: Store, task: TaskRecord, places: Sequence[int], *, triples: Sequence[tuple[Any, Any, Any]]
) -> tuple[Loss, ...]:
    if not places:
        return ()
    texts = [example.text for example in read_split(store, task, "evaluation")]
    return tuple(
        Loss(place, _shown(texts[place]), *(_named(task, answer) for answer in triples[place])) for place in places
    )


def _named(task: TaskRecord, answer: JsonValue) -> JsonValue:
    """An answer with its labels by name; other answers as they are."""
    if isinstance(answer, tuple):
        return [_named(task, part) for part in answer]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(task.labels):
        return task.labels[answer]
    return answer


def _shown(text: str | tuple[str, ...]) -> str:
    flat = " ".join(text.split() if isinstance(text, str) else text)
    return flat if len(flat) <= _LONGEST_TEXT else f"{flat[: _LONGEST_TEXT - 3]}..."


def change_interval(task: str, metric: str, was: KeptPredictions, *, now: KeptPredictions) -> Interval | None:
    """Return the paired bootstrap interval of a score now less before; null where the metric can't be resampled."""
    if find_metric(metric).counts is None or not was.targets:
        return None
    column = intervals.Column(task, metric, was.targets, (was.predictions, now.predictions))
    (before,), (after,) = intervals.bootstrap_matrices([column], _SEED)
    return None if before is None or after is None else intervals.percentile_interval(after - before)
