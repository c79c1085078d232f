"""What a report shows, in sentences drawn from its numbers and worded by its tests.

An arm forgot where `bwt_gem` is below 0, and not where `forgetting_max` is above it: a maximum over noisy scores is,
without any forgetting. Every p-value is corrected for all tests of the report
(`limpet.forgetting.report.corrections`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limpet.first_few import first_few
from limpet.forgetting import strategies
from limpet.forgetting.metrics import in_words
from limpet.forgetting.metrics.inference import is_shown
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.monitor.replacement_values import latest
from limpet.forgetting.report.ability_sentences import ability_sentences
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.caveats import looked_back, removed_tasks, served_sentences, unlike_treatment
from limpet.forgetting.report.comparison_values import Comparison, Drift
from limpet.forgetting.report.values import Report
from limpet.registry.formats.json_values import JsonValue
from limpet.training import methods

__all__ = [
    "arm_names",
    "called",
    "conclusion",
    "forgot",
    "is_reference",
    "mean_of",
    "mean_with_interval",
    "runs_of",
    "sentences",
]

_MOST_TARGETS = 6


def conclusion(report: Report) -> str:
    """Return the conclusion of a report as one paragraph."""
    return " ".join(sentences(report))


def sentences(report: Report) -> list[str]:
    """Return what a report concludes, sentence by sentence, flattering or not.

    A difference is called one only if its corrected p-value is below 0.05, and one that other seeds may not show is
    told as such. That arms are equal is only said where that is shown within a margin, seeds included.
    """
    names = arm_names(report)
    learned = max((len(arm.matrix) for arm in report.arms), default=0)
    gone = removed_tasks(report)
    if learned == 0:
        what = "has nothing that answers any more" if gone else "has learned no task yet"
        return [*gone, f"The stream {report.stream} {what}, so there is nothing to conclude."]
    if learned == 1:
        nothing_yet = "With one task learned there is nothing to forget yet."
        return [*_alarms(report), *gone, *_progress(report), nothing_yet, *_served(report)]
    return [
        *_alarms(report),
        *gone,
        *_progress(report),
        *(_stability(report, name) for name in names if not is_reference(report, name)),
        *(sentence for arm in report.arms if arm.of_home for sentence in looked_back(arm)),
        *(_reference(report, name) for name in names if is_reference(report, name)),
        *(_ended(report, comparison) for comparison in report.comparisons if _is_told(report, comparison)),
        *_plasticity(report),
        *_shared(report),
        *_edges(report),
        *(replacement.sentence() for replacement in latest(report.replaced)),
        *(sentence for name in names for sentence in ability_sentences(runs_of(report, name))),
        *unlike_treatment(report),
        *_caveats(report),
        *_served(report),
    ]


def _alarms(report: Report) -> list[str]:
    return [alarm.sentence() for alarm in report.alarms]


def _served(report: Report) -> list[str]:
    return served_sentences([version for arm in report.arms for version in arm.versions])


def arm_names(report: Report) -> list[str]:
    """Return the names of a report's arms, each once, in their order."""
    return list(dict.fromkeys(arm.name for arm in report.arms))


def runs_of(report: Report, name: str) -> list[ArmReport]:
    """Return the runs of an arm, one for each seed, that are the farthest."""
    runs = [arm for arm in report.arms if arm.name == name]
    farthest = max((len(arm.matrix) for arm in runs), default=0)
    return [arm for arm in runs if len(arm.matrix) == farthest]


def called(report: Report, name: str) -> str:
    """Return what people call an arm; a home that grows is no arm."""
    return next((arm.called for arm in report.arms if arm.name == name), name)


def mean_of(runs: Sequence[ArmReport], key: str) -> float | None:
    """Return the mean of a metric over seeds; None where it is undefined for one of them."""
    defined = [value for arm in runs if (value := arm.metrics[key]) is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(runs) else None


def mean_with_interval(report: Report, name: str, key: str) -> tuple[float | None, Interval | None]:
    """Return an arm's metric with its interval: over seeds where there are several, else over examples."""
    runs = runs_of(report, name)
    value = mean_of(runs, key)
    if len(runs) == 1:
        return value, runs[0].intervals.get(key)
    over_seeds = (entry.interval for entry in report.seeds if (entry.arm, entry.metric) == (name, key))
    return value, next(over_seeds, None)


def _progress(report: Report) -> list[str]:
    total = len(report.tasks)
    behind = [arm for arm in report.arms if len(arm.matrix) < total]
    if not behind:
        return []
    where = "; ".join(f"{arm.label}: {len(arm.matrix)} of {total} tasks" for arm in behind)
    return [f"The stream is in progress ({where}), so what follows is about the tasks learned so far."]


def is_reference(report: Report, name: str) -> bool:
    """Whether an arm is there for others to be measured against: what it forgets says nothing."""
    return strategies.get(runs_of(report, name)[0].strategy).measures is not None


def _reference(report: Report, name: str) -> str:
    accuracy, interval = mean_with_interval(report, name, "average_accuracy")
    summary = strategies.get(runs_of(report, name)[0].strategy).summary
    measured = (
        f"{runs_of(report, name)[0].reason or 'not known yet'}"
        if accuracy is None
        else f"average_accuracy {accuracy:.3f}{_brackets(interval, ', 95 % interval')}"
    )
    return f"For comparison, {name} ({summary}): {measured}."


def forgot(report: Report, name: str) -> bool:
    """Tell whether it is shown that an arm forgot, at least in the runs as they are.

    Where the tasks' scores have no common unit, it is by the tasks' own tests.
    """
    runs, drift = runs_of(report, name), _drift_of(report, name)
    if runs[0].reason:
        return any(is_shown(entry.p_holm) and entry.change < 0 for arm in runs for entry in arm.mcnemar)
    return drift is not None and is_shown(drift.p_holm) and drift.bwt_gem < 0


def _drift_of(report: Report, name: str) -> Drift | None:
    return next((drift for drift in report.drifts if drift.arm == name), None)


def _stability(report: Report, name: str) -> str:
    runs, backward, drift = runs_of(report, name), _backward(report, name), _drift_of(report, name)
    called = runs[0].called
    said = _stability_of(called, runs, backward, drift=drift)
    return f"The{said.removeprefix('the')}" if said.startswith("the home") else said


def _stability_of(name: str, runs: Sequence[ArmReport], backward: str, *, drift: Drift | None) -> str:
    if all(arm.identical_predictions for arm in runs):
        kept = "every earlier task is predicted exactly as when it was learned"
        return f"{name} forgot nothing: {kept}{_in_brackets(backward)}."
    changed = ", though some predictions changed" if any(arm.identical_predictions is False for arm in runs) else ""
    differences = [difference for arm in runs for difference in arm.differences]
    if differences:
        return f"{name} does not answer as it did, though nothing should have changed. {differences[0].sentence()}."
    if runs[0].reason:
        return f"Whether {name} forgot can't be said in one number ({runs[0].reason}){changed}.{_worst(runs)}"
    if drift is None:
        return f"Whether {name} forgot can't be said: an earlier task was not evaluated again."
    measured = _in_brackets(f"{backward}, {_with_p(drift.p_holm, drift.seeds_p_holm)}")
    if not is_shown(drift.p_holm):
        return f"No forgetting was shown for {name} on average{measured}{changed}.{_worst(runs)}"
    verb = "forgot" if drift.bwt_gem < 0 else "gained on earlier tasks"
    if drift.seeds_p_value is not None and not is_shown(drift.seeds_p_holm):
        return f"In these runs {name} {verb}, which other seeds may not show{measured}.{_worst(runs)}"
    return f"{name} {verb}{measured}.{_worst(runs)}"


def _backward(report: Report, name: str) -> str:
    """`bwt_gem` of an arm with its interval; nothing where it is undefined."""
    value, interval = mean_with_interval(report, name, "bwt_gem")
    return "" if value is None else f"bwt_gem {in_words.with_interval(value, interval)}"


def _worst(runs: Sequence[ArmReport]) -> str:
    """The task with the clearest loss, where its own test finds one: a mean can hide it."""
    lost = [(entry.p_holm, entry, arm) for arm in runs for entry in arm.mcnemar if entry.change < 0]
    shown = [(p_value, entry, arm) for p_value, entry, arm in lost if p_value is not None and is_shown(p_value)]
    if not shown:
        return ""
    p_value, entry, arm = min(shown, key=lambda item: item[0])
    which = f" under seed {arm.seed}" if len(runs) > 1 else ""
    changed = in_words.with_interval(entry.change, entry.interval)
    if entry.lost is None or entry.gained is None:
        return f" Its clearest loss is {entry.task}{which} ({changed}; {in_words.p_value(p_value)})."
    return (
        f" Its clearest loss is {entry.task}{which}: {entry.lost} examples lost and {entry.gained} gained "
        f"since it was learned ({changed}; McNemar {in_words.p_value(p_value)})."
    )


def _is_told(report: Report, comparison: Comparison) -> bool:
    """Whether a comparison is about the last scores and begins with the isolated arm, if there is one."""
    isolated = {arm.name for arm in report.arms if arm.strategy == "isolated"}
    return comparison.metric != "bwt_gem" and (comparison.a in isolated or not isolated)


def _ended(report: Report, comparison: Comparison) -> str:
    """How two arms ended: apart, as good as each other, or neither is shown."""
    a, b, on = comparison.a, comparison.b, _by_what(report, comparison.metric)
    measured = in_words.with_interval(comparison.difference, comparison.interval)
    with_p = f"{measured}, {_with_p(comparison.p_holm, comparison.seeds_p_holm)}"
    if over_seeds := comparison.over_seeds:
        with_p += f"; over seeds {in_words.signed(over_seeds[0])} to {in_words.signed(over_seeds[1])}"
    # the runs' own test is about other examples, with the seeds as they are
    if is_shown(comparison.p_holm):
        side = "above" if comparison.difference > 0 else "below"
        if comparison.seeds_p_value is not None and not is_shown(comparison.seeds_p_holm):
            return f"In these runs {a} ended {side} {b} on {on}, which other seeds may not show ({with_p})."
        return f"{a} ended {side} {b} on {on} ({with_p})."
    if comparison.margin is not None and is_shown(comparison.equal_p_holm):
        p_value, margin = in_words.p_value(comparison.equal_p_holm), f"{comparison.margin:g}"
        equal = f"{measured}, {p_value} of a difference of {margin} or more"
        return f"{a} is as good as {b} on {on}, within {margin}, seeds included ({equal})."
    return f"No difference in {on} was seen between {a} and {b} ({with_p})."


def _by_what(report: Report, key: str) -> str:
    task = next((task for task in report.tasks if key == f"score:{task.name}"), None)
    return f"{task.name} ({task.metric})" if task else "average accuracy"


def _plasticity(report: Report) -> list[str]:
    """How well the tasks were learned in the first place: stability without it is easy."""
    if len({len(arm.matrix) for arm in report.arms}) > 1:
        return []
    measured = [(name, *mean_with_interval(report, name, "learning_accuracy")) for name in arm_names(report)]
    defined = [f"{name} {value:.3f}{_brackets(interval)}" for name, value, interval in measured if value is not None]
    listed = ", ".join(defined)
    means = f"Right after learning, the tasks scored on average, with 95 % intervals: {listed}."
    return [means] if len(defined) > 1 else []


def _shared(report: Report) -> list[str]:
    """Whether one shared adapter forgot, under which settings: rank, targets and rate decide how much it does."""
    isolated = [arm for arm in report.arms if arm.strategy == "isolated"]
    forgot_nothing = isolated and all(arm.identical_predictions for arm in isolated)
    because = "; here it is the isolation that did" if forgot_nothing else ""
    told = []
    for name in arm_names(report):
        runs = runs_of(report, name)
        method = runs[0].method
        if runs[0].strategy != "sequential" or methods.get(method).capabilities.trains_base_copy:
            continue
        if forgot(report, name):
            measured, settings = _in_brackets(_backward(report, name)), _in_brackets(_settings(runs[0].settings))
            told.append(
                f"{name} trained nothing but one shared {method} adapter{settings} and "
                f"still forgot{measured}: PEFT by itself did not prevent forgetting under these settings{because}."
            )
    return told


def _settings(settings: Mapping[str, Any]) -> str:
    """The settings of a method, and rate and length of training, as far as they are known."""
    training = settings.get("training", {})
    shown = dict(settings.get("method", {})) | {
        key: training[key] for key in ("learning_rate", "epochs") if key in training
    }
    return ", ".join(
        f"{key}={_setting(value)}" for key, value in shown.items() if value not in (None, False, "", 0.0)
    )


def _setting(value: JsonValue) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return first_few(map(str, value), _MOST_TARGETS, joint="+")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _edges(report: Report) -> list[str]:
    """Which arms took the lowest or the highest value that was tried, so that their best may lie beyond."""
    arms = [f"{name} ({', '.join(edges)})" for name in arm_names(report) if (edges := _edges_of(report, name))]
    if not arms:
        return []
    return [f"Chosen at the edge of a sweep, so that a better value may lie beyond: {'; '.join(arms)}."]


def _edges_of(report: Report, name: str) -> list[str]:
    run = runs_of(report, name)[0]
    edges = []
    for key, value in run.chosen.items():
        tried = [candidate["settings"][key] for candidate in run.sweep]
        # words and lists have no order
        if (
            all(type(number) in (int, float) for number in tried)
            and len(set(tried)) > 1
            and value in (min(tried), max(tried))
        ):
            edges.append(f"{key}={value:g}, the {'lowest' if value == min(tried) else 'highest'} tried")
    return edges


def _caveats(report: Report) -> list[str]:
    identities = {arm.task_identity for arm in report.arms}
    caveats = []
    if identities == {"oracle"}:
        caveats.append("In every score the task was given (oracle), not inferred from the text.")
    if report.base.unchanged is False:
        caveats.append("The base was changed during a run that must not touch it: do not trust these versions.")
    elif report.base.unchanged:
        caveats.append("The base's digest was unchanged after every step that must not touch it.")
    if len({arm.seed for arm in report.arms}) == 1:
        once = "Every version was trained once" if report.arms[0].of_home else "One seed"
        caveats.append(f"{once}: the intervals cover the choice of examples, not the luck of training.")
    corrected = [drift.p_holm for drift in report.drifts] + [comparison.p_holm for comparison in report.comparisons]
    if any(p_value is not None for p_value in corrected):
        caveats.append(
            "P-values are corrected for all tests of the report (Holm); no difference seen is not equality."
        )
    return caveats


def _with_p(p_value: float | None, with_seeds: float | None) -> str:
    """The corrected p-value of runs as they are, and the one that has the luck of training in it."""
    seeds = "" if with_seeds is None else f", with other seeds {in_words.p_value(with_seeds)}"
    return f"{in_words.p_value(p_value)}{seeds}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _brackets(interval: Interval | None, before: str = "") -> str:
    return f"{before} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
