"""The gate: the rules that say whether an addition may be promoted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from limpet.forgetting.metrics.forgetting import forgetting_max, forgetting_terms, worst_forgetting
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.report.arm_values import ArmReport
from limpet.registry.values import VersionRecord

__all__ = ["Crossing", "GateRules", "TaskRules", "check", "check_replacement", "check_version", "unjudged"]

# a limit of 0.05 is not crossed by 0.05 that came out of a subtraction as 0.050000000000000044
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TaskRules:
    """Limits of one task, which win over those of all tasks; a rule that is None does not apply.

    Args:
        max_forgetting: The most that the task may have lost: the task's own term of `forgetting_max`.
        max_negative_flips: The most that its `negative_flip_rate` may be.
        min_score: The least that its score may be now.
    """

    max_forgetting: float | None = None
    max_negative_flips: float | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class GateRules:
    """What an addition may cost; a rule that is None or False does not apply.

    Args:
        max_forgetting: The most `forgetting_max` allowed, the mean over earlier tasks.
        max_worst: The most `worst_forgetting` allowed, the loss of a single earlier task.
        require_identical: Whether every earlier prediction must be exactly what it was.
        max_negative_flips: The most `negative_flip_rate` allowed for any earlier task.
        min_score: The least score allowed now for any task.
        max_bytes: The most bytes that any version may have.
        max_train_seconds: The longest that any task may have trained.
        max_share: The largest share of the base's parameters that may have been trained for a task.
        tasks: Limits of single tasks.
    """

    max_forgetting: float | None = None
    max_worst: float | None = None
    require_identical: bool = False
    max_negative_flips: float | None = None
    min_score: float | None = None
    max_bytes: float | None = None
    max_train_seconds: float | None = None
    max_share: float | None = None
    tasks: Mapping[str, TaskRules] = field(default_factory=dict)

    def of(self, task: str) -> TaskRules:
        """Return the limits of one task; its own `max_forgetting` has no default, for that of all is a mean."""
        own = self.tasks.get(task, TaskRules())
        return TaskRules(
            own.max_forgetting,
            self.max_negative_flips if own.max_negative_flips is None else own.max_negative_flips,
            self.min_score if own.min_score is None else own.min_score,
        )


@dataclass(frozen=True)
class Crossing:
    """One rule that was crossed, a sentence that says how, and the task where it is about one.

    `rule` is `forgetting`, `worst`, `identical`, `task-forgetting`, `flips`, `score`, `bytes`, `seconds` or `share`;
    of a version that takes another's place `replaced-forgetting`, `replaced-worst`, `replaced-flips`, or
    `replaced-unknown` where the two can't be compared.
    """

    rule: str
    detail: str
    task: str | None = None


def check(arm: ArmReport, rules: GateRules, since: Mapping[str, int] | None = None) -> tuple[Crossing, ...]:
    """Return the rules that an arm crosses, in the order that `Crossing` names them.

    With `since`, what a task scored before that row is not held against it: another version answered then, which is
    judged by itself or was judged before.

    Nothing is forgotten before a second task is learned, and a metric that is undefined crosses no limit.
    Identity is another matter: it is required as proof, so a matrix that lacks the evidence crosses that
    rule.
    """
    crossed = list(_about_earlier_tasks(arm, rules, since or {})) if len(arm.matrix) > 1 else []
    return (*crossed, *_scores(arm, rules), *_cost(arm, rules))


def check_replacement(replacement: Replacement, rules: GateRules) -> tuple[Crossing, ...]:
    """Return the rules that a version crosses by taking another's place.

    The loss of one task is held against the limits on forgetting as it is: no mean over other tasks thins it out. Two
    versions that can't be compared cross any of these rules, for nothing shows that they do not.
    """
    own = rules.of(replacement.task)
    forgetting = rules.max_forgetting if own.max_forgetting is None else own.max_forgetting
    if replacement.change is None:
        limits = (forgetting, rules.max_worst, own.max_negative_flips)
        if all(limit is None for limit in limits):
            return ()
        return (Crossing("replaced-unknown", replacement.sentence(), replacement.task),)
    lost, pair = -replacement.change, f"{replacement.new} in the place of {replacement.old}"
    # what is lost on the old rows is not thinned out by new ones, nor the other way round
    flips = [
        (
            "replaced-flips",
            f"replaced_negative_flip_rate{f' on the {rows.rows} rows' if rows.rows else ''}",
            rows.negative_flip_rate,
            own.max_negative_flips,
        )
        for rows in (replacement, *replacement.parts)
    ]
    return tuple(
        Crossing(rule, f"{pair}: {key} is {value:.4f}, above the limit of {limit:g}.", replacement.task)
        for rule, key, value, limit in (
            ("replaced-forgetting", f"the {replacement.metric} lost", lost, forgetting),
            ("replaced-worst", f"the {replacement.metric} lost", lost, rules.max_worst),
            *flips,
        )
        if limit is not None and value is not None and value > limit + _ROUNDING
    )


def check_version(version: VersionRecord, score: float | None, rules: GateRules) -> tuple[Crossing, ...]:
    """Return the rules that a version crosses by itself, whatever it replaces: its score, size and cost."""
    task, reference = version.task, version.reference
    least = rules.of(task).min_score
    found = []
    if least is not None and score is not None and score < least - _ROUNDING:
        detail = f"the score of {reference} is {score:.4f}, below the limit of {least:g}."
        found.append(Crossing("score", detail, task))
    for rule, key, value, limit in (
        ("bytes", "size in bytes", version.size, rules.max_bytes),
        ("seconds", "train_seconds", version.cost.get("train_seconds"), rules.max_train_seconds),
        ("share", "trainable_share", version.cost.get("trainable_share"), rules.max_share),
    ):
        if limit is not None and value is not None and value > limit + _ROUNDING:
            found.append(Crossing(rule, f"{key} of {reference} is {value:g}, above the limit of {limit:g}.", task))
    return tuple(found)


def unjudged(replacement: Replacement, rules: GateRules) -> str:
    """Return which rule could not be held against a replacement, so that none passes in silence; else nothing."""
    if rules.of(replacement.task).max_negative_flips is None:
        return ""
    if replacement.change is None or replacement.negative_flip_rate is not None:
        return ""
    return (
        f"max_negative_flips was not held against {replacement.new}: {replacement.metric} knows no right and wrong "
        f"answers, so that only the scores were compared; max_forgetting limits what they may lose"
    )


def _about_earlier_tasks(arm: ArmReport, rules: GateRules, since: Mapping[str, int]) -> Iterator[Crossing]:
    first = [max(row, since.get(task, row)) for task, row in zip(arm.tasks, arm.learned, strict=True)]
    earlier = [task for task, row in zip(arm.tasks, first, strict=True) if row < len(arm.matrix) - 1]
    terms = dict(zip(earlier, forgetting_terms(arm.matrix, first), strict=True))
    for rule, key, limit, metric in (
        ("forgetting", "forgetting_max", rules.max_forgetting, forgetting_max),
        ("worst", "worst_forgetting", rules.max_worst, worst_forgetting),
    ):
        if arm.reason is None:
            value = arm.metrics[key] if first == list(arm.learned) else metric(arm.matrix, first)
            yield from (_with_null(arm, crossing) for crossing in _above(arm, rule, key, value=value, limit=limit))
        elif limit is not None:
            yield from _without_unit(arm, rule, key, terms=terms, limit=limit)
    if rules.require_identical and not (arm.answers_kept or arm.identical_predictions):
        yield Crossing("identical", f"{_arm(arm)}: {_not_identical(arm)}.")
    for task, lost in terms.items():
        yield from _above(
            arm, "task-forgetting", "forgetting", value=lost, limit=rules.of(task).max_forgetting, task=task
        )
    for task, rate, row, learned in zip(arm.tasks, arm.negative_flip_rate, first, arm.learned, strict=False):
        if row == learned:
            yield from _above(
                arm, "flips", "negative_flip_rate", value=rate, limit=rules.of(task).max_negative_flips, task=task
            )


def _with_null(arm: ArmReport, crossing: Crossing) -> Crossing:
    """Say beside `forgetting_max` what it would be without any drift, for a maximum over noisy scores is above 0."""
    null = arm.metrics.get("forgetting_max_null")
    if crossing.rule != "forgetting" or null is None:
        return crossing
    return replace(crossing, detail=f"{crossing.detail[:-1]}; without any drift it would be {null:.4f}.")


def _without_unit(
    arm: ArmReport, rule: str, key: str, *, terms: Mapping[str, float | None], limit: float
) -> Iterator[Crossing]:
    """Hold tasks without a common unit against a limit on all of them: it is kept only where none of them lost.

    Where no task lost anything, nothing that weighs their losses can be above 0, whatever the units. A loss is not
    told in a number that the limit could be held against, and what can't be judged is not let through.
    """
    lost = [task for task, term in terms.items() if term is not None and term > _ROUNDING]
    if limit >= 0 and not lost:
        return
    told = f"{', '.join(lost)} lost since learned" if lost else "the limit asks for a gain"
    yield Crossing(
        rule,
        f"{_arm(arm)}: {key} is undefined ({arm.reason}), and {told}; give tasks limits of their own, such as "
        f"--max-forgetting {(lost or list(terms))[0]}=X, and take back the limit of {limit:g} on all.",
    )


def _scores(arm: ArmReport, rules: GateRules) -> Iterator[Crossing]:
    for task, score in zip(arm.tasks, arm.matrix[-1] if arm.matrix else (), strict=False):
        limit = rules.of(task).min_score
        if limit is not None and score is not None and score < limit - _ROUNDING:
            detail = f"{_arm(arm)}: the score of {task} is {score:.4f}, below the limit of {limit:g}."
            yield Crossing("score", detail, task)


def _cost(arm: ArmReport, rules: GateRules) -> Iterator[Crossing]:
    for version in arm.answering or arm.versions:
        yield from _above(arm, "bytes", "bytes", value=version.size, limit=rules.max_bytes, task=version.task)
    for task, seconds in zip(arm.tasks, arm.cost.train_seconds, strict=False):
        yield from _above(arm, "seconds", "train_seconds", value=seconds, limit=rules.max_train_seconds, task=task)
    yield from _above(arm, "share", "trainable_share", value=arm.cost.trainable_share, limit=rules.max_share)


def _above(
    arm: ArmReport, rule: str, key: str, *, value: float | None, limit: float | None, task: str | None = None
) -> Iterator[Crossing]:
    if limit is None or value is None or value <= limit + _ROUNDING:
        return
    shown = f"{value:.4f}" if isinstance(value, float) else str(value)
    of = f" of {task}" if task else ""
    yield Crossing(rule, f"{_arm(arm)}: {key}{of} is {shown}, above the limit of {limit:g}.", task)


def _arm(arm: ArmReport) -> str:
    return f"arm {arm.name}, seed {arm.seed}"


def _not_identical(arm: ArmReport) -> str:
    if arm.identical_predictions is None:
        return "an earlier task was not evaluated again, so nothing shows that its predictions are the same"
    if arm.differences:
        return f"an earlier task's predictions changed ({arm.differences[0].sentence()})"
    return "an earlier task's predictions changed"
