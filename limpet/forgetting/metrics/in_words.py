"""How sentences say a change, its interval and its p-value: the same wherever something is concluded."""

from __future__ import annotations

from limpet.forgetting.metrics.intervals import Interval

__all__ = ["p_value", "signed", "with_interval"]


def p_value(value: float | None) -> str:
    """Return a p-value with three digits; null is that of answers of which none differs."""
    if value is None:
        return "no answer differs"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def signed(change: float) -> str:
    """Return a change with its sign and three digits, and 0 without a sign."""
    text = f"{change:+.3f}"
    return "0" if float(text) == 0 else text


def with_interval(change: float, interval: Interval | None) -> str:
    """Return a change with its sign, and with its 95 % interval where there is one."""
    span = f", 95 % interval {signed(interval[0])} to {signed(interval[1])}" if interval else ""
    return f"{signed(change)}{span}"
