"""What became of the rows of a file, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from limpet.registry.formats.json_values import JsonObject

__all__ = ["Tally", "UnansweredRow"]

_SHOWN = 5


@dataclass(frozen=True)
class UnansweredRow:
    """A row that can't be answered, by its number from 1 on, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Tally:
    """How many rows there were so far, and what became of them.

    Rows that were `answered` have an answer; of `abstained` ones none was as probable as the threshold asks.
    `unanswered` counts rows without a text by the reason, and `first_unanswered` names some. The texts of `cut` rows
    were longer than the version reads. `in_float32` texts were computed in it, the others in bfloat16 alone.
    """

    rows: int = 0
    answered: int = 0
    abstained: int = 0
    cut: int = 0
    in_float32: int = 0
    unanswered: Mapping[str, int] = field(default_factory=dict)
    first_unanswered: tuple[UnansweredRow, ...] = ()

    def with_rows(self, reasons: Sequence[str], *, abstained: int, cut: int, in_float32: int) -> Tally:
        """Return the tally with more rows.

        Args:
            reasons: Why each row has no answer; empty where it has one, or could have.
            abstained: How many of those have none because of the threshold.
            cut: How many texts were cut.
            in_float32: How many texts were computed in float32.
        """
        unanswered = Counter(filter(None, reasons))
        named = [UnansweredRow(self.rows + at, reason) for at, reason in enumerate(reasons, 1) if reason]
        return replace(
            self,
            rows=self.rows + len(reasons),
            answered=self.answered + len(reasons) - unanswered.total() - abstained,
            abstained=self.abstained + abstained,
            cut=self.cut + cut,
            in_float32=self.in_float32 + in_float32,
            unanswered=dict(Counter(self.unanswered) + unanswered),
            first_unanswered=(*self.first_unanswered, *named)[:_SHOWN],
        )

    def content(self) -> JsonObject:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, content: JsonObject) -> Tally:
        """Return what `content` gave."""
        rows = tuple(UnansweredRow(**one) for one in content["first_unanswered"])
        return cls(**{**content, "first_unanswered": rows})
