"""A new revision of a task: rows that are added, targets that are corrected, labels that are new.

What a task was evaluated on stays: the rows of its evaluation splits keep their places and texts, and only targets
are corrected in them. Rows that are added are drawn into the training and validation splits, behind those that are
there, and into an evaluation split of their own. No text that was ever trained on is drawn for evaluation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import IO, Any

from limpet.errors import DataError, UsageError
from limpet.first_few import first_few
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord
from limpet.training.batching.examples import Conversation, Text, flat_text
from limpet.training.data.description.baseline import constant_score
from limpet.training.data.duplicates import normalise, shingles_of
from limpet.training.data.label_order import look_alikes, order_labels
from limpet.training.data.overlong import cut, describe, find_tokenizer
from limpet.training.data.reading.chat_forms import CHATS, FORMATS, ChatRequest
from limpet.training.data.reading.memory import Rows, contents_of, spec_of
from limpet.training.data.reading.source_rows import Row
from limpet.training.data.reading.sources import Source, SourceForm, read_source
from limpet.training.data.splits import EVALUATION_SHARE, VALIDATION_SHARE, draw, room
from limpet.training.data.splitter import Splitter
from limpet.training.data.stored_splits import make_split, parse_examples, parse_targets
from limpet.training.task_types import TaskType, task_type

__all__ = ["RevisionRequest", "plain_rows", "read_more", "revise_task"]

_DRAWS = ("evaluation", "validation", "train")


@dataclass(frozen=True)
class RevisionRequest:
    """A revision as it is asked for; what is null is as in the revision before, or found out of the data.

    Args:
        name: The task's name.
        data: The data SPEC, or rows given in Python: all rows again, or only those that are new or corrected.
        text_column: The column of the texts.
        target_column: The column of the targets.
        labels: The labels in the order of their ids; null keeps those there are, and puts new ones behind them.
        train_size: How many of the new rows to train on; null takes all that are left.
        eval_size: How many of the new rows to evaluate on; null takes those that the data names, or 30 %.
    """

    name: str
    data: str | Rows
    text_column: str | None = None
    target_column: str | None = None
    labels: Sequence[str] | None = None
    train_size: int | None = None
    eval_size: int | None = None

    def check(self) -> None:
        """Refuse sizes that make no sense, whatever the data are.

        Raises:
            UsageError: A size is below 0.
        """
        for option, size in (("--train-size", self.train_size), ("--eval-size", self.eval_size)):
            if size is not None and size < 0:
                raise UsageError(f"{option} is {size}, and it must be 0 or more.", f"{option} 100")


@dataclass
class _Known:
    """The rows of a revision on their way into the next one, by split, and where each text stands."""

    splits: dict[str, list[tuple[Text, Hashable]]]
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    corrected: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    trained_on: int = 0
    """Rows that were given for evaluation, and whose texts were trained on: there they stay."""

    def take(self, row: Row) -> bool:
        """Take a row whose text is there, and correct its target if it is another; tell whether the text is there."""
        place = self.places.get(normalise(flat_text(row.text)))
        if place is None:
            return False
        split, at = place
        self.trained_on += row.part == "evaluation" and not split.startswith("evaluation")
        text, target = self.splits[split][at]
        if target == row.target:
            self.unchanged += 1
        else:
            self.splits[split][at] = (text, row.target)
            self.corrected[split] += 1
        return True


def plain_rows(store: Store, task: TaskRecord, split: SplitRecord) -> list[tuple[Text, Hashable]]:
    """Return the texts and plain targets of a split, in its order.

    Raises:
        IntegrityError: The split's bytes are missing or changed.
    """
    kind = task_type(task.definition.type)
    with store.blobs.path(split.digest).open("rb") as lines:
        rows = map(json.loads, lines)
        return [(kind.example(row).text, kind.plain(row[kind.key], task.labels)) for row in rows]


def revise_task(store: Store, request: RevisionRequest) -> TaskRecord:
    """Make the next revision of a task and keep it.

    Returns:
        The revision; the newest there is where the data change nothing.

    Raises:
        NotFoundError: There is no such task or data.
        UsageError: An argument or the SPEC's form is wrong.
        DataError: The data can't serve as such a task.
        ConflictError: Somebody else made another revision meanwhile.
    """
    request.check()
    known = tasks.get(store, request.name)
    if request.name != known.name:
        raise UsageError(
            f"A revision follows the newest one, and {request.name!r} names one of them.",
            f"limpet task revise {known.name} --data SPEC",
        )
    record, contents = _build(store, known, request)
    if record.data_digest == known.data_digest:
        return known
    tasks.check_new(store, record)
    for content in (*contents.values(), *map(BytesIO, contents_of(request.data))):
        store.blobs.put_stream(content)
    return tasks.add(store, _with_cut(store, record))


def _with_cut(store: Store, record: TaskRecord) -> TaskRecord:
    """Count what is longer than the task's limits, if the base's tokenizer is here; else training counts it."""
    tokenizer = find_tokenizer(store)
    if tokenizer is None:
        return record
    limit = record.definition.max_length
    counts = cut(store, tokenizer, record, max_length=limit)
    notes = describe(counts, {split.name: split.examples for split in record.splits}, limit)
    return replace(record, checks={**record.checks, "cut": counts, "notes": [*record.checks["notes"], *notes]})


def _build(store: Store, known: TaskRecord, request: RevisionRequest) -> tuple[TaskRecord, dict[str, IO[bytes]]]:
    """Read the data and lay it over what is known."""
    kind: TaskType[Any] = task_type(known.definition.type)
    source = read_more(known, request.data, (request.text_column, request.target_column))
    rule = known.checks.get("near_duplicates_rule", "drop")
    splitter = Splitter(source, kind, known.definition.split_seed, near_duplicates="keep")
    splitter.checks["near_duplicates_rule"] = rule
    _limit(store, splitter, known)
    rows = _Known({split.name: plain_rows(store, known, split) for split in known.splits})
    _check_form(known, rows, source)
    if "format" in known.checks:
        splitter.checks["format"] = source.format
    rows.places = {
        normalise(flat_text(text)): (name, at)
        for name, split in rows.splits.items()
        for at, (text, _) in enumerate(split)
    }
    new = [row for row in splitter.usable() if not rows.take(row)]
    added = _Draw(known, rows, new, rule=rule).split(request)
    checks = splitter.checks | {"near_duplicates": added.near, "revision": _counts(rows, added)}
    checks["notes"] = [*checks["notes"], *added.notes]
    if rows.trained_on:
        checks["notes"].append(
            f"{rows.trained_on} rows that were given for evaluation have texts that were trained on, and stay there"
        )
    labels, checks["label_order"] = _labels(kind, known, _all(rows, added), source=source, given=request.labels)
    checks["notes"] += look_alikes(labels)
    _check_labels(kind, known, rows, added=added, labels=labels)
    part = f"evaluation-r{known.revision + 1}"
    content = {**rows.splits, "train": [*rows.splits["train"], *added.train]}
    content["validation"] = [*content["validation"], *added.validation]
    content |= {part: added.evaluation} if added.evaluation else {}
    kind.check_targets(known.definition.metric, (target for split in content.values() for _, target in split))
    definition = replace(
        known.definition,
        data=spec_of(request.data),
        text_column=source.text_column,
        target_column=source.target_column,
    )
    return _record(definition, known, content, labels=labels, checks=checks)


def read_more(task: TaskRecord, data: str | Rows, columns: tuple[str | None, str | None]) -> Source:
    """Read other data of a task: what its columns were called is looked for before their usual names.

    Args:
        task: The task.
        data: The data SPEC.
        columns: Those of the texts and of the targets; null finds them.

    Raises:
        NotFoundError: There is no such data.
        DataError: They can't be read, or lack the columns.
    """
    definition = task.definition
    kind: TaskType[Any] = task_type(definition.type)
    return read_source(
        data,
        *columns,
        target_columns=(definition.target_column, *kind.target_columns),
        form=SourceForm(kind.noun, (definition.text_column, *kind.text_columns), _chats(task)),
    )


def _chats(task: TaskRecord) -> ChatRequest | None:
    """Return the form in which more data of a task are looked for; turns may be called otherwise than before."""
    if task.definition.type != CHATS:
        return None
    known = task.checks.get("format", "columns")
    format_ = "auto" if known in ("messages", "sharegpt") else next(form for form in FORMATS if form == known)
    usual = (task.definition.text_column,) if format_ == "auto" else ()
    return ChatRequest(format_, task.definition.options.get("system"), hoists=False, usual=usual)


def _check_form(known: TaskRecord, rows: _Known, source: Source) -> None:
    had_turns = any(isinstance(text, Conversation) for text, _ in rows.splits["train"][:1])
    if had_turns != source.has_turns:
        forms = ("texts", "conversations")
        raise DataError(
            f"The rows of {known.name!r} are {forms[had_turns]}, and these are {forms[source.has_turns]}.",
            "write them as the task has them, or add them as a task of their own: limpet task add NAME --data SPEC",
        )


def _limit(store: Store, splitter: Splitter, known: TaskRecord) -> None:
    """Leave out, or refuse, what is longer than the task's limits, where the task does so."""
    overlong = known.checks.get("overlong_rule", "cut")
    if overlong == "cut":
        return
    tokenizer = find_tokenizer(store)
    if tokenizer is None:
        raise UsageError(
            f"This task was added with --overlong {overlong}, which needs the base's tokenizer, and the base is not "
            "on this machine yet.",
            "limpet base add SPEC",
        )
    options = known.definition.options
    splitter.measure(tokenizer, options)
    splitter.limit(known.definition.max_length, options.get("max_new_tokens"), overlong=overlong)


@dataclass(frozen=True)
class _Added:
    """The rows that a revision adds to each split; `near` counts those that were left out, null where none are."""

    train: list[tuple[Text, Hashable]]
    validation: list[tuple[Text, Hashable]]
    evaluation: list[tuple[Text, Hashable]]
    near: int | None
    notes: list[str]


class _Draw:
    """New rows on their way into splits: none resembles what stands on the other side."""

    def __init__(self, known: TaskRecord, rows: _Known, new: Sequence[Row], *, rule: str) -> None:
        kind = task_type(known.definition.type)
        self._known, self._rule, self._rows = known, rule, new
        self._strata = [str(row.target) if kind.stratified else "" for row in new]
        self._old: dict[str, list[int]] = {"train": [], "validation": [], "evaluation": []}
        texts = [normalise(flat_text(row.text)) for row in new]
        for name, split in rows.splits.items():
            side = name if name in self._old else "evaluation"
            self._old[side] += range(len(texts), len(texts) + len(split))
            texts += [normalise(flat_text(text)) for text, _ in split]
        self._shingles = shingles_of(texts, sum(map(len, texts))) if rule != "keep" and new else None
        self._near: set[int] = set()
        self._shown = {str(target) if kind.stratified else "" for _, target in rows.splits["train"]}
        self._notes: list[str] = []

    def split(self, request: RevisionRequest) -> _Added:
        """Draw evaluation, then validation, then training."""
        pools: dict[str, list[int]] = {name: [] for name in _DRAWS}
        for at, row in enumerate(self._rows):
            pools[row.part].append(at)
        seen = [*self._old["train"], *self._old["validation"]]
        if pools["evaluation"]:
            evaluation = self._apart(pools["evaluation"], seen)
            if request.eval_size is not None:
                evaluation = self._asked("evaluation", evaluation, request.eval_size, keep=0)
        else:
            # a row that resembles one that was trained on goes on being trained on
            fit = self._apart(pools["train"], seen, count=False)
            if request.eval_size is None:
                evaluation = self._sample("evaluation", fit, round(EVALUATION_SHARE * len(fit)), keep=1)
            else:
                evaluation = self._asked("evaluation", fit, request.eval_size, keep=1)
        evaluation, rest = self._beside(pools, "evaluation", evaluation)
        if pools["validation"]:
            validation = self._apart(pools["validation"], [*self._old["evaluation"], *evaluation])
        else:
            # in proportion to what is trained on, as when a task is added
            basis = len(rest) if request.train_size is None else request.train_size
            validation = self._sample("validation", rest, round(VALIDATION_SHARE * basis), keep=1)
        validation, train = self._beside({**pools, "train": rest}, "validation", validation)
        if request.train_size is not None:
            train = self._asked("train", train, request.train_size, keep=0)
        near = None if self._rule == "keep" else len(self._near)
        definition = self._known.definition
        if self._rows and (definition.train_size or definition.eval_size):
            self._notes.append(
                "the task was added with --train-size or --eval-size: rows not drawn then count as new, and "
                "--train-size 0 --eval-size 0 takes corrections alone"
            )
        drawn = [self._pairs(places) for places in (train, validation, evaluation)]
        return _Added(drawn[0], drawn[1], drawn[2], near=near, notes=self._notes)

    def _beside(self, pools: Mapping[str, list[int]], split: str, drawn: list[int]) -> tuple[list[int], list[int]]:
        """Return what was drawn for a split, and what is left to train on beside it.

        A new label whose rows all resemble each other is trained on, and gives none, where the data name no split.
        """
        references = self._old[split]
        if self._rule == "drop" and not pools[split] and {self._strata[place] for place in drawn} - self._shown:
            left = self._apart(_without(pools["train"], drawn), [*references, *drawn], count=False)
            shown = self._shown | {self._strata[place] for place in left}
            drawn = [place for place in drawn if self._strata[place] in shown]
        return drawn, self._apart(_without(pools["train"], drawn), [*references, *drawn])

    def _pairs(self, places: Iterable[int]) -> list[tuple[Text, Hashable]]:
        return [(self._rows[place].text, self._rows[place].target) for place in places]

    def _asked(self, split: str, pool: list[int], size: int, *, keep: int) -> list[int]:
        most = room(self._strata, pool, keep)
        if size > most:
            option = {"evaluation": "--eval-size", "train": "--train-size"}[split]
            raise DataError(
                f"{size} new rows were asked for in the {split} split, and these data have {most} to give: others "
                "are known already, stand in another split, or resemble what stands on the other side of one.",
                f"{option} {most}",
            )
        return self._sample(split, pool, size, keep=keep)

    def _sample(self, split: str, pool: list[int], size: int, *, keep: int) -> list[int]:
        size = min(size, room(self._strata, pool, keep))
        # each revision draws by a seed of its own, which none before it has drawn by
        number = _DRAWS.index(split) + len(_DRAWS) * self._known.revision
        seed = (self._known.definition.split_seed, number)
        return draw(self._strata, pool, size, seed=seed, keep=keep) if size > 0 else []

    def _apart(self, pool: list[int], references: Sequence[int], *, count: bool = True) -> list[int]:
        """Return the pool without near duplicates of what stands on the other side, where they are to be dropped."""
        if self._shingles is None:
            return pool
        near = self._shingles.resembling(pool, references)
        if count:
            self._near |= near
        return [place for place in pool if place not in near] if self._rule == "drop" or not count else pool


def _without(pool: Sequence[int], taken: Sequence[int]) -> list[int]:
    gone = set(taken)
    return [place for place in pool if place not in gone]


def _counts(rows: _Known, added: _Added) -> JsonObject:
    names = ("train", "validation", "evaluation")
    corrected = {name: rows.corrected[name] for name in rows.splits}
    return {
        "unchanged": rows.unchanged,
        "corrected": corrected,
        "added": {name: len(getattr(added, name)) for name in names},
        "not_given": sum(map(len, rows.splits.values())) - rows.unchanged - sum(corrected.values()),
    }


def _all(rows: _Known, added: _Added) -> list[Hashable]:
    old = [target for split in rows.splits.values() for _, target in split]
    return [*old, *(target for split in (added.train, added.validation, added.evaluation) for _, target in split)]


def _labels(
    kind: TaskType[Any],
    known: TaskRecord,
    targets: Iterable[Hashable],
    *,
    source: Source,
    given: Sequence[str] | None,
) -> tuple[tuple[str, ...], str | None]:
    """Return the label map: the labels there are in their order, without those that no row has; then new ones."""
    if not kind.labelled:
        if given is not None:
            raise UsageError(f"Tasks of type {kind.name!r} have no --labels.", "leave out --labels")
        return (), None
    labels = {label for target in targets for label in kind.labels_of(target)}
    if given is not None:
        return order_labels(labels, (), given)
    kept = [label for label in known.labels if label in labels]
    new, _ = order_labels(labels - set(kept), source.class_names)
    return (*kept, *new), known.checks.get("label_order", "as before") if not new else "as before, new ones last"


def _check_labels(
    kind: TaskType[Any], known: TaskRecord, rows: _Known, *, added: _Added, labels: Sequence[str]
) -> None:
    if not kind.stratified:
        return
    train = [*rows.splits["train"], *added.train]
    shown = {label for _, target in train for label in kind.labels_of(target)}
    missing = [label for label in labels if label not in shown]
    if not missing:
        if len(labels) < 2:
            raise DataError(
                f"With these data {known.name!r} has a single label, {labels[0]!r}: there is nothing to tell apart.",
                "look at the column of the labels",
            )
        return
    places = [
        (name, text)
        for name, split in {**rows.splits, "evaluation of this revision": added.evaluation}.items()
        for text, target in split
        if target in missing
    ]
    name, text = places[0]
    raise DataError(
        f"No training row has the label{'s' if len(missing) > 1 else ''} {first_few(map(repr, missing))}, and "
        f"{len(places)} rows outside of it have, such as {flat_text(text)[:80]!r} ({name}).",
        "correct these rows too, or add training rows of the label",
    )


def _record(
    definition: TaskDefinition,
    known: TaskRecord,
    content: Mapping[str, Sequence[tuple[Text, Hashable]]],
    *,
    labels: tuple[str, ...],
    checks: JsonObject,
) -> tuple[TaskRecord, dict[str, IO[bytes]]]:
    kind: TaskType[Any] = task_type(definition.type)
    contents: dict[str, IO[bytes]] = {}
    splits: list[SplitRecord] = []
    for name, rows in content.items():
        split, contents[name] = make_split(kind, name, rows, labels=labels)
        splits.append(split)
    parts = [part for name, part in contents.items() if name.startswith("evaluation")]
    train = parse_targets(kind, contents["train"])
    evaluation = [example for part in parts for example in parse_examples(kind, part)]
    for part in contents.values():
        part.seek(0)
    baseline = constant_score(definition.type, definition.metric, train, evaluation=evaluation)
    record = TaskRecord(
        definition=definition,
        labels=labels,
        splits=tuple(splits),
        data_digest=tasks.data_digest(definition, labels, splits),
        checks=checks | {"majority_baseline": baseline, "cut": None},
        created_at=utc_now(),
        revision=known.revision + 1,
        previous=known.data_digest,
    )
    return record, contents
