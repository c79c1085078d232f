"""Examples: a text, or the words of one, and what its task wants for it; they need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Example", "Text", "flat_text"]

Text = str | tuple[str, ...]
"""A text, or the words of one."""


@dataclass(frozen=True)
class Example:
    """One example of a task: its text, or its words, and its target as metrics take it; null where it is unknown."""

    text: Text
    target: Any = None


def flat_text(text: Text) -> str:
    """Return a text as one text, its words put together."""
    return text if isinstance(text, str) else " ".join(text)
