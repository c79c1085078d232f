"""Small tables as HTML, for notebooks; whatever people wrote is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_fields", "html_table"]


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table under a title; numbers have four digits, and what is None is a dash."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<b>{escape(title)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_fields(title: str, pairs: Iterable[tuple[str, object]]) -> str:
    """Return names with their values, one a line, under a title."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in pairs)
    return f"<b>{escape(title)}</b><table><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return escape(f"{value:.4f}" if isinstance(value, float) else str(value))
