"""The way of a source's rows into three splits: duplicates, limits, draws, and the count of all that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from limpet.errors import DataError
from limpet.first_few import first_few
from limpet.registry.values import TaskDefinition
from limpet.training.batching.examples import Text, flat_text
from limpet.training.data.duplicates import Shingles, normalise
from limpet.training.data.label_order import look_alikes, order_labels
from limpet.training.data.overlong import Lengths, Overlong, describe, lengths_of
from limpet.training.data.reading.sources import Source
from limpet.training.data.splits import EVALUATION_SHARE, VALIDATION_SHARE, draw, room
from limpet.training.task_types import TaskType

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NearDuplicates", "Row", "SplitName", "Splitter"]

_VALIDATION_LIMIT = 500
_DRAWS = {"evaluation": 0, "validation": 1, "train": 2}
# from this share of the rows on, what near duplicates took is noted
_MANY = 0.1
# from this share of one label on, accuracy hides the others
_LOPSIDED = 0.8
# how many texts with different labels are kept in the record, and how much of each
_MOST_CONFLICTS = 20
_LONGEST_CONFLICT = 200

NearDuplicates = Literal["drop", "report", "keep"]
SplitName = Literal["train", "validation", "evaluation"]


class Row(NamedTuple):
    """A row of a source: its text, its plain target, and the part of the source that it came from."""

    text: Text
    target: Hashable
    part: str


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
        self.rows, normalised = self._without_duplicates(self._read(source))
        self._strata = [str(row.target) if kind.stratified else "" for row in self.rows]
        self._shingles = Shingles(normalised) if near_duplicates != "keep" else None
        self._near: set[int] = set()
        self._lengths: Lengths | None = None
        self._left_out: set[int] = set()
        parts = {row.part for row in self.rows}
        for part in source.pools:
            if part not in parts:
                raise DataError(
                    f"{source.pools[part].where} gives no example for the {part} split.",
                    "limpet task add --help",
                )
        if self._shingles is not None and self._shingles.shared:
            self.checks["notes"].append(
                f"{self._shingles.shared} runs of three words that more than half of the texts share are not "
                "compared for near duplicates"
            )

    def measure(self, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> Lengths:
        """Count the tokens of every row."""
        self._lengths = lengths_of(
            tokenizer, self.kind, [(row.text, row.target) for row in self.rows], options=options
        )
        return self._lengths

    def limit(self, lengths: Lengths, max_length: int, max_new_tokens: int | None, *, overlong: Overlong) -> None:
        """Refuse what is longer than the limits, leave it out, or let it be cut, as `overlong` says."""
        self.checks["overlong_rule"] = overlong
        over = {at for at, length in enumerate(lengths.texts) if length > max_length}
        if max_new_tokens is not None:
            over |= {at for at, length in enumerate(lengths.targets) if length > max_new_tokens}
        if overlong == "cut" or not over:
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

    def _read(self, source: Source) -> list[Row]:
        rows = []
        self._read_target, note = self.kind.reader([cell for pool in source.pools.values() for cell in pool.targets])
        self.checks["notes"] += [note] if note else []
        blanks = sum(_has_blanks(cell) for pool in source.pools.values() for cell in pool.targets)
        if blanks and self.kind.stratified:
            self.checks["notes"].append(f"{blanks} labels had spaces around them, which are left out")
        for part, pool in source.pools.items():
            for number, (written, cell) in enumerate(zip(pool.texts, pool.targets, strict=True), 1):
                try:
                    text = self.kind.read_text(written)
                except DataError as error:
                    message = f"{pool.where}: column {source.text_column!r} {error.message} (row {number})."
                    raise DataError(message, error.hint) from error
                if text is None:
                    self.checks["empty_texts"] += 1
                    continue
                try:
                    target = self._read_target(cell)
                    if target is not None:
                        self.kind.check(text, target)
                except DataError as error:
                    message = f"{pool.where}, row {number}, column {source.target_column!r}: {error.message}"
                    raise DataError(message, error.hint) from error
                if target is None:
                    noun = self.kind.noun
                    raise DataError(
                        f"{pool.where}: row {number} has no {noun} in column {source.target_column!r}.",
                        f"fill it in or take the row out, or name another column with --{noun} COL",
                    )
                rows.append(Row(text, target, part))
        return rows

    def _without_duplicates(self, rows: list[Row]) -> tuple[list[Row], list[str]]:
        # what was given for evaluation stays there, and its copies elsewhere go
        rows.sort(key=lambda row: _DRAWS[row.part])
        row_of_text: dict[str, Row] = {}
        conflicts: dict[str, dict[Hashable, None]] = {}
        for row in rows:
            key = normalise(flat_text(row.text))
            first = row_of_text.setdefault(key, row)
            if first is not row:
                self.checks["exact_duplicates"] += 1
                if first.target != row.target:
                    conflicts.setdefault(key, {first.target: None})[row.target] = None
        self.checks["conflicting_labels"] = len(conflicts)
        if conflicts:
            self.checks["conflicts"] = [
                {
                    "text": flat_text(row_of_text[key].text)[:_LONGEST_CONFLICT],
                    "targets": [list(one) if isinstance(one, tuple) else one for one in targets],
                }
                for key, targets in islice(conflicts.items(), _MOST_CONFLICTS)
            ]
        return list(row_of_text.values()), list(row_of_text)

    def _label_map(self) -> set[str]:
        by_part: dict[str, set[str]] = {"train": set()}
        for row in (row for at, row in enumerate(self.rows) if at not in self._left_out):
            by_part.setdefault(row.part, set()).update(self.kind.labels_of(row.target))
        if not self.kind.stratified:
            return self._all_labels(set().union(*by_part.values()))
        train_labels = by_part["train"]
        if len(train_labels) < 2:
            raise DataError(
                f"{self.where} has a single label, {min(train_labels)!r}: there is nothing to tell apart.",
                "name another column with --label COL",
            )
        for part in ("evaluation", "validation"):
            if unknown := sorted(by_part.get(part, set()) - train_labels):
                raise DataError(
                    f"Only the {part} split has the {_plural('label', unknown)}: no training example does.",
                    "add training examples of it, or take it out of that split",
                )
        counts = Counter(row.target for row in self.rows)
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
        pools: dict[str, list[int]] = {part: [] for part in _DRAWS}
        for at, row in enumerate(self.rows):
            if at not in self._left_out:
                pools[row.part].append(at)
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
        self.kind.check_training([self.rows[place].target for place in train])
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
        if definition.metric == "accuracy":
            [(commonest, _)] = Counter(self.rows[place].target for place in places["train"]).most_common(1)
            targets = [self.rows[place].target for place in places["evaluation"]]
            share = targets.count(commonest) / len(targets)
            if share >= _LOPSIDED:
                notes.append(
                    f"{share:.0%} of the evaluation examples have the label {commonest!r}, so accuracy is "
                    f"{share:.2f} without learning anything; --metric macro-f1 gives every label the same weight"
                )

    def _note_cut(self, definition: TaskDefinition, places: Mapping[SplitName, list[int]]) -> None:
        """Count what is longer than the limits in each split."""
        if self._lengths is None:
            self.checks["cut"] = None
            return
        limit = definition.options.get("max_new_tokens")
        self.checks["cut"] = {
            name: self._lengths.of(drawn).over(definition.max_length, limit) for name, drawn in places.items()
        }
        sizes: dict[str, int] = {name: len(drawn) for name, drawn in places.items()}
        self.checks["notes"] += describe(self.checks["cut"], sizes, definition.max_length)

    def _labels_at(self, places: list[int]) -> set[str]:
        return {label for place in places for label in self.kind.labels_of(self.rows[place].target)}


def _plural(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {first_few(map(repr, names))}"


def _has_blanks(cell: object) -> bool:
    return isinstance(cell, str) and bool(cell.strip()) and cell != cell.strip()
