"""The revisions of tasks against their content, each other and the lines of their splits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from limpet.errors import LimpetError
from limpet.registry.database.schema import EvaluationRow, TaskRevisionRow, TaskRow
from limpet.registry.findings import Finding
from limpet.registry.formats.split_lines import split_problem
from limpet.registry.formats.task_documents import FORMS
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import SplitRecord, TaskDefinition
from limpet.registry.verification.log import Read

__all__ = ["check_revisions", "check_splits", "data_of_tasks"]


@dataclass(frozen=True)
class _Revision:
    """A revision as it is kept: its task, whether that was removed, and what decides its data digest."""

    task_id: int
    task: str
    removed: bool
    number: int
    previous: str | None
    data_digest: str
    definition: dict[str, Any]
    labels: list[str]
    splits: list[dict[str, Any]]

    @property
    def reference(self) -> str:
        return f"{self.task}@r{self.number}"


def data_of_tasks(session: Session) -> dict[int, set[str]]:
    """Return for the id of each task the data digests of its revisions."""
    found: dict[int, set[str]] = {}
    for ids in (TaskRow.id, TaskRow.data_digest), (TaskRevisionRow.task_id, TaskRevisionRow.data_digest):
        for task_id, digest in session.execute(select(*ids)):
            found.setdefault(task_id, set()).add(digest)
    return found


def check_revisions(read: Read) -> Iterator[Finding]:
    """Yield revisions whose data digest is not that of their content, or that do not follow one another.

    And evaluations that were scored anew from one of other answers.
    """
    with read() as session:
        kept = _read(session)
        rescored = list(_check_rescored(session))
    by_task: dict[int, list[_Revision]] = {}
    for revision in kept:
        by_task.setdefault(revision.task_id, []).append(revision)
        # a first revision is held by the log alone: older programs, and others than limpet, may have digested it
        if revision.previous is not None and (detail := _content(revision)):
            yield Finding("revision", revision.reference, detail)
    for revisions in by_task.values():
        yield from _check_chain(sorted(revisions, key=lambda revision: revision.number))
    yield from rescored


def check_splits(store: Store, broken: Collection[str]) -> Iterator[Finding]:
    """Yield every split whose lines have another form than its task's type, or other counts than its record.

    Args:
        store: The open home.
        broken: Digests of blobs that are known to be missing or changed, to pass by.
    """
    with store.database.read() as session:
        kept = _read(session)
    seen = set()
    for revision in kept:
        # one that was removed may have lost its splits to a gc, and what is left of them hashes as recorded
        for split in () if revision.removed else revision.splits:
            what = repr((split, revision.labels, revision.definition.get("type")))
            if what in seen or split.get("digest") in broken:
                continue
            seen.add(what)
            if detail := _lines(store, revision, split):
                yield Finding("content", f"{revision.reference}, split {split.get('name')}", detail)


def _read(session: Session) -> list[_Revision]:
    """Return every revision; none where one can't be read, which is named already."""
    row = TaskRevisionRow
    first = select(TaskRow.id, TaskRow.name, TaskRow.removed_at, TaskRow.revision, *_content_columns(TaskRow))
    later = select(TaskRow.id, TaskRow.name, TaskRow.removed_at, row.revision, *_content_columns(row)).join(
        row, row.task_id == TaskRow.id
    )
    try:
        return [
            _Revision(task_id, name, removed_at is not None, number or 1, *content)
            for query in (first.order_by(TaskRow.id), later.order_by(row.id))
            for task_id, name, removed_at, number, *content in session.execute(query)
        ]
    except (ValueError, RecursionError):
        return []


def _content_columns(table: type[TaskRow] | type[TaskRevisionRow]) -> Sequence[Any]:
    return (table.previous, table.data_digest, table.definition, table.labels, table.splits)


def _content(revision: _Revision) -> str:
    try:
        definition = TaskDefinition(**revision.definition)
        splits = [SplitRecord(**split) for split in revision.splits]
        digest = tasks.data_digest(definition, revision.labels, splits)
    except (LimpetError, TypeError, ValueError) as error:
        return f"has another form than a task's ({error!r})"
    if digest != revision.data_digest:
        return f"its data digest is recorded as {revision.data_digest}, and its content gives {digest}"
    return ""


def _check_chain(revisions: Sequence[_Revision]) -> Iterator[Finding]:
    before = None
    for revision in revisions:
        where = revision.reference
        if before is not None and before.number == revision.number:
            yield Finding("revision", where, "is there twice")
        elif before is not None and before.number == revision.number - 1:
            if revision.previous != before.data_digest:
                detail = f"follows {revision.previous}, which is not the data of r{before.number}"
                yield Finding("revision", where, detail)
        elif (revision.previous is None) != (revision.number == 1):
            problem = "follows other data" if revision.number == 1 else "does not say which data it follows"
            yield Finding("revision", where, problem)
        before = revision


def _check_rescored(session: Session) -> Iterator[Finding]:
    made, origin = aliased(EvaluationRow), aliased(EvaluationRow)
    same = ("version_id", "state_version_id", "split", "logits_digest")
    query = (
        select(made.id, made.rescored_from_id)
        .outerjoin(origin, origin.id == made.rescored_from_id)
        .where(
            made.rescored_from_id.is_not(None),
            or_(
                origin.id.is_(None),
                origin.id >= made.id,
                *(getattr(made, name) != getattr(origin, name) for name in same),
            ),
        )
        .order_by(made.id)
    )
    for id_, from_id in session.execute(query):
        detail = f"was scored anew from evaluation {from_id}, which is none of the same answers"
        yield Finding("evaluation", f"evaluation {id_}", detail)


def _lines(store: Store, revision: _Revision, split: dict[str, Any]) -> str:
    kind = revision.definition.get("type")
    if kind not in FORMS:
        return f"its task is of type {kind!r}, which is not known here"
    try:
        record = SplitRecord(**split)
        return split_problem(
            store.blobs.path(record.digest),
            record.name,
            kind,
            labels=revision.labels,
            examples=record.examples,
            label_counts=record.label_counts,
        )
    except LimpetError as error:
        return error.message
    except (TypeError, AttributeError) as error:
        return f"its record has another form ({error!r})"
