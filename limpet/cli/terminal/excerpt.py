"""The beginning of a text, in one line, for a table."""

from __future__ import annotations

from limpet.training.batching.examples import Text, words_of

__all__ = ["excerpt"]

_LONGEST = 80


def excerpt(text: Text | None) -> str | None:
    """Return a text in one line and no longer than a table has room for."""
    if text is None:
        return None
    line = " ".join(words_of(text))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3].rstrip()}..."
