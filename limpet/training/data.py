"""A task's data: read, cleaned of duplicates, split, digested and kept.

The three splits never share a text, and what one of them holds has no near duplicate in another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from limpet.errors import DataError, UsageError
from limpet.names import check_name
from limpet.registry import tasks
from limpet.registry.canonical import canonical_json, digest_bytes
from limpet.registry.clock import utc_now
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord
from limpet.training.duplicates import Shingles, normalise
from limpet.training.sources import Source, read_source
from limpet.training.splits import draw, room
from limpet.training.task_types import Example, TaskType, Text, task_type

__all__ = ["DEFAULT_MAX_LENGTH", "add_task", "build_task", "read_split"]

DEFAULT_MAX_LENGTH = 128
_EVALUATION_SHARE = 0.3
_VALIDATION_SHARE = 0.2
_VALIDATION_LIMIT = 500
_DRAWS = {"evaluation": 0, "validation": 1, "train": 2}

SplitName = Literal["train", "validation", "evaluation"]


class _Row(NamedTuple):
    text: Text
    target: Any
    part: str


def build_task(
    name: str,
    data: str,
    *,
    type: str = "classification",  # noqa: A002 - the word of the command line and of stream files
    text_column: str | None = None,
    target_column: str | None = None,
    metric: str | None = None,
    train_size: int | None = None,
    eval_size: int | None = None,
    split_seed: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    prompt: str | None = None,
    max_new_tokens: int | None = None,
) -> tuple[TaskRecord, dict[str, bytes]]:
    """Read a task's data and split it.

    An official evaluation split is kept; else 30 % of the examples are drawn for one. Validation examples are
    drawn from the training data and not counted in `train_size`: 20 % of it, at least two for each label, at
    most 500.

    Args:
        name: The task's name.
        data: The data SPEC.
        type: The type of task, one of `task_types.names()`.
        text_column: The column of the texts; null finds it.
        target_column: The column of the targets; null finds it.
        metric: What the task is scored by; null takes the type's default.
        train_size: How many training examples to draw; null takes all.
        eval_size: How many evaluation examples to draw; null takes all, or 30 % without an official split.
        split_seed: Seeds every draw.
        max_length: Longest text in tokens.
        prompt: What an answer is written after, with `{text}` where the text goes; for generation.
        max_new_tokens: The longest answer in tokens; for generation.

    Returns:
        The record, and each split as canonical JSON lines.

    Raises:
        UsageError: An argument or the SPEC's form is wrong.
        NotFoundError: There is no such data.
        DataError: The data can't serve as such a task.
    """
    kind = task_type(type)
    _check_numbers(train_size=train_size, eval_size=eval_size, max_length=max_length)
    if split_seed < 0:
        raise UsageError(f"The split seed is {split_seed}, and seeds are 0 or more.", "--split-seed 0")
    metric = kind.metric(metric)
    check_name("task", name)
    source = read_source(data, text_column, target_column, kind.target_columns, kind.noun, kind.text_columns)
    options = kind.options({"prompt": prompt, "max_new_tokens": max_new_tokens}, source.target_column)
    splitter = _Splitter(source, kind, split_seed)
    places = splitter.split(train_size, eval_size)
    definition = TaskDefinition(
        name=name,
        type=type,
        data=data,
        text_column=source.text_column,
        target_column=source.target_column,
        metric=metric,
        train_size=train_size,
        eval_size=eval_size,
        split_seed=split_seed,
        max_length=max_length,
        options=options,
    )
    return _record(definition, kind, splitter, places)


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {number}, and it must be 1 or more.", f"{option} 100")


def _record(
    definition: TaskDefinition, kind: TaskType, splitter: _Splitter, places: dict[SplitName, list[int]]
) -> tuple[TaskRecord, dict[str, bytes]]:
    splits = []
    contents: dict[str, bytes] = {}
    for name, drawn in places.items():
        rows = [splitter.rows[place] for place in drawn]
        content = b"".join(canonical_json(kind.row(row.text, row.target, splitter.labels)) + b"\n" for row in rows)
        counts = Counter(label for row in rows for label in kind.labels_of(row.target))
        label_counts = {label: counts[label] for label in splitter.labels}
        splits.append(SplitRecord(name, digest_bytes(content), len(rows), label_counts))
        contents[name] = content
    record = TaskRecord(
        definition=definition,
        labels=splitter.labels,
        splits=tuple(splits),
        data_digest=tasks.data_digest(definition, splitter.labels, splits),
        checks=splitter.checks,
        created_at=utc_now(),
    )
    return record, contents


class _Splitter:
    """The rows of a source on their way into splits, with the count of all that was left out."""

    def __init__(self, source: Source, kind: TaskType, seed: int) -> None:
        self.seed = seed
        self.kind = kind
        self.where = source.pools["train"].where
        self.checks: dict[str, Any] = {
            "examples_read": sum(len(pool.texts) for pool in source.pools.values()),
            "empty_texts": 0,
            "exact_duplicates": 0,
            "conflicting_labels": 0,
            "near_duplicates": 0,
            "notes": list(source.notes),
        }
        self.rows, normalised = self._without_duplicates(self._read(source))
        self._strata = [row.target if kind.stratified else "" for row in self.rows]
        self._shingles = Shingles(normalised)
        parts = {row.part for row in self.rows}
        for part in source.pools:
            if part not in parts:
                raise DataError(
                    f"{source.pools[part].where} gives no example for the {part} split.",
                    "limpet task add --help",
                )
        self.labels = self._label_map() if kind.labelled else ()

    def _read(self, source: Source) -> list[_Row]:
        rows = []
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
                    target = self.kind.read(cell)
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
                rows.append(_Row(text, target, part))
        return rows

    def _without_duplicates(self, rows: list[_Row]) -> tuple[list[_Row], list[str]]:
        # what was given for evaluation stays there, and its copies elsewhere go
        rows.sort(key=lambda row: _DRAWS[row.part])
        kept: dict[str, _Row] = {}
        conflicts = set()
        for row in rows:
            key = normalise(self.kind.flat(row.text))
            first = kept.setdefault(key, row)
            if first is not row:
                self.checks["exact_duplicates"] += 1
                if first.target != row.target:
                    conflicts.add(key)
        self.checks["conflicting_labels"] = len(conflicts)
        return list(kept.values()), list(kept)

    def _label_map(self) -> tuple[str, ...]:
        by_part: dict[str, set[str]] = {}
        for row in self.rows:
            by_part.setdefault(row.part, set()).update(self.kind.labels_of(row.target))
        if not self.kind.stratified:
            return self._all_labels(set().union(*by_part.values()))
        known = by_part["train"]
        if len(known) < 2:
            raise DataError(
                f"{self.where} has a single label, {min(known)!r}: there is nothing to tell apart.",
                "name another column with --label COL",
            )
        for part in ("evaluation", "validation"):
            if unknown := sorted(by_part.get(part, set()) - known):
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
        return tuple(sorted(known))

    def _all_labels(self, seen: set[str]) -> tuple[str, ...]:
        if not seen:
            raise DataError(
                f"{self.where} has no {self.kind.noun} at all: there is nothing to tell apart.",
                f"name another column with --{self.kind.noun} COL",
            )
        return tuple(sorted(seen))

    def split(self, train_size: int | None, eval_size: int | None) -> dict[SplitName, list[int]]:
        """Draw evaluation, then validation, then training; near duplicates of each leave what is left."""
        pools = {part: [at for at, row in enumerate(self.rows) if row.part == part] for part in _DRAWS}
        official = bool(pools["evaluation"])
        evaluation = self._draw_evaluation(pools, eval_size, official)
        pools["train"] = self._left(pools["train"], evaluation)
        pools["validation"] = self._left(pools["validation"], evaluation)
        validation = self._draw_validation(pools, train_size)
        pools["train"] = self._left(pools["train"], validation)
        train = self._draw_train(pools["train"], train_size)
        self._check_drawn(train, validation, evaluation)
        return {"train": train, "validation": validation, "evaluation": evaluation}

    def _draw(self, part: str, pool: list[int], size: int, keep: int) -> list[int]:
        return draw(self._strata, pool, size, (self.seed, _DRAWS[part]), keep)

    def _draw_evaluation(self, pools: dict[str, list[int]], size: int | None, official: bool) -> list[int]:
        pool, keep = (pools["evaluation"], 0) if official else (pools["train"], 1)
        most = room(self._strata, pool, keep)
        if size is None:
            size = len(pool) if official else min(most, max(1, round(_EVALUATION_SHARE * len(pool))))
        if size > most or most == 0:
            raise DataError(
                f"{size} evaluation examples were asked for, and {self.where} has {most} to give.",
                f"--eval-size {most}" if most else "add examples of each label",
            )
        return self._draw("evaluation", pool, size, keep)

    def _draw_validation(self, pools: dict[str, list[int]], train_size: int | None) -> list[int]:
        given = bool(pools["validation"])
        pool, keep = (pools["validation"], 0) if given else (pools["train"], 1)
        basis = len(pools["train"]) if train_size is None else train_size
        least = 2 * len(self.labels) if self.kind.stratified else 1
        share = max(least, round(_VALIDATION_SHARE * basis), 1)
        size = min(_VALIDATION_LIMIT, share, room(self._strata, pool, keep))
        if size == 0:
            raise DataError(
                f"{self.where} has too few examples: none is left for the validation split.",
                "add examples of each label, or ask for a smaller --eval-size",
            )
        return self._draw("validation", pool, size, keep)

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
        return self._draw("train", pool, size, 0)

    def _left(self, pool: list[int], taken: list[int]) -> list[int]:
        """Return the pool without what was taken and without near duplicates of it."""
        taken_set = set(taken)
        rest = [place for place in pool if place not in taken_set]
        near = self._shingles.resembling(rest, taken)
        self.checks["near_duplicates"] += len(near)
        return [place for place in rest if place not in near]

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

    def _labels_at(self, places: list[int]) -> set[str]:
        return {label for place in places for label in self.kind.labels_of(self.rows[place].target)}


def _plural(noun: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}"


def add_task(store: Store, name: str, data: str, **options: Any) -> TaskRecord:
    """Build a task and keep it with its splits.

    Args:
        store: The home.
        name: The task's name.
        data: The data SPEC.
        **options: The keyword arguments of `build_task`.

    Returns:
        The record as kept; an identical task that was there before is returned as it is.

    Raises:
        ConflictError: Another task has this name.
    """
    record, contents = build_task(name, data, **options)
    # a conflict is found before anything is written, so that it leaves nothing behind
    tasks.check_new(store, record)
    for content in contents.values():
        store.blobs.put_bytes(content)
    return tasks.add(store, record)


def read_split(store: Store, task: TaskRecord, name: str) -> list[Example]:
    """Return the examples of a task's split, in the order that its digest covers.

    Args:
        store: The home.
        task: The task.
        name: `train`, `validation` or `evaluation`.

    Raises:
        IntegrityError: The split's bytes are missing or changed.
    """
    kind = task_type(task.definition.type)
    lines = store.blobs.read(task.split(name).digest).splitlines()
    return [kind.example(row) for row in map(json.loads, lines)]
