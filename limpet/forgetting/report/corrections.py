"""The correction of all tests of a report for each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from limpet.forgetting import strategies
from limpet.forgetting.metrics.inference import holm
from limpet.forgetting.report.arm_values import AbilityReport, ArmReport
from limpet.forgetting.report.values import Report

__all__ = ["corrected", "tests_of_arms"]


def corrected(report: Report) -> Report:
    """Give every test of a report its corrected p-value.

    Whatever is found of the runs as they are is one family: which arm forgot, which arms ended apart, which task's
    answers changed, which ability task did, which task needs its own adapter, what a replacement changed.
    What has the luck of training in it, equality included, is another.
    """
    drifts, comparisons = report.drifts, report.comparisons
    of_runs = iter(
        holm(
            [
                *(drift.p_value if drift.changed else None for drift in drifts),
                *(comparison.p_value if comparison.differ else None for comparison in comparisons),
                *(p_value for arm in report.arms for p_value in _of_arm(arm)),
                *(each.p_value if each.lost_examples or each.gained_examples else None for each in report.replaced),
            ]
        )
    )
    with_seeds = iter(
        holm(
            [
                *(drift.seeds_p_value if drift.changed else None for drift in drifts),
                *(comparison.seeds_p_value if comparison.differ else None for comparison in comparisons),
                *(comparison.equal_p_value for comparison in comparisons),
            ]
        )
    )
    drifts = tuple(replace(drift, p_holm=next(of_runs), seeds_p_holm=next(with_seeds)) for drift in drifts)
    comparisons = tuple(replace(each, p_holm=next(of_runs), seeds_p_holm=next(with_seeds)) for each in comparisons)
    comparisons = tuple(replace(each, equal_p_holm=next(with_seeds)) for each in comparisons)
    arms = tuple(_with(arm, of_runs) for arm in report.arms)
    replaced = tuple(replace(each, p_holm=next(of_runs)) for each in report.replaced)
    return replace(report, drifts=drifts, comparisons=comparisons, arms=arms, replaced=replaced)


def tests_of_arms(arms: Sequence[ArmReport]) -> int:
    """Return how many tests belong to single runs."""
    return sum(p_value is not None for arm in arms for p_value in _of_arm(arm))


def _of_arm(arm: ArmReport) -> Iterator[float | None]:
    yield from (entry.p_value if entry.changed else None for entry in arm.mcnemar)
    for ability in arm.ability:
        yield from (ability.p_values[step] for step in _concluded(arm, ability))
    yield from (adapter.p_value for adapter in arm.adapters)


def _with(arm: ArmReport, values: Iterator[float | None]) -> ArmReport:
    """Take an arm's corrected p-values, in the order of `_of_arm`."""
    mcnemar = tuple(replace(entry, p_holm=next(values)) for entry in arm.mcnemar)
    ability = tuple(replace(ability, p_holm=_at_steps(arm, ability, values)) for ability in arm.ability)
    adapters = tuple(replace(adapter, p_holm=next(values)) for adapter in arm.adapters)
    return replace(arm, mcnemar=mcnemar, ability=ability, adapters=adapters)


def _concluded(arm: ArmReport, ability: AbilityReport) -> Sequence[int]:
    """The steps after which a change of general ability is told of: of an arm that shares weights, the last.

    An arm of adapters is told of after every step, each being another adapter. Of an arm that others are measured
    against nothing is told.
    """
    strategy, steps = strategies.get(arm.strategy), range(len(ability.p_values))
    if strategy.measures:
        return ()
    return steps if strategy.role == "adapter" else steps[-1:]


def _at_steps(arm: ArmReport, ability: AbilityReport, values: Iterator[float | None]) -> tuple[float | None, ...]:
    told = _concluded(arm, ability)
    return tuple(next(values) if step in told else None for step in range(len(ability.p_values)))
