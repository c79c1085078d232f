"""Lists of versions: those that a query chooses, page by page, and each task's current one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from limpet.errors import UsageError
from limpet.names import LATEST, check_name
from limpet.registry.database.schema import AliasRow, TaskRow, VersionRow
from limpet.registry.records.rows import PRODUCTION, find_task, version_records
from limpet.registry.store import Store
from limpet.registry.values import Page, VersionRecord
from limpet.registry.versions.filter import parse_where
from limpet.registry.versions.resolution import newest_adapter
from limpet.registry.versions.sort_and_page import fetch_page, parse_order

__all__ = ["EVERY_VERSION", "VersionQuery", "current", "find"]

_LARGEST_PAGE = 1000
# what a value is made of; the other columns are there to search by
_KEPT: tuple[Any, ...] = (
    VersionRow.id,
    VersionRow.number,
    VersionRow.digest,
    VersionRow.manifest,
    VersionRow.manifest_digest,
    VersionRow.deleted_at,
    VersionRow.deleted_by,
    VersionRow.deleted_because,
)


@dataclass(frozen=True)
class VersionQuery:
    """Which versions are listed, and in which order; without anything, all that are not deleted, newest first.

    `task`, `method` and `alias` choose one each; the alias `latest` gives each task's newest adapter. `where` has
    comparisons such as `score >= 0.9` or `tag.owner = ada`, joined by `and`. `sort` is `score`, `number`, `size`,
    `created_at`, `seed` or `trainable_parameters`, smallest first, or with `-` before it largest first; versions
    without a value come last. With `deleted`, those deleted are listed too.
    """

    task: str | None = None
    method: str | None = None
    alias: str | None = None
    where: str | None = None
    sort: str | None = None
    deleted: bool = False


EVERY_VERSION = VersionQuery()


def find(
    store: Store, query: VersionQuery = EVERY_VERSION, *, limit: int = 50, cursor: str | None = None
) -> Page[VersionRecord]:
    """Return a page of versions; versions added meanwhile never shift the next page.

    Args:
        store: The open home.
        query: Which versions, in which order.
        limit: Versions on a page, 1 to 1000.
        cursor: The cursor of the page before.

    Raises:
        NotFoundError: There is no such task.
        UsageError: The limit, cursor, condition or order has another form.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise UsageError(f"A page can't have {limit} versions.", f"choose --limit from 1 to {_LARGEST_PAGE}")
    order, statement = parse_order(query.sort), _statement(query)
    with store.database.read() as session:
        if query.task is not None:
            task = find_task(session, check_name("task", query.task), removed=query.deleted)
            statement = statement.where(VersionRow.task_id == task.id)
        rows, following = fetch_page(session, statement, order, limit=limit, cursor=cursor)
        return Page(version_records(session, rows), following)


def _statement(query: VersionQuery) -> Select[Any]:
    statement = select(*_KEPT)
    if not query.deleted:
        statement = statement.where(VersionRow.deleted_at.is_(None))
    if query.method is not None:
        statement = statement.where(VersionRow.method == query.method)
    if query.where is not None:
        statement = statement.where(parse_where(query.where))
    return statement if query.alias is None else _under_alias(statement, query.alias)


def _under_alias(query: Select[Any], alias: str) -> Select[Any]:
    check_name("alias", alias)
    if alias == LATEST:
        return query.where(VersionRow.id.in_(select(newest_adapter(TaskRow.id)).select_from(TaskRow)))
    return query.where(VersionRow.id.in_(select(AliasRow.version_id).where(AliasRow.name == alias)))


def current(store: Store) -> tuple[VersionRecord, ...]:
    """Return each task's current version (`production`, else `latest`), in the order they were registered."""
    promoted = (
        select(AliasRow.version_id)
        .where(AliasRow.task_id == TaskRow.id, AliasRow.name == PRODUCTION)
        .scalar_subquery()
    )
    chosen = func.coalesce(promoted, newest_adapter(TaskRow.id))
    query = select(*_KEPT).select_from(TaskRow).join(VersionRow, VersionRow.id == chosen).order_by(VersionRow.id)
    with store.database.read() as session:
        return version_records(session, session.execute(query).all())
