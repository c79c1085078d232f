"""How a message names many things: the first of them, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["first_few"]


def first_few(texts: Iterable[str], shown: int = 5, joint: str = ", ") -> str:
    """Return the first of some texts in one line, and how many more there are, as `a, b and 3 more`.

    Args:
        texts: All of them, in their order.
        shown: How many are named.
        joint: What stands between them.
    """
    every = list(texts)
    more = len(every) - shown
    return joint.join(every[:shown]) + (f" and {more} more" if more > 0 else "")
