"""Settings as typed on a command line, read by the annotation of the dataclass field that they are for."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from limpet.errors import UsageError

__all__ = ["read_field"]

_WORDS = {"true": True, "false": False}


def read_field(method: str, name: str, value: Any, *, annotation: Any) -> Any:
    """Return `value` as the field's type; text is read as that type, other values must be of it.

    Args:
        method: Whose setting it is, for the message.
        name: The field.
        value: What was given.
        annotation: The field's type, resolved.

    Raises:
        UsageError: The value is of another type.
    """
    for kind in _members(annotation):
        try:
            return _read(value, kind)
        except (KeyError, TypeError, ValueError):
            continue
    wanted = " or ".join(dict.fromkeys(_say(kind) for kind in _members(annotation)))
    raise UsageError(
        f"Setting {name!r} of method {method!r} must be {wanted}, not {value!r}.", f"--set {name}=<{wanted}>"
    )


def _members(annotation: Any) -> list[Any]:
    """The types that a field may have, in the order of trying: text takes anything, so it comes last."""
    if get_origin(annotation) in (Union, types.UnionType):
        found = [kind for member in get_args(annotation) for kind in _members(member)]
    else:
        found = [annotation]
    order = {bool: 0, int: 1, float: 2, str: 9}
    return sorted(found, key=lambda kind: order.get(kind, 0 if kind is type(None) else 5))


def _read(value: Any, kind: Any) -> Any:
    origin = get_origin(kind) or kind
    if kind is type(None):
        if value is None or str(value).lower() in ("none", "null"):
            return None
        raise ValueError
    if kind is Any:
        return value
    if origin is Literal:
        return {str(choice): choice for choice in get_args(kind)}[str(value)]
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return origin(value if value in {member.value for member in origin} else str(value).upper())
    if origin is bool:
        return value if isinstance(value, bool) else _WORDS[str(value).lower()]
    if origin in (int, float):
        return _number(value, origin)
    if origin is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _table(value)
    if isinstance(origin, type) and issubclass(origin, Sequence | set):
        return _items(value, kind)
    raise TypeError


def _number(value: Any, kind: Any) -> Any:
    if isinstance(value, bool) or (kind is int and float(value) != int(float(value))):
        raise ValueError
    return kind(float(value)) if kind is int else kind(value)


def _table(value: Any) -> dict[Any, Any]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise TypeError
    return found


def _items(value: Any, kind: Any) -> list[Any]:
    items = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if not items or "" in items:
        raise ValueError
    inner = _members(get_args(kind)[0]) if get_args(kind) else [str]
    return [_first(item, inner) for item in items]


def _first(item: Any, kinds: list[Any]) -> Any:
    for kind in kinds:
        try:
            return _read(item, kind)
        except (KeyError, TypeError, ValueError):
            continue
    raise ValueError


def _say(kind: Any) -> str:
    if kind is type(None):
        return "none"
    if get_origin(kind) is Literal:
        return ", ".join(str(choice) for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(str(member.value).lower() for member in kind)
    return str(getattr(kind, "__name__", kind))
