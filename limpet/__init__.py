"""Limpet grows one frozen model task by task, and proves that it forgets nothing.

`limpet.init()` makes a home, `limpet.open()` opens one; see `limpet.home.Home` for its nouns and verbs, and
`limpet.errors` for what they raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.home import Home, init
    from limpet.home import open_home as open  # noqa: A004

__all__ = ["Home", "init", "open"]

_NAMES = {"Home": "Home", "init": "init", "open": "open_home"}


def __getattr__(name: str) -> Any:
    # the registry's imports are paid for by those who open a home, not by `limpet --help`
    if name in _NAMES:
        from limpet import home

        return getattr(home, _NAMES[name])
    raise AttributeError(f"module 'limpet' has no attribute {name!r}")
