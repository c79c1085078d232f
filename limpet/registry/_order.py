"""The orders that a list of versions can have, and its pages: each begins behind the value and id of the last row."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, literal, tuple_
from sqlalchemy.orm import Session

from limpet.errors import UsageError
from limpet.registry.schema import VersionRow

__all__ = ["SORTS", "Order", "fetch_page", "parse_order"]

_COLUMNS: dict[str, Any] = {
    name: getattr(VersionRow, name)
    for name in ("score", "number", "size", "created_at", "seed", "trainable_parameters")
}
SORTS = tuple(_COLUMNS)
"""What versions can be sorted by."""

_LONGEST_CURSOR = 200
_VALUE = "sorted_by"


@dataclass(frozen=True)
class Order:
    """An order of versions: by a column, then by id in the same direction; rows without a value come last."""

    name: str
    column: Any
    descending: bool

    def sorted(self, query: Select[Any], *, after: tuple[Any, int] | None) -> Select[Any]:
        """Return the query for the rows that have a value, in order."""
        keys = [VersionRow.id] if self.column is VersionRow.id else [self.column, VersionRow.id]
        query = query.order_by(*(key.desc() if self.descending else key.asc() for key in keys))
        if len(keys) == 2 and self.column.nullable:
            query = query.where(self.column.is_not(None))
        if after is None:
            return query
        place, start = (
            tuple_(*keys),
            tuple_(*(literal(v, k.type) for v, k in zip(after[-len(keys) :], keys, strict=True))),
        )
        return query.where(place < start if self.descending else place > start)

    def nulls(self, query: Select[Any], *, after: int | None) -> Select[Any]:
        """Return the query for the rows without a value, in order."""
        query = query.where(self.column.is_(None))
        query = query.order_by(VersionRow.id.desc() if self.descending else VersionRow.id.asc())
        if after is None:
            return query
        return query.where(VersionRow.id < after if self.descending else VersionRow.id > after)


def parse_order(text: str | None) -> Order:
    """Return the order `score`, or `-score` for the largest first; null means the newest first.

    Raises:
        UsageError: Versions can't be sorted by it.
    """
    if text is None:
        return Order("", VersionRow.id, descending=True)
    name = text.removeprefix("-")
    if name not in _COLUMNS:
        raise UsageError(
            f"Versions can't be sorted by {name!r}.", f"sort by {', '.join(SORTS)}; with - before it, largest first"
        )
    return Order(text, _COLUMNS[name], descending=text.startswith("-"))


def fetch_page(
    session: Session, query: Select[Any], order: Order, limit: int, cursor: str | None
) -> tuple[Sequence[Row[Any]], str | None]:
    """Return the rows of one page of a query for columns of versions, and the cursor of the next (null on the last).

    Raises:
        UsageError: The cursor is none of this order.
    """
    after = None if cursor is None else _parse_cursor(order, cursor)
    rows: list[Row[Any]] = []
    query = query.add_columns(order.column.label(_VALUE))
    # two queries, because a database reads an index from end to end only without a rule for nulls
    if after is None or after[0] is not None:
        rows += session.execute(order.sorted(query, after=after).limit(limit + 1))
    if order.column.nullable and len(rows) <= limit:
        last = after[1] if after is not None and after[0] is None else None
        rows += session.execute(order.nulls(query, after=last).limit(limit + 1 - len(rows)))
    return rows[:limit], _cursor(order, rows[limit - 1]) if len(rows) > limit else None


def _cursor(order: Order, row: Row[Any]) -> str:
    text = json.dumps([order.name, getattr(row, _VALUE), row.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(order: Order, cursor: str) -> tuple[Any, int]:
    try:
        if len(cursor) > _LONGEST_CURSOR:
            raise ValueError("too long")
        name, value, id_ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if name != order.name or not _is_id(id_) or not _fits(value, order.column):
            raise ValueError("of another list")
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{cursor!r} is not a cursor of this list.", "use the cursor that the page before printed"
        ) from error
    return value, id_


def _is_id(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63


def _fits(value: object, column: Any) -> bool:
    """Say whether a column can hold a value: nobody but limpet makes cursors, but anybody may type one."""
    if value is None:
        return bool(column.nullable)
    kind = column.type.python_type
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return _is_id(value) if kind is int else isinstance(value, kind)
