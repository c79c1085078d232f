"""What the kept answers to ability tasks show under an arm: values, changes with their intervals, and identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limpet.errors import IntegrityError
from limpet.forgetting import strategies
from limpet.forgetting.json_form import as_tuples
from limpet.forgetting.metrics import intervals as statistics
from limpet.forgetting.metrics.intervals import Column, Interval
from limpet.forgetting.report.arm_runs import ArmRunEvidence
from limpet.forgetting.report.arm_values import AbilityReport, AdapterReport
from limpet.forgetting.stream.general_ability import Where, ability_tasks_of, adapter_question, other_adapter, recall
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import AbilityRecord, StreamRecord
from limpet.training.evaluation.general_ability import Question, score_of
from limpet.training.metrics.ability import scored_by
from limpet.training.task_types import metric, score

__all__ = ["abilities_of", "adapters_of", "found_after", "kept_answers", "over_first"]

_SEED = 0  # the examples drawn are the same whenever a report is made
_ROUNDING = 1e-9  # sums may differ in the last bits from machine to machine

Rows = tuple[Any, ...]


def abilities_of(store: Store, stream: StreamRecord, evidence: ArmRunEvidence) -> tuple[AbilityReport, ...]:
    """Return every ability task that was asked before an arm and after each of its steps so far.

    Raises:
        IntegrityError: Kept answers are missing or corrupt, or do not give the recorded score.
    """
    reports = (
        _ability(store, stream, evidence, ability_task=ability_task)
        for ability_task in (ability_tasks_of(store, stream) if evidence.steps else ())
    )
    return tuple(report for report in reports if report is not None)


def found_after(store: Store, stream: StreamRecord, version: str | None) -> dict[str, float]:
    """Return what every ability task found under a version, by kind and task; with null, what the base alone gave."""
    records = (
        recall(store, ability_task.identity, stream.base_digest, where=Where(state=version))
        for ability_task in ability_tasks_of(store, stream)
    )
    return {
        f"{record.probe['kind']}/{record.probe['task']}": record.score for record in records if record is not None
    }


def adapters_of(store: Store, stream: StreamRecord, evidence: ArmRunEvidence) -> tuple[AdapterReport, ...]:
    """Return every task of an arm under its own adapter, another's and none; nothing where that was not asked.

    Raises:
        IntegrityError: Kept answers are missing or corrupt, or do not give the recorded score.
    """
    # a version of another arm may be the same as one here, and what was asked of it no question of this arm
    if "ability" not in stream.spec or strategies.get(evidence.arm.strategy).role != "adapter":
        return ()
    reports = (_adapter(store, stream, evidence, place=place) for place in range(evidence.steps))
    return tuple(report for report in reports if report is not None)


def _ability(
    store: Store, stream: StreamRecord, evidence: ArmRunEvidence, *, ability_task: Question
) -> AbilityReport | None:
    def look(where: Where) -> AbilityRecord | None:
        return recall(store, ability_task.identity, stream.base_digest, where=where)

    before = look(Where())
    steps = [look(Where(state=version.reference)) for version in evidence.versions]
    asked = [step for step in steps if step is not None]
    if before is None or len(asked) < len(steps):
        return None
    again = look(Where(after=evidence.versions[-1].reference))
    rows = [kept_answers(store, record)[0] for record in (before, *asked)]
    intervals, p_values = over_first(
        ability_task.name, ability_task.metric, kept_answers(store, before)[1], rows=rows
    )
    return AbilityReport(
        kind=ability_task.kind,
        task=ability_task.name,
        metric=ability_task.metric,
        examples=before.examples,
        before=before.score,
        steps=tuple(step.score for step in asked),
        intervals=intervals,
        p_values=p_values,
        taken_off=again.score if again else None,
        identical=_identical(before, again) if again else None,
    )


def _identical(before: AbilityRecord, again: AbilityRecord) -> bool:
    return (before.logits_digest, before.predictions_digest) == (again.logits_digest, again.predictions_digest)


def _adapter(store: Store, stream: StreamRecord, evidence: ArmRunEvidence, *, place: int) -> AdapterReport | None:
    cell, version, name = evidence.cells[place][place], evidence.versions[place], evidence.tasks[place]
    wrong = other_adapter(evidence.tasks, name)
    # before the last step, there is no saying which adapter stands for a wrong one
    if cell is None or evidence.steps < len(evidence.tasks):
        return None
    question = adapter_question(tasks.of_version(store, version), version)

    def look(state: str | None) -> AbilityRecord | None:
        return recall(store, question, stream.base_digest, where=Where(state=state, head=version.reference))

    without = look(None)
    under_wrong = look(evidence.versions[evidence.tasks.index(wrong)].reference) if wrong else None
    if without is None:
        return None
    own = evidence.read(cell)
    rows = [
        own.predictions,
        *(kept_answers(store, record)[0] for record in (under_wrong, without) if record is not None),
    ]
    # own less another, where the interval is that of another less own
    intervals, p_values = over_first(name, cell.metric, own.targets, rows=rows)
    own_less_other = [_turn(interval) for interval in intervals]
    return AdapterReport(
        task=name,
        metric=cell.metric,
        own=cell.score,
        wrong_task=wrong,
        wrong=under_wrong.score if under_wrong else None,
        none=without.score,
        over_wrong=own_less_other[0] if under_wrong else None,
        over_none=own_less_other[-1],
        p_value=p_values[0] if under_wrong else None,
    )


def _turn(interval: Interval | None) -> Interval | None:
    return None if interval is None else (-interval[1], -interval[0])


def kept_answers(store: Store, found: AbilityRecord) -> tuple[Rows, Rows]:
    """Return the kept answers to an ability task, and what is right.

    Raises:
        IntegrityError: They are missing or corrupt, or do not give the recorded score.
    """
    content = evaluations.predictions(store, found)
    given = score_of(found.metric, content["predictions"], content["targets"])
    if abs(given - found.score) > _ROUNDING * max(1.0, abs(given)):
        raise IntegrityError(
            f"The {found.metric} of an ability task is recorded as {found.score:g}, and its answers give {given:g}.",
            "limpet verify --deep",
        )
    return as_tuples(content["predictions"]), as_tuples(content["targets"])


def over_first(
    task: str, name: str, targets: Rows, *, rows: Sequence[Rows]
) -> tuple[tuple[Interval | None, ...], tuple[float | None, ...]]:
    """Return each row's score less the first's: the paired bootstrap interval, and the p-value by random exchange.

    The p-value is null where no answer differs.
    """
    scored, sign = scored_by(name)
    if metric(scored).counts is None:
        return (None,) * (len(rows) - 1), (None,) * (len(rows) - 1)
    column = Column(task, scored, targets, tuple(rows))
    resampled = [scores for (scores,) in statistics.bootstrap_matrices([column], _SEED, statistics.RESAMPLES)]
    first = resampled[0]
    differences = (None if scores is None or first is None else sign * (scores - first) for scores in resampled[1:])
    intervals = tuple(
        None if difference is None else statistics.percentile_interval(difference) for difference in differences
    )
    return intervals, tuple(_p_value(column, place) for place in range(1, len(rows)))


def _p_value(column: Column, place: int) -> float | None:
    exchanged = statistics.exchanged_changes(column, 0, place, seed=_SEED, exchanges=statistics.EXCHANGES)
    if not exchanged.any():
        return None
    before, now = (score(column.metric, column.predictions[at] or (), column.targets) for at in (0, place))
    return statistics.difference_p_value(now - before, exchanged)
