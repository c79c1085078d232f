"""The way of a source's rows into three splits: duplicates, limits, draws, and the count of all that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from limpet.errors import DataError
from limpet.first_few import first_few
from limpet.registry.values import TaskDefinition
from limpet.training.data.duplicates import shingles_of
from limpet.training.data.label_order import look_alikes, order_labels
from limpet.training.data.overlong import (
    SHORT_TEXT,
    TEXTS_PER_CALL,
    Lengths,
    Overlong,
    describe,
    lengths_of,
    positions_of,
    usual_length,
)
from limpet.training.data.reading.lazy import made
from limpet.training.data.reading.source_rows import PARTS, Row, SourceRows
from limpet.training.data.reading.sources import Source
from limpet.training.data.splits import EVALUATION_SHARE, VALIDATION_SHARE, draw, room
from limpet.training.task_types import TaskType

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NearDuplicates", "SplitName", "Splitter"]

_VALIDATION_LIMIT = 500
_DRAWS = {"evaluation": 0, "validation": 1, "train": 2}
# from this share of the rows on, what near duplicates took is noted
_MANY = 0.1
# so many rows, evenly spread, tell how long texts usually are
_LENGTHS = 20_000
# from so many tokens on, what a task costs by default is noted
_SLOW = 256
# from this share of one label on, accuracy hides the others
_LOPSIDED = 0.8

NearDuplicates = Literal["drop", "report", "keep"]
SplitName = Literal["train", "validation", "evaluation"]


class Splitter:
    """The rows of a source on their way into splits, with the count of all that was left out."""

    def __init__(self, source: Source, kind: TaskType[Any], seed: int, *, near_duplicates: NearDuplicates) -> None:
        self.seed = seed
        self.kind = kind
        self.where = source.pools["train"].where
        self.labels: tuple[str, ...] = ()
        self.checks: dict[str, Any] = {
            "examples_read": sum(len(pool.texts) for pool in source.pools.values()),
            "empty_texts": 0,
            "exact_duplicates": 0,
            "conflicting_labels": 0,
            "near_duplicates": None if near_duplicates == "keep" else 0,
            "near_duplicates_rule": near_duplicates,
            "notes": list(source.notes),
        }
        self.rows = SourceRows(source, kind, self.checks)
        self._labels = self.rows.labels()
        self._strata = [labels[0] for labels in self._labels] if kind.stratified else [""] * len(self.rows)
        compares = near_duplicates != "keep"
        self._shingles = shingles_of(self.rows.normalised(), self.rows.characters) if compares else None
        self._near: set[int] = set()
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._options: Mapping[str, Any] = {}
        self._lengths: Lengths | None = None
        self._left_out: set[int] = set()
        for part in source.pools:
            if not self.rows.part(part):
                raise DataError(
                    f"{source.pools[part].where} gives no example for the {part} split.",
                    "limpet task add --help",
                )
        if self._shingles is not None and self._shingles.shared:
            self.checks["notes"].append(
                f"{self._shingles.shared} runs of three words that more than half of the texts share are not "
                "compared for near duplicates"
            )

    def measure(self, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> None:
        """Count tokens from now on, by the base's tokenizer and the options of the task."""
        self._tokenizer, self._options = tokenizer, options

    def longest_target(self) -> int | None:
        """Return how many tokens the longest target has; null where none is written, or nothing is counted."""
        longest: int | None = None
        targets = (row.target for row in self.rows)
        while self._tokenizer is not None and (some := list(islice(targets, TEXTS_PER_CALL))):
            lengths = self.kind.target_lengths(self._tokenizer, some)
            if not lengths:
                break
            longest = max(longest or 0, *lengths)
        return longest

    def usual_length(self, options: Mapping[str, Any]) -> int:
        """Return how many tokens nearly all texts have at most, and note what that costs.

        Args:
            options: The task's, the longest answer among them where one is written.
        """
        if self._tokenizer is None:
            return SHORT_TEXT
        count = min(len(self.rows), _LENGTHS)
        places = np.linspace(0, len(self.rows) - 1, count).astype(np.int64).tolist()
        lengths = self._lengths_of(self.rows[place] for place in places).texts
        positions = positions_of(self._tokenizer)
        answer = options.get("max_new_tokens", 0)
        length = usual_length(lengths, positions and positions - answer)
        fitting = float(np.mean(lengths <= length))
        self.checks["max_length_fits"] = {"share": round(fitting, 4), "of": count, "longest": int(lengths.max())}
        if length >= _SLOW:
            self.checks["notes"].append(
                f"texts are read to {length} tokens, which {fitting:.0%} of them fit in; time and memory grow with "
                f"it: --max-length {SHORT_TEXT} takes about {SHORT_TEXT / length:.0%} of both"
            )
        return length

    def limit(self, max_length: int, max_new_tokens: int | None, *, overlong: Overlong) -> None:
        """Refuse what is longer than the limits, leave it out, or let it be cut, as `overlong` says."""
        self.checks["overlong_rule"] = overlong
        if overlong == "cut":
            return
        lengths = self._lengths = self._lengths_of(self.rows)
        over = set(np.flatnonzero(lengths.texts > max_length).tolist())
        if max_new_tokens is not None:
            over |= set(np.flatnonzero(lengths.targets > max_new_tokens).tolist())
        if not over:
            return
        if overlong == "refuse":
            excess = lengths.over(max_length, max_new_tokens)
            raise DataError(
                f"{self.where}: {excess['texts']} texts are longer than {max_length} tokens, by {excess['texts_by']} "
                f"at most, and {excess['targets']} targets longer than the longest answer, by {excess['targets_by']} "
                "at most.",
                f"--max-length {max_length + excess['texts_by']}, or --overlong cut",
            )
        self._left_out = over
        self.checks["overlong_dropped"] = len(over)

    def _lengths_of(self, rows: Iterable[Row]) -> Lengths:
        assert self._tokenizer is not None
        pairs = ((row.text, row.target) for row in rows)
        return lengths_of(self._tokenizer, self.kind, pairs, options=self._options)

    def usable(self) -> list[Row]:
        """Return the rows, each text once, without those that are longer than the limits and left out."""
        return [row for at, row in enumerate(self.rows) if at not in self._left_out]

    def make_labels(self, class_names: Sequence[str], given: Sequence[str] | None) -> None:
        """Find the labels and their order."""
        if not self.kind.labelled:
            return
        labels = self._label_map()
        self.labels, self.checks["label_order"] = order_labels(labels, class_names, given)
        self.checks["notes"] += look_alikes(labels)
        if without := [name for name in class_names if name not in labels]:
            self.checks["notes"].append(f"no example has the {_plural('label', without)} of the data's own list")

    def _label_map(self) -> set[str]:
        by_part = {part: self._labels_at(self._usable(part)) for part in PARTS}
        if not self.kind.stratified:
            return self._all_labels(set().union(*by_part.values()))
        train_labels = by_part["train"]
        if len(train_labels) < 2:
            raise DataError(
                f"{self.where} has a single label, {min(train_labels)!r}: there is nothing to tell apart.",
                "name another column with --label COL",
            )
        for part in ("evaluation", "validation"):
            if unknown := sorted(by_part[part] - train_labels):
                raise DataError(
                    f"Only the {part} split has the {_plural('label', unknown)}: no training example does.",
                    "add training examples of it, or take it out of that split",
                )
        counts = Counter(self._strata)
        if len(counts) > 2 and max(counts.values()) == 1:
            raise DataError(
                f"Every example of {self.where} has a label of its own ({len(counts)} labels).",
                "name another column with --label COL",
            )
        return train_labels

    def _all_labels(self, seen: set[str]) -> set[str]:
        if not seen:
            raise DataError(
                f"{self.where} has no {self.kind.noun} at all: there is nothing to tell apart.",
                f"name another column with --{self.kind.noun} COL",
            )
        return seen

    def split(self, train_size: int | None, eval_size: int | None) -> dict[SplitName, list[int]]:
        """Draw evaluation, then validation, then training; near duplicates of each leave what is left."""
        pools = {part: self._usable(part) for part in PARTS}
        official = bool(pools["evaluation"])
        evaluation = self._draw_evaluation(pools, eval_size, official)
        # one for training, and one for validation where that is drawn too
        pools["train"] = self._left(pools["train"], evaluation, 1 if pools["validation"] else 2)
        pools["validation"] = self._left(pools["validation"], evaluation, 1)
        validation = self._draw_validation(pools, train_size)
        pools["train"] = self._left(pools["train"], validation, 1)
        train = self._draw_train(pools["train"], train_size)
        self._check_drawn(train, validation, evaluation)
        return {"train": train, "validation": validation, "evaluation": evaluation}

    def _draw(self, part: str, pool: list[int], size: int, *, keep: int) -> list[int]:
        return draw(self._strata, pool, size, seed=(self.seed, _DRAWS[part]), keep=keep)

    def _draw_evaluation(self, pools: dict[str, list[int]], size: int | None, official: bool) -> list[int]:
        pool, keep = (pools["evaluation"], 0) if official else (pools["train"], 1)
        most = room(self._strata, pool, keep)
        if size is None:
            size = len(pool) if official else min(most, max(1, round(EVALUATION_SHARE * len(pool))))
        if size > most or most == 0:
            raise DataError(
                f"{size} evaluation examples were asked for, and {self.where} has {most} to give.",
                f"--eval-size {most}" if most else "add examples of each label",
            )
        return self._draw("evaluation", pool, size, keep=keep)

    def _draw_validation(self, pools: dict[str, list[int]], train_size: int | None) -> list[int]:
        given = bool(pools["validation"])
        pool, keep = (pools["validation"], 0) if given else (pools["train"], 1)
        basis = len(pools["train"]) if train_size is None else train_size
        least = 2 * len(self.labels) if self.kind.stratified else 1
        share = max(least, round(VALIDATION_SHARE * basis), 1)
        size = min(_VALIDATION_LIMIT, share, room(self._strata, pool, keep))
        if size == 0:
            raise DataError(
                f"{self.where} has too few examples: none is left for the validation split.",
                "add examples of each label, or ask for a smaller --eval-size",
            )
        return self._draw("validation", pool, size, keep=keep)

    def _draw_train(self, pool: list[int], size: int | None) -> list[int]:
        if size is None:
            size = len(pool)
        if size > len(pool):
            raise DataError(
                f"{size} training examples were asked for, and {self.where} has {len(pool)} left after "
                "evaluation, validation and duplicates.",
                f"--train-size {len(pool)}",
            )
        if self.kind.stratified and size < len(self.labels):
            raise DataError(
                f"{size} training examples can't show all {len(self.labels)} labels.",
                f"--train-size {10 * len(self.labels)}",
            )
        return self._draw("train", pool, size, keep=0)

    def _left(self, pool: list[int], taken: list[int], least: int) -> list[int]:
        """Return the pool without what was taken, and without near duplicates of it where they are to be dropped.

        Where that would leave fewer than `least` examples of a label, or of all, they stay.
        """
        taken_set = set(taken)
        rest = [place for place in pool if place not in taken_set]
        if self._shingles is None:
            return rest
        near = self._shingles.resembling(rest, taken)
        self._near |= near
        self.checks["near_duplicates"] = len(self._near)
        if self.checks["near_duplicates_rule"] == "report":
            return rest
        left = Counter(self._strata[place] for place in rest if place not in near)
        spared = {place for place in near if left[self._strata[place]] < least}
        self._near -= spared
        self.checks["near_duplicates"] = len(self._near)
        if spared:
            labels = sorted({str(self._strata[place]) for place in spared})
            of = f" of the {_plural('label', labels)}" if self.kind.stratified else ""
            self.checks["notes"].append(
                f"{len(spared)} near duplicates across splits{of} are kept: without them nothing would be left"
            )
        return [place for place in rest if place not in near or place in spared]

    def _check_drawn(self, train: list[int], validation: list[int], evaluation: list[int]) -> None:
        shown = self._labels_at(train)
        missing = sorted(set(self.labels) - shown)
        if missing and self.kind.stratified:
            raise DataError(
                f"The {_plural('label', missing)} has no training example left: all resemble evaluation or "
                "validation examples.",
                "add training examples of it, or ask for a smaller --eval-size",
            )
        self.kind.check_training(made(len(train), lambda at: self.rows[train[at]].target))
        for name, drawn in (("train", train), ("validation", validation), ("evaluation", evaluation)):
            unseen = sorted(set(self.labels) - self._labels_at(drawn))
            if unseen:
                self.checks["notes"].append(f"the {name} split has no example of the {_plural('label', unseen)}")

    def note_drawn(self, definition: TaskDefinition, places: Mapping[SplitName, list[int]]) -> None:
        """Note what a reader of scores has to know: what is cut, and how far one answer to all texts comes."""
        notes: list[str] = self.checks["notes"]
        dropped = len(self._near) if self.checks["near_duplicates_rule"] == "drop" else 0
        if dropped > _MANY * len(self.rows):
            notes.append(
                f"{dropped} of {len(self.rows)} examples resemble evaluation or validation examples and are left "
                "out: --near-duplicates keep keeps them"
            )
        self._note_cut(definition, places)
        drawn = (place for name in sorted(places) for place in places[name])
        notes += self.kind.check_targets(definition.metric, (self.rows[place].target for place in drawn))
        if definition.metric == "accuracy":
            [(commonest, _)] = Counter(self._strata[place] for place in places["train"]).most_common(1)
            targets = [self._strata[place] for place in places["evaluation"]]
            share = targets.count(commonest) / len(targets)
            if share >= _LOPSIDED:
                notes.append(
                    f"{share:.0%} of the evaluation examples have the label {commonest!r}, so accuracy is "
                    f"{share:.2f} without learning anything; --metric macro-f1 gives every label the same weight"
                )

    def _note_cut(self, definition: TaskDefinition, places: Mapping[SplitName, list[int]]) -> None:
        """Count what is longer than the limits in each split."""
        if self._tokenizer is None:
            self.checks["cut"] = None
            return
        if self._lengths is None and 2 * sum(map(len, places.values())) > len(self.rows):
            # rows are read far quicker in their order than as they were drawn
            self._lengths = self._lengths_of(self.rows)
        limit = definition.options.get("max_new_tokens")
        self.checks["cut"] = {
            name: self._drawn_lengths(drawn).over(definition.max_length, limit) for name, drawn in places.items()
        }
        sizes: dict[str, int] = {name: len(drawn) for name, drawn in places.items()}
        self.checks["notes"] += describe(self.checks["cut"], sizes, definition.max_length)

    def _drawn_lengths(self, places: Sequence[int]) -> Lengths:
        if self._lengths is not None:
            return self._lengths.of(places)
        return self._lengths_of(self.rows[place] for place in places)

    def _usable(self, part: str) -> list[int]:
        return [place for place in self.rows.part(part) if place not in self._left_out]

    def _labels_at(self, places: list[int]) -> set[str]:
        return {label for labels in {self._labels[place] for place in places} for label in labels}


def _plural(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {first_few(map(repr, names))}"
