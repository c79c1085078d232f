"""The records against each other: manifests, numbers, aliases, and the log of who did what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.registry import log
from limpet.registry._rows import version_record
from limpet.registry.canonical import digest_bytes
from limpet.registry.problems import Problem
from limpet.registry.schema import (
    AliasEventRow,
    AliasRow,
    BaseRow,
    LogEventRow,
    TaskRow,
    VersionFileRow,
    VersionRow,
)
from limpet.registry.values import FileEntry
from limpet.registry.versions import identity

__all__ = ["check_records"]

# the columns that repeat the manifest, to search by
_COPIED = ("method", "role", "seed", "size", "base_digest", "data_digest", "created_at")
_MOVES = ("promote", "rollback")
_BUFFER = 1000

Move = tuple[str, str, int | None, int, str]


def check_records(session: Session) -> Iterator[Problem]:
    """Yield everything in which the records contradict each other."""
    tasks = dict(session.execute(select(TaskRow.id, TaskRow.name)).all())
    yield from _check_versions(session, tasks)
    yield from _check_numbers(session, tasks)
    yield from _check_aliases(session, tasks)
    try:
        yield from _check_log(session, tasks)
    except ValueError as error:
        yield Problem("log", "events", f"the detail of an event is not JSON ({error})")


def _check_versions(session: Session, tasks: dict[int, str]) -> Iterator[Problem]:
    bases = set(session.scalars(select(BaseRow.digest)))
    files: dict[int, list[FileEntry]] = {}
    entries = select(VersionFileRow.version_id, VersionFileRow.name, VersionFileRow.digest, VersionFileRow.size)
    for version_id, name, digest, size in session.execute(entries.order_by(VersionFileRow.name)):
        files.setdefault(version_id, []).append(FileEntry(name, digest, size))
    # a hundred thousand manifests need not be in memory together
    query = select(VersionRow).order_by(VersionRow.id).execution_options(yield_per=_BUFFER)
    for row in session.scalars(query):
        task = tasks.get(row.task_id)
        where = f"{task}@{row.number}"
        if task is None:
            yield Problem("manifest", f"version {row.digest}", "belongs to no task")
        if row.base_digest not in bases:
            yield Problem("base", where, f"was trained on {row.base_digest}, a base that this home does not know")
        if digest_bytes(row.manifest.encode("utf-8", "surrogatepass")) != row.manifest_digest:
            yield Problem("manifest", where, f"its manifest no longer hashes to {row.manifest_digest}")
        elif detail := _contradiction(row, task, tuple(files.get(row.id, ()))):
            yield Problem("manifest", where, detail)


def _contradiction(row: VersionRow, task: str | None, files: tuple[FileEntry, ...]) -> str:
    """Say where a manifest that hashes as recorded differs from its identity or from its columns."""
    try:
        version = version_record(row, ())
    except (KeyError, TypeError, ValueError) as error:
        return f"its manifest has another form ({error!r})"
    if version.digest != row.digest or identity(version, version.files) != row.digest:
        return "its identity digest is not that of its manifest"
    if tuple(sorted(version.files, key=lambda file: file.name)) != files:
        return "its list of files is not that of its manifest"
    columns = {
        "task": task,
        "score": row.score,
        "trainable_parameters": row.trainable_parameters,
        **{name: getattr(row, name) for name in _COPIED},
    }
    manifest = {
        "task": version.task,
        "score": version.metrics.get("score"),
        "trainable_parameters": version.cost.get("trainable_parameters"),
        **{name: getattr(version, name) for name in _COPIED},
    }
    wrong = [name for name, value in manifest.items() if columns[name] != value]
    return f"its columns {', '.join(wrong)} are not those of its manifest" if wrong else ""


def _check_numbers(session: Session, tasks: dict[int, str]) -> Iterator[Problem]:
    numbers: dict[int, list[int]] = {}
    for task_id, number in session.execute(select(VersionRow.task_id, VersionRow.number)):
        numbers.setdefault(task_id, []).append(number)
    for task_id, found in numbers.items():
        # a deleted version keeps its row, so a number that is missing was taken out by force
        if missing := sorted(set(range(1, max(found) + 1)) - set(found)):
            shown = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            yield Problem("number", str(tasks.get(task_id)), f"has no version {shown}, below its newest {max(found)}")


def _check_aliases(session: Session, tasks: dict[int, str]) -> Iterator[Problem]:
    versions = {
        id_: (task_id, number, deleted_at)
        for id_, task_id, number, deleted_at in session.execute(
            select(VersionRow.id, VersionRow.task_id, VersionRow.number, VersionRow.deleted_at)
        )
    }
    moved: dict[tuple[int, str], int] = {}
    for event in session.scalars(select(AliasEventRow).order_by(AliasEventRow.id)):
        moved[event.task_id, event.alias] = event.to_version_id
    for alias in session.scalars(select(AliasRow).order_by(AliasRow.task_id, AliasRow.name)):
        where = f"{tasks.get(alias.task_id)}@{alias.name}"
        task_id, number, deleted_at = versions.get(alias.version_id, (None, None, None))
        last = moved.pop((alias.task_id, alias.name), None)
        if task_id != alias.task_id or alias.task_id not in tasks:
            yield Problem("alias", where, "stands at a version that is not there, or is another task's")
        elif last != alias.version_id:
            yield Problem("alias", where, "stands where no move in its history has brought it")
        elif deleted_at is not None:
            yield Problem("alias", where, f"stands at version {number}, which was deleted on {deleted_at[:10]}")
    for task_id, name in moved:
        yield Problem("alias", f"{tasks.get(task_id)}@{name}", "was moved by its history, but is not set")


def _check_log(session: Session, tasks: dict[int, str]) -> Iterator[Problem]:
    for event_id in log.broken_links(session):
        yield Problem("log", f"event {event_id}", "was changed, or an event before it was taken out or put in")
    began = session.scalar(select(LogEventRow.created_at).order_by(LogEventRow.id).limit(1)) or ""
    moves = list(_moves(session, tasks))
    logged = Counter(_logged_moves(session))
    # a home that an older limpet made has moves from before its log, which its upgrade began
    unlogged = Counter(move for when, move in moves if when >= began) - logged
    unmade = logged - Counter(move for _, move in moves)
    for (where, action, _, number, actor), count in unlogged.items():
        for _ in range(count):
            yield Problem("log", where, f"the {action} to version {number} by {actor} has no event in the log")
    for (where, action, _, number, actor), count in unmade.items():
        for _ in range(count):
            yield Problem("log", where, f"the log has a {action} to version {number} by {actor} that never was")


def _moves(session: Session, tasks: dict[int, str]) -> Iterator[tuple[str, Move]]:
    """Yield every move of an alias in its history, with its time."""
    numbers = dict(session.execute(select(VersionRow.id, VersionRow.number)).all())
    for row in session.scalars(select(AliasEventRow).order_by(AliasEventRow.id)):
        before = None if row.from_version_id is None else numbers.get(row.from_version_id)
        where = f"{tasks.get(row.task_id)}@{row.alias}"
        yield row.created_at, (where, row.action, before, numbers.get(row.to_version_id, 0), row.actor)


def _logged_moves(session: Session) -> Iterator[Move]:
    query = select(LogEventRow).where(LogEventRow.action.in_(_MOVES)).execution_options(yield_per=_BUFFER)
    for row in session.scalars(query):
        yield row.subject, row.action, row.detail.get("from"), row.detail.get("to"), row.actor
