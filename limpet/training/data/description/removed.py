"""What of a task's data is in none of its splits, and why: from the counts that were taken when they were drawn."""

from __future__ import annotations

from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import TaskRecord

__all__ = ["left_out", "not_drawn"]


def not_drawn(task: TaskRecord) -> int | None:
    """Return how many examples were fit for a split and drawn for none; null where what was read was not counted."""
    checks = task.checks
    if not isinstance(checks.get("examples_read"), int):
        return None
    gone = sum(checks.get(key) or 0 for key in ("empty_texts", "exact_duplicates", "overlong_dropped"))
    kept = sum(split.examples for split in task.splits)
    return max(0, int(checks["examples_read"]) - gone - _near(checks) - kept)


def left_out(task: TaskRecord) -> list[str]:
    """Say in sentences how many examples were read, and what became of those that are in no split."""
    undrawn = not_drawn(task)
    if undrawn is None:
        # a bundle, or an old home, may have counted other things
        return []
    checks, kept = task.checks, sum(split.examples for split in task.splits)
    read = int(checks["examples_read"])
    whole = "all of them are" if kept == read else "1 of them is" if kept == 1 else f"{kept} of them are"
    said = {
        "empty_texts": "left out because there is no text",
        "exact_duplicates": "left out because the same text stands there already: each text is kept once, for "
        "evaluation where it was given for that",
        "overlong_dropped": "left out because of texts or targets that are longer than the limits: --overlong drop",
    }
    sentences = [f"{_examples(read)} read: {whole} in the splits"]
    sentences += [f"{_examples(count)} {why}" for key, why in said.items() if (count := checks.get(key))]
    if count := checks.get("conflicting_labels"):
        texts = "1 text has" if count == 1 else f"{count} texts have"
        sentences.append(f"{texts} different labels in different rows: the first is taken, and may be the wrong one")
    if count := checks.get("near_duplicates"):
        sentences.append(_resembling(int(count), task))
    if undrawn:
        sentences.append(f"{_examples(undrawn)} not drawn, because the splits are to be smaller than the data")
    return sentences


def _resembling(count: int, task: TaskRecord) -> str:
    like = "because of near duplicates among the evaluation or validation examples"
    if task.checks.get("near_duplicates_rule", "drop") == "drop":
        return f"{_examples(count)} left out {like}: scores would be too good with them"
    number = "1 example of another split is" if count == 1 else f"{count} examples of other splits are"
    return f"{number} kept although near duplicates stand among the evaluation or validation examples"


def _near(checks: JsonObject) -> int:
    return (checks.get("near_duplicates") or 0) if checks.get("near_duplicates_rule", "drop") == "drop" else 0


def _examples(count: int) -> str:
    return "1 example was" if count == 1 else f"{count} examples were"
