"""One ability task under a version and on the base alone: both values, and the interval of their difference."""

from __future__ import annotations

from dataclasses import dataclass

from limpet.errors import ConflictError
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.report.general_ability import kept_answers, over_first
from limpet.forgetting.stream.general_ability import ask
from limpet.registry.store import Store
from limpet.registry.values import AbilityRecord, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation import general_ability
from limpet.training.evaluation.general_ability import Question
from limpet.training.metrics.ability import less_is_better
from limpet.training.progress import SILENT, Progress

__all__ = ["AbilityComparison", "compare_with_base"]


@dataclass(frozen=True)
class AbilityComparison:
    """What a version does to an ability task while it is active.

    `base` and `active` are what the base alone and the version gave. `difference` is the second less the first,
    `interval` its paired bootstrap interval over the examples, and `p_value` that of no change by random exchange of
    each example's two answers, null where none differs. `less_is_better` tells which way is a loss.
    """

    version: str
    kind: str
    task: str
    metric: str
    less_is_better: bool
    examples: int
    base: AbilityRecord
    active: AbilityRecord
    difference: float
    interval: Interval | None
    p_value: float | None


def compare_with_base(
    store: Store, backbone: Backbone, version: VersionRecord, *, question: Question, progress: Progress = SILENT
) -> AbilityComparison:
    """Ask an ability task of the base alone and under a version, unless that was asked before; keep the answers.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: The version.
        question: The ability task.
        progress: Receives every batch.

    Raises:
        UsageError: The base can't answer it.
        IntegrityError: A file is corrupt, or the version belongs to another base.
        ConflictError: The base was asked in another way, such as by another release of lm-eval.
    """
    general_ability.check(backbone, question)
    base = ask(store, backbone, question, state=None, progress=progress)
    active = ask(store, backbone, question, state=version, progress=progress)
    if base.plan_digest != active.plan_digest:
        raise ConflictError(
            f"The base and {version.reference} were not asked the same of {question.name!r}: their answers are of "
            "two releases of lm-eval.",
            "give the task file another metadata, such as {version: 2}: it is another question then",
        )
    (before, targets), (after, _) = kept_answers(store, base), kept_answers(store, active)
    intervals, p_values = over_first(question.name, question.metric, targets, rows=[before, after])
    return AbilityComparison(
        version=version.reference,
        kind=question.kind,
        task=question.name,
        metric=question.metric,
        less_is_better=less_is_better(question.metric),
        examples=base.examples,
        base=base,
        active=active,
        difference=active.score - base.score,
        interval=intervals[0],
        p_value=p_values[0],
    )
