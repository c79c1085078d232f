"""Rows found by name, and rows turned into values; shared by the modules of the registry."""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError, NotFoundError
from limpet.names import LATEST, Reference, parse_reference
from limpet.registry.database.schema import AbilityRow, AliasRow, EnvironmentRow, EvaluationRow, TaskRow, VersionRow
from limpet.registry.formats.canonical import digest_bytes, digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.system.clock import utc_now
from limpet.registry.system.text_checks import without_stop
from limpet.registry.values import Environment, FileEntry, Measurement, Tombstone, VersionRecord

__all__ = [
    "PRODUCTION",
    "KeptVersion",
    "batched",
    "current_names",
    "environment_id",
    "environments_of",
    "find_task",
    "find_version",
    "load_manifest",
    "measured_fields",
    "measurement_columns",
    "names_of",
    "parse",
    "recorded_task",
    "references",
    "removal_of",
    "renamed_reference",
    "subjects",
    "task_names",
    "tombstone_of",
    "unknown_task",
    "version_record",
    "version_records",
    "with_current_parents",
]

PRODUCTION = "production"
_BATCH = 10_000
_MEASURED = tuple(field.name for field in fields(Measurement) if field.name != "environment")
_Item = TypeVar("_Item", bound=Hashable)


class KeptVersion(Protocol):
    """What a version's value is made of: a `VersionRow`, or a row with these columns."""

    @property
    def id(self) -> int:
        """The id of the row."""

    @property
    def number(self) -> int:
        """The number within the task, from 1."""

    @property
    def digest(self) -> str:
        """The digest of the files and the identity."""

    @property
    def manifest(self) -> str:
        """The manifest as JSON."""

    @property
    def manifest_digest(self) -> str:
        """The digest of the manifest."""

    @property
    def deleted_at(self) -> str | None:
        """When it was deleted, UTC."""

    @property
    def deleted_by(self) -> str | None:
        """Who deleted it."""

    @property
    def deleted_because(self) -> str | None:
        """Why it was deleted."""


def parse(ref: str | Reference) -> Reference:
    """Return a reference, parsed if it is a text."""
    return ref if isinstance(ref, Reference) else parse_reference(ref)


def find_task(session: Session, name: str, *, removed: bool = False) -> TaskRow:
    """Return the row of a task; with `removed`, also of one that was removed.

    Raises:
        NotFoundError: There is none; the hint has the nearest names.
    """
    row = session.scalar(select(TaskRow).where(TaskRow.name == name))
    if row is None:
        raise unknown_task(session, name)
    if row.removed_at is not None and not removed:
        raise NotFoundError(
            f"The task {name!r} was removed by {row.removed_by} on {row.removed_at[:10]}: {row.removed_because}.",
            "limpet task list",
        )
    return row


def current_names(session: Session) -> dict[str, str]:
    """Return what tasks are called now, by each of the names that they had before."""
    rows = session.execute(select(TaskRow.name, TaskRow.former_names).where(TaskRow.former_names.is_not(None)))
    return {former: name for name, names in rows for former in (names or "").split() if former != name}


def names_of(name: str, former_names: str | None) -> tuple[str, ...]:
    """Return all that a task was ever called, in the order in which it came to it; the first name never changes."""
    return tuple(dict.fromkeys([*(former_names or "").split(), name]))


def subjects(session: Session, subject: str) -> tuple[str, ...]:
    """Return under what the log has events about something: of a task, a version or an alias, each name there was."""
    name, at, rest = subject.partition("@")
    name = current_names(session).get(name, name)
    row = session.execute(select(TaskRow.name, TaskRow.former_names).where(TaskRow.name == name)).one_or_none()
    return (subject,) if row is None else tuple(f"{each}{at}{rest}" for each in names_of(*row))


def recorded_task(session: Session, name: str) -> TaskRow | None:
    """Return the row of a task under which something may be recorded; null where the name is free.

    Raises:
        ConflictError: The name was a task's that is called otherwise now, or was removed.
    """
    row = session.scalar(select(TaskRow).where(TaskRow.name == name))
    if row is not None and row.removed_at is not None:
        raise ConflictError(
            f"The task {name!r} was removed by {row.removed_by} on {row.removed_at[:10]}, and its name stays taken.",
            "choose another name",
        )
    if row is None and (current := current_names(session).get(name)) is not None:
        raise ConflictError(
            f"The task that was called {name!r} is called {current!r} now, and its former name stays its own.",
            f"limpet task show {current}, or choose another name",
        )
    return row


def unknown_task(session: Session, name: str) -> NotFoundError:
    """Return the error for a task that is not there; its hint has the nearest names."""
    if (current := current_names(session).get(name)) is not None:
        return NotFoundError(f"The task {name!r} is called {current!r} now.", f"limpet task show {current}")
    names = session.scalars(select(TaskRow.name).where(TaskRow.removed_at.is_(None))).all()
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? limpet task list" if near else f"limpet task add {name} --data SPEC"
    return NotFoundError(f"There is no task {name!r} in this home.", hint)


def find_version(session: Session, ref: str | Reference, *, deleted: bool = False) -> VersionRow:
    """Return the row of the version that a reference means now.

    A bare task means its alias `production` if that is set, else `latest`: the newest version with the role
    `adapter`. With `deleted`, a number may also name a version that was deleted.

    Raises:
        NotFoundError: There is no such task, version or alias, or the version was deleted.
    """
    reference = parse(ref)
    # a task is removed with its versions, and their evidence stays
    task = find_task(session, reference.task, removed=deleted)
    row: VersionRow | None
    if reference.number is not None:
        row = session.scalar(
            select(VersionRow).where(VersionRow.task_id == task.id, VersionRow.number == reference.number)
        )
    elif reference.alias is not None and reference.alias != LATEST:
        row = _by_alias(session, task.id, reference.alias)
    else:
        row = _by_alias(session, task.id, PRODUCTION) if reference.alias is None else None
        row = row or session.scalar(
            select(VersionRow)
            .where(VersionRow.task_id == task.id, VersionRow.role == "adapter", VersionRow.deleted_at.is_(None))
            .order_by(VersionRow.number.desc())
            .limit(1)
        )
    if row is None:
        raise NotFoundError(_missing(reference), f"limpet adapter list --task {reference.task}")
    if (tombstone := tombstone_of(row)) and not deleted:
        raise NotFoundError(
            f"{reference} was deleted by {tombstone.actor} on {tombstone.created_at[:10]}: "
            f"{without_stop(tombstone.reason)}.",
            f"limpet adapter list --task {reference.task}",
        )
    return row


def removal_of(task: TaskRow) -> Tombstone | None:
    """Return the tombstone of a task that was removed, null for every other."""
    if task.removed_at is None:
        return None
    return Tombstone(task.removed_at, task.removed_by or "", task.removed_because or "")


def tombstone_of(row: KeptVersion) -> Tombstone | None:
    """Return the tombstone of a version that was deleted, null for every other."""
    if row.deleted_at is None:
        return None
    return Tombstone(row.deleted_at, row.deleted_by or "", row.deleted_because or "")


def _by_alias(session: Session, task_id: int, alias: str) -> VersionRow | None:
    return session.scalar(
        select(VersionRow)
        .join(AliasRow, AliasRow.version_id == VersionRow.id)
        .where(AliasRow.task_id == task_id, AliasRow.name == alias)
    )


def _missing(reference: Reference) -> str:
    if reference.number is not None:
        return f"The task {reference.task!r} has no version {reference.number}."
    if reference.alias is not None and reference.alias != LATEST:
        return f"The task {reference.task!r} has no alias {reference.alias!r}."
    return f"The task {reference.task!r} has no adapter yet."


def environment_id(session: Session, environment: Environment) -> int:
    """Return the id of an environment's row, inserted if it is new."""
    content = environment.content()
    digest = digest_json(content)
    id_ = session.scalar(select(EnvironmentRow.id).where(EnvironmentRow.digest == digest))
    if id_ is not None:
        return id_
    row = EnvironmentRow(digest=digest, content=content)
    session.add(row)
    session.flush()
    return row.id


def environments_of(session: Session, rows: Iterable[EvaluationRow | AbilityRow]) -> dict[int, Environment]:
    """Return the environments that rows name, by their ids."""
    named: dict[int, Environment] = {}
    for ids in batched({row.environment_id for row in rows}):
        rows_of_ids = session.scalars(select(EnvironmentRow).where(EnvironmentRow.id.in_(ids)))
        named |= {row.id: Environment(**row.content) for row in rows_of_ids}
    return named


def measurement_columns(session: Session, measurement: Measurement) -> JsonObject:
    """Return the columns of a measurement that is recorded now."""
    columns = {name: getattr(measurement, name) for name in _MEASURED}
    return columns | {"environment_id": environment_id(session, measurement.environment), "created_at": utc_now()}


def measured_fields(row: EvaluationRow | AbilityRow, environments: Mapping[int, Environment]) -> JsonObject:
    """Return the fields of a record that its row has as `measurement_columns` wrote them, and the row's id."""
    columns = {name: getattr(row, name) for name in ("id", *_MEASURED, "created_at")}
    return columns | {"environment": environments[row.environment_id]}


def task_names(session: Session, task_ids: Iterable[int]) -> dict[int, str]:
    """Return the name of each task by its id."""
    named: dict[int, str] = {}
    for ids in batched(set(task_ids)):
        named |= dict(session.execute(select(TaskRow.id, TaskRow.name).where(TaskRow.id.in_(ids))).all())
    return named


def references(session: Session, version_ids: Iterable[int]) -> dict[int, str]:
    """Return `task@number` for each version id."""
    query = select(VersionRow.id, TaskRow.name, VersionRow.number).join(TaskRow, TaskRow.id == VersionRow.task_id)
    named: dict[int, str] = {}
    for ids in batched(set(version_ids)):
        rows = session.execute(query.where(VersionRow.id.in_(ids)))
        named.update({id_: f"{task}@{number}" for id_, task, number in rows})
    return named


def batched(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Yield ids or digests in lists that one statement takes: databases have a limit on its parameters."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def load_manifest(row: KeptVersion) -> dict[str, Any]:
    """Return a version's manifest after checking its digest.

    Raises:
        IntegrityError: The manifest is not the one that was registered.
    """
    if digest_bytes(row.manifest.encode("utf-8", "surrogatepass")) != row.manifest_digest:
        raise IntegrityError(f"The manifest of version {row.digest} was changed.", "limpet verify")
    manifest: dict[str, Any] = json.loads(row.manifest)
    return manifest


def version_records(session: Session, rows: Sequence[KeptVersion]) -> tuple[VersionRecord, ...]:
    """Return the values of version rows, in their order, with one query for the names and aliases of many."""
    aliases: dict[int, list[str]] = {row.id: [] for row in rows}
    tasks: dict[int, str] = {}
    named = (
        select(VersionRow.id, TaskRow.name, AliasRow.name)
        .join(TaskRow, TaskRow.id == VersionRow.task_id)
        .outerjoin(AliasRow, AliasRow.version_id == VersionRow.id)
    )
    for ids in batched(aliases):
        for version_id, task, alias in session.execute(named.where(VersionRow.id.in_(ids))):
            tasks[version_id] = task
            aliases[version_id] += [] if alias is None else [alias]
    records = (version_record(row, tuple(sorted(aliases[row.id])), task=tasks.get(row.id)) for row in rows)
    return with_current_parents(session, tuple(records))


def with_current_parents(session: Session, records: tuple[VersionRecord, ...]) -> tuple[VersionRecord, ...]:
    """Return versions with what the tasks of their parents are called now.

    A parent is of the same task nearly always: only where one is not, the database is asked.
    """
    if all(record.parent is None or parse(record.parent).task == record.task for record in records):
        return records
    renamed = current_names(session)
    return tuple(replace(record, parent=renamed_reference(record.parent, renamed)) for record in records)


def version_record(row: KeptVersion, aliases: tuple[str, ...], *, task: str | None = None) -> VersionRecord:
    """Return the value of one version row; a parent of another task has the name of then.

    Args:
        row: The row.
        aliases: What stands at it.
        task: What its task is called now; null gives the name that it had when the version was registered.

    Raises:
        IntegrityError: The manifest is not the one that was registered.
    """
    manifest = load_manifest(row)
    name = task or manifest["task"]
    return VersionRecord(
        **{
            **manifest,
            "task": name,
            "parent": renamed_reference(manifest["parent"], {manifest["task"]: name}),
            "labels": tuple(manifest["labels"]),
            "files": tuple(FileEntry(**file) for file in manifest["files"]),
            "environment": Environment(**manifest["environment"]),
        },
        number=row.number,
        aliases=aliases,
        deleted=tombstone_of(row),
    )


def renamed_reference(reference: str | None, renamed: Mapping[str, str]) -> str | None:
    """Return `task@3` with what its task is called now."""
    if reference is None or not renamed:
        return reference
    task, at, number = reference.partition("@")
    return f"{renamed.get(task, task)}{at}{number}"
