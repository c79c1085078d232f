"""A move of an alias in one line: where it points now, and where it pointed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.registry.values import AliasEvent

__all__ = ["alias_line"]


def alias_line(move: AliasEvent, moved: bool = True) -> str:
    """Return the line for people; `moved` is false where the alias pointed there already."""
    name = f"{move.task}@{move.alias}"
    now = "not set" if move.to_number is None else f"{move.task}@{move.to_number}"
    if not moved:
        return f"{name} is {now} already"
    before = "was not set" if move.from_number is None else f"was {move.task}@{move.from_number}"
    return f"{name} is {now} ({before})"
