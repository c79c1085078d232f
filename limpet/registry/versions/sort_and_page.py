"""The orders that a list of versions can have, and its pages: each begins behind the value and id of the last row."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from limpet.errors import UsageError
from limpet.registry.database.schema import VersionRow

__all__ = ["SORTS", "Order", "fetch_page", "parse_order"]

_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
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
    column: InstrumentedAttribute[Any]
    descending: bool

    def parts(self, query: Select[Any], after: tuple[Any, int] | None) -> Iterator[Select[Any]]:
        """Yield queries whose rows, one after the other, are those of `query` in this order.

        Several, because each of them is read from an index as far as the page needs, and all in one would be sorted:
        the rows with the last page's last value, those with a value beyond it, those without one.

        Args:
            query: The rows to order.
            after: The value and the id that the page before ended with.
        """
        value, id_ = after if after is not None else (None, None)
        if self.column is VersionRow.id:
            yield self._ordered(
                query if id_ is None else query.where(self._beyond(VersionRow.id, id_)), VersionRow.id
            )
            return
        if value is not None:
            ties = query.where(self.column == value, self._beyond(VersionRow.id, id_))
            yield self._ordered(ties, VersionRow.id)
            yield self._ordered(query.where(self._beyond(self.column, value)), self.column, VersionRow.id)
        elif after is None:
            yield self._ordered(query.where(self.column.is_not(None)), self.column, VersionRow.id)
        if self.column.nullable:
            nulls = query.where(self.column.is_(None))
            started = after is not None and value is None
            yield self._ordered(nulls.where(self._beyond(VersionRow.id, id_)) if started else nulls, VersionRow.id)

    def _ordered(self, query: Select[Any], *keys: InstrumentedAttribute[Any]) -> Select[Any]:
        return query.order_by(*(key.desc() if self.descending else key.asc() for key in keys))

    def _beyond(self, column: InstrumentedAttribute[Any], value: object) -> ColumnElement[bool]:
        beyond: ColumnElement[bool] = column < value if self.descending else column > value
        return beyond


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
    session: Session, query: Select[Any], order: Order, *, limit: int, cursor: str | None
) -> tuple[Sequence[Row[Any]], str | None]:
    """Return the rows of one page of a query for columns of versions, and the cursor of the next (null on the last).

    Raises:
        UsageError: The cursor is none of this order.
    """
    after = None if cursor is None else _parse_cursor(order, cursor)
    rows: list[Row[Any]] = []
    for part in order.parts(query.add_columns(order.column.label(_VALUE)), after):
        rows += session.execute(part.limit(limit + 1 - len(rows)))
        if len(rows) > limit:
            break
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


def _fits(value: object, column: InstrumentedAttribute[Any]) -> bool:
    """Say whether a column can hold a value: nobody but limpet makes cursors, but anybody may type one."""
    if value is None:
        return bool(column.nullable)
    kind = column.type.python_type
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return _is_id(value) if kind is int else isinstance(value, kind)
