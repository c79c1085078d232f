"""What goes to stdout: one JSON object, or small tables for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limpet.cli.terminal.sanitize import json_text, plain
from limpet.redaction import hide_secrets
from limpet.registry.system.lines import split_lines
from limpet.registry.values import TaskRecord, VersionRecord
from limpet.training.batching.examples import Conversation, stored_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["digits", "drawn", "emit", "fields_table", "render", "short", "size", "table", "to_json", "warn", "write"]

_PIPED_WIDTH = 160
# no cell of a table is ever folded where a program reads it
_TABLE_WIDTH = 10_000


def emit(**content: Any) -> None:
    """Print one JSON object with `schema` and the given keys."""
    click.echo(json_text({"schema": 1} | to_json(content), indent=2))


def to_json(value: Any) -> Any:
    """Return a value as plain JSON: dataclasses as objects, tuples as lists, what is not finite as null."""
    if isinstance(value, VersionRecord):
        plain = _fields(value)
        return {"task": plain.pop("task"), "version": plain.pop("number"), **plain}
    if isinstance(value, TaskRecord):
        plain = _fields(value)
        return {**plain.pop("definition"), **plain}
    if isinstance(value, Conversation):
        return stored_text(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a small table; a column of numbers is set right, None is shown as a dash."""
    from rich.table import Table
    from rich.text import Text

    content = [list(row) for row in rows]
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        numeric = bool(content) and all(_is_number(row[index]) for row in content)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in content:
        # user text goes in as Text, which has no markup to misread
        drawn.add_row(*(Text(_cell(value)) for value in row))
    _print(drawn, _TABLE_WIDTH)


def fields_table(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names with their values, one a line."""
    rows = [(name, _cell(value)) for name, value in pairs]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def render(drawing: RenderableType) -> None:
    """Print what rich can draw; 160 columns wide where there is no terminal."""
    _print(drawing, _PIPED_WIDTH)


def drawn(drawing: RenderableType, width: int = _PIPED_WIDTH) -> str:
    """Return what rich can draw as plain text."""
    import io

    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, highlight=False, no_color=True, emoji=False).print(drawing)
    return "".join(f"{line.rstrip()}\n" for line in split_lines(text.getvalue()))


def _print(drawing: RenderableType, piped_width: int) -> None:
    if not sys.stdout.isatty():
        click.echo(drawn(drawing, piped_width), nl=False)
        return
    from rich.console import Console

    Console(highlight=False, emoji=False).print(drawing)


def write(path: Path, content: str | bytes) -> None:
    """Write a file that was asked for.

    Raises:
        LimpetError: It can't be written.
    """
    from limpet.errors import LimpetError

    try:
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise LimpetError(f"{path} can't be written: {error.strerror}.", f"ls -ld {path.parent}") from error


def warn(warnings: Iterable[str]) -> None:
    """Say on stderr what could not be done beside a success."""
    from limpet.cli.terminal.style import paint

    for warning in warnings:
        click.echo(
            f"{paint('warning:', fg='yellow', bold=True)} {plain(hide_secrets(warning), lines=True)}", err=True
        )


def short(digest: str) -> str:
    """Return the first 12 hex digits of a digest, for tables."""
    return digest.removeprefix("sha256:")[:12]


def digits(value: float | None, count: int = 4) -> str | None:
    """Return a number with a fixed count of digits."""
    return None if value is None else f"{value:.{count}f}"


def size(value: float) -> str:
    """Return a size in bytes for people."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return plain(json.dumps(to_json(value), ensure_ascii=False, sort_keys=True))
    if isinstance(value, tuple | list):
        return plain(", ".join(str(item) for item in value))
    return plain(str(value))


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)
