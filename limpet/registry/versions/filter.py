"""The little language of `--where`: `score >= 0.9 and tag.owner = ada`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_, select

from limpet.errors import UsageError
from limpet.names import check_name
from limpet.registry.database.schema import VersionRow, VersionTagRow

__all__ = ["parse_where"]

_NUMBERS: dict[str, Any] = {
    "score": VersionRow.score,
    "number": VersionRow.number,
    "seed": VersionRow.seed,
    "size": VersionRow.size,
    "trainable_parameters": VersionRow.trainable_parameters,
}
_TEXTS: dict[str, Any] = {
    "created_at": VersionRow.created_at,
    "role": VersionRow.role,
    "method": VersionRow.method,
}
_TAG = "tag."
_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(
    r"\s*(?P<name>tag\.[a-z0-9._-]+|[a-z_]+)\s*(?P<sign>>=|<=|!=|==|=|>|<)"
    r"\s*(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<bare>[^\s'\"]+))\s*"
)
_AND = re.compile(r"and\b", re.IGNORECASE)
_HINT = "write for example --where 'score >= 0.9 and role = adapter'"


def parse_where(text: str) -> ColumnElement[bool]:
    """Return the SQL condition of comparisons joined by `and`.

    Raises:
        UsageError: A field, operator or value is not known.
    """
    terms: list[ColumnElement[bool]] = []
    position = 0
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise UsageError(f"{text[position:]!r} is not a comparison such as `score >= 0.9`.", _HINT)
        terms.append(_term(match["name"], match["sign"], next(v for v in match.group(3, 4, 5) if v is not None)))
        position = match.end()
        if position == len(text):
            return and_(*terms)
        joined = _AND.match(text, position)
        if joined is None:
            raise UsageError(f"{text[position:]!r} does not go on with `and` after a comparison.", _HINT)
        position = joined.end()


def _term(name: str, sign: str, value: str) -> ColumnElement[bool]:
    compare = _OPERATORS[sign]
    if name.startswith(_TAG):
        tag = check_name("tag", name.removeprefix(_TAG))
        tagged = select(VersionTagRow.version_id).where(VersionTagRow.name == tag)
        return VersionRow.id.in_(tagged.where(compare(VersionTagRow.value, value)))
    if name in _TEXTS:
        return compare(_TEXTS[name], value)
    if name not in _NUMBERS:
        fields = ", ".join([*_NUMBERS, *_TEXTS, f"{_TAG}NAME"])
        raise UsageError(f"Versions can't be searched by {name!r}.", f"the fields are {fields}")
    try:
        return compare(_NUMBERS[name], _number(value))
    except ValueError as error:
        raise UsageError(f"{name} is compared with {value!r}, which is not a number.", _HINT) from error


def _number(text: str) -> int | float:
    number = float(text)
    if number != number or abs(number) > 2**63 - 1:
        raise ValueError(text)
    return int(number) if number.is_integer() else number
