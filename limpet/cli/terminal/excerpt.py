"""The beginning of a text, in one line, for a table."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["excerpt"]

_LONGEST = 80


def excerpt(text: str | Sequence[str] | None) -> str | None:
    """Return a text, or the words of one, in one line and no longer than a table has room for."""
    if text is None:
        return None
    words = text.split() if isinstance(text, str) else text
    line = " ".join(words)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3].rstrip()}..."
