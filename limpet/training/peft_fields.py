"""The fields of an `adapter_config.json`, held against the configuration class of the installed peft."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from typing import Any, Literal

__all__ = ["field_problems", "is_of_type", "shown_value"]

# `peft_config` has its own rule; the type that peft declares for it names a placeholder
_ASKED_ELSEWHERE = {"init_lora_weights"}


def field_problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields that the installed peft does not know, or that hold what it does not take, each with why.

    Args:
        config: The content of an `adapter_config.json`, of a type that the installed peft has, or of our own.
    """
    from peft import __version__
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    import limpet.training.methods._bottleneck  # noqa: F401

    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(config["peft_type"])]
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in fields_of(kind)}
    # it tells a running program where to compute, and peft keeps it out of files
    known = defaults.keys() - {"runtime_config"}
    for name in sorted(config.keys() - known):
        yield name[:60], f"is no field that peft {__version__} knows"
    for name in sorted(config.keys() & known - _ASKED_ELSEWHERE):
        value, hint = config[name], hints[name]
        if value is not None or defaults[name] is not None:
            hint = float if name == "lora_alpha" else hint
            if not is_of_type(value, hint):
                yield name, f"is {shown_value(value)}, and must be {_type_name(hint)}"
    for name, least in (("r", 1), ("lora_alpha", 0)):
        value = config.get(name)
        # OFT's rank of 0 means that the block size decides
        if value == defaults.get(name):
            continue
        if isinstance(value, int | float) and not least <= value < float("inf"):
            yield name, f"is {shown_value(value)}, and must be {least} or more"


def is_of_type(value: Any, hint: Any) -> bool:
    """Say whether a JSON value is one of a type, such as `list[str] | None`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_of_type(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(is_of_type(item, arguments[0]) for item in value)
    if origin is dict or hint is dict or is_dataclass(hint):
        return isinstance(value, dict)
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return not isinstance(hint, type) or type(value) is hint


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # typing gives equal unions back in the order of the one that was made first, so the order is ours
        names = {_type_name(argument) for argument in arguments}
        return " or ".join(sorted(names, key=lambda name: (name == "null", name.startswith("a list"), name)))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is list:
        return f"a list of {_type_name(arguments[0])}"
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(str(member.value) for member in hint)
    return plain.get(hint, "a table")


def shown_value(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
