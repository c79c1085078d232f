"""The records against each other: manifests, numbers, aliases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from limpet.registry.database.schema import AliasEventRow, AliasRow, BaseRow, TaskRow, VersionFileRow, VersionRow
from limpet.registry.findings import Finding
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records.rows import version_record
from limpet.registry.values import FileEntry
from limpet.registry.verification.log import Read
from limpet.registry.verification.revisions import data_of_tasks
from limpet.registry.versions import identity

__all__ = ["check_records"]

# the columns that repeat the manifest, to search by
_COPIED = ("method", "role", "seed", "size", "base_digest", "data_digest", "created_at")
_PAGE = 500


def check_records(read: Read) -> Iterator[Finding]:
    """Yield everything in which the records contradict each other; each page is read in a transaction of its own."""
    last: int | None = 0
    while last is not None:
        with read() as session:
            last, problems = _check_versions(session, last)
        yield from problems
    with read() as session:
        yield from list(_check_numbers(session))
        yield from list(_check_aliases(session))


def _check_versions(session: Session, after: int) -> tuple[int | None, list[Finding]]:
    """Return the id of the last version of a page, null after the last page, and what is wrong with them."""
    rows = session.scalars(select(VersionRow).where(VersionRow.id > after).order_by(VersionRow.id).limit(_PAGE)).all()
    if not rows:
        return None, []
    # a version that was registered since the page before may be of a new task, on a new base
    named = session.execute(select(TaskRow.id, TaskRow.name, TaskRow.former_names)).all()
    tasks = {id_: (name, *(former or "").split()) for id_, name, former in named}
    bases = set(session.scalars(select(BaseRow.digest)))
    data = data_of_tasks(session)
    files: dict[int, list[FileEntry]] = {}
    entries = select(VersionFileRow.version_id, VersionFileRow.name, VersionFileRow.digest, VersionFileRow.size)
    of_page = entries.where(VersionFileRow.version_id > after, VersionFileRow.version_id <= rows[-1].id)
    for version_id, name, digest, size in session.execute(of_page.order_by(VersionFileRow.name)):
        files.setdefault(version_id, []).append(FileEntry(name, digest, size))
    problems = [
        problem
        for row in rows
        for problem in _version(row, tasks.get(row.task_id, ()), bases, files=tuple(files.get(row.id, ())))
    ]
    problems += [
        Finding(
            "revision",
            f"{tasks[row.task_id][0]}@{row.number}",
            f"was learned on {row.data_digest}, which are the data of no revision of its task",
        )
        for row in rows
        if row.task_id in tasks and row.data_digest not in data[row.task_id]
    ]
    return rows[-1].id, problems


def _version(
    row: VersionRow, names: Sequence[str], bases: set[str], *, files: tuple[FileEntry, ...]
) -> Iterator[Finding]:
    """Yield what is wrong with a version; `names` are what its task is called, now first, and was called."""
    where = f"{names[0] if names else None}@{row.number}"
    if not names:
        yield Finding("manifest", f"version {row.digest}", "belongs to no task")
    if row.base_digest not in bases:
        yield Finding("base", where, f"was trained on {row.base_digest}, a base that this home does not know")
    if digest_bytes(row.manifest.encode("utf-8", "surrogatepass")) != row.manifest_digest:
        yield Finding("manifest", where, f"its manifest no longer hashes to {row.manifest_digest}")
    elif detail := _contradiction(row, names, files):
        yield Finding("manifest", where, detail)


def _contradiction(row: VersionRow, names: Sequence[str], files: tuple[FileEntry, ...]) -> str:
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
        # it keeps the name that its task had
        "task": version.task if version.task in names else names[:1],
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


def _check_numbers(session: Session) -> Iterator[Finding]:
    counted = (
        select(VersionRow.task_id, func.max(VersionRow.number).label("newest"))
        .group_by(VersionRow.task_id)
        .having((func.max(VersionRow.number) != func.count()) | (func.min(VersionRow.number) != 1))
        .subquery()
    )
    query = select(TaskRow.name, counted.c.task_id, counted.c.newest)
    for name, task_id, newest in session.execute(
        query.select_from(counted).outerjoin(TaskRow, TaskRow.id == counted.c.task_id)
    ):
        found = set(session.scalars(select(VersionRow.number).where(VersionRow.task_id == task_id)))
        # a deleted version keeps its row, so a number that is missing was taken out by force
        if missing := sorted(set(range(1, newest + 1)) - found):
            shown = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            yield Finding("number", str(name), f"has no version {shown}, below its newest {newest}")


def _check_aliases(session: Session) -> Iterator[Finding]:
    tasks = dict(session.execute(select(TaskRow.id, TaskRow.name)).all())
    # one step in an index for each alias, however often it was moved
    newest = select(func.max(AliasEventRow.id)).group_by(AliasEventRow.task_id, AliasEventRow.alias)
    events = session.scalars(select(AliasEventRow).where(AliasEventRow.id.in_(newest)).order_by(AliasEventRow.id))
    # one that was taken off last leads nowhere, and is not set
    moved = {(event.task_id, event.alias): event.to_version_id for event in events if event.to_version_id is not None}
    standing = (
        select(AliasRow, VersionRow.task_id, VersionRow.number, VersionRow.deleted_at)
        .outerjoin(VersionRow, VersionRow.id == AliasRow.version_id)
        .order_by(AliasRow.task_id, AliasRow.name)
    )
    for alias, task_id, number, deleted_at in session.execute(standing):
        where = f"{tasks.get(alias.task_id)}@{alias.name}"
        last = moved.pop((alias.task_id, alias.name), None)
        if task_id != alias.task_id or alias.task_id not in tasks:
            yield Finding("alias", where, "stands at a version that is not there, or is another task's")
        elif last != alias.version_id:
            yield Finding("alias", where, "stands where no move in its history has brought it")
        elif deleted_at is not None:
            yield Finding("alias", where, f"stands at version {number}, which was deleted on {deleted_at[:10]}")
    for task_id, name in moved:
        yield Finding("alias", f"{tasks.get(task_id)}@{name}", "was moved by its history, but is not set")
