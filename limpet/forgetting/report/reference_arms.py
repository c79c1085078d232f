"""What arms are measured against: the base before any training, and all tasks learned together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from limpet.forgetting import strategies
from limpet.forgetting.metrics.forgetting import Scores
from limpet.forgetting.report.arm_runs import ArmRunEvidence

__all__ = ["with_references"]


def with_references(arm_runs: Sequence[ArmRunEvidence]) -> list[ArmRunEvidence]:
    """Give every arm run b of `fwt_gem` and a* of `intransigence`, where an arm of the same stream measures them.

    A run under the same seed is taken before others, and one by the same method before other methods. No arm is
    measured against itself.
    """
    return [
        replace(
            evidence, baseline=_diagonal(evidence, arm_runs, "baseline"), joint=_diagonal(evidence, arm_runs, "joint")
        )
        for evidence in arm_runs
    ]


def _diagonal(
    evidence: ArmRunEvidence, arm_runs: Sequence[ArmRunEvidence], what: Literal["baseline", "joint"]
) -> Scores | None:
    arm = evidence.arm
    known = [
        other
        for other in arm_runs
        if other.arm.name != arm.name
        and strategies.get(other.arm.strategy).measures == what
        and (other.arm.seed == arm.seed or what == "baseline")
        and other.tasks == evidence.tasks
    ]
    if not known:
        return None
    nearest = min(known, key=lambda other: (other.arm.seed != arm.seed, other.arm.method != arm.method))
    return tuple(nearest.rows[step][step] for step in range(nearest.steps))
