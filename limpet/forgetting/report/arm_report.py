"""What one arm shows under one seed: metrics with intervals, flips, identity of its answers, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from limpet.forgetting.metrics import forgetting as metrics
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.forgetting import IsCorrect
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.monitor.kept_predictions import KeptPredictions
from limpet.forgetting.report.arm_cost import arm_cost
from limpet.forgetting.report.arm_runs import ArmRunEvidence
from limpet.forgetting.report.arm_values import ArmReport, McNemar, VersionReport
from limpet.registry.values import SERVED_AGREEMENT, EvaluationRecord, VersionRecord

__all__ = ["arm_report"]


def arm_report(evidence: ArmRunEvidence) -> ArmReport:
    """Return all that one arm shows under one seed."""
    earlier = evidence.earlier
    return ArmReport(
        name=evidence.arm.name,
        strategy=evidence.arm.strategy,
        method=evidence.arm.method,
        seed=evidence.arm.seed,
        task_identity="oracle",
        matrix=evidence.rows,
        audited=evidence.audited,
        metrics=evidence.metrics,
        reason=evidence.no_mean,
        intervals=_intervals(evidence),
        identical_predictions=_identical(evidence),
        answers_kept=_answers_kept(evidence),
        of_home=bool(evidence.answering_since),
        negative_flip_rate=tuple(_flip_rate(evidence, task, metrics.negative_flip_rate) for task in earlier),
        positive_flip_rate=tuple(_flip_rate(evidence, task, metrics.positive_flip_rate) for task in earlier),
        mcnemar=tuple(entry for task in earlier if (entry := _mcnemar(evidence, task)) is not None),
        cost=arm_cost(evidence.serving, evidence.fully),
        versions=tuple(map(_version, evidence.versions)),
        answering=tuple(map(_version, evidence.serving)),
        answering_since=evidence.answering_since or evidence.learned,
        sweep=evidence.arm.sweep,
        chosen=evidence.arm.chosen,
        finished=evidence.arm.finished,
        settings=_settings(evidence.versions),
    )


def _settings(versions: Sequence[VersionRecord]) -> dict[str, Any]:
    """The settings of the method and of the loop that the first task was learned with."""
    config = versions[0].config if versions else {}
    return {key: config[key] for key in ("method", "training", "max_length") if key in config}


def _version(version: VersionRecord) -> VersionReport:
    return VersionReport(
        version.reference,
        version.digest,
        version.method,
        version.size,
        version.created_at,
        version.metrics.get(SERVED_AGREEMENT),
    )


def _intervals(evidence: ArmRunEvidence) -> dict[str, Interval]:
    if not evidence.columns:
        return {}
    values = dict(evidence.resampled_metrics)
    for index, task in enumerate(evidence.tasks[: len(evidence.learned)]):
        values[f"score:{task}"] = evidence.resampled[-1][index]
    return {key: intervals.percentile_interval(known) for key, known in values.items() if known is not None}


def _identical(evidence: ArmRunEvidence) -> bool | None:
    """Whether every evaluation of an earlier task repeats the one made when it was learned."""
    pairs = [
        (evidence.cells[evidence.learned[task]][task], row[task])
        for task in evidence.earlier
        for row in evidence.cells[evidence.learned[task] + 1 :]
    ]
    # an evaluation can't prove itself, and an audit answers no example again
    again = [
        (learned, now) for learned, now in pairs if learned and now and learned.id != now.id and now.kind != "carried"
    ]
    if not all(_same(evidence, learned, now) for learned, now in again):
        return False
    asked_again = {now.id for _, now in again}
    last = evidence.cells[-1] if evidence.cells else ()
    evaluated = all((now := last[task]) and now.id in asked_again for task in evidence.earlier)
    return True if again and evaluated else None


def _answers_kept(evidence: ArmRunEvidence) -> bool | None:
    """Whether every version repeats its own first evaluation; None where one that answers was not asked again."""
    pairs = evidence.pairs()
    if not all(_same(evidence, before, now) for before, now in pairs):
        return False
    asked_again = {now.id for _, now in pairs}
    for task in evidence.earlier:
        now = evidence.cells[-1][task]
        before = {cell.version for row in evidence.cells[:-1] if (cell := row[task])}
        if now is None or (now.version in before and now.id not in asked_again):
            return None
    return True


def _same(evidence: ArmRunEvidence, learned: EvaluationRecord, now: EvaluationRecord) -> bool:
    # equal bits are promised inside one environment and batch plan only; elsewhere predictions must do
    same_conditions = (learned.environment, learned.plan_digest) == (now.environment, now.plan_digest)
    same_logits = learned.logits_digest == now.logits_digest or not same_conditions
    before, after = evidence.read(learned), evidence.read(now)
    # the same predictions are read once
    return same_logits and (before is after or metrics.identical_predictions(before.predictions, after.predictions))


class _FlipRate(Protocol):
    def __call__(
        self, learned: Sequence[Any], now: Sequence[Any], targets: Sequence[Any], *, is_correct: IsCorrect
    ) -> float | None: ...


def _flip_rate(evidence: ArmRunEvidence, task: int, rate: _FlipRate) -> float | None:
    learned, now, is_correct = _before_and_now(evidence, task)
    if not learned or not now or not is_correct:
        return None
    return rate(learned.predictions, now.predictions, now.targets, is_correct=is_correct)


def _mcnemar(evidence: ArmRunEvidence, task: int) -> McNemar | None:
    learned, now, is_correct = _before_and_now(evidence, task)
    if not learned or not now:
        return None
    first = evidence.learned[task]
    before, after = evidence.cells[first][task], evidence.cells[-1][task]
    assert before is not None and after is not None
    lost, gained, p_value = None, None, None
    if is_correct:
        flipped = metrics.flipped_examples(learned.predictions, now.predictions, now.targets, is_correct=is_correct)
        lost, gained = map(len, flipped)
        p_value = intervals.mcnemar_exact(lost, gained)
    elif (exchanged := evidence.exchanged(task)) is not None:
        p_value = intervals.difference_p_value(after.score - before.score, exchanged)
    if p_value is None:
        return None
    # the same examples are drawn for both steps, so that their difference is paired
    resampled = (evidence.resampled[-1][task], evidence.resampled[first][task]) if evidence.columns else (None, None)
    changes = resampled[0] - resampled[1] if resampled[0] is not None and resampled[1] is not None else None
    return McNemar(
        task=evidence.tasks[task],
        lost=lost,
        gained=gained,
        p_value=p_value,
        change=after.score - before.score,
        interval=None if changes is None else intervals.percentile_interval(changes),
    )


def _before_and_now(
    evidence: ArmRunEvidence, task: int
) -> tuple[KeptPredictions | None, KeptPredictions | None, IsCorrect | None]:
    """Return what a task answered when it was learned and answers now; nothing of other examples."""
    learned, now = evidence.predictions(evidence.learned[task], task), evidence.predictions(evidence.steps - 1, task)
    if learned and now and learned.targets != now.targets:
        return None, None, None
    return learned, now, evidence.is_correct(task)
