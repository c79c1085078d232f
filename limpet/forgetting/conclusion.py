"""What a report shows, in sentences drawn from its numbers and worded by its intervals."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting import strategies
from limpet.forgetting.ability_words import ability_sentences
from limpet.forgetting.fairness import unlike_treatment
from limpet.forgetting.replacement_values import latest
from limpet.forgetting.report_values import ArmReport, Comparison, Interval, Report
from limpet.forgetting.served_words import served_sentences
from limpet.training import methods

__all__ = ["arm_names", "conclusion", "is_reference", "mean_of", "mean_with_interval", "runs_of", "sentences"]


def conclusion(report: Report) -> str:
    """Return the conclusion of a report as one paragraph."""
    return " ".join(sentences(report))


def sentences(report: Report) -> list[str]:
    """Return what a report concludes, sentence by sentence, flattering or not.

    A difference is called one only if its interval leaves out 0 and its p-value is below 0.05.
    """
    names = arm_names(report)
    learned = max((len(arm.matrix) for arm in report.arms), default=0)
    if learned == 0:
        return [f"The stream {report.stream} has learned no task yet, so there is nothing to conclude."]
    if learned == 1:
        return [*_progress(report), "With one task learned there is nothing to forget yet.", *_served(report)]
    return [
        *_progress(report),
        *(_stability(report, name) for name in names if not is_reference(report, name)),
        *(_reference(report, name) for name in names if is_reference(report, name)),
        *(_accuracy(comparison) for comparison in report.comparisons if _is_accuracy(report, comparison)),
        *_plasticity(report),
        *_shared(report),
        *_edges(report),
        *(replacement.sentence() for replacement in latest(report.replaced)),
        *(sentence for name in names for sentence in ability_sentences(runs_of(report, name))),
        *unlike_treatment(report),
        *_caveats(report),
        *_served(report),
    ]


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


def mean_of(runs: Sequence[ArmReport], key: str) -> float | None:
    """Return the mean of a metric over seeds; None where it is undefined for one of them."""
    known = [value for arm in runs if (value := arm.metrics[key]) is not None]
    return sum(known) / len(known) if known and len(known) == len(runs) else None


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


def _stability(report: Report, name: str) -> str:
    runs = runs_of(report, name)
    forgetting, interval = mean_with_interval(report, name, "forgetting_max")
    if all(arm.identical_predictions for arm in runs):
        kept = "every earlier task is predicted exactly as when it was learned"
        return f"{name} forgot nothing: {kept} ({_measured(forgetting, interval)})."
    changed = ", though some predictions changed" if any(arm.identical_predictions is False for arm in runs) else ""
    differences = [difference for arm in runs for difference in arm.differences]
    if differences:
        return f"{name} does not answer as it did, though nothing should have changed. {differences[0].sentence()}."
    if runs[0].reason:
        return f"Whether {name} forgot can't be said in one number ({runs[0].reason}){changed}.{_worst(runs)}"
    if forgetting is None:
        return f"Whether {name} forgot can't be said: an earlier task was not evaluated again."
    measured = _measured(forgetting, interval)
    if interval is None or interval[0] <= 0 <= interval[1]:
        return f"No forgetting was shown for {name} on average ({measured}){changed}.{_worst(runs)}"
    if forgetting < 0:
        return f"{name} gained on earlier tasks ({measured}).{_worst(runs)}"
    return f"{name} forgot ({measured}).{_worst(runs)}"


def _measured(forgetting: float | None, interval: Interval | None) -> str:
    if forgetting is None:
        return "no mean over the tasks"
    return f"forgetting_max {_signed(forgetting)}{_span(interval)}"


def _worst(runs: Sequence[ArmReport]) -> str:
    """The task with the clearest loss, where McNemar's test finds one: a mean can hide it."""
    lost = [(entry.p_value, entry, arm) for arm in runs for entry in arm.mcnemar if entry.lost > entry.gained]
    if not lost:
        return ""
    p_value, entry, arm = min(lost, key=lambda item: item[0])
    # as many tests as there are earlier tasks and seeds: Bonferroni
    if p_value * sum(len(run.mcnemar) for run in runs) >= 0.05:
        return ""
    which = f" under seed {arm.seed}" if len(runs) > 1 else ""
    return (
        f" Its clearest loss is {entry.task}{which}: {entry.lost} examples lost and {entry.gained} gained "
        f"since it was learned ({_signed(entry.change)}{_span(entry.interval)}; McNemar {_p(p_value)})."
    )


def _is_accuracy(report: Report, comparison: Comparison) -> bool:
    """Whether a comparison is about average accuracy and begins with the isolated arm, if there is one."""
    isolated = {arm.name for arm in report.arms if arm.strategy == "isolated"}
    return comparison.metric == "average_accuracy" and (comparison.a in isolated or not isolated)


def _accuracy(comparison: Comparison) -> str:
    measured = f"{_signed(comparison.difference)}{_span(comparison.interval)}, {_p(comparison.p_value)}"
    if over_seeds := comparison.over_seeds:
        measured += f"; over seeds {_signed(over_seeds[0])} to {_signed(over_seeds[1])}"
    # on few examples the interval is too narrow, so that the test has to agree with it
    if comparison.interval[0] <= 0 <= comparison.interval[1] or comparison.p_value >= 0.05:
        arms = f"{comparison.a} and {comparison.b}"
        return f"No difference in average accuracy was seen between {arms} ({measured})."
    side = "above" if comparison.difference > 0 else "below"
    # the first interval is about other examples, with the seeds as they are
    doubt = ", so that other seeds may show none" if over_seeds and over_seeds[0] <= 0 <= over_seeds[1] else ""
    return f"{comparison.a} ended {side} {comparison.b} on average accuracy ({measured}{doubt})."


def _plasticity(report: Report) -> list[str]:
    """How well the tasks were learned in the first place: stability without it is easy."""
    if len({len(arm.matrix) for arm in report.arms}) > 1:
        return []
    measured = [(name, *mean_with_interval(report, name, "learning_accuracy")) for name in arm_names(report)]
    known = [f"{name} {value:.3f}{_brackets(interval)}" for name, value, interval in measured if value is not None]
    listed = ", ".join(known)
    means = f"Right after learning, the tasks scored on average, with 95 % intervals: {listed}."
    return [means] if len(known) > 1 else []


def _shared(report: Report) -> list[str]:
    """Whether one shared adapter forgot: it is the isolation that prevents it, not the few weights."""
    shared = [
        name
        for name in arm_names(report)
        if runs_of(report, name)[0].strategy == "sequential"
        and not methods.get(runs_of(report, name)[0].method).capabilities.trains_base_copy
    ]
    isolated = [arm for arm in report.arms if arm.strategy == "isolated"]
    found = []
    for name in shared:
        forgetting, interval = mean_with_interval(report, name, "forgetting_max")
        if interval is None or interval[0] <= 0:
            continue
        kept = isolated and all(arm.identical_predictions for arm in isolated)
        because = "; here it is the isolation that did" if kept else ""
        method = runs_of(report, name)[0].method
        found.append(
            f"{name} trained nothing but one shared {method} adapter and still forgot "
            f"({_measured(forgetting, interval)}): "
            f"PEFT by itself does not prevent forgetting{because}."
        )
    return found


def _edges(report: Report) -> list[str]:
    """Which arms took the lowest or the highest value that was tried, so that their best may lie beyond."""
    found = [f"{name} ({', '.join(edges)})" for name in arm_names(report) if (edges := _edges_of(report, name))]
    if not found:
        return []
    return [f"Chosen at the edge of a sweep, so that a better value may lie beyond: {'; '.join(found)}."]


def _edges_of(report: Report, name: str) -> list[str]:
    run = runs_of(report, name)[0]
    found = []
    for key, value in run.chosen.items():
        tried = [candidate["settings"][key] for candidate in run.sweep]
        # words and lists have no order
        if (
            all(type(one) in (int, float) for one in tried)
            and len(set(tried)) > 1
            and value in (min(tried), max(tried))
        ):
            found.append(f"{key}={value:g}, the {'lowest' if value == min(tried) else 'highest'} tried")
    return found


def _caveats(report: Report) -> list[str]:
    identities = {arm.task_identity for arm in report.arms}
    found = []
    if identities == {"oracle"}:
        found.append("In every score the task was given (oracle), not inferred from the text.")
    if report.base.unchanged is False:
        found.append("The base was changed during a run that must not touch it: do not trust these versions.")
    elif report.base.unchanged:
        found.append("The base's digest was unchanged after every step that must not touch it.")
    if len({arm.seed for arm in report.arms}) == 1:
        found.append("One seed: the intervals cover the choice of examples, not the luck of training.")
    return found


def _span(interval: Interval | None) -> str:
    return f", 95 % interval {_signed(interval[0])} to {_signed(interval[1])}" if interval else ""


def _brackets(interval: Interval | None, before: str = "") -> str:
    return f"{before} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0" if float(text) == 0 else text


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
