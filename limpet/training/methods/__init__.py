"""Methods: the ways to learn a task, one module each, found by their presence in this folder.

A method attaches itself to the frozen backbone, says what it saves, and takes itself off again. Nothing of the
trainer outside this folder names one; adding one is one file here and one test. A module whose name does not begin
with `_` offers `METHODS`, one or several.

What works on which architecture was found by trying, and is kept in `works.json` beside this file.
"""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from limpet.errors import UsageError
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.base.frozen_layers import LowerLayers

__all__ = [
    "BARE",
    "DEFAULT",
    "FEATURES",
    "HEADED",
    "TABLE",
    "Capabilities",
    "Layered",
    "Method",
    "OwnHead",
    "Quickened",
    "check_task_type",
    "for_peft_type",
    "get",
    "get_for",
    "names",
    "nearest",
    "obstacle",
    "resolve_settings",
    "was_tried",
    "works_on",
]

_OTHERS = "other_peft"
TABLE = Path(__file__).with_name("works.json")
"""Architecture to method to the reason why it does not work there; an empty reason means that it works."""

DEFAULT = "lora"
"""The method of a training that asks for none."""
BARE = "probe"
"""The method that leaves the base as it is: a head alone."""

FEATURES = frozenset({"classification", "multi-label", "regression", "token-classification"})
"""Types of task with a head of their own, which can be learned on frozen features alone."""
HEADED = FEATURES | {"generation"}
"""Types of task with a head on the backbone's hidden states: every method that changes the backbone learns them."""


@dataclass(frozen=True)
class Capabilities:
    """What a method can do, for the table of `limpet methods`.

    `families` are those of BaseRecord, for architectures that were never tried; `trains_base_copy` is true for
    baselines that learn on a copy of the base; `servable` means that LoRA servers can load its files.
    """

    task_types: frozenset[str]
    families: frozenset[str]
    mergeable: bool
    mixed_batches: bool
    servable: bool
    quantised_base: bool
    trains_base_copy: bool


class Method(Protocol):
    """One way to learn a task."""

    name: str
    summary: str
    capabilities: Capabilities
    learning_rate: float
    """The learning rate that is used where none is given."""
    settings: Mapping[str, Any]
    """Its settings with their defaults; null stands for a default that depends on the base."""
    peft_type: str | None
    """What peft calls the adapters it saves; null where it saves none."""
    alternatives: tuple[str, ...]
    """Methods to use where this one does not work, the nearest first."""

    example: Mapping[str, Any]
    """Settings to try it with where its defaults don't suffice."""

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """Return how many positions of the base it takes from the text."""

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a foreign `adapter_config.json` is worth keeping as the version's configuration."""

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the full configuration for this backbone as plain JSON, or raise UsageError."""

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """Return a module whose trainable parameters are the method's, newly initialised."""

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """Write the method's files into `folder`."""

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """Return the module that `files` describe, trainable as after `attach`, or raise IntegrityError."""

    def detach(self, module: nn.Module) -> None:
        """Leave the backbone as it was before `attach` or `load`."""


@runtime_checkable
class OwnHead(Protocol):
    """A method that trains nothing: its adapter is a head of its own, made of training examples."""

    def build_head(
        self,
        backbone: Any,
        task: TaskRecord,
        train: Sequence[Any],
        *,
        config: Mapping[str, Any],
        max_length: int,
        seed: int,
    ) -> Any:
        """Return the head of a new adapter.

        Args:
            backbone: The base in memory.
            task: What is learned.
            train: Its training examples.
            config: As `Method.resolve` returned it.
            max_length: Longest text in tokens.
            seed: Decides which examples are used.
        """

    def attempt(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """Return what such a head answers on a small model, for token ids and mask, or raise what is in the way."""


@runtime_checkable
class Quickened(Protocol):
    """A method that has a cheaper graph for what its module computes."""

    def is_quick(self, config: Mapping[str, Any]) -> bool:
        """Tell whether that graph can compute what a configuration asks for."""

    def quick(self, module: nn.Module) -> AbstractContextManager[None]:
        """Let the module compute by that graph for the length of a `with` block; the gradients are the same."""


@runtime_checkable
class Layered(Protocol):
    """A method that leaves the lower layers of the base as they are."""

    def lower_layers(self, module: nn.Module) -> LowerLayers | None:
        """Return those layers and the lowest that is trained; None where no layer is left as it is."""


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


def names() -> tuple[str, ...]:
    """The names of all methods, sorted; those of peft that have no module of their own come last."""
    return tuple(sorted(_methods(), key=lambda name: (":" in name, name)))


def get(name: str) -> Method:
    """Return the method of that name; `peft:LOHA` is `peft:loha`.

    Raises:
        UsageError: There is no such method.
    """
    if name in _own():
        return _own()[name]
    known = name.lower() if name.lower().startswith("peft:") else name
    if known not in _methods():
        own = for_peft_type(known.removeprefix("peft:").upper())
        close = [own.name] if own else difflib.get_close_matches(known, _methods(), n=1)
        short = [own for own in names() if ":" not in own]
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
            f"Method {method.name!r} does not work on {base.architecture} models such as {base.name!r}: {reason}.",
            f"--method {other}" if other else "limpet methods",
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
            f"Method {method.name!r} can't learn task {task.name!r} of type {kind!r}; it learns "
            f"{', '.join(sorted(method.capabilities.task_types))}.",
            f"--method {other}" if other else "limpet methods",
        )


def obstacle(method: Method, base: BaseRecord) -> str:
    """Return why a method does not work on models like `base`; an empty string means that it does."""
    if base.architecture in _tried():
        return _tried()[base.architecture].get(method.name, "")
    if base.family not in method.capabilities.families:
        return f"it is not for {base.family} models"
    return ""


def works_on(method: Method) -> tuple[str, ...]:
    """Return the architectures that a method was tried on and works on."""
    return tuple(kind for kind, found in sorted(_tried().items()) if found.get(method.name) == "")


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


def resolve_settings(method: str, defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `settings` over `defaults`; strings, as `--set` gives them, become the default's type.

    Raises:
        UsageError: A setting is unknown, or its value is of another type.
    """
    resolved = dict(defaults)
    for key, value in settings.items():
        if key not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            close = difflib.get_close_matches(key, defaults, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(f"Method {method!r} has no setting {key!r}; it has {known}.{meant}", "limpet methods")
        # a default of null means "chosen by the base", and such settings are whole numbers
        kind = int if defaults[key] is None else type(defaults[key])
        resolved[key] = _coerce(method, key, value, kind=kind)
    return resolved


def _coerce(method: str, key: str, value: Any, *, kind: type) -> Any:
    words = {"true": True, "false": False}
    try:
        if kind is bool:
            return value if isinstance(value, bool) else words[str(value).lower()]
        if kind is int and (isinstance(value, bool) or float(value) != int(value)):
            raise ValueError
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"Setting {key!r} of method {method!r} must be {kind.__name__}, not {value!r}.",
            f"--set {key}=<{kind.__name__}>",
        ) from None
