"""What of a task's data is in none of its splits, and why: from the counts that were taken when they were drawn."""

from __future__ import annotations

from collections.abc import Mapping

from limpet.first_few import first_few
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.values import TaskRecord

__all__ = ["left_out", "not_drawn"]

_LEFT_OUT = {
    "empty_texts": "left out because there is no text",
    "exact_duplicates": "left out because the same text stands there already: each text is kept once, for "
    "evaluation where it was given for that",
    "overlong_dropped": "left out because of texts or targets that are longer than the limits: --overlong drop",
}
"""Why examples are in no split, by the key that their number has."""
_MOST_NAMED = 3
_LONGEST_TEXT = 80


def not_drawn(task: TaskRecord) -> int | None:
    """Return how many examples were fit for a split and drawn for none; null where what was read was not counted."""
    read = _count(task.checks, "examples_read")
    if not read:
        return None
    gone = sum(_count(task.checks, key) for key in _LEFT_OUT)
    near = _count(task.checks, "near_duplicates") if _drops_near(task) else 0
    return max(0, read - gone - near - sum(split.examples for split in task.splits))


def left_out(task: TaskRecord) -> list[str]:
    """Say in sentences how many examples were read, and what became of those that are in no split."""
    if "revision" in task.checks:
        return [*_revised(task.checks), *_why(task)]
    undrawn = not_drawn(task)
    if undrawn is None:
        return []
    read, kept = _count(task.checks, "examples_read"), sum(split.examples for split in task.splits)
    whole = "all of them are" if kept == read else "1 of them is" if kept == 1 else f"{kept} of them are"
    sentences = [f"{_examples(read)} read: {whole} in the splits", *_why(task)]
    if undrawn:
        sentences.append(f"{_examples(undrawn)} not drawn, because the splits are to be smaller than the data")
    return sentences


def _why(task: TaskRecord) -> list[str]:
    sentences = [f"{_examples(count)} {why}" for key, why in _LEFT_OUT.items() if (count := _count(task.checks, key))]
    if conflicting := _count(task.checks, "conflicting_labels"):
        texts = "1 text has" if conflicting == 1 else f"{conflicting} texts have"
        sentences.append(f"{texts} different labels in different rows: the first is taken, and may be the wrong one")
        sentences += _conflicts(task.checks.get("conflicts"))
    if near := _count(task.checks, "near_duplicates"):
        sentences.append(_resembling(near, dropped=_drops_near(task), revised="revision" in task.checks))
    return sentences


def _revised(checks: JsonObject) -> list[str]:
    """Say what a revision changed."""
    counts = checks["revision"]
    corrected, added = ({name: n for name, n in counts[key].items() if n} for key in ("corrected", "added"))
    sentences = [
        f"{_examples(_count(checks, 'examples_read'))} read: {counts['unchanged']} already there and unchanged, "
        f"{sum(corrected.values())} corrected, {sum(added.values())} new"
    ]
    for what, by_split in (("corrected", corrected), ("new", added)):
        if by_split:
            sentences.append(f"{what}: {', '.join(f'{number} for {name}' for name, number in by_split.items())}")
    if counts["not_given"]:
        number = counts["not_given"]
        stay = (
            "1 example that was there before is" if number == 1 else f"{number} examples that were there before are"
        )
        sentences.append(f"{stay} not among these data, and stay{'s' if number == 1 else ''}")
    return sentences


def _conflicts(texts: JsonValue) -> list[str]:
    """Name the first texts that have different labels, each with its labels; nothing of records without them."""
    sentences = []
    for conflict in texts[:_MOST_NAMED] if isinstance(texts, list) else ():
        if isinstance(conflict, Mapping) and isinstance(targets := conflict.get("targets"), list):
            text = str(conflict.get("text"))
            beginning = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT].rstrip()}..."
            sentences.append(f"{beginning!r} has {first_few(map(repr, targets))}")
    return sentences


def _count(checks: JsonObject, key: str) -> int:
    """Return what was counted; a bundle, or an old home, may have counted other things."""
    value = checks.get(key)
    return value if isinstance(value, int) else 0


def _drops_near(task: TaskRecord) -> bool:
    return bool(task.checks.get("near_duplicates_rule", "drop") == "drop")


def _resembling(count: int, *, dropped: bool, revised: bool) -> str:
    # a revision may neither train on what resembles evaluation, nor evaluate what resembles rows trained on before
    across = "rows on the other side of a split" if revised else "the evaluation or validation examples"
    like = f"because of near duplicates among {across}"
    if dropped:
        return f"{_examples(count)} left out {like}: scores would be too good with them"
    number = "1 example of another split is" if count == 1 else f"{count} examples of other splits are"
    return f"{number} kept although near duplicates stand among {across}"


def _examples(count: int) -> str:
    return "1 example was" if count == 1 else f"{count} examples were"
