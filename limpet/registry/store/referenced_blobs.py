"""Which blobs the records need: one answer, for the check that looks for them and for the collection of the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from limpet.registry.database.schema import (
    AbilityRow,
    EvaluationRow,
    ReferenceOutputsRow,
    TaskRevisionRow,
    TaskRow,
    VersionFileRow,
    VersionRow,
)

__all__ = ["ReferencedBlob", "mentioned_digests", "newest_splits", "referenced_blobs", "references", "rows_digests"]

# columns, not objects: there may be half a million
_FILE = (VersionFileRow.name, VersionFileRow.digest, VersionFileRow.size)


@dataclass(frozen=True)
class ReferencedBlob:
    """A blob that a record needs: which record, for people; `size` is null where only the digest was recorded.

    An `optional` one is kept where it is: the rows that a task was made of stay in the home they were given to, and a
    task that came in a bundle has its splits alone.
    """

    where: str
    size: int | None
    optional: bool = False


def referenced_blobs(
    session: Session,
    *,
    deleted_since: str | None = None,
    without: Collection[int] = (),
    among: Collection[str] | None = None,
    after: tuple[int, int] = (0, 0),
) -> dict[str, ReferencedBlob]:
    """Return the blobs that the records need, by digest.

    These are the files and probes of versions that are not deleted, the splits of tasks that were not removed, and
    the predictions of evaluations and of ability tasks, which stay when their version goes: they are the evidence.

    Args:
        session: A session that reads.
        deleted_since: Also those of versions that were deleted, and of tasks that were removed, after this time.
        without: Row ids of versions to take as deleted long ago.
        among: Ask for these digests alone; null means all.
        after: Leave out the splits of the tasks and of the other revisions up to these row ids: they never change,
            and no index finds one by its splits.
    """
    blobs: dict[str, ReferencedBlob] = {}
    for digest, blob in (*_splits(session, deleted_since, after), *_predictions(session, among)):
        if among is None or digest in among:
            blobs.setdefault(digest, blob)
    for version_id, digest, blob in (
        *_files(session, deleted_since, among),
        *_probes(session, deleted_since, among),
    ):
        # a size says more than none
        if version_id not in without and (digest not in blobs or blobs[digest].size is None):
            blobs[digest] = blob
    return blobs


def references(session: Session) -> Iterator[tuple[str, str]]:
    """Yield every reference of a record to a blob: the kind (adapters, splits, predictions, probes), the digest."""
    yield from (("adapters", digest) for _, digest, _ in _files(session, None, None))
    yield from (("splits", digest) for digest, _ in _splits(session, None, (0, 0)))
    yield from (("predictions", digest) for digest, _ in _predictions(session, None))
    yield from (("probes", digest) for _, digest, _ in _probes(session, None, None))


def mentioned_digests(session: Session) -> set[str]:
    """Return the digests that records name without a need for the bytes: of logits, of plans, of what was deleted."""
    digests: set[str] = set()
    gone = TaskRow.removed_at.is_not(None)
    first = select(TaskRow.splits, TaskRow.definition).where(gone)
    later = (
        select(TaskRevisionRow.splits, TaskRevisionRow.definition)
        .join(TaskRow, TaskRow.id == TaskRevisionRow.task_id)
        .where(gone)
    )
    for query in (first, later):
        for splits, definition in session.execute(query):
            digests.update((*(split["digest"] for split in splits), *rows_digests(definition["data"])))
    for kept in (EvaluationRow, AbilityRow):
        for logits, plan in session.execute(select(kept.logits_digest, kept.plan_digest)):
            digests |= {logits, plan}
    for rows in (VersionFileRow, ReferenceOutputsRow):
        of_versions = select(rows.digest).join(VersionRow, VersionRow.id == rows.version_id)
        digests.update(session.scalars(of_versions.where(VersionRow.deleted_at.is_not(None))))
    return digests


def newest_splits(session: Session) -> tuple[int, int]:
    """Return the row ids of the newest task and of the newest other revision: what `after` takes."""
    task, revision = (session.scalar(select(func.max(rows.id))) or 0 for rows in (TaskRow, TaskRevisionRow))
    return task, revision


def _splits(
    session: Session, removed_since: str | None, after: tuple[int, int]
) -> Iterator[tuple[str, ReferencedBlob]]:
    kept: ColumnElement[bool] = TaskRow.removed_at.is_(None)
    if removed_since is not None:
        kept = or_(kept, TaskRow.removed_at > removed_since)
    first = (
        select(TaskRow.name, TaskRow.splits, TaskRow.definition)
        .where(TaskRow.id > after[0], kept)
        .order_by(TaskRow.id)
    )
    later = (
        select(TaskRow.name, TaskRevisionRow.splits, TaskRevisionRow.definition)
        .join(TaskRow, TaskRow.id == TaskRevisionRow.task_id)
        .where(TaskRevisionRow.id > after[1], kept)
        .order_by(TaskRevisionRow.id)
    )
    for query in (first, later):
        for name, splits, definition in session.execute(query):
            for split in splits:
                yield split["digest"], ReferencedBlob(f"{name}, split {split['name']}", None)
            for digest in rows_digests(definition["data"]):
                yield digest, ReferencedBlob(f"{name}, the rows that were given", None, optional=True)


def rows_digests(spec: str) -> tuple[str, ...]:
    """Return the digest of the rows that a data SPEC names, where they were given in Python; else nothing."""
    kind, _, digest = spec.partition(":")
    return (digest,) if kind == "memory" else ()


def _predictions(session: Session, among: Collection[str] | None) -> Iterator[tuple[str, ReferencedBlob]]:
    for name, kept in (("evaluation", EvaluationRow), ("ability", AbilityRow)):
        query = select(kept.id, kept.predictions_digest).order_by(kept.id)
        if among is not None:
            query = query.where(kept.predictions_digest.in_(among))
        for id_, digest in session.execute(query):
            yield digest, ReferencedBlob(f"{name} {id_}", None)


def _files(
    session: Session, deleted_since: str | None, among: Collection[str] | None
) -> Iterator[tuple[int, str, ReferencedBlob]]:
    query = (
        select(VersionRow.id, TaskRow.name, VersionRow.number, *_FILE)
        .join(VersionRow, VersionRow.id == VersionFileRow.version_id)
        .join(TaskRow, TaskRow.id == VersionRow.task_id)
        .where(_kept(deleted_since))
        .order_by(VersionFileRow.version_id, VersionFileRow.name)
    )
    if among is not None:
        query = query.where(VersionFileRow.digest.in_(among))
    for version_id, task, number, name, digest, size in session.execute(query):
        yield version_id, digest, ReferencedBlob(f"{task}@{number}, {name}", size)


def _probes(
    session: Session, deleted_since: str | None, among: Collection[str] | None
) -> Iterator[tuple[int, str, ReferencedBlob]]:
    query = (
        select(VersionRow.id, TaskRow.name, VersionRow.number, ReferenceOutputsRow.digest)
        .join(VersionRow, VersionRow.id == ReferenceOutputsRow.version_id)
        .join(TaskRow, TaskRow.id == VersionRow.task_id)
        .where(_kept(deleted_since))
        .order_by(ReferenceOutputsRow.version_id)
    )
    if among is not None:
        query = query.where(ReferenceOutputsRow.digest.in_(among))
    for version_id, task, number, digest in session.execute(query):
        yield version_id, digest, ReferencedBlob(f"{task}@{number}, probe", None)


def _kept(deleted_since: str | None) -> ColumnElement[bool]:
    alive = VersionRow.deleted_at.is_(None)
    return alive if deleted_since is None else or_(alive, VersionRow.deleted_at > deleted_since)
