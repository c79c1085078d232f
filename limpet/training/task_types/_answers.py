"""What an answer is in a file of rows: its columns, and what is asked for beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from limpet.errors import UsageError

__all__ = ["ANSWER", "AnswerColumn", "AnswerForm", "probability", "probability_columns"]

ANSWER = "prediction"
"""The column of the answers."""
_DIGITS = 6


@dataclass(frozen=True)
class AnswerForm:
    """What is asked for: `probabilities` beside the answers, and the least probability that an answer must have.

    `threshold` is null where a type's own rule holds.
    """

    probabilities: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Check the threshold.

        Raises:
            UsageError: It is no probability that an answer could fall short of.
        """
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(
                f"A threshold of {self.threshold:g} is no probability between 0 and 1.", "--threshold 0.8"
            )


@dataclass(frozen=True)
class AnswerColumn:
    """A column of answers: what it holds, and what stands between the parts of a list where a cell is one text."""

    name: str
    kind: Literal["text", "number", "texts", "numbers"] = "text"
    separator: str = " "


def probability_columns(labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
    """Return a column of probabilities for each label."""
    return tuple(AnswerColumn(f"probability_{label}", "number") for label in labels)


def probability(value: float) -> float:
    """Return a probability as it is written: what follows the sixth digit depends on the texts beside it."""
    return round(value, _DIGITS)
