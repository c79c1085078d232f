"""A version beside the one that it replaces: both scores, and the examples lost and gained, on the same examples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limpet.errors import NotFoundError
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.forgetting import flipped_examples, negative_flip_rate, positive_flip_rate
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadPredictions, with_label_names
from limpet.forgetting.monitor.replacement_values import Loss, Replacement
from limpet.registry import versions
from limpet.registry.records import alarms, evaluations, log, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, SplitRecord, TaskRecord, VersionRecord
from limpet.registry.versions import VersionQuery, alias_history
from limpet.training.batching.examples import Text, words_of
from limpet.training.data.stored_splits import read_split
from limpet.training.task_types import metric as find_metric
from limpet.training.task_types import score

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


def reference_evaluation(store: Store, version: str, data_digest: str | None = None) -> EvaluationRecord | None:
    """Return the evaluation that a version is held against; null where it was never evaluated on these data.

    It is the first one, made when the version was registered, and nothing that a check wrote since; only a person
    replaces it, by accepting what the version answers now (see `limpet.registry.records.alarms`). After labels were
    corrected it is the same, scored anew.

    Args:
        store: The open home.
        version: The version, as `task@1`.
        data_digest: That of the split; null takes the rows that the version was evaluated on first.
    """
    accepted = [
        evaluation
        for id_ in alarms.accepted_evaluations(store, version)
        if (evaluation := evaluations.get(store, id_)) is not None
    ]
    known = evaluations.of_version(store, version)
    if data_digest is None:
        return accepted[0] if accepted else next(iter(known), None)
    of_data = [evaluation for evaluation in (*accepted, *known) if evaluation.data_digest == data_digest]
    taken = {evaluation.id for evaluation in accepted}
    origins = {evaluation.id: evaluation.rescored_from for evaluation in known}
    return next((one for one in of_data if _comes_from(one.id, taken, origins)), next(iter(of_data), None))


def _comes_from(evaluation: int, taken: Collection[int], origins: Mapping[int, int | None]) -> bool:
    """Tell whether an evaluation is one of these, or was scored anew from one of them."""
    at: int | None = evaluation
    while at is not None and at not in taken:
        at = origins.get(at)
    return at is not None


def comparable(store: Store, version: str, part: SplitRecord) -> EvaluationRecord | None:
    """Return the evaluation by which a version is compared on a split of its task as it is now; null for none."""
    return reference_evaluation(store, version, part.digest)


def compare_versions(store: Store, old: str, new: str, *, read: ReadPredictions, answers: bool = True) -> Replacement:
    """Compare a version with the one that it replaces, by what both answered to the same examples.

    Where the task has revisions, the comparison is over all its evaluation rows as they are now; `parts` has it for
    the rows that there were when the old version was learned, and for those that came since. Of rows that only one of
    them was evaluated on, `reason` says so, and the others are compared.

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
    entry = Replacement(task.name, old, new, task.definition.metric, answers=answers)
    pairs, missing = [], dict[str, None]()
    for part in task.evaluation_parts:
        before, now = comparable(store, old, part), comparable(store, new, part)
        if before is None or now is None:
            missing |= {version: None for version, one in ((old, before), (new, now)) if one is None}
            continue
        pair = _Pair(part, read(before), read(now))
        if before.metric != now.metric or pair.was.targets != pair.now.targets:
            return replace(entry, reason="they were evaluated by other metrics, or on other examples")
        pairs.append(pair)
    if missing:
        names, verb = " and ".join(missing), "was" if len(missing) == 1 else "were"
        entry = replace(
            entry,
            reason=f"{names} {verb} not evaluated on all the data that the task has now "
            f"(limpet evaluate {' '.join(missing)} does that)",
        )
    if not pairs:
        return entry
    compared = _compared(store, task, entry, pairs=pairs)
    learned_on = tasks.of_version(store, versions.look_up(store, old)).revision
    came_since = [pair for pair in pairs if pair.split.since > learned_on]
    if not came_since or len(came_since) == len(pairs):
        return compared
    there_were = [pair for pair in pairs if pair.split.since <= learned_on]
    parts = (
        _compared(store, task, replace(entry, rows=rows), pairs=some)
        for rows, some in (("old", there_were), ("new", came_since))
    )
    # one test for each replacement: its parts are counted, and conclude nothing
    return replace(compared, parts=tuple(replace(part, p_value=None) for part in parts))


@dataclass(frozen=True)
class _Pair:
    """What two versions answered to the examples of a split."""

    split: SplitRecord
    was: KeptPredictions
    now: KeptPredictions


def _compared(store: Store, task: TaskRecord, entry: Replacement, *, pairs: Sequence[_Pair]) -> Replacement:
    was, now = _pooled([pair.was for pair in pairs]), _pooled([pair.now for pair in pairs])
    old_score, new_score = (score(entry.metric, one.predictions, one.targets) for one in (was, now))
    return replace(
        entry,
        old_score=old_score,
        new_score=new_score,
        change=new_score - old_score,
        interval=change_interval(task.name, entry.metric, was, now=now),
        examples=len(was.targets),
        **_flips(store, task, pairs, was=was, now=now),
    )


def _pooled(parts: Sequence[KeptPredictions]) -> KeptPredictions:
    return KeptPredictions(
        tuple(answer for part in parts for answer in part.predictions),
        tuple(target for part in parts for target in part.targets),
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
                    # the task may have had another name then
                    replaced = f"{task}@{accepted['replaced'].rpartition('@')[2]}"
                    reasons[replaced, f"{task}@{event.detail['to']}"] = event.detail["reason"]
            cursor = page.cursor
            if cursor is None:
                break
    return reasons


def _flips(
    store: Store, task: TaskRecord, pairs: Sequence[_Pair], *, was: KeptPredictions, now: KeptPredictions
) -> Mapping[str, Any]:
    is_correct = find_metric(task.definition.metric).is_correct
    if is_correct is None:
        return {}
    answers = (was.predictions, now.predictions, was.targets)
    lost, gained = flipped_examples(*answers, is_correct=is_correct)
    return {
        "negative_flip_rate": negative_flip_rate(*answers, is_correct=is_correct),
        "positive_flip_rate": positive_flip_rate(*answers, is_correct=is_correct),
        "p_value": intervals.mcnemar_exact(len(lost), len(gained)),
        "lost_examples": lost,
        "gained_examples": gained,
        "losses": _losses(store, task, lost[:_LOSSES], pairs=pairs),
    }


def _losses(store: Store, task: TaskRecord, places: Sequence[int], *, pairs: Sequence[_Pair]) -> tuple[Loss, ...]:
    if not places:
        return ()
    texts = [example.text for pair in pairs for example in read_split(store, task, pair.split.name)]
    triples = [
        triple
        for pair in pairs
        for triple in zip(pair.was.predictions, pair.now.predictions, pair.was.targets, strict=True)
    ]
    return tuple(
        Loss(place, _shown(texts[place]), *(with_label_names(answer, task.labels) for answer in triples[place]))
        for place in places
    )


def _shown(text: Text) -> str:
    flat = " ".join(words_of(text))
    return flat if len(flat) <= _LONGEST_TEXT else f"{flat[: _LONGEST_TEXT - 3]}..."


def change_interval(task: str, metric: str, was: KeptPredictions, *, now: KeptPredictions) -> Interval | None:
    """Return the paired bootstrap interval of a score now less before; null where the metric can't be resampled."""
    if find_metric(metric).counts is None or not was.targets:
        return None
    column = intervals.Column(task, metric, was.targets, (was.predictions, now.predictions))
    (before,), (after,) = intervals.bootstrap_matrices([column], _SEED)
    return None if before is None or after is None else intervals.percentile_interval(after - before)
