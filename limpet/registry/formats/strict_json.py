"""JSON that somebody else wrote: read once, with nothing in it that two readers could read in two ways."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.formats.json_values import JsonValue

__all__ = ["DEEPEST", "MOST_VALUES", "read_json", "refuse_constant", "without_twins"]

DEEPEST = 32
"""Lists and tables inside each other that a document may have."""
MOST_VALUES = 1_000_000
"""Values that a document may have. An empty list is two bytes of text, and thirty times as many in memory."""


def read_json(raw: bytes, what: str, *, canonical: bool = False) -> JsonValue:
    """Return the value that a document stands for.

    Args:
        raw: The bytes of the document.
        what: What it is, for the message, such as `manifest.json of news.limpet`.
        canonical: Insist on the one byte form that limpet writes.

    Raises:
        IntegrityError: It is not UTF-8 JSON, a key occurs twice, a number is not finite, it is nested too
            deeply or has too many values, or it has another byte form than the canonical one.
    """
    # before memory is taken for them: there are no more values than signs that begin or part them
    if sum(map(raw.count, (b",", b"[", b"{"))) >= MOST_VALUES:
        raise _bad(what, f"may hold more than {MOST_VALUES} values")
    try:
        text = raw.decode("utf-8")
        value: JsonValue = json.loads(text, object_pairs_hook=without_twins, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(what, f"is not JSON ({error})") from error
    _check_depth(value, what)
    try:
        same = canonical_json(value) == raw
    except UsageError as error:
        raise _bad(what, f"holds what JSON can't ({error.message})") from error
    if canonical and not same:
        raise _bad(what, "is not in the one form that limpet writes")
    return value


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table of the pairs, for `object_pairs_hook`.

    Raises:
        ValueError: A key occurs twice.
    """
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def refuse_constant(text: str) -> NoReturn:
    """Refuse `NaN`, `Infinity` and `-Infinity`, for `parse_constant`.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{text} is not JSON")


def _check_depth(value: object, what: str) -> None:
    level = [value]
    # by levels, not by recursion: a deep document must not reach the interpreter's limit
    for _ in range(DEEPEST + 1):
        tables = [item for item in level if isinstance(item, dict | list)]
        if not tables:
            return
        level = [part for item in tables for part in (item.values() if isinstance(item, dict) else item)]
    raise _bad(what, f"is nested more than {DEEPEST} deep")


def _bad(what: str, why: str) -> IntegrityError:
    return IntegrityError(f"{what} {why}.", "export the version again; nothing was kept")
