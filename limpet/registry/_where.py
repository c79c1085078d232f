"""The little language of `--where`: `score >= 0.9 and role = adapter`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_

from limpet.errors import UsageError
from limpet.registry.schema import VersionRow

__all__ = ["parse_where"]

_NUMBERS: dict[str, Any] = {
    "score": VersionRow.score,
    "number": VersionRow.number,
    "seed": VersionRow.seed,
    "size": VersionRow.size,
    "trainable_parameters": VersionRow.trainable_parameters,
}
_TEXTS: dict[str, Any] = {"created_at": VersionRow.created_at, "role": VersionRow.role}
_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r"\s*([a-z_]+)\s*(>=|<=|!=|==|=|>|<)\s*('[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*")
_HINT = "write for example --where 'score >= 0.9 and role = adapter'"


def parse_where(text: str) -> ColumnElement[bool]:
    """Return the SQL condition of comparisons joined by `and`.

    Raises:
        UsageError: A field, operator or value is not known.
    """
    return and_(*(_term(part) for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE)))


def _term(text: str) -> ColumnElement[bool]:
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a comparison such as `score >= 0.9`.", _HINT)
    name, sign, value = match[1], match[2], match[3].strip("'\"")
    if name in _TEXTS:
        return _OPERATORS[sign](_TEXTS[name], value)
    if name not in _NUMBERS:
        raise UsageError(
            f"Versions can't be searched by {name!r}.", f"the fields are {', '.join([*_NUMBERS, *_TEXTS])}"
        )
    try:
        return _OPERATORS[sign](_NUMBERS[name], _number(value))
    except ValueError as error:
        raise UsageError(f"{name} is compared with {value!r}, which is not a number.", _HINT) from error


def _number(text: str) -> int | float:
    number = float(text)
    if number != number or abs(number) > 2**63 - 1:
        raise ValueError(text)
    return int(number) if number.is_integer() else number
