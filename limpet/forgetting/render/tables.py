"""A table of text cells, and how numbers stand in them: made once, drawn by every writer in its own form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.values import Report

__all__ = [
    "AUDITED",
    "MISSING",
    "UNDEFINED",
    "Table",
    "added",
    "arm_column",
    "arrow",
    "count",
    "label",
    "mean",
    "number",
    "percent",
    "size",
    "span",
    "times",
    "total",
    "with_interval",
    "without_empty",
]

MISSING = "-"
AUDITED = "*"
UNDEFINED = f"Undefined is shown as {MISSING}, never as 0."
_LONGEST_VALUE = 26  # characters; a number with its interval has fewer
_SMALLEST_CHANGE = 5e-4  # what three digits can show


@dataclass(frozen=True)
class Table:
    """A table of text; the first column holds names, the others values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def wordy(self) -> frozenset[int]:
        """The columns that hold sentences and not only values."""
        cells = ((index, cell) for row in self.rows for index, cell in enumerate(row) if index)
        return frozenset(index for index, cell in cells if len(cell) > _LONGEST_VALUE and " " in cell)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of digits; `-` where it is undefined."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    # -0.000 would suggest a loss that is not there
    return text.lstrip("-") if float(text) == 0 else text


def span(interval: Interval | None) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if interval is None:
        return ""
    # no space inside, so that a narrow terminal breaks the line before it
    return f"[{number(interval[0])},{number(interval[1])}]"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Return a number with its interval in brackets, where there is one."""
    return number(value) if value is None or interval is None else f"{number(value)} {span(interval)}"


def arrow(change: float) -> str:
    """Return which way a score changed; nothing where three digits can't show it."""
    if abs(change) < _SMALLEST_CHANGE:
        return ""
    return "↓" if change < 0 else "↑"


def count(value: float | None) -> str:
    """Return a count with its thousands apart."""
    return MISSING if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return MISSING if value is None else f"{value:.2%}"


def added(ratio: float | None) -> str:
    """Return what a ratio to 1 adds, in percent."""
    if ratio is None:
        return MISSING
    # -0 % would suggest a gain that is not there
    return "+0 %" if round(100 * (ratio - 1)) == 0 else f"{100 * (ratio - 1):+.0f} %"


def times(ratio: float | None) -> str:
    """Return how many times as much something is."""
    return MISSING if ratio is None else f"{ratio:.2f}x"


def size(value: float | None) -> str:
    """Return a size in bytes for people."""
    if not value:
        return MISSING
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    defined = [value for value in values if value is not None]
    return sum(defined) if defined else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def arm_column(report: Report) -> str:
    """Return the head of the column that says which arm; a home that grows has none."""
    return "of" if any(arm.of_home for arm in report.arms) else "arm"


def label(report: Report, arm: ArmReport) -> str:
    """Return an arm's name, with its seed only where it has several."""
    return arm.called if len([other for other in report.arms if other.name == arm.name]) == 1 else arm.label


def without_empty(table: Table) -> Table:
    """Leave out columns without a single value, such as those over seeds where there is one."""
    filled = [place for place in range(len(table.columns)) if any(row[place] != MISSING for row in table.rows)]
    rows = tuple(tuple(row[place] for place in filled) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in filled), rows=rows)
