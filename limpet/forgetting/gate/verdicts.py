"""What was measured beside each rule of the gate, and which of them are crossed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from limpet.first_few import first_few
from limpet.forgetting.gate.rules import GateRules
from limpet.forgetting.metrics.forgetting import forgetting_max, forgetting_terms, worst_forgetting
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.report.arm_values import ArmReport
from limpet.registry.values import VersionRecord

__all__ = ["Verdict", "check", "check_replacement", "check_version", "crossings", "unjudged"]

# a limit of 0.05 is not crossed by 0.05 that came out of a subtraction as 0.050000000000000044
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Verdict:
    """One rule held against what was measured; `detail` says in a sentence what came of it.

    `rule` is `forgetting`, `worst`, `identical`, `task-forgetting`, `flips`, `score`, `bytes`, `seconds` or `share`;
    of a version that takes another's place `replaced-forgetting`, `replaced-worst`, `replaced-flips`, or
    `replaced-unknown` where the two can't be compared. `measure` names what `value` is. A `value` is null where it is
    undefined, which crosses no limit, or not shown, which crosses what must be proved.

    Args:
        task: The task that the rule is about; null where it is about all.
        version: The version that it is about, as `task@3`; null where it is about several.
        arm: The arm of a stream, with its seed; null in a home's own growth.
    """

    rule: str
    detail: str
    measure: str
    value: float | bool | None
    limit: float | bool | None
    crossed: bool
    task: str | None = None
    version: str | None = None
    arm: str | None = None


def crossings(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return those that are crossed."""
    return tuple(verdict for verdict in verdicts if verdict.crossed)


def check(
    arm: ArmReport, rules: GateRules, since: Mapping[str, int] | None = None, *, of_home: bool = False
) -> tuple[Verdict, ...]:
    """Hold an arm against every rule that is set, in the order that `Verdict` names them.

    With `since`, what a task scored before that row is not held against it: another version answered then, which is
    judged by itself or was judged before. With `of_home`, the arm is a home's own growth: the sentences then speak of
    tasks and versions alone, for a home has no arms and no seeds.

    Nothing is forgotten before a second task is learned, and a metric that is undefined crosses no limit. But where
    an earlier task was not asked again after the last addition, nothing shows that a limit on what is lost is kept,
    and it is crossed. A score that an audit carried forward counts as it stands, and the sentence says so. Identity
    is required as proof, example by example: neither an audit nor a matrix that lacks the evidence gives it.
    """
    earlier = (_with_audits(arm, verdict) for verdict in _about_earlier_tasks(arm, rules, since or {}))
    verdicts = (*earlier, *_scores(arm, rules), *_cost(arm, rules))
    if of_home:
        return verdicts
    return tuple(replace(verdict, detail=f"arm {arm.label}: {verdict.detail}", arm=arm.label) for verdict in verdicts)


def check_replacement(replacement: Replacement, rules: GateRules) -> tuple[Verdict, ...]:
    """Hold a version that takes another's place against the rules about that.

    The loss of one task is held against the limits on forgetting as it is: no mean over other tasks thins it out. Two
    versions that can't be compared cross any of these rules, for nothing shows that they do not.
    """
    task, own = replacement.task, rules.of(replacement.task)
    forgetting = rules.max_forgetting if own.max_forgetting is None else own.max_forgetting
    if replacement.change is None:
        limits = [limit for limit in (forgetting, rules.max_worst, own.max_negative_flips) if limit is not None]
        unknown = Verdict(
            "replaced-unknown",
            replacement.sentence(),
            "score lost",
            None,
            min(limits, default=None),
            True,
            task,
            replacement.new,
        )
        return (unknown,) if limits else ()
    pair = f"{replacement.new} in the place of {replacement.old}"
    lost, named = -replacement.change, f"the {replacement.metric} lost"
    held: list[tuple[str, str, float | None, float | None]] = [
        ("replaced-forgetting", named, lost, forgetting),
        ("replaced-worst", named, lost, rules.max_worst),
    ]
    # what is lost on the old rows is not thinned out by new ones, nor the other way round
    for rows in (replacement, *replacement.parts):
        measure = f"replaced_negative_flip_rate{f' on the {rows.rows} rows' if rows.rows else ''}"
        held.append(("replaced-flips", measure, rows.negative_flip_rate, own.max_negative_flips))
    return tuple(
        _most(rule, measure, value, limit=limit, subject=f"{pair}: {measure}", about=(task, replacement.new))
        for rule, measure, value, limit in held
        if limit is not None
    )


def check_version(version: VersionRecord, score: float | None, rules: GateRules) -> tuple[Verdict, ...]:
    """Hold a version by itself against the rules about score, size and cost, whatever it replaces."""
    reference = version.reference
    about = (version.task, reference)
    least = rules.of(version.task).min_score
    verdicts = [] if least is None else [_least(score, least, f"the score of {reference}", about=about)]
    held = (
        ("bytes", "bytes", version.size, rules.max_bytes),
        ("seconds", "train_seconds", version.cost.get("train_seconds"), rules.max_train_seconds),
        ("share", "trainable_share", version.cost.get("trainable_share"), rules.max_share),
    )
    verdicts += [
        _most(rule, measure, value, limit=limit, subject=f"{measure} of {reference}", about=about)
        for rule, measure, value, limit in held
        if limit is not None
    ]
    return tuple(verdicts)


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


def _about_earlier_tasks(arm: ArmReport, rules: GateRules, since: Mapping[str, int]) -> Iterator[Verdict]:
    first = [max(row, since.get(task, row)) for task, row in zip(arm.tasks, arm.learned, strict=True)]
    earlier = [task for task, row in zip(arm.tasks, first, strict=True) if row < len(arm.matrix) - 1]
    terms = dict(zip(earlier, forgetting_terms(arm.matrix, first), strict=True)) if earlier else {}
    missing = [task for task in earlier if arm.of_home and task in arm.not_evaluated]
    for rule, key, limit, metric in (
        ("forgetting", "forgetting_max", rules.max_forgetting, forgetting_max),
        ("worst", "worst_forgetting", rules.max_worst, worst_forgetting),
    ):
        if limit is None:
            continue
        if missing:
            yield _unknown(rule, key, missing, limit=limit)
        elif arm.reason is None:
            value = arm.metrics[key] if first == list(arm.learned) else metric(arm.matrix, first)
            yield _with_null(arm, _most(rule, key, value, limit=limit, subject=key))
        else:
            yield _without_unit(arm, rule, key, terms=terms, limit=limit)
    if rules.require_identical:
        yield _identical(arm, len(arm.matrix) > 1)
    for task, lost in terms.items():
        if (limit := rules.of(task).max_forgetting) is not None:
            subject = f"forgetting of {task}"
            if task in missing:
                yield _unknown("task-forgetting", "forgetting", [task], limit=limit, task=task)
                continue
            yield _most("task-forgetting", "forgetting", lost, limit=limit, subject=subject, about=(task, None))
    if len(arm.matrix) > 1:
        yield from _flips(arm, rules, first)


def _flips(arm: ArmReport, rules: GateRules, first: Sequence[int]) -> Iterator[Verdict]:
    for task, rate, row, learned in zip(arm.tasks, arm.negative_flip_rate, first, arm.learned, strict=False):
        limit = rules.of(task).max_negative_flips
        if row == learned and limit is not None:
            key = "negative_flip_rate"
            if arm.of_home and task in arm.not_evaluated:
                yield _unknown("flips", key, [task], limit=limit, task=task)
                continue
            yield _most("flips", key, rate, limit=limit, subject=f"{key} of {task}", about=(task, None))


def _identical(arm: ArmReport, has_earlier: bool) -> Verdict:
    kept = arm.answers_kept or arm.identical_predictions
    if not has_earlier:
        detail = "there is no earlier task whose predictions could have changed."
    elif kept:
        detail = "every earlier prediction is what it was."
    else:
        detail = f"{_not_identical(arm)}."
    value = bool(kept) if kept or arm.identical_predictions is not None else None
    return Verdict("identical", detail, "identical_predictions", value, True, has_earlier and not kept)


def _unknown(rule: str, measure: str, tasks: Sequence[str], *, limit: float, task: str | None = None) -> Verdict:
    """Hold what was not evaluated after the last addition against a limit: nothing shows that it is kept."""
    verb = "was" if len(tasks) == 1 else "were"
    detail = (
        f"{measure} can't be judged, for {first_few(tasks, 10)} {verb} not evaluated after the last addition: limpet "
        "evaluate --all does it."
    )
    return Verdict(rule, detail, measure, None, limit, True, task)


def _with_audits(arm: ArmReport, verdict: Verdict) -> Verdict:
    """Say beside a limit that is kept which scores were not measured after the last step, but carried forward."""
    audited = [task for task in arm.audited_now if verdict.task in (None, task)]
    if not audited or verdict.value is None or verdict.rule == "identical":
        return verdict
    verb = "was" if len(audited) == 1 else "were"
    told = f"{first_few(audited, 10)} {verb} audited, not evaluated again"
    return replace(verdict, detail=f"{verdict.detail[:-1]}; {told}.")


def _with_null(arm: ArmReport, verdict: Verdict) -> Verdict:
    """Say beside `forgetting_max` what it would be without any drift, for a maximum over noisy scores is above 0."""
    null = arm.metrics.get("forgetting_max_null")
    if verdict.rule != "forgetting" or not verdict.crossed or null is None:
        return verdict
    return replace(verdict, detail=f"{verdict.detail[:-1]}; without any drift it would be {null:.4f}.")


def _without_unit(arm: ArmReport, rule: str, key: str, *, terms: Mapping[str, float | None], limit: float) -> Verdict:
    """Hold tasks without a common unit against a limit on all of them: it is kept only where none of them lost.

    Where no task lost anything, nothing that weighs their losses can be above 0, whatever the units. A loss is not
    told in a number that the limit could be held against, and what can't be judged is not let through.
    """
    lost = [task for task, term in terms.items() if term is not None and term > _ROUNDING]
    if not terms or (limit >= 0 and not lost):
        detail = f"{key} is undefined ({arm.reason}), and no earlier task lost anything."
        return Verdict(rule, detail, key, None, limit, False)
    told = f"{first_few(lost, 10)} lost since learned" if lost else "the limit asks for a gain"
    detail = (
        f"{key} is undefined ({arm.reason}), and {told}; give tasks limits of their own, such as "
        f"--max-forgetting {(lost or list(terms))[0]}=X, and take back the limit of {_number(limit)} on all."
    )
    return Verdict(rule, detail, key, None, limit, True)


def _scores(arm: ArmReport, rules: GateRules) -> Iterator[Verdict]:
    answering = {version.task: version.reference for version in arm.answering}
    for task, score in zip(arm.tasks, arm.matrix[-1] if arm.matrix else (), strict=False):
        if (limit := rules.of(task).min_score) is not None:
            version = answering.get(task)
            yield _least(score, limit, f"the score of {version or task}", about=(task, version))


def _cost(arm: ArmReport, rules: GateRules) -> Iterator[Verdict]:
    if rules.max_bytes is not None:
        for version in arm.answering or arm.versions:
            subject = f"bytes of {version.reference}"
            about = (version.task, version.reference)
            yield _most("bytes", "bytes", version.size, limit=rules.max_bytes, subject=subject, about=about)
    if rules.max_train_seconds is not None:
        for task, seconds in zip(arm.tasks, arm.cost.train_seconds, strict=False):
            key, limit = "train_seconds", rules.max_train_seconds
            yield _most("seconds", key, seconds, limit=limit, subject=f"{key} of {task}", about=(task, None))
    if rules.max_share is not None:
        key = "trainable_share"
        yield _most("share", key, arm.cost.trainable_share, limit=rules.max_share, subject=key)


def _most(
    rule: str,
    measure: str,
    value: float | None,
    *,
    limit: float,
    subject: str,
    about: tuple[str | None, str | None] = (None, None),
) -> Verdict:
    """Hold a value against the most that it may be."""
    crossed = value is not None and value > limit + _ROUNDING
    told = f"above the limit of {_number(limit)}" if crossed else f"within the limit of {_number(limit)}"
    return Verdict(rule, _sentence(subject, value, told), measure, value, limit, crossed, *about)


def _least(score: float | None, limit: float, subject: str, *, about: tuple[str | None, str | None]) -> Verdict:
    """Hold a score against the least that it may be."""
    crossed = score is not None and score < limit - _ROUNDING
    told = f"below the limit of {_number(limit)}" if crossed else f"within the limit of {_number(limit)}"
    return Verdict("score", _sentence(subject, score, told), "score", score, limit, crossed, *about)


def _sentence(subject: str, value: float | None, told: str) -> str:
    if value is None:
        return f"{subject} is undefined, and crosses no limit."
    return f"{subject} is {f'{value:.4f}' if isinstance(value, float) else value}, {told}."


def _number(limit: float) -> str:
    """Return a limit as people write it: bytes in full."""
    return f"{limit:.0f}" if limit == int(limit) else f"{limit:g}"


def _not_identical(arm: ArmReport) -> str:
    if arm.identical_predictions is not False and (audited := arm.audited_now):
        verb = "was" if len(audited) == 1 else "were"
        return (
            f"{first_few(audited, 10)} {verb} audited, and an audit answers a few inputs again and not every "
            "example, so it is no proof that every prediction is the same: --monitor full gives it"
        )
    if arm.identical_predictions is None:
        return "an earlier task was not evaluated again, so nothing shows that its predictions are the same"
    if arm.differences:
        return f"an earlier task's predictions changed ({arm.differences[0].sentence()})"
    return "an earlier task's predictions changed"
