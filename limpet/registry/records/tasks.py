"""The tasks of a home: immutable definitions with their splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError
from limpet.names import check_name
from limpet.registry.database.schema import TaskRow
from limpet.registry.formats.canonical import digest_json
from limpet.registry.records import log
from limpet.registry.records.rows import find_task
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord

__all__ = ["add", "check_new", "content", "data_digest", "enter_task", "get", "list_all"]


def data_digest(definition: TaskDefinition, labels: Sequence[str], splits: Iterable[SplitRecord]) -> str:
    """Return the digest of what scores on a task depend on: type, options, metric, labels, bytes of every split."""
    decisive: dict[str, Any] = {
        "type": definition.type,
        "metric": definition.metric,
        "labels": list(labels),
        "splits": {split.name: split.digest for split in splits},
    }
    # a task without options has the digest that it had before there were any
    return digest_json(decisive | ({"options": definition.options} if definition.options else {}))


def content(record: TaskRecord) -> dict[str, Any]:
    """Return a task as JSON; options that it has none of are left away, as before there were any."""
    plain = asdict(record)
    if not record.definition.options:
        del plain["definition"]["options"]
    return plain


def check_new(store: Store, record: TaskRecord) -> TaskRecord | None:
    """Return the task that is kept under this name if it is the same one, and null if the name is free.

    Raises:
        ConflictError: The name stands for another definition or other data.
    """
    with store.database.read() as session:
        return _same(session, record)


def add(store: Store, record: TaskRecord) -> TaskRecord:
    """Keep a task, whose split blobs are stored already; the same task again is returned as it is.

    Raises:
        ConflictError: The name stands for another definition or other data, or a gc took a split away meanwhile.
        IntegrityError: A split's blob is not in the store.
        UsageError: The name is not on the allow-list.
    """
    check_name("task", record.name)
    for split in record.splits:
        if not store.blobs.exists(split.digest):
            raise IntegrityError(
                f"The split {split.name!r} of task {record.name!r} is not stored.",
                f"limpet task add {record.name} --data SPEC",
            )
    with recording(store, "task", (split.digest for split in record.splits)) as session:
        return enter_task(session, record)


def enter_task(session: Session, record: TaskRecord) -> TaskRecord:
    """Record a task in a transaction of `removal.recording`; errors as in `add`."""
    if same := _same(session, record):
        return same
    row = TaskRow(name=record.name, **content(record))
    session.add(row)
    session.flush()
    log.record(session, "task add", row.name, detail={"data_digest": row.data_digest})
    return _record(row)


def _same(session: Session, record: TaskRecord) -> TaskRecord | None:
    row = session.scalar(select(TaskRow).where(TaskRow.name == record.name))
    if row is None:
        return None
    if difference := _difference(row, record):
        raise ConflictError(
            f"There is a task {record.name!r} already, and it differs in {difference}; a task never changes.",
            f"limpet task show {record.name}, or choose another name",
        )
    return _record(row)


def get(store: Store, name: str) -> TaskRecord:
    """Return a task.

    Raises:
        NotFoundError: There is none; the hint has the nearest names.
    """
    with store.database.read() as session:
        return _record(find_task(session, name))


def list_all(store: Store) -> tuple[TaskRecord, ...]:
    """Return every task, in the order they were added."""
    with store.database.read() as session:
        return tuple(_record(row) for row in session.scalars(select(TaskRow).order_by(TaskRow.id)))


def _difference(row: TaskRow, record: TaskRecord) -> str:
    ours, theirs = asdict(TaskDefinition(**row.definition)), asdict(record.definition)
    for name, value in theirs.items():
        if ours[name] != value:
            return f"{name} ({ours[name]!r}, not {value!r})"
    if row.data_digest != record.data_digest:
        return f"its data digest ({row.data_digest}): the data behind it changed"
    return "" if digest_json(row.labels) == digest_json(record.labels) else "its label map"


def _record(row: TaskRow) -> TaskRecord:
    return TaskRecord(
        definition=TaskDefinition(**row.definition),
        labels=tuple(row.labels),
        splits=tuple(SplitRecord(**split) for split in row.splits),
        data_digest=row.data_digest,
        checks=row.checks,
        created_at=row.created_at,
    )
