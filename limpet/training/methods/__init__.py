"""Methods: the ways to learn a task, one module each, found by their presence in this folder.

A method attaches itself to the frozen backbone, says what it saves, and takes itself off again. Nothing of the
trainer outside this folder names one; adding one is one file here and one test. A module whose name does not begin
with `_` offers `METHODS`, one or several.

What works on which architecture was found by trying, and is kept in `works.json` beside this file; what works on a
base in few bits, in `quantised.json`.
"""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path

from limpet.errors import UsageError
from limpet.names import recorded_method, shown_method
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.base.holding.stored import is_quantised
from limpet.training.methods._protocol import (
    ALL_HEADED,
    NON_GENERATIVE,
    Capabilities,
    Method,
    SupportsFastLayers,
    SupportsFrozenPrefix,
    TrainingFree,
)
from limpet.training.methods._settings import Setting, default_settings

__all__ = [
    "ALL_HEADED",
    "DEFAULT",
    "NON_GENERATIVE",
    "NO_ADAPTER",
    "QUANTISED",
    "TABLE",
    "WHOLE_COPY",
    "Capabilities",
    "Method",
    "Setting",
    "SupportsFastLayers",
    "SupportsFrozenPrefix",
    "TrainingFree",
    "check_task_type",
    "default_settings",
    "for_peft_type",
    "get",
    "get_for",
    "names",
    "nearest",
    "obstacle",
    "was_tried",
    "works_on",
    "works_on_quantised",
]

_OTHERS = "other_peft"
TABLE = Path(__file__).with_name("works.json")
"""Architecture to method to the reason why it does not work there; an empty reason means that it works."""

QUANTISED = Path(__file__).with_name("quantised.json")
"""Method to the reason why it does not work on a quantised base; an empty reason means that it works."""

DEFAULT = "lora"
"""The method of a training that asks for none."""
WHOLE_COPY = "full"
"""The method whose files are a whole copy of the base."""
NO_ADAPTER = "probe"
"""What records call the method that leaves the base as it is: a head alone, or a linear probe."""


@cache
def _own() -> dict[str, Method]:
    """The methods with a module of their own; peft is not imported for them."""
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return {method.name: method for name in modules if name != _OTHERS for method in _in_module(name)}


@cache
def _methods() -> dict[str, Method]:
    own = _own()
    # what has a module of its own is not offered a second time
    types = {method.peft_type for method in own.values()}
    return own | {method.name: method for method in _in_module(_OTHERS) if method.peft_type not in types}


def _in_module(name: str) -> tuple[Method, ...]:
    found: tuple[Method, ...] = importlib.import_module(f"{__name__}.{name}").METHODS
    return found


@cache
def _tried() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


@cache
def _tried_quantised() -> dict[str, str]:
    table: dict[str, str] = json.loads(QUANTISED.read_text(encoding="utf-8"))
    return table


def names() -> tuple[str, ...]:
    """What records call all methods, sorted; those of peft that have no module of their own come last."""
    return tuple(sorted(_methods(), key=lambda name: (":" in name, name)))


def get(name: str) -> Method:
    """Return the method that people or records call so; `peft:LOHA` is `peft:loha`.

    Raises:
        UsageError: There is no such method.
    """
    if recorded_method(name) in _own():
        return _own()[recorded_method(name)]
    known = name.lower() if name.lower().startswith("peft:") else name
    if known not in _methods():
        own = for_peft_type(known.removeprefix("peft:").upper())
        close = [own.name] if own else difflib.get_close_matches(known, map(shown_method, _methods()), n=1)
        short = sorted(shown_method(own) for own in names() if ":" not in own)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"There is no method {name!r}; there are {', '.join(short)} and peft:<NAME>.{meant}", "limpet methods"
        )
    return _methods()[known]


def get_for(name: str, base: BaseRecord) -> Method:
    """Return the method of that name, if it works on models like `base`.

    Raises:
        UsageError: There is no such method, or it does not work on this architecture.
    """
    method = get(name)
    reason = obstacle(method, base)
    if reason:
        other = nearest(method, base)
        raise UsageError(
            f"Method {shown_method(method.name)!r} does not work on {base.architecture} models such as "
            f"{base.name!r}: {reason}.",
            f"--method {shown_method(other)}" if other else "limpet methods",
        )
    return method


def check_task_type(method: Method, task: TaskRecord, base: BaseRecord) -> None:
    """Refuse a task of a type that a method can't learn.

    Raises:
        UsageError: It can't; the nearest method that can is named.
    """
    kind = task.definition.type
    if kind not in method.capabilities.task_types:
        other = nearest(method, base, kind)
        raise UsageError(
            f"Method {shown_method(method.name)!r} can't learn task {task.name!r} of type {kind!r}; it learns "
            f"{', '.join(sorted(method.capabilities.task_types))}.",
            f"--method {shown_method(other)}" if other else "limpet methods",
        )


def obstacle(method: Method, base: BaseRecord) -> str:
    """Return why a method does not work on models like `base`; an empty string means that it does."""
    if is_quantised(base) and not works_on_quantised(method):
        return "it reads or trains the base's own weights, which are quantised"
    if base.architecture in _tried():
        return _tried()[base.architecture].get(method.name, "")
    if base.family not in method.capabilities.families:
        return f"it is not for {base.family} models"
    return ""


def works_on(method: Method) -> tuple[str, ...]:
    """Return the architectures that a method was tried on and works on."""
    return tuple(kind for kind, found in sorted(_tried().items()) if found.get(method.name) == "")


def works_on_quantised(method: Method) -> bool:
    """Tell whether a method was tried on bases in few bits and works on them."""
    return _tried_quantised().get(method.name) == ""


def was_tried(base: BaseRecord) -> bool:
    """Tell whether methods were tried on models like `base`."""
    return base.architecture in _tried()


def nearest(method: Method, base: BaseRecord, task_type: str | None = None) -> str | None:
    """Return the first of a method's alternatives that works on models like `base`, for tasks of that type."""
    fitting = (
        name
        for name in method.alternatives
        if not obstacle(get(name), base) and (task_type is None or task_type in get(name).capabilities.task_types)
    )
    return next(fitting, None)


def for_peft_type(peft_type: str) -> Method | None:
    """Return the method that saves adapters of that peft type, if there is one."""
    return next((method for method in _methods().values() if method.peft_type == peft_type), None)
