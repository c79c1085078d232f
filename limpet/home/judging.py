"""What the gate of a home judges: a stream, an addition, and a version that takes another's place.

A report and the monitor are imported where they are needed: an alias moves without loading torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from limpet.errors import GateError, LimpetError, NotFoundError
from limpet.first_few import first_few
from limpet.forgetting.gate.parse import has_rule
from limpet.forgetting.gate.rules import GateRules
from limpet.forgetting.gate.verdicts import Verdict, check, check_replacement, check_version, crossings, unjudged
from limpet.forgetting.monitor.kept_predictions import read_predictions
from limpet.forgetting.monitor.replacement import comparable, compare_versions, predecessor
from limpet.forgetting.monitor.replacement_values import Replacement, latest
from limpet.registry import versions
from limpet.registry.records import gate_refusals, streams, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.system.text_checks import without_stop

if TYPE_CHECKING:
    from limpet.forgetting.gate.gate_report import GateReport
    from limpet.forgetting.report.arm_values import ArmReport
    from limpet.home.context import HomeContext
    from limpet.registry.values import VersionRecord
    from limpet.training.progress import Progress

__all__ = [
    "Judgement",
    "answering",
    "judge_addition",
    "judge_move",
    "judge_promotion",
    "judge_stream",
    "refusal",
    "standing",
]

_NAMED = 10  # examples that a message names


@dataclass(frozen=True)
class Judgement:
    """What the gate found: each rule with what was measured, the version replaced if there is one, what is unjudged.

    `stands` is the number of the version that was under the alias then, null for none. `waiting` is the newest
    addition to a home where it was judged as if it answered, because nobody has decided on it yet.
    """

    verdicts: tuple[Verdict, ...]
    replaced: tuple[Replacement, ...] = ()
    notes: tuple[str, ...] = ()
    stands: int | None = None
    waiting: str | None = None

    @property
    def crossings(self) -> tuple[Verdict, ...]:
        """The rules crossed."""
        return crossings(self.verdicts)

    def details(self) -> str:
        """Return the rules crossed in sentences, with the examples lost."""
        crossed = "; ".join(without_stop(crossing.detail) for crossing in self.crossings)
        return " ".join([f"{crossed}.", *_lost(self.replaced)])

    def outcome(self, promoted: bool) -> Replacement | None:
        """Return the replacement as it stands after an alias was moved or not; null where nothing is replaced."""
        return replace(self.replaced[0], answers=promoted) if self.replaced else None


def judge_stream(context: HomeContext, stream: str | None, rules: GateRules) -> tuple[GateReport, Judgement]:
    """Hold a stream's isolated arms against the rules, and a home's versions against those that they replaced.

    In a home, the newest addition counts as what answers for its task, unless somebody decided otherwise since.
    """
    from limpet.forgetting.gate.gate_report import GateReport
    from limpet.forgetting.report import home_growth
    from limpet.forgetting.report.build import build_report

    known = streams.get(context.store, stream) if stream else streams.latest(context.store)
    is_home = known.name == streams.HOME_STREAM
    added = home_growth.candidate(context.store) if is_home else None
    made = build_report(context.store, known.name, added=added)
    isolated = [arm for arm in made.arms if arm.strategy == "isolated"]
    judged = latest(made.replaced)
    accepted = {one.task for one in judged if one.accepted and one.answers}
    replaced = tuple(one for one in judged if not one.accepted)
    verdicts = [
        verdict
        for arm in isolated or made.arms
        for verdict in check(arm, rules, _since(arm, accepted if is_home else set()), of_home=is_home)
    ]
    if is_home:
        verdicts = _over_all_rows(context, verdicts, rules)
    verdicts += [verdict for one in replaced for verdict in check_replacement(one, rules)]
    report = GateReport(**vars(made), verdicts=tuple(verdicts))
    waiting = None if added is None else added.reference
    return report, Judgement(tuple(verdicts), replaced, _notes(replaced, rules), waiting=waiting)


def judge_addition(
    context: HomeContext, version: VersionRecord, rules: GateRules, *, alias: str | None, progress: Progress
) -> Judgement:
    """Judge a version that was just added and monitored: what it did to the others, and to what it replaces."""
    stands = standing(context, version.task, alias) if alias else None
    # a report is thousands of resamples, and nothing is held against no rules
    verdicts = []
    if has_rule(rules):
        verdicts = _over_all_rows(context, _verdicts_on_addition(context, version, rules), rules)
    # an alias that is not set yet replaces nothing: then what answers for the task is the measure
    names = (alias, PRODUCTION) if alias else (PRODUCTION,)
    known = (_replacement(context, version, rules, alias=name, progress=progress) for name in names)
    replaced = next((one for one in known if one is not None), None)
    if replaced is not None:
        verdicts += check_replacement(replaced, rules)
    found = () if replaced is None else (replaced,)
    return Judgement(tuple(verdicts), found, _notes(found, rules), stands)


def _verdicts_on_addition(context: HomeContext, version: VersionRecord, rules: GateRules) -> list[Verdict]:
    """Hold a home's growth by its newest addition against the rules."""
    from limpet.forgetting.report.build import build_report

    made = build_report(context.store, streams.HOME_STREAM, added=version, only_judged=True)
    # what an earlier task scores and cost by itself is no fault of this addition, nor what replaced it before
    own = ("score", "bytes", "seconds")
    return [
        verdict
        for arm in made.arms
        for verdict in check(arm, rules, _since(arm, set(arm.tasks)), of_home=True)
        if verdict.rule not in own or verdict.task == version.task
    ]


def judge_move(
    context: HomeContext, version: VersionRecord, rules: GateRules, *, alias: str, progress: Progress
) -> Judgement:
    """Judge a version that an alias is about to move to, beside the one whose place it takes."""
    stands = standing(context, version.task, alias)
    replaced = _replacement(context, version, rules, alias=alias, progress=progress)
    found = () if replaced is None else (replaced,)
    score = version.metrics.get("score")
    verdicts = (*check_version(version, score, rules), *(v for one in found for v in check_replacement(one, rules)))
    return Judgement(verdicts, found, _notes(found, rules), stands)


def judge_promotion(
    context: HomeContext, version: VersionRecord, rules: GateRules, *, alias: str, progress: Progress
) -> Judgement:
    """Judge a version that an alias is about to be promoted to.

    One that the gate bars is judged anew as when it was added, in the home as it is now, also by the limit that its
    promotion was asked for under then.
    """
    bars = gate_refusals.bars(context.store, version.reference)
    if not bars:
        return judge_move(context, version, rules, alias=alias, progress=progress)
    limits = [limit for limit in (rules.max_forgetting, *(bar.max_forgetting for bar in bars)) if limit is not None]
    held = replace(rules, max_forgetting=min(limits, default=None))
    return judge_addition(context, version, held, alias=alias, progress=progress)


def standing(context: HomeContext, task: str, alias: str) -> int | None:
    """Return the number of the version under an alias; null where it is not set."""
    try:
        return versions.resolve(context.store, f"{task}@{alias}").number
    except NotFoundError:
        return None


def answering(context: HomeContext, task: str) -> str | None:
    """Return the version that a task's bare name means now, as `task@3`; null where it has none."""
    try:
        return versions.resolve(context.store, task).reference
    except NotFoundError:
        return None


def refusal(what: str, judgement: Judgement, hint: str, *, outcome: object) -> GateError:
    """Return the error of a gate that is crossed: which rules, by how much, and which examples are lost."""
    return GateError(f"{what}: {judgement.details()}", hint, outcome)


def _over_all_rows(context: HomeContext, verdicts: Sequence[Verdict], rules: GateRules) -> list[Verdict]:
    """Hold scores against the least also with the rows that a revision brought, which no matrix has.

    A version that is bad on new rows is no better for its old ones.
    """
    judged = []
    for verdict in verdicts:
        if verdict.rule == "score" and verdict.version is not None and isinstance(verdict.value, float):
            version = versions.look_up(context.store, verdict.version)
            if "scores" in version.metrics and version.metrics["score"] < verdict.value:
                over_all = check_version(version, version.metrics["score"], rules)
                verdict = next((one for one in over_all if one.rule == "score"), verdict)
        judged.append(verdict)
    return judged


def _replacement(
    context: HomeContext, version: VersionRecord, rules: GateRules, *, alias: str, progress: Progress
) -> Replacement | None:
    old = predecessor(context.store, version, alias)
    if old is None:
        return None
    read = read_predictions(context.store)
    found = compare_versions(context.store, old.reference, version.reference, read=read, answers=False)
    if not found.reason or not _compares(rules):
        return found
    task = tasks.get(context.store, version.task)
    lacking = [
        (one, split.name)
        for one in (old, version)
        for split in task.evaluation_parts
        if comparable(context.store, one.reference, split) is None
    ]
    if not lacking:
        return found
    from limpet.forgetting.monitor import monitor

    try:
        for one, split_name in lacking:
            part = monitor.Part(split_name, bypass_cache=True, task=task)
            monitor.evaluate(context.store, context.backbone(progress), one, part=part, progress=progress)
    except LimpetError as error:
        # a rule is not held against some rows alone
        return replace(found, change=None, reason=f"it can't be evaluated: {error.message.rstrip('.')}")
    return compare_versions(context.store, old.reference, version.reference, read=read, answers=False)


def _compares(rules: GateRules) -> bool:
    """Tell whether a rule is about what a replacement loses."""
    limits = [rules.max_forgetting, rules.max_worst, rules.max_negative_flips]
    limits += [limit for own in rules.tasks.values() for limit in (own.max_forgetting, own.max_negative_flips)]
    return any(limit is not None for limit in limits)


def _since(arm: ArmReport, tasks: set[str]) -> Mapping[str, int]:
    """For these tasks, the row from which on the version that answers now has answered."""
    return {task: row for task, row in zip(arm.tasks, arm.answering_since, strict=True) if task in tasks}


def _notes(replaced: Sequence[Replacement], rules: GateRules) -> tuple[str, ...]:
    return tuple(note for one in replaced if (note := unjudged(one, rules)))


def _lost(replaced: Sequence[Replacement]) -> list[str]:
    said = []
    for one in replaced:
        if one.lost_examples:
            named = first_few(map(str, one.lost_examples), _NAMED)
            first = one.losses[0]
            said.append(
                f"{one.new} loses the examples {named} of {one.task}; the first is {first.text!r}, answered "
                f"{first.before!r} by {one.old} and {first.now!r} by {one.new}."
            )
    return said
