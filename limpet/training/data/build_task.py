"""A task's data: read, cleaned of duplicates, split, digested and kept.

The three splits never share a text; what one of them holds has a near duplicate in another only where that is asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from limpet.errors import UsageError
from limpet.names import check_name
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord
from limpet.training.data.baseline import constant_score
from limpet.training.data.overlong import Overlong, find_tokenizer, room_for
from limpet.training.data.sources import read_source
from limpet.training.data.splitter import NearDuplicates, SplitName, Splitter
from limpet.training.task_types import TaskType, metric_family, task_type

__all__ = ["DEFAULT_MAX_LENGTH", "add_task", "build_task"]

DEFAULT_MAX_LENGTH = 128

NEAR_DUPLICATES = ("drop", "report", "keep")
OVERLONG = ("cut", "drop", "refuse")


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
    labels: Sequence[str] | None = None,
    near_duplicates: NearDuplicates = "drop",
    overlong: Overlong = "cut",
    recorded: TaskRecord | None = None,
    tokenizer: Any = None,
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
        max_new_tokens: The longest answer in tokens; for generation. Null takes what the longest target needs.
        labels: The labels in the order of their ids; null takes the data's own order, else that of numbers.
        near_duplicates: What happens to training examples that resemble evaluation ones: `drop`, `report` or `keep`.
        overlong: What happens to what is longer than the limits: `cut`, `drop` (the example), or `refuse`.
        recorded: This task as it was added before: what was found out then (the longest answer, the order of labels,
            the definition of a metric's name) stays, so that the same command gives the same task.
        tokenizer: The base's, to count tokens by; without it nothing is counted.

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
    _check_words(near_duplicates, overlong)
    metric = kind.metric(metric)
    if recorded is not None and metric_family(metric) == metric_family(recorded.definition.metric):
        metric = recorded.definition.metric
    check_name("task", name)
    if labels is not None and not kind.labelled:
        raise UsageError(f"Tasks of type {type!r} have no --labels.", "leave out --labels")
    source = read_source(
        data,
        text_column,
        target_column,
        target_columns=kind.target_columns,
        noun=kind.noun,
        text_columns=kind.text_columns,
    )
    if max_new_tokens is None and recorded is not None:
        max_new_tokens = recorded.definition.options.get("max_new_tokens")
    given = {"prompt": prompt, "max_new_tokens": max_new_tokens}
    options = kind.options(given, source.text_column, source.target_column)
    splitter = Splitter(source, kind, split_seed, near_duplicates=near_duplicates)
    if tokenizer is not None:
        lengths = splitter.measure(tokenizer, options)
        if max_new_tokens is None and lengths.targets:
            options["max_new_tokens"] = room_for(lengths.targets, options["max_new_tokens"])
        splitter.limit(lengths, max_length, options.get("max_new_tokens"), overlong=overlong)
    elif overlong != "cut":
        raise UsageError(
            f"--overlong {overlong} needs the base's tokenizer, and the base is not on this machine yet.",
            "limpet base add SPEC",
        )
    splitter.make_labels(recorded.labels if recorded is not None else source.class_names, labels)
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
    return _record(definition, kind, splitter, places=places)


def _check_words(near_duplicates: str, overlong: str) -> None:
    known = {"near-duplicates": (near_duplicates, NEAR_DUPLICATES), "overlong": (overlong, OVERLONG)}
    for option, (word, words) in known.items():
        if word not in words:
            raise UsageError(
                f"--{option} is {word!r}, and it is one of {', '.join(words)}.", f"--{option} {words[0]}"
            )


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {number}, and it must be 1 or more.", f"{option} 100")


def _record(
    definition: TaskDefinition, kind: TaskType, splitter: Splitter, *, places: dict[SplitName, list[int]]
) -> tuple[TaskRecord, dict[str, bytes]]:
    splits = []
    contents: dict[str, bytes] = {}
    splitter.note_drawn(definition, places)
    for name, drawn in places.items():
        rows = [splitter.rows[place] for place in drawn]
        content = b"".join(canonical_json(kind.row(row.text, row.target, splitter.labels)) + b"\n" for row in rows)
        counts = Counter(label for row in rows for label in kind.labels_of(row.target))
        label_counts = {label: counts[label] for label in splitter.labels}
        splits.append(SplitRecord(name, digest_bytes(content), len(rows), label_counts))
        contents[name] = content
    train, evaluation = (
        [kind.example(json.loads(line)) for line in contents[name].splitlines()] for name in ("train", "evaluation")
    )
    baseline = constant_score(definition.type, definition.metric, train, evaluation=evaluation)
    record = TaskRecord(
        definition=definition,
        labels=splitter.labels,
        splits=tuple(splits),
        data_digest=tasks.data_digest(definition, splitter.labels, splits),
        checks=splitter.checks | {"majority_baseline": baseline},
        created_at=utc_now(),
    )
    return record, contents


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
    kept = (task for task in tasks.list_all(store) if task.name == name and task.definition.data == data)
    recorded = next(kept, None)
    # what is on record already was counted, or is by training
    counts = recorded is None or options.get("overlong", "cut") != "cut"
    tokenizer = find_tokenizer(store) if counts else None
    record, contents = build_task(name, data, **options, recorded=recorded, tokenizer=tokenizer)
    # a conflict is found before anything is written, so that it leaves nothing behind
    tasks.check_new(store, record)
    for content in contents.values():
        store.blobs.put_bytes(content)
    return tasks.add(store, record)
