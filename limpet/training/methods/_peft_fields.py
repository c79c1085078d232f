"""The fields of an `adapter_config.json`, held against the configuration class of the installed peft."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from dataclasses import fields as fields_of
from typing import Any, Literal

from limpet.registry.formats.peft_allowed_fields import DESCRIPTIVE, is_off, what_loading_uses
from limpet.registry.formats.peft_config import EFFECTS, Problem

__all__ = ["TakenOver", "field_problems", "is_of_type", "shown_value", "take_over"]

# `peft_config` has its own rule; the type that peft declares for it names a placeholder
_ASKED_ELSEWHERE = {"init_lora_weights"}
# they say how training began, and trained tensors take the place of whatever they gave
_BEGINNINGS = {
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "prompt_tuning_init",
    "prompt_tuning_init_task",
    "prompt_tuning_init_text",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
}
# peft writes most of these into every file; modules to save are tensors, which are looked at one by one
_ROUTINE = {"auto_mapping", "megatron_core", "modules_to_save", "qalora_group_size", "runtime_config"}


def field_problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields that the installed peft does not know, or that hold what it does not take, each with why.

    Args:
        config: The content of an `adapter_config.json`, of a type that the installed peft has, or of our own.
    """
    kind = _configuration_class(config)
    hints = typing.get_type_hints(kind)
    defaults = _defaults(kind)
    # it tells a running program where to compute, and peft keeps it out of files
    known = defaults.keys() - {"runtime_config"}
    for name in sorted(config.keys() - known):
        yield name[:60], f"is no field that {_peft()} knows"
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


def _configuration_class(config: Mapping[str, Any]) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    import limpet.training.methods._bottleneck  # noqa: F401

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(config["peft_type"])]


def _defaults(kind: Any) -> dict[str, Any]:
    """The fields of a configuration class, with what they are where nothing is said."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields_of(kind)
    }


def _peft() -> str:
    from peft import __version__

    return f"peft {__version__}"


def _is_newer(version: object) -> bool:
    """Tell whether a file says that it was written by a newer peft than the installed one."""
    from packaging.version import InvalidVersion, Version
    from peft import __version__

    try:
        return Version(str(version)) > Version(__version__)
    except InvalidVersion:
        return False


def is_of_type(value: object, hint: object) -> bool:
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


def shown_value(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class TakenOver:
    """What becomes of the fields of a folder's configuration: kept by the version, ignored, or wrong."""

    kept: dict[str, Any]
    ignored: tuple[str, ...]
    problems: tuple[Problem, ...]


def take_over(config: Mapping[str, Any]) -> TakenOver:
    """Tell the fields of a configuration that somebody else's program wrote apart.

    Kept is what loading uses. How training began and where it ran is ignored, and so is what peft ignores because it
    does not know it; unless a newer peft wrote it, which may know more.

    Args:
        config: The content of an `adapter_config.json`, of a type that can be loaded.
    """
    kind = _configuration_class(config)
    defaults = _defaults(kind)
    kept, ignored, problems = {}, [], []
    used = what_loading_uses(config)
    for name, value in sorted(config.items()):
        if name in DESCRIPTIVE or name in _ROUTINE:
            continue
        if name in used:
            # peft's own tests of it take null for the empty value that is its default
            if value is not None or defaults.get(name) is None or not is_off(name, defaults[name]):
                kept[name] = value
        elif is_off(name, value):
            continue
        elif name in _BEGINNINGS:
            ignored.append(name)
        elif name in EFFECTS:
            problems.append((name, f"{EFFECTS[name]}, and must be {'none' if name == 'bias' else 'null'}"))
        elif name in defaults or _is_newer(config.get("peft_version")):
            problems.append((name[:60], f"is {shown_value(value)}, and no field that {_peft()} knows how to load"))
        else:
            ignored.append(name[:60])
    return TakenOver(kept, tuple(ignored), tuple(problems))
