"""What a version did to the task whose version it replaced, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from limpet.forgetting.json_form import as_json
from limpet.forgetting.metrics import in_words
from limpet.forgetting.metrics.intervals import Interval
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.system.text_checks import without_stop

__all__ = ["Loss", "Replacement", "latest"]


@dataclass(frozen=True)
class Loss:
    """An example that the replaced version answered right and the new one answers wrong; labels by name."""

    example: int
    text: str
    before: JsonValue
    now: JsonValue
    target: JsonValue


@dataclass(frozen=True)
class Replacement:
    """A version that took another's place, or is about to.

    `lost_examples` are places in the order of the evaluation split, `losses` the first of them with their texts.
    `change` is the new score less the old one, `interval` its paired bootstrap interval over examples. Flips, the
    exact McNemar p-value and `lost_examples` are null or empty where the metric knows no right and wrong answers.

    Args:
        answers: False while the new version is only about to take the place.
        reason: Why the two can't be compared, or only on some rows; empty where they are compared on all.
        accepted: The reason given by who let the new version take the place although a rule was crossed.
        p_holm: The p-value corrected for all tests of the report; null outside of one, and where no answer changed.
        rows: `old` or `new` in a part; empty for all rows.
        parts: The same comparison on the evaluation rows that the task had when the old version was learned, and on
            those that came since; empty where none came.
    """

    task: str
    old: str
    new: str
    metric: str
    old_score: float | None = None
    new_score: float | None = None
    change: float | None = None
    interval: Interval | None = None
    negative_flip_rate: float | None = None
    positive_flip_rate: float | None = None
    p_value: float | None = None
    lost_examples: tuple[int, ...] = ()
    gained_examples: tuple[int, ...] = ()
    losses: tuple[Loss, ...] = ()
    examples: int = 0
    answers: bool = True
    reason: str = ""
    accepted: str = ""
    p_holm: float | None = None
    rows: str = ""
    parts: tuple[Replacement, ...] = ()

    def to_json(self) -> JsonObject:
        """Return the entry as the contract has it."""
        return as_json(self)

    def sentence(self) -> str:
        """Return what became of the task, in one sentence."""
        verb = "took the place of" if self.answers else "would take the place of"
        if self.old_score is None or self.new_score is None or self.change is None:
            return f"{self.new} {verb} {self.old}, and can't be compared with it: {without_stop(self.reason)}."
        said = f"{self.metric} {self.old_score:.4f} to {self.new_score:.4f} ({self.change:+.4f})"
        if self.p_value is not None:
            lost, gained = len(self.lost_examples), len(self.gained_examples)
            shown = self.p_value if self.p_holm is None else self.p_holm
            said += (
                f", {lost} of {self.examples} examples lost and {gained} gained (McNemar {in_words.p_value(shown)})"
            )
        if self.p_value is None and self.interval is not None:
            said += f", 95 % interval {self.interval[0]:+.4f} to {self.interval[1]:+.4f}"
        said += "".join(
            f"; on the {part.rows} rows {part.old_score:.4f} to {part.new_score:.4f}, "
            f"{len(part.lost_examples)} of {part.examples} lost"
            for part in self.parts
        )
        if self.reason:
            said += f"; only rows that both answered are compared, for {without_stop(self.reason)}"
        accepted = f"; accepted: {without_stop(self.accepted)}" if self.accepted else ""
        return f"{self.new} {verb} {self.old}: {said}{accepted}."


def latest(replaced: Iterable[Replacement]) -> tuple[Replacement, ...]:
    """Return the replacements that led to what answers now, one for each task, and the one that waits to be made."""
    return tuple({(one.task, one.answers): one for one in replaced}.values())
