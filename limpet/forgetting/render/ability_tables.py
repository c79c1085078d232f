"""Tables of general ability: ability tasks before and after each step, and what adapters do to other tasks."""

from __future__ import annotations

from limpet.forgetting.render.tables import MISSING, Table, label, number, span
from limpet.forgetting.report.arm_values import AbilityReport
from limpet.forgetting.report.values import Report

__all__ = ["ability_table", "adapter_table"]

_ABILITY_NOTE = (
    "Asked on data that the stream does not learn, under the weights that each step left: those of all tasks where "
    "the arm shares them, else the step's own adapter. perplexity is exp of the mean negative log-likelihood of the "
    "texts' tokens, lower is better; zero-shot is the accuracy of the most probable label word without any "
    "demonstration, features that of the nearest class mean. Change: the last step less before, with the 95 % paired "
    "bootstrap interval over the examples. Taken off: the base alone, asked again after the arm."
)
_ADAPTERS = (
    "Each task through its own head: with its own adapter, with the adapter of the task that follows in the stream "
    "(the first's for the last), and with none. In brackets: 95 % paired bootstrap interval over the examples."
)


def ability_table(report: Report) -> Table:
    """Return what every ability task found before anything was learned, and after each step of every arm."""
    rows = [
        (
            f"{label(report, arm)}, {ability.name}",
            number(ability.before),
            " / ".join(number(value) for value in ability.steps),
            f"{_signed(ability.steps[-1] - ability.before)} {span(ability.intervals[-1])}".strip(),
            _taken_off(ability),
        )
        for arm in report.arms
        for ability in arm.ability
    ]
    columns = ("arm and ability task", "before", "after each task", "change", "taken off")
    return Table("general ability", columns, tuple(rows), _ABILITY_NOTE)


def adapter_table(report: Report) -> Table:
    """Return every task of an arm of adapters under its own adapter, another's and none."""
    rows = [
        (
            f"{label(report, arm)}, {adapter.task}",
            adapter.metric,
            number(adapter.own),
            f"{number(adapter.wrong)} ({adapter.wrong_task})" if adapter.wrong_task else MISSING,
            number(adapter.none),
            _over(adapter.own, adapter.wrong, span(adapter.over_wrong)),
            _over(adapter.own, adapter.none, span(adapter.over_none)),
        )
        for arm in report.arms
        for adapter in arm.adapters
    ]
    columns = ("arm and task", "metric", "own adapter", "another's", "none", "own less another's", "own less none")
    return Table("own adapter, another's and none", columns, tuple(rows), _ADAPTERS)


def _taken_off(ability: AbilityReport) -> str:
    if ability.taken_off is None:
        return MISSING
    return "identical" if ability.identical else f"{number(ability.taken_off)}, not identical"


def _over(own: float, other: float | None, interval: str) -> str:
    return MISSING if other is None else f"{_signed(own - other)} {interval}".strip()


def _signed(value: float) -> str:
    text = number(value)
    return text if value < 0 or float(text) == 0 else f"+{text}"
