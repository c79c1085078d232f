"""The gate: the rules that say whether an addition may be promoted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from limpet.forgetting.metrics import forgetting_terms
from limpet.forgetting.report_values import ArmReport

__all__ = ["Crossing", "GateRules", "TaskRules", "check"]

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

    `rule` is `forgetting`, `worst`, `identical`, `task-forgetting`, `flips`, `score`, `bytes`, `seconds` or `share`.
    """

    rule: str
    detail: str
    task: str | None = None


def check(arm: ArmReport, rules: GateRules) -> tuple[Crossing, ...]:
    """Return the rules that an arm crosses, in the order that `Crossing` names them.

    Nothing is forgotten before a second task is learned, and a metric that is undefined crosses no limit.
    Identity is another matter: it is required as proof, so a matrix that lacks the evidence crosses that
    rule.
    """
    crossed = list(_about_earlier_tasks(arm, rules)) if len(arm.matrix) > 1 else []
    return (*crossed, *_scores(arm, rules), *_cost(arm, rules))


def _about_earlier_tasks(arm: ArmReport, rules: GateRules) -> Iterator[Crossing]:
    terms = dict(zip(arm.tasks, forgetting_terms(arm.matrix, arm.learned), strict=False))
    for rule, key, limit in (
        ("forgetting", "forgetting_max", rules.max_forgetting),
        ("worst", "worst_forgetting", rules.max_worst),
    ):
        if arm.reason is None:
            yield from _above(arm, rule, key, arm.metrics[key], limit)
        elif limit is not None:
            yield from _without_unit(arm, rule, key, terms, limit)
    if rules.require_identical and not (arm.answers_kept or arm.identical_predictions):
        yield Crossing("identical", f"{_arm(arm)}: {_not_identical(arm)}.")
    for task, lost in terms.items():
        yield from _above(arm, "task-forgetting", "forgetting", lost, rules.of(task).max_forgetting, task)
    for task, rate in zip(arm.tasks, arm.negative_flip_rate, strict=False):
        yield from _above(arm, "flips", "negative_flip_rate", rate, rules.of(task).max_negative_flips, task)


def _without_unit(
    arm: ArmReport, rule: str, key: str, terms: Mapping[str, float | None], limit: float
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
        yield from _above(arm, "bytes", "bytes", version.size, rules.max_bytes, version.task)
    for task, seconds in zip(arm.tasks, arm.cost.train_seconds, strict=False):
        yield from _above(arm, "seconds", "train_seconds", seconds, rules.max_train_seconds, task)
    yield from _above(arm, "share", "trainable_share", arm.cost.trainable_share, rules.max_share)


def _above(
    arm: ArmReport, rule: str, key: str, value: float | None, limit: float | None, task: str | None = None
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
