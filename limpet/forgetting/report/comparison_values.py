"""What a report says of arms beside each other, over seeds and over orders of the tasks, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from limpet.forgetting.metrics.intervals import Interval

__all__ = ["Comparison", "Drift", "Order", "OrderSummary", "SeedSummary"]


@dataclass(frozen=True)
class Comparison:
    """Arm `a` less arm `b` on one metric, over the seeds both have: paired interval, randomisation p.

    These two resample examples, with the runs as they are. `over_seeds` is the t-interval of the difference over
    seeds, `seeds_p_value` has the luck of training in it beside the choice of examples, and `equal_p_value` is that
    of the difference being as large as `margin` or larger; None for a single seed, and where there is no margin in
    the unit of the metric. Those that end in `p_holm` are corrected for all tests of the report, None where the arms
    never differ. Where tasks have no common unit, `metric` is `score:TASK`.
    """

    a: str
    b: str
    metric: str
    difference: float
    interval: Interval
    p_value: float
    over_seeds: Interval | None = None
    p_holm: float | None = None
    seeds_p_value: float | None = None
    seeds_p_holm: float | None = None
    margin: float | None = None
    equal_p_value: float | None = None
    equal_p_holm: float | None = None

    @property
    def differ(self) -> bool:
        """Whether the arms differ in any answer that this is about: else there is nothing to test."""
        return self.interval != (0, 0)


@dataclass(frozen=True)
class Drift:
    """Whether an arm's earlier tasks changed since they were learned: `bwt_gem`, over the arm's seeds.

    `p_value` is that of no change, by random exchange of each example's answers when learned and now, with the runs
    as they are; `seeds_p_value` has the luck of training in it too, None for a single seed. Those that end in
    `p_holm` are corrected for all tests of the report, None where no answer changed. `interval` is the bootstrap
    interval over examples, with the runs as they are.
    """

    arm: str
    seeds: tuple[int, ...]
    bwt_gem: float
    interval: Interval
    p_value: float
    seeds_p_value: float | None
    p_holm: float | None = None
    seeds_p_holm: float | None = None

    @property
    def changed(self) -> bool:
        """Whether any answer changed: else there is nothing to test."""
        return self.interval != (0, 0)


@dataclass(frozen=True)
class SeedSummary:
    """An arm over its seeds: the mean of one metric and its t-interval, None for a single seed."""

    arm: str
    metric: str
    seeds: tuple[int, ...]
    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Order:
    """One order of the tasks, and the stream that learned them in it."""

    stream: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class OrderSummary:
    """An arm over several orders of the tasks: a metric in each of them, its mean, and its t-interval over orders."""

    arm: str
    metric: str
    streams: tuple[str, ...]
    values: tuple[float, ...]
    mean: float
    interval: Interval | None
