"""Methods: the ways to learn a task, one module each, found by their presence in this folder.

A method attaches itself to the frozen backbone, says what it saves, and takes itself off again. Nothing outside
its module names it; adding one is one file here and one test.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from limpet.errors import UsageError
from limpet.registry.values import BaseRecord

__all__ = ["Capabilities", "Method", "get", "get_for", "names", "resolve_settings"]


@dataclass(frozen=True)
class Capabilities:
    """What a method can do, for the table of `limpet methods`.

    `families` are those of BaseRecord; `trains_base_copy` is true for baselines that learn on a copy of the base
    and save all of it; `servable` means that LoRA servers can load its files.
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

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the full configuration for this backbone as plain JSON, or raise UsageError."""

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """Return a module whose trainable parameters are the method's, newly initialised."""

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, folder: Path) -> None:
        """Write the method's files into `folder`."""

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """Return the module that `files` describe, trainable as after `attach`, or raise IntegrityError."""

    def detach(self, module: nn.Module) -> None:
        """Leave the backbone as it was before `attach` or `load`."""


@cache
def _methods() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            method: Method = importlib.import_module(f"{__name__}.{module.name}").METHOD
            found[method.name] = method
    return found


def names() -> tuple[str, ...]:
    """The names of all methods, sorted."""
    return tuple(sorted(_methods()))


def get(name: str) -> Method:
    """Return the method of that name.

    Raises:
        UsageError: There is no such method.
    """
    if name not in _methods():
        raise UsageError(f"There is no method {name!r}; there are {', '.join(names())}.", "limpet methods")
    return _methods()[name]


def get_for(name: str, base: BaseRecord) -> Method:
    """Return the method of that name, if it works on models like `base`.

    Raises:
        UsageError: There is no such method, or it does not work on this family of models.
    """
    method = get(name)
    if base.family not in method.capabilities.families:
        raise UsageError(
            f"Method {name!r} does not work on {base.family} models such as {base.name!r}.", "limpet methods"
        )
    return method


def resolve_settings(method: str, defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `settings` over `defaults`; strings, as `--set` gives them, become the default's type.

    Raises:
        UsageError: A setting is unknown, or its value is of another type.
    """
    resolved = dict(defaults)
    for key, value in settings.items():
        if key not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise UsageError(f"Method {method!r} has no setting {key!r}; it has {known}.", "limpet methods")
        resolved[key] = _coerce(method, key, value, type(defaults[key]))
    return resolved


def _coerce(method: str, key: str, value: Any, kind: type) -> Any:
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
