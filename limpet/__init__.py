"""Limpet grows one frozen model task by task, and proves that it forgets nothing.

`limpet.init()` makes a home, `limpet.open()` opens one; see `limpet.home.Home` for its nouns and verbs,
`TrainingSettings` and `GateRules` for what they take, and `limpet.errors` for what they raise.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from limpet import errors
    from limpet.cli.terminal.progress import TerminalProgress
    from limpet.forgetting.gate.rules import GateRules
    from limpet.home import Home, init
    from limpet.home import open_home as open  # noqa: A004
    from limpet.training.learning.settings import TrainingSettings

__all__ = ["GateRules", "Home", "TerminalProgress", "TrainingSettings", "errors", "init", "open"]

_PLACES = {
    "GateRules": ("limpet.forgetting.gate.rules", "GateRules"),
    "Home": ("limpet.home", "Home"),
    "TerminalProgress": ("limpet.cli.terminal.progress", "TerminalProgress"),
    "TrainingSettings": ("limpet.training.learning.settings", "TrainingSettings"),
    "init": ("limpet.home", "init"),
    "open": ("limpet.home", "open_home"),
}


def __getattr__(name: str) -> object:
    # imports are paid for by those who use a name, not by `limpet --help`
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(_importlib.import_module(module), attribute)
    if name == "errors":
        return _importlib.import_module("limpet.errors")
    raise AttributeError(f"module 'limpet' has no attribute {name!r}")


def __dir__() -> list[str]:
    # parts of the package become attributes once they are imported, and are nobody's to use
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
