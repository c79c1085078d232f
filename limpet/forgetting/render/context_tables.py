"""Tables of what stands beside a stream's own arms: budgets, other orders, published figures, differences, labels."""

from __future__ import annotations

from limpet.forgetting import strategies
from limpet.forgetting.monitor.replacement_values import Replacement, latest
from limpet.forgetting.render.tables import MISSING, Table, arm_column, count, number, span
from limpet.forgetting.report.conclusion import arm_names, runs_of
from limpet.forgetting.report.values import Report
from limpet.registry.formats.json_values import JsonValue
from limpet.training.batching.examples import Text

__all__ = [
    "budget_table",
    "confusion_table",
    "difference_table",
    "label_table",
    "lost_table",
    "order_table",
    "published_table",
    "replaced_table",
    "wrong_table",
]

_CONFUSIONS = 5  # of each version
_WRONG = 3  # of each version
_LONGEST_TEXT = 200


def budget_table(report: Report) -> Table:
    """Return what each arm is, and how many examples and steps it had in each step."""
    rows = []
    for name in arm_names(report):
        run = runs_of(report, name)[0]
        summary = strategies.get(run.strategy).summary
        rows.append((name, run.strategy, summary, _each(run.cost.examples_seen), _each(run.cost.optimiser_steps)))
    note = (
        "All arms learn by the same loop, in the same order of data, with one head for each task. In every arm a "
        "task's own examples are seen in every epoch once; what is rehearsed or learned along comes on top."
    )
    columns = ("arm", "strategy", "what it does", "examples seen", "optimizer steps")
    return Table("budgets", columns, tuple(rows) if len(rows) > 1 else (), note)


def order_table(report: Report) -> Table:
    """Return every arm's metrics in each order of the tasks, and over all of them."""
    names = [order.stream for order in report.orders]
    rows = [
        (
            f"{summary.arm}, {summary.metric}",
            *(number(dict(zip(summary.streams, summary.values, strict=True)).get(name)) for name in names),
            number(summary.mean),
            MISSING if summary.interval is None else f"[{number(summary.interval[0])},{number(summary.interval[1])}]",
        )
        for summary in report.over_orders
    ]
    orders = "; ".join(f"{order.stream}: {', '.join(order.tasks)}" for order in report.orders)
    note = f"Under one seed. Interval: t-interval over orders, 95 %. {orders}."
    return Table("orders of the tasks", ("arm and metric", *names, "mean", "interval"), tuple(rows), note)


def published_table(report: Report) -> Table:
    """Return the figures that others published on these tasks."""
    rows = [
        (figure.arm, figure.base, figure.metric, number(figure.value), figure.source, figure.note)
        for figure in report.published
    ]
    note = "Not ours: another base, other budgets and prompts. They stand here to be seen beside, not subtracted."
    columns = ("arm", "base", "metric", "value", "source", "note")
    return Table("published by others", columns, tuple(rows), note)


def difference_table(report: Report) -> Table:
    """Return where an arm with weights of its own for each task no longer answers as it did."""
    rows = [
        (
            arm.label,
            difference.task,
            MISSING if difference.example is None else str(difference.example),
            str(difference.changed),
            difference.cause,
        )
        for arm in report.arms
        for difference in arm.differences
    ]
    columns = (arm_column(report), "task", "first example", "examples", "likely cause")
    return Table("answers that changed", columns, tuple(rows))


def replaced_table(report: Report) -> Table:
    """Return every version that another took the place of, with what that did to the task."""
    rows = [
        (
            f"{replacement.new} for {replacement.old}",
            replacement.metric,
            number(replacement.old_score),
            number(replacement.new_score),
            number(replacement.change),
            span(replacement.interval) or MISSING,
            number(replacement.negative_flip_rate),
            number(replacement.positive_flip_rate),
            number(replacement.p_value, 4),
            _standing(replacement),
        )
        for replacement in report.replaced
    ]
    columns = ("version", "metric", "before", "after", "change", "interval", "lost", "gained", "McNemar p", "")
    note = (
        "The same examples answered by both. Lost and gained: replaced_negative_flip_rate and "
        "replaced_positive_flip_rate. Interval: paired bootstrap of the change, 95 %."
    )
    return Table("replaced versions", columns, tuple(rows), note)


def lost_table(report: Report) -> Table:
    """Return examples that a replaced version answered right, and that the one which answers now does not."""
    with_losses = [replacement for replacement in latest(report.replaced) if replacement.losses]
    rows = [
        (
            f"{replacement.task} {loss.example}",
            loss.text,
            str(loss.target),
            str(loss.before),
            str(loss.now),
            replacement.new,
        )
        for replacement in with_losses
        for loss in replacement.losses
    ]
    not_shown = [
        f"{len(replacement.lost_examples) - len(replacement.losses)} more of {replacement.task}"
        for replacement in with_losses
        if len(replacement.lost_examples) > len(replacement.losses)
    ]
    note = f"Not shown: {', '.join(not_shown)}; the JSON form has all their places." if not_shown else ""
    return Table("lost examples", ("example", "text", "right", "before", "after", "by"), tuple(rows), note)


def _standing(replacement: Replacement) -> str:
    if replacement.reason:
        return f"not compared: {replacement.reason}"
    if not replacement.answers:
        return "waits to take the place"
    return f"accepted: {replacement.accepted}" if replacement.accepted else ""


def _each(values: tuple[int | None, ...]) -> str:
    """The same number once where all steps agree, else one for each step."""
    shown = [count(value) for value in values]
    return shown[0] if len(set(shown)) == 1 else " / ".join(shown) or MISSING


def label_table(report: Report) -> Table:
    """Return how well each version tells each label from the others."""
    rows = [
        (
            f"{labels.arm}, {labels.errors.version}",
            score.label,
            str(score.examples),
            str(score.predicted),
            number(score.precision),
            number(score.recall),
            number(score.f1),
        )
        for labels in report.labels
        for score in labels.errors.labels
    ]
    columns = ("arm and version", "label", "examples", "predicted", "precision", "recall", "F1")
    note = "On the evaluation examples, as each version was learned; under the first seed. Of tagged words: entities."
    return Table("label by label", columns, tuple(rows), note)


def confusion_table(report: Report) -> Table:
    """Return which labels each version takes for which, the most frequent first."""
    rows = [
        (f"{labels.arm}, {labels.errors.version}", confusion.target, confusion.predicted, str(confusion.examples))
        for labels in report.labels
        for confusion in labels.errors.confusions[:_CONFUSIONS]
    ]
    columns = ("arm and version", "label", "taken for", "times")
    note = f"The {_CONFUSIONS} most frequent of each version; limpet adapter show VERSION --errors has all."
    return Table("which label is taken for which", columns, tuple(rows), note)


def wrong_table(report: Report) -> Table:
    """Return examples that each version answers wrongly."""
    rows = [
        (
            f"{labels.arm}, {labels.errors.version}",
            str(answer.row),
            _said(answer.target),
            _said(answer.predicted),
            _said(answer.text),
        )
        for labels in report.labels
        for answer in labels.errors.wrong[:_WRONG]
    ]
    columns = ("arm and version", "row", "right", "predicted", "text")
    note = f"The first {_WRONG} of each version; limpet adapter show VERSION --errors --limit N has more."
    return Table("answered wrongly", columns, tuple(rows), note)


def _said(value: JsonValue | Text) -> str:
    if value is None:
        return MISSING
    words = [str(word) for word in value] if isinstance(value, list | tuple) else str(value).split()
    text = (", " if isinstance(value, list) else " ").join(words)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
