"""What was kept of an evaluation, read back and checked against the score that was recorded with it."""

from __future__ import annotations

from limpet.errors import IntegrityError
from limpet.forgetting.report.arm_runs import Outcomes, Read, frozen
from limpet.registry.records import evaluations
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord
from limpet.training.metrics.metric import score

__all__ = ["read_outcomes"]

_ROUNDING = 1e-9  # sums of other metrics than accuracy may differ in the last bits from machine to machine


def read_outcomes(store: Store) -> Read:
    """Read kept predictions, each blob once: most rows of an isolated arm share theirs.

    A score that its own predictions do not give is refused: such as a 0 where nothing was evaluated.
    """
    kept: dict[tuple[str, str], tuple[Outcomes, float]] = {}

    def read(evaluation: EvaluationRecord) -> Outcomes:
        known = (evaluation.predictions_digest, evaluation.metric)
        if known not in kept:
            content = evaluations.predictions(store, evaluation)
            outcomes = Outcomes(frozen(content["predictions"]), frozen(content["targets"]))
            kept[known] = outcomes, score(evaluation.metric, content["predictions"], content["targets"])
        outcomes, found = kept[known]
        if abs(found - evaluation.score) > _ROUNDING:
            raise IntegrityError(
                f"The score of {evaluation.version} is recorded as {evaluation.score:g}, and its predictions give "
                f"{found:g}.",
                "limpet verify --deep",
            )
        return outcomes

    return read
