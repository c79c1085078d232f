"""Arguments of public functions and settings, held against their annotations: a wrong type is one clear sentence.

What is written in Python in a hurry (a number for a name, one text for a list of texts, a misspelt option) would else
come back as an error of a library, from deep inside.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from typing import TYPE_CHECKING

from limpet.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_arguments", "check_fields", "option_names"]

_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "None": "None",
    "Path": "a path",
    "Sequence[str]": "a list of texts",
    "Sequence[str | Sequence[str]]": "a list of texts",
    "tuple[str, ...]": "a tuple of texts",
    "Mapping[str, Any]": "a dict",
}
_SHOWN = 60


def check_arguments(
    name: str, function: Callable[..., object], *, arguments: tuple[object, ...], options: Mapping[str, object]
) -> inspect.BoundArguments:
    """Return the arguments of a call as its function takes them, numbers of numpy as Python's own.

    Args:
        name: What the function is called, for the message: `home.train`.
        function: The function, a method with its object among the arguments.
        arguments: By their places.
        options: By their names.

    Raises:
        UsageError: One is missing, unknown, given twice or of another type than the function's annotations say.
    """
    annotations = dict(function.__annotations__)
    known = _of_keywords(function)
    annotations |= known
    signature = _signature(function)
    if known and (unknown := [option for option in options if option not in {*signature.parameters, *known}]):
        every = [*list(signature.parameters)[1:-1], *known]
        near = get_close_matches(unknown[0], every, n=1) or every
        raise UsageError(f"{name} has no option {unknown[0]!r}; it takes {', '.join(every)}.", f"{near[0]}=...")
    try:
        bound = signature.bind(*arguments, **options)
    except TypeError as error:
        raise UsageError(f"{name} can't be called so: {error}.", f"{name}{_shown(signature)}") from None
    for argument, value in bound.arguments.items():
        if argument in annotations and signature.parameters[argument].kind is not inspect.Parameter.VAR_KEYWORD:
            bound.arguments[argument] = _checked(f"{name} takes", argument, value, annotation=annotations[argument])
    for argument, value in bound.kwargs.items():
        if argument in known:
            bound.arguments[list(signature.parameters)[-1]][argument] = _checked(
                f"{name} takes", argument, value, annotation=known[argument]
            )
    return bound


def option_names(function: Callable[..., object]) -> set[str]:
    """Return the names of all that a function takes, those of its options among them."""
    return {*_signature(function).parameters, *_of_keywords(function)}


def check_fields(settings: DataclassInstance) -> None:
    """Hold the fields of a frozen value against their annotations; numbers of numpy become Python's own.

    Raises:
        UsageError: One has another type.
    """
    kind = type(settings)
    for field in fields(settings):
        value = getattr(settings, field.name)
        checked = _checked(f"{kind.__name__} takes", field.name, value, annotation=str(field.type))
        if checked is not value:
            object.__setattr__(settings, field.name, checked)


def _checked(who: str, argument: str, value: object, *, annotation: str) -> object:
    kinds = _kinds(annotation)
    for kind in kinds:
        if kind not in _WORDS:
            # classes of limpet, and of libraries, are used by what they can do
            return value
        if _is_of(kind, value):
            return _as_python(kind, value)
    wanted = " or ".join(_WORDS[kind] for kind in kinds)
    shown = repr(value)[:_SHOWN]
    hint = (
        f"{argument}=[{shown}]"
        if any(kind.startswith("Sequence") for kind in kinds) and isinstance(value, str)
        else f"{argument}=..."
    )
    raise UsageError(f"{who} {wanted} for {argument!r}, not {shown} ({type(value).__name__}).", hint)


def _is_of(kind: str, value: object) -> bool:
    if kind == "Sequence[str | Sequence[str]]":
        return _is_column(value) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))
    if kind in ("Sequence[str]", "tuple[str, ...]"):
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return _is_column(value) or (listed and all(isinstance(text, str) for text in value))  # type: ignore[attr-defined]
    if kind == "Path":
        return isinstance(value, os.PathLike)
    if kind == "None":
        return value is None
    number = not isinstance(value, bool)
    tests = {"str": str, "int": Integral, "float": Real, "bool": bool, "Mapping[str, Any]": Mapping}
    return isinstance(value, tests[kind]) and (number or kind == "bool")


def _is_column(value: object) -> bool:
    """Tell whether a value is an array or a column of texts, of numpy or pandas."""
    kinds = [
        getattr(sys.modules.get(library), name, None)
        for library, name in (("numpy", "ndarray"), ("pandas", "Series"))
    ]
    return any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds) and all(
        isinstance(text, str)
        for text in value  # type: ignore[attr-defined]
    )


def _as_python(kind: str, value: object) -> object:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return list(value) if kind.startswith("Sequence[str") and _is_column(value) else value  # type: ignore[call-overload]


@cache
def _kinds(annotation: str) -> tuple[str, ...]:
    """The members of a union, as they are written."""
    left: list[ast.expr] = [ast.parse(annotation, mode="eval").body]
    kinds: list[str] = []
    while left:
        part = left.pop(0)
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr):
            left[:0] = [part.left, part.right]
        else:
            kinds.append(ast.unparse(part))
    return tuple(kinds)


@cache
def _signature(function: Callable[..., object]) -> inspect.Signature:
    return inspect.signature(function)


@cache
def _of_keywords(function: Callable[..., object]) -> dict[str, str]:
    """The options of a function that takes them by a TypedDict: their names and annotations."""
    last = list(_signature(function).parameters.values())[-1:]
    if not last or last[0].kind is not inspect.Parameter.VAR_KEYWORD:
        return {}
    name = str(last[0].annotation).removeprefix("Unpack[").removesuffix("]")
    options = getattr(getattr(function, "__globals__", {}).get(name), "__annotations__", {})
    return {option: getattr(kind, "__forward_arg__", str(kind)) for option, kind in options.items()}


def _shown(signature: inspect.Signature) -> str:
    parameters = [parameter for parameter in signature.parameters if parameter != "self"]
    return f"({', '.join(parameters)})"
