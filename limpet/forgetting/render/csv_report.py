"""A report as one long CSV: a line for each number, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict

from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.render.provenance_tables import settings_text
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.comparison_values import Comparison
from limpet.forgetting.report.values import Report

__all__ = ["HEADER", "render_csv"]

HEADER = ("stream", "arm", "seed", "kind", "key", "step", "task", "value")

_Value = str | int | float | bool | None
_Entry = tuple[str, str, int | None, str | None, _Value]
_Line = tuple[str, str, int | None, str, str, int | None, str | None, _Value]


def render_csv(report: Report) -> str:
    """Return the report as CSV with the columns of `HEADER`; steps count from 1, undefined values are empty.

    A comparison stands under the arm `A - B`, with no seed, as means over seeds do, and a replaced version under
    `NEW for OLD`. Of a sweep, the key is what was tried, and `sweep_chosen` tells whether it was taken.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([_text(value) for value in line] for line in (*_of_arms(report), *_beside_arms(report)))
    return text.getvalue()


def _of_arms(report: Report) -> Iterator[_Line]:
    metrics = {task.name: task.metric for task in report.tasks}
    names = [task.name for task in report.tasks]
    for arm in report.arms:
        for entry in _arm(arm, names, metrics):
            yield report.stream, arm.name, arm.seed, *entry
    for over_seeds in report.seeds:
        low, high = over_seeds.interval or (None, None)
        for kind, value in (("mean", over_seeds.mean), ("mean_low", low), ("mean_high", high)):
            yield report.stream, over_seeds.arm, None, kind, over_seeds.metric, None, None, value
    for summary in report.over_orders:
        for order, measured in zip(summary.streams, summary.values, strict=True):
            yield order, summary.arm, None, "order", summary.metric, None, None, measured


def _beside_arms(report: Report) -> Iterator[_Line]:
    for figure in report.published:
        arm = f"{figure.arm} ({figure.base})"
        yield figure.source, arm, None, "published", figure.metric, None, None, figure.value
    for replacement in report.replaced:
        label = f"{replacement.new} for {replacement.old}"
        for key, change in _replacement(replacement):
            yield report.stream, label, None, "replaced", key, None, replacement.task, change
    for drift in report.drifts:
        for key in ("p_value", "p_holm", "seeds_p_value", "seeds_p_holm"):
            yield report.stream, drift.arm, None, key, "bwt_gem", None, None, getattr(drift, key)
    for comparison in report.comparisons:
        for entry in _comparison(comparison):
            yield report.stream, f"{comparison.a} - {comparison.b}", None, *entry


def _arm(arm: ArmReport, names: list[str], metrics: dict[str, str]) -> Iterator[_Entry]:
    for step, row in enumerate(arm.matrix, start=1):
        for task, score in zip(names, row, strict=True):
            yield "score", metrics[task], step, task, score
    for step, column in sorted(arm.audited):
        yield "audited", metrics[names[column]], step + 1, names[column], True
    for key, value in arm.metrics.items():
        yield "metric", key, None, None, value
    for key, (low, high) in arm.intervals.items():
        yield "interval_low", key, None, None, low
        yield "interval_high", key, None, None, high
    if arm.reason:
        yield "reason", "metrics", None, None, arm.reason
    yield "metric", "identical_predictions", None, None, arm.identical_predictions
    for task, negative, positive in zip(names, arm.negative_flip_rate, arm.positive_flip_rate, strict=False):
        yield "flip", "negative_flip_rate", None, task, negative
        yield "flip", "positive_flip_rate", None, task, positive
    for entry in arm.mcnemar:
        for key in ("lost", "gained", "p_value", "p_holm"):
            yield "mcnemar", key, None, entry.task, getattr(entry, key)
    yield from _ability(arm)
    for candidate in arm.sweep:
        settings = candidate.get("settings", {})
        yield "sweep", settings_text(settings), None, None, candidate.get("mean")
        if "mean_rank" in candidate:
            yield "sweep_rank", settings_text(settings), None, None, candidate["mean_rank"]
        yield "sweep_chosen", settings_text(settings), None, None, settings == arm.chosen
    yield from _cost(arm)
    for step, version in enumerate(arm.versions, start=1):
        yield "version", "reference", step, version.task, version.reference
        yield "version", "digest", step, version.task, version.digest


def _ability(arm: ArmReport) -> Iterator[_Entry]:
    for ability in arm.ability:
        key = f"{ability.kind}:{ability.metric}"
        # step 0 is the base alone
        for step, value in enumerate((ability.before, *ability.steps)):
            yield "ability", key, step, ability.task, value
        for step, interval in enumerate(ability.intervals, start=1):
            low, high = interval or (None, None)
            yield "ability_change_low", key, step, ability.task, low
            yield "ability_change_high", key, step, ability.task, high
        for step, (p_value, p_holm) in enumerate(zip(ability.p_values, ability.p_holm, strict=True), start=1):
            yield "ability_p_value", key, step, ability.task, p_value
            yield "ability_p_holm", key, step, ability.task, p_holm
        yield "ability_taken_off", key, None, ability.task, ability.taken_off
        yield "ability_identical", key, None, ability.task, ability.identical
    for adapter in arm.adapters:
        for name, score in (("own", adapter.own), ("wrong", adapter.wrong), ("none", adapter.none)):
            yield "adapter", f"{adapter.metric}:{name}", None, adapter.task, score
        for name, interval in (("own-wrong", adapter.over_wrong), ("own-none", adapter.over_none)):
            low, high = interval or (None, None)
            yield "adapter_low", f"{adapter.metric}:{name}", None, adapter.task, low
            yield "adapter_high", f"{adapter.metric}:{name}", None, adapter.task, high
        yield "adapter_p_value", f"{adapter.metric}:own-wrong", None, adapter.task, adapter.p_value
        yield "adapter_p_holm", f"{adapter.metric}:own-wrong", None, adapter.task, adapter.p_holm


def _cost(arm: ArmReport) -> Iterator[_Entry]:
    for key, value in asdict(arm.cost).items():
        if isinstance(value, dict):
            for name, ratio in value.items():
                yield "cost", f"{key}:{name}", None, None, ratio
            continue
        if not isinstance(value, tuple):
            yield "cost", key, None, None, value
            continue
        for step, (task, each) in enumerate(zip(arm.tasks, value, strict=False), start=1):
            yield "cost", key, step, task, each


def _replacement(replacement: Replacement) -> Iterator[tuple[str, _Value]]:
    yield "old_score", replacement.old_score
    yield "new_score", replacement.new_score
    yield "replaced_negative_flip_rate", replacement.negative_flip_rate
    yield "replaced_positive_flip_rate", replacement.positive_flip_rate
    yield "p_value", replacement.p_value
    yield "answers", replacement.answers
    for place in replacement.lost_examples:
        yield "lost_example", place


def _comparison(comparison: Comparison) -> Iterator[_Entry]:
    yield "difference", comparison.metric, None, None, comparison.difference
    yield "interval_low", comparison.metric, None, None, comparison.interval[0]
    yield "interval_high", comparison.metric, None, None, comparison.interval[1]
    low, high = comparison.over_seeds or (None, None)
    yield "seeds_low", comparison.metric, None, None, low
    yield "seeds_high", comparison.metric, None, None, high
    for key in ("p_value", "p_holm", "seeds_p_value", "seeds_p_holm", "margin", "equal_p_value", "equal_p_holm"):
        yield key, comparison.metric, None, None, getattr(comparison, key)


def _text(value: _Value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
