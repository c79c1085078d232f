"""A task's data: read, cleaned of duplicates, split, digested and kept.

The three splits never share a text; what one of them holds has a near duplicate in another only where that is asked.
"""

from __future__ import annotations

from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from limpet.errors import NotFoundError, UsageError
from limpet.names import check_name
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import TaskDefinition, TaskRecord
from limpet.training.data.conversations import check_conversations
from limpet.training.data.description.baseline import constant_score
from limpet.training.data.overlong import find_tokenizer, room_for
from limpet.training.data.reading.chat_forms import CHATS
from limpet.training.data.reading.memory import contents_of
from limpet.training.data.reading.sources import Source, SourceForm, read_source
from limpet.training.data.splitter import SplitName, Splitter
from limpet.training.data.stored_splits import make_split, parse_examples, parse_targets
from limpet.training.data.task_request import TaskRequest
from limpet.training.generation.prompts import PLACE
from limpet.training.task_types import TaskType, metric_family

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["add_task", "build_task"]


def build_task(
    request: TaskRequest, *, recorded: TaskRecord | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[TaskRecord, dict[str, IO[bytes]]]:
    """Read a task's data and split it.

    Args:
        request: What is asked for.
        recorded: This task as it was added before: what was found out then (the longest answer, the order of labels,
            the definition of a metric's name) stays, so that the same command gives the same task.
        tokenizer: The base's, to count tokens by; without it nothing is counted.

    Returns:
        The record, and each split as a file of canonical JSON lines.

    Raises:
        UsageError: An argument or the SPEC's form is wrong.
        NotFoundError: There is no such data.
        DataError: The data can't serve as such a task.
    """
    request.check()
    kind = request.kind
    source = read_source(
        request.data,
        request.text_column,
        request.target_column,
        target_columns=kind.target_columns,
        form=SourceForm(kind.noun, kind.text_columns, request.chats(_format(recorded))),
    )
    if source.has_turns and request.prompt is not None:
        raise UsageError(
            "Conversations say themselves what is asked, and have no --prompt.",
            "--system TEXT says what holds for all",
        )
    max_new_tokens = request.max_new_tokens
    if max_new_tokens is None and recorded is not None:
        max_new_tokens = recorded.definition.options.get("max_new_tokens")
    given = {
        "prompt": PLACE if source.has_turns else request.prompt,
        "max_new_tokens": max_new_tokens,
        "system": source.system if request.system is None else request.system,
        "chat_template": request.chat_template,
    }
    options = kind.options(given, source.text_column, source.target_column)
    splitter = Splitter(source, kind, request.split_seed, near_duplicates=request.near_duplicates)
    if request.type == CHATS:
        splitter.checks["format"] = source.format
    if source.has_turns and tokenizer is not None:
        splitter.checks["notes"] += check_conversations(source, options, tokenizer)
    if tokenizer is not None:
        splitter.measure(tokenizer, options)
        if max_new_tokens is None and (longest := splitter.longest_target()) is not None:
            options["max_new_tokens"] = room_for(longest, options["max_new_tokens"])
    max_length = _max_length(request, recorded, splitter, options=options)
    if tokenizer is not None:
        splitter.limit(max_length, options.get("max_new_tokens"), overlong=request.overlong)
    elif request.overlong != "cut":
        raise UsageError(
            f"--overlong {request.overlong} needs the base's tokenizer, and the base is not on this machine yet.",
            "limpet base add SPEC",
        )
    splitter.make_labels(recorded.labels if recorded is not None else source.class_names, request.labels)
    places = splitter.split(request.train_size, request.eval_size)
    definition = _definition(request, source, options, max_length=max_length, recorded=recorded)
    return _record(definition, kind, splitter, places=places)


def _max_length(request: TaskRequest, recorded: TaskRecord | None, splitter: Splitter, *, options: JsonObject) -> int:
    """Return how many tokens of a text are read: as asked for, as before, or as the data's texts need."""
    if request.max_length is not None:
        return request.max_length
    return recorded.definition.max_length if recorded is not None else splitter.usual_length(options)


def _format(recorded: TaskRecord | None) -> str | None:
    """Return the form that a task's data were read in; tasks of older homes have columns."""
    return None if recorded is None else recorded.checks.get("format", "columns")


def _definition(
    request: TaskRequest, source: Source, options: JsonObject, *, max_length: int, recorded: TaskRecord | None
) -> TaskDefinition:
    metric = request.kind.metric(request.metric)
    if recorded is not None and metric_family(metric) == metric_family(recorded.definition.metric):
        metric = recorded.definition.metric
    return TaskDefinition(
        name=request.name,
        type=request.type,
        data=request.spec,
        text_column=source.text_column,
        target_column=source.target_column,
        metric=metric,
        train_size=request.train_size,
        eval_size=request.eval_size,
        split_seed=request.split_seed,
        max_length=max_length,
        options=options,
    )


def _record(
    definition: TaskDefinition, kind: TaskType[Any], splitter: Splitter, *, places: dict[SplitName, list[int]]
) -> tuple[TaskRecord, dict[str, IO[bytes]]]:
    splits = []
    contents: dict[str, IO[bytes]] = {}
    splitter.note_drawn(definition, places)
    for name, drawn in places.items():
        rows = ((row.text, row.target) for row in map(splitter.rows.__getitem__, drawn))
        split, contents[name] = make_split(kind, name, rows, labels=splitter.labels)
        splits.append(split)
    train = parse_targets(kind, contents["train"])
    evaluation = parse_examples(kind, contents["evaluation"])
    for part in contents.values():
        part.seek(0)
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


def add_task(store: Store, request: TaskRequest) -> TaskRecord:
    """Build a task and keep it with its splits.

    Returns:
        The record as kept; an identical task that was there before is returned as it is.

    Raises:
        ConflictError: Another task has this name.
    """
    recorded = _recorded(store, request)
    # what is on record already was counted, or is by training
    counts = recorded is None or request.overlong != "cut"
    tokenizer = find_tokenizer(store) if counts else None
    record, contents = build_task(request, recorded=recorded, tokenizer=tokenizer)
    # a conflict is found before anything is written, so that it leaves nothing behind
    tasks.check_new(store, record)
    for content in (*contents.values(), *map(BytesIO, contents_of(request.data))):
        store.blobs.put_stream(content)
    return tasks.add(store, record)


def _recorded(store: Store, request: TaskRequest) -> TaskRecord | None:
    """Return the task as it was added before, if these were its data."""
    check_name("task", request.name)
    try:
        known = tasks.revisions(store, request.name)
    except NotFoundError:
        return None
    return next((task for task in known if task.definition.data == request.spec), None)
