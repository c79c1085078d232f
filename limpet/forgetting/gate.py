"""The gate: the rules that say whether an addition may be promoted."""

from __future__ import annotations

from dataclasses import dataclass

from limpet.forgetting.report_values import ArmReport

__all__ = ["Crossing", "GateRules", "check"]

# a limit of 0.05 is not crossed by 0.05 that came out of a subtraction as 0.050000000000000044
_ROUNDING = 1e-12


@dataclass(frozen=True)
class GateRules:
    """What an addition may cost the tasks before it; a rule that is None or False does not apply.

    Args:
        max_forgetting: The most `forgetting_max` allowed, the mean over earlier tasks.
        max_worst: The most `worst_forgetting` allowed, the loss of a single earlier task.
        require_identical: Whether every earlier prediction must be exactly what it was.
    """

    max_forgetting: float | None = None
    max_worst: float | None = None
    require_identical: bool = False


@dataclass(frozen=True)
class Crossing:
    """One rule that was crossed: `forgetting`, `worst` or `identical`, and a sentence that says how."""

    rule: str
    detail: str


def check(arm: ArmReport, rules: GateRules) -> tuple[Crossing, ...]:
    """Return the rules that an arm crosses, in the order forgetting, worst, identical.

    Nothing is crossed before a second task is learned, and a metric that is undefined crosses no limit.
    Identity is another matter: it is required as proof, so a matrix that lacks the evidence crosses that
    rule.
    """
    if len(arm.matrix) < 2:
        return ()
    crossed = [
        _above("forgetting", "forgetting_max", arm, rules.max_forgetting),
        _above("worst", "worst_forgetting", arm, rules.max_worst),
        _not_identical(arm) if rules.require_identical else None,
    ]
    return tuple(crossing for crossing in crossed if crossing is not None)


def _above(rule: str, key: str, arm: ArmReport, limit: float | None) -> Crossing | None:
    value = arm.metrics[key]
    if limit is None or value is None or value <= limit + _ROUNDING:
        return None
    return Crossing(rule, f"arm {arm.name}, seed {arm.seed}: {key} is {value:.4f}, above the limit of {limit:g}.")


def _not_identical(arm: ArmReport) -> Crossing | None:
    if arm.identical_predictions:
        return None
    found = "an earlier task's predictions changed"
    if arm.identical_predictions is None:
        found = "an earlier task was not evaluated again, so nothing shows that its predictions are the same"
    return Crossing("identical", f"arm {arm.name}, seed {arm.seed}: {found}.")
