"""References resolved: each by one statement, which finds the version, its aliases and its task by indexes alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, bindparam, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from limpet.names import LATEST, Reference
from limpet.registry.database.schema import AliasRow, TaskRow, VersionRow
from limpet.registry.records.rows import (
    PRODUCTION,
    find_version,
    parse,
    version_record,
    version_records,
    with_current_parents,
)
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord

__all__ = ["files", "look_up", "newest_adapter", "resolve", "resolve_in"]

_TASKS, _VERSIONS, _ALIASES = TaskRow.__table__, VersionRow.__table__, AliasRow.__table__


def newest_adapter(task_id: ColumnElement[int] | InstrumentedAttribute[int]) -> ColumnElement[int]:
    """Return the expression for the id of a task's newest adapter, null if it has none.

    Args:
        task_id: The column that it stands beside: one step in an index for each row, however many versions there are.
    """
    newest = aliased(VersionRow)
    return (
        select(newest.id)
        .where(newest.task_id == task_id, newest.role == "adapter", newest.deleted_at.is_(None))
        .order_by(newest.number.desc())
        .limit(1)
        .scalar_subquery()
    )


def _statement(source: FromClause, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Return a version's columns, once for each of its aliases and once if it has none."""
    others = _ALIASES.alias()
    columns = ("id", "number", "digest", "manifest", "manifest_digest", "deleted_at", "deleted_by", "deleted_because")
    return (
        select(*(_VERSIONS.c[name] for name in columns), others.c.name.label("alias"))
        .select_from(source.outerjoin(others, others.c.version_id == _VERSIONS.c.id))
        .where(_TASKS.c.name == bindparam("task"), *conditions)
        .order_by(others.c.name)
    )


@cache
def _by_number() -> Select[Any]:
    # made once, as the others: making one costs as much as running it
    joined = _TASKS.join(_VERSIONS, _VERSIONS.c.task_id == _TASKS.c.id)
    return _statement(joined, _VERSIONS.c.number == bindparam("number"))


@cache
def _by_alias() -> Select[Any]:
    named = and_(_ALIASES.c.task_id == _TASKS.c.id, _ALIASES.c.name == bindparam("alias"))
    return _statement(_TASKS.join(_ALIASES, named).join(_VERSIONS, _VERSIONS.c.id == _ALIASES.c.version_id))


@cache
def _newest() -> Select[Any]:
    return _statement(_TASKS.join(_VERSIONS, _VERSIONS.c.id == newest_adapter(_TASKS.c.id)))


def resolve(store: Store, ref: str | Reference) -> VersionRecord:
    """Return the version that a reference means now.

    A bare task means its alias `production` if that is set, else `latest`: the newest version with the role
    `adapter`.

    Raises:
        NotFoundError: There is no such task, version or alias, or the version was deleted.
        IntegrityError: The version's manifest was changed.
    """
    with store.database.read() as session:
        return resolve_in(session, ref)


def look_up(store: Store, ref: str | Reference) -> VersionRecord:
    """Return the version that a reference means now, also one that was deleted: for what was, not for use.

    Raises:
        NotFoundError: There is no such task, version or alias.
        IntegrityError: The version's manifest was changed.
    """
    with store.database.read() as session:
        return resolve_in(session, ref, deleted=True)


def files(store: Store, version: VersionRecord) -> dict[str, Path]:
    """Return a local path for each file of a version, every byte hashed just now.

    Raises:
        IntegrityError: A file is missing or its bytes are not those that were registered.
    """
    return {file.name: store.blobs.path(file.digest) for file in version.files}


def resolve_in(session: Session, ref: str | Reference, *, deleted: bool = False) -> VersionRecord:
    """Return the version that a reference means now, as `find_version` finds it.

    Raises:
        NotFoundError: There is no such task, version or alias, or the version was deleted.
        IntegrityError: The version's manifest was changed.
    """
    reference = parse(ref)
    for statement, parameters in _ways(reference):
        rows = session.connection().execute(statement, {"task": reference.task, **parameters}).all()
        if rows and (deleted or rows[0].deleted_at is None):
            named = tuple(row.alias for row in rows if row.alias is not None)
            # the name that was asked for is the task's own, whatever it was called when this was registered
            return with_current_parents(session, (version_record(rows[0], named, task=reference.task),))[0]
    # not there: this says what is missing, and what there is instead
    return version_records(session, [find_version(session, reference, deleted=deleted)])[0]


def _ways(reference: Reference) -> Iterator[tuple[Select[Any], dict[str, Any]]]:
    if reference.number is not None:
        yield _by_number(), {"number": reference.number}
    elif reference.alias not in (None, LATEST):
        yield _by_alias(), {"alias": reference.alias}
    else:
        if reference.alias is None:
            yield _by_alias(), {"alias": PRODUCTION}
        yield _newest(), {}
