"""Settings of methods: one frozen dataclass for each method says what `--set` takes.

A field has a type, a default, and in its metadata what it means (`help`, as in peft's own configurations) and its
range. From that come the reading of `--set KEY=VALUE`, the messages about what is wrong, and the tables of
`limpet methods NAME` and of the documentation.
"""

from __future__ import annotations

import difflib
import enum
import json
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from limpet.errors import UsageError

__all__ = [
    "MethodSettings",
    "NoSettings",
    "OwnSettings",
    "Setting",
    "about",
    "default_settings",
    "explain_fields",
    "read_fields",
    "read_settings",
]

_WORDS = {"true": True, "false": False}
_REFUSALS = (ArithmeticError, KeyError, TypeError, ValueError)


class MethodSettings(Protocol):
    """A frozen dataclass whose fields all have a default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Chosen = TypeVar("Chosen", bound=MethodSettings)


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method that has none."""


@dataclass(frozen=True)
class Setting:
    """One setting of a method as people read it; a `default` of null often stands for what the base decides."""

    name: str
    type: str
    default: object
    meaning: str


class OwnSettings:
    """What methods with a module of their own have in common: their settings are the fields of a dataclass."""

    settings: ClassVar[type[MethodSettings]] = NoSettings
    example: Mapping[str, Any] = {}

    def explain_settings(self) -> tuple[Setting, ...]:
        """See `Method.explain_settings`."""
        return explain_fields(self.settings)


def about(meaning: str, *, least: float | None = None, below: float | None = None) -> Mapping[str, object]:
    """Return the metadata of a setting's field.

    Args:
        meaning: What it does, in words, with its unit.
        least: The least value that it may have.
        below: What it must stay below.
    """
    return {"help": meaning, "least": least, "below": below}


def default_settings(kind: type[MethodSettings]) -> dict[str, object]:
    """Return the defaults of all settings by their names."""
    return {field.name: _default(field) for field in fields(kind)}


def explain_fields(kind: type[MethodSettings], *, hidden: Collection[str] = ()) -> tuple[Setting, ...]:
    """Return the settings that a dataclass offers, in the order of its fields.

    Args:
        kind: The dataclass, one of ours or a configuration of peft.
        hidden: Fields that are no settings.
    """
    hints = get_type_hints(kind)
    return tuple(
        Setting(
            field.name,
            _wanted(hints[field.name]),
            _plain(_default(field)),
            " ".join(str(field.metadata.get("help", "")).split()),
        )
        for field in fields(kind)
        if field.init and field.name not in hidden
    )


def read_settings(method: str, kind: type[Chosen], given: Mapping[str, object]) -> Chosen:
    """Return a method's settings, those that are not given at their defaults.

    Raises:
        UsageError: A setting is unknown, of another type or out of range.
    """
    return kind(**read_fields(method, kind, given))


def read_fields(
    method: str, kind: type[MethodSettings], given: Mapping[str, object], *, hidden: Collection[str] = ()
) -> dict[str, Any]:
    """Return what was given as values of a dataclass's fields; text, as `--set` gives it, is read as their type.

    Args:
        method: Whose settings they are, for the messages.
        kind: The dataclass, one of ours or a configuration of peft.
        given: Names and values.
        hidden: Fields that are no settings.

    Raises:
        UsageError: A setting is unknown, of another type or out of range.
    """
    known = {field.name: field for field in fields(kind) if field.init and field.name not in hidden}
    hints = get_type_hints(kind)
    chosen = {}
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            has = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"Method {method!r} has no setting {name!r}; it has {has}.{meant}", f"limpet methods {method}"
            )
        chosen[name] = _read_field(method, known[name], value, annotation=hints[name])
    return chosen


def _default(field: Field[Any]) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _plain(value: object) -> object:
    """Return a default as JSON has it."""
    return value.value if isinstance(value, enum.Enum) else value


def _read_field(method: str, field: Field[Any], value: object, *, annotation: object) -> object:
    wanted = _wanted(annotation)
    for kind in _members(annotation):
        try:
            read = _read(value, kind)
        except _REFUSALS:
            continue
        if not (limits := _limits(read, field)):
            return read
        wanted, value = limits, read
        break
    default = _plain(_default(field))
    example = f"<{wanted}>" if default is None else json.dumps(default).strip('"')
    raise UsageError(
        f"Setting {field.name!r} of method {method!r} must be {wanted}, not {value!r}.",
        f"--set {field.name}={example}",
    )


def _limits(value: object, field: Field[Any]) -> str:
    """Return the range that a number is out of, in words; an empty text where it is in its range."""
    least, below = field.metadata.get("least"), field.metadata.get("below")
    if not isinstance(value, int | float) or (least is None and below is None):
        return ""
    # what is not a number is in no range
    if (least is None or value >= least) and (below is None or value < below):
        return ""
    return f"at least {least}" if below is None else f"in [{least}, {below})"


def _members(annotation: object) -> list[Any]:
    """The types that a field may have, in the order of trying: text takes anything, so it comes last."""
    order = {bool: 0, int: 1, float: 2, str: 9}
    return sorted(_alternatives(annotation), key=lambda kind: order.get(kind, 0 if kind is type(None) else 5))


def _alternatives(annotation: object) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [annotation]


def _read(value: Any, kind: Any) -> object:
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
        return _text(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _table(value)
    if isinstance(origin, type) and issubclass(origin, Sequence | set):
        return _items(value, kind)
    raise TypeError


def _number(value: Any, kind: type) -> float:
    if isinstance(value, bool):
        raise TypeError
    if kind is float:
        return float(value)
    if isinstance(value, int) or (isinstance(value, str) and value.strip().lstrip("+-").isdigit()):
        return int(value)
    # such as 8.0 and 1e3
    number = float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _text(value: object) -> str:
    # a stream file may have a number where a text is meant
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError


def _table(value: object) -> dict[str, object]:
    read = json.loads(value) if isinstance(value, str) else value
    if not isinstance(read, dict):
        raise TypeError
    return read


def _items(value: Any, kind: object) -> list[object]:
    items = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if not items or "" in items:
        raise ValueError
    inner = _members(get_args(kind)[0]) if get_args(kind) else [str]
    return [_first_fit(item, inner) for item in items]


def _first_fit(item: object, kinds: Iterable[object]) -> object:
    for kind in kinds:
        try:
            return _read(item, kind)
        except _REFUSALS:
            continue
    raise ValueError


def _wanted(annotation: object) -> str:
    """Return in words what a field takes."""
    kinds = sorted(_members(annotation), key=lambda kind: kind is type(None))
    return " or ".join(dict.fromkeys(_type_name(kind) for kind in kinds))


def _type_name(kind: object) -> str:
    if kind is type(None):
        return "none"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(kind))}"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"one of {', '.join(str(member.value).lower() for member in kind)}"
    return str(getattr(kind, "__name__", kind))
