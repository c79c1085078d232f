"""The tasks of a home: definitions with their splits, in revisions that never change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, NotFoundError
from limpet.names import check_name, parse_task
from limpet.registry.database.schema import TaskRevisionRow, TaskRow
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import log
from limpet.registry.records.rows import current_names, find_task, recorded_task, removal_of
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.store.referenced_blobs import rows_digests
from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord, VersionDraft, VersionRecord

__all__ = [
    "add",
    "as_of",
    "check_new",
    "content",
    "data_digest",
    "enter_task",
    "get",
    "list_all",
    "of_version",
    "revisions",
]


def data_digest(definition: TaskDefinition, labels: Sequence[str], splits: Iterable[SplitRecord]) -> str:
    """Return the digest of what scores on a task depend on: type, options, metric, labels, bytes of every split."""
    decisive: JsonObject = {
        "type": definition.type,
        "metric": definition.metric,
        "labels": list(labels),
        "splits": {split.name: split.digest for split in splits},
    }
    # a task without options has the digest that it had before there were any
    return digest_json(decisive | ({"options": definition.options} if definition.options else {}))


def content(record: TaskRecord) -> JsonObject:
    """Return a task as JSON; options that it has none of are left away, and what a first revision has not."""
    plain = asdict(record)
    del plain["removed"]
    if not record.definition.options:
        del plain["definition"]["options"]
    if record.previous is None:
        del plain["previous"]
        if record.revision == 1:
            del plain["revision"]
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
    blobs = (*(split.digest for split in record.splits), *rows_digests(record.definition.data))
    with recording(store, "task", blobs) as session:
        return enter_task(session, record)


def enter_task(session: Session, record: TaskRecord) -> TaskRecord:
    """Record a task, or another revision of one, in a transaction of `removal.recording`; errors as in `add`."""
    if same := _same(session, record):
        return same
    known = recorded_task(session, record.name)
    row: TaskRow | TaskRevisionRow
    if known is None:
        task = row = TaskRow(name=record.name, **content(record))
    else:
        task = known
        row = TaskRevisionRow(task_id=task.id, **{"revision": record.revision, **content(record)})
    session.add(row)
    session.flush()
    if known is None:
        log.record(session, "task add", record.name, detail={"data_digest": row.data_digest})
    else:
        detail = {"revision": record.revision, "data_digest": row.data_digest}
        log.record(session, "task revise", record.name, detail=detail)
    return _record(row, task)


def _same(session: Session, record: TaskRecord) -> TaskRecord | None:
    """Return the revision that a record is, if it is there; null where it can be recorded.

    Raises:
        ConflictError: The task has another such revision, or another before it or after it, or was removed.
    """
    row = recorded_task(session, record.name)
    if row is None:
        return None
    known = {revision.revision: revision for revision in _revisions(session, row)}
    here, newest = known.get(record.revision), known[max(known)]
    if here is None and (record.revision, record.previous) != (newest.revision + 1, newest.data_digest):
        # elsewhere it may have another number; what follows the newest may be what was corrected, and corrected back
        here = next((one for one in known.values() if one.data_digest == record.data_digest), None)
    if here is None:
        before, after = known.get(record.revision - 1), known.get(record.revision + 1)
        if before is not None and before.data_digest != record.previous:
            raise _other_chain(before, record, record.previous)
        if after is not None and after.previous != record.data_digest:
            raise _other_chain(after, record, record.data_digest)
        return None
    if difference := _difference(here, record):
        raise ConflictError(
            f"There is a task {record.name!r} already, and it differs in {difference}; a revision never changes.",
            f"limpet task revise {record.name} --data SPEC adds and corrects rows; or choose another name",
        )
    return here


def get(store: Store, name: str, *, past: bool = False) -> TaskRecord:
    """Return a task in its newest revision, or in the one of `name@r2`.

    With `past`, also one that was removed, and one by a name that it had before: for what is evidence.

    Raises:
        NotFoundError: There is none; the hint has the nearest names.
        UsageError: The name has another form.
    """
    task, number = parse_task(name)
    known = revisions(store, task, past=past)
    if number is None:
        return known[-1]
    for record in known:
        if record.revision == number:
            return record
    there = ", ".join(f"r{record.revision}" for record in known)
    raise NotFoundError(
        f"The task {task!r} has no revision {number} here, but {there}.", f"limpet task show {task} --revisions"
    )


def revisions(store: Store, name: str, *, past: bool = False) -> tuple[TaskRecord, ...]:
    """Return every revision of a task, the oldest first; `past` as in `get`.

    Raises:
        NotFoundError: There is no such task.
    """
    with store.database.read() as session:
        named = current_names(session).get(name, name) if past else name
        return _revisions(session, find_task(session, named, removed=past))


def as_of(store: Store, name: str, time: str) -> TaskRecord:
    """Return the revision of a task that was the newest at a time; the first where there was none yet.

    Raises:
        NotFoundError: There is no such task.
    """
    with store.database.read() as session:
        named = current_names(session).get(name, name)
        known = _revisions(session, find_task(session, named, removed=True))
    made = [record for record in known if record.created_at <= time]
    return made[-1] if made else known[0]


def of_version(store: Store, version: VersionRecord | VersionDraft) -> TaskRecord:
    """Return the revision of its task that a version was learned on; of one that this home lacks, the first.

    Raises:
        NotFoundError: There is no such task.
    """
    with store.database.read() as session:
        # a draft may be of a task that was renamed while it was learned
        named = current_names(session).get(version.task, version.task)
        known = _revisions(session, find_task(session, named, removed=True))
    return next((record for record in known if record.data_digest == version.data_digest), known[0])


def list_all(store: Store, *, removed: bool = False) -> tuple[TaskRecord, ...]:
    """Return every task in its newest revision, in the order they were added; with `removed`, also those removed."""
    kept = select(TaskRow) if removed else select(TaskRow).where(TaskRow.removed_at.is_(None))
    with store.database.read() as session:
        tasks = {row.id: row for row in session.scalars(kept.order_by(TaskRow.id))}
        newest = {id_: _record(row, row) for id_, row in tasks.items()}
        later = select(TaskRevisionRow).order_by(TaskRevisionRow.revision)
        for revision in session.scalars(later):
            known = newest.get(revision.task_id)
            if known is not None and revision.revision > known.revision:
                newest[revision.task_id] = _record(revision, tasks[revision.task_id])
        return tuple(newest.values())


def _revisions(session: Session, row: TaskRow) -> tuple[TaskRecord, ...]:
    later = session.scalars(select(TaskRevisionRow).where(TaskRevisionRow.task_id == row.id))
    records = [_record(row, row), *(_record(revision, row) for revision in later)]
    return tuple(sorted(records, key=lambda record: record.revision))


def _other_chain(ours: TaskRecord, theirs: TaskRecord, digest: str | None) -> ConflictError:
    """Return the error of a revision beside one that has no such data digest before it or after it."""
    fits = ours.data_digest if ours.revision < theirs.revision else ours.previous
    return ConflictError(
        f"The revision {theirs.revision} of the task {ours.name!r} does not fit the revision {ours.revision} of this "
        f"home: the data digest between them is {digest} there and {fits} here, so their data went different ways.",
        f"limpet task show {ours.name} --revisions; or take it into another home",
    )


def _difference(ours: TaskRecord, theirs: TaskRecord) -> str:
    mine = asdict(ours.definition)
    for name, value in asdict(theirs.definition).items():
        if mine[name] != value:
            return f"{name} ({mine[name]!r}, not {value!r})"
    if ours.data_digest != theirs.data_digest:
        return f"its data digest ({ours.data_digest}): the data behind it changed"
    return "" if digest_json(list(ours.labels)) == digest_json(list(theirs.labels)) else "its label map"


def _record(row: TaskRow | TaskRevisionRow, task: TaskRow) -> TaskRecord:
    return TaskRecord(
        definition=TaskDefinition(**{**row.definition, "name": task.name}),
        labels=tuple(row.labels),
        splits=tuple(SplitRecord(**split) for split in row.splits),
        data_digest=row.data_digest,
        checks=row.checks,
        created_at=row.created_at,
        revision=row.revision or 1,
        previous=row.previous,
        removed=removal_of(task),
    )
