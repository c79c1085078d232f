"""Texts that people leave in the registry: reasons, tags, notes."""

from __future__ import annotations

import unicodedata

from limpet.errors import UsageError

__all__ = ["LONGEST_REASON", "check_text"]

LONGEST_REASON = 1000


def check_text(kind: str, text: str, longest: int, *, lines: bool = False) -> str:
    """Return `text` without the spaces around it, if it can be kept and shown on any terminal.

    Args:
        kind: What it is, for the message: `reason`, `note`.
        text: The text as the user typed it.
        longest: How many characters it may have.
        lines: Whether it may have several lines.

    Raises:
        UsageError: It is empty or too long, or holds control characters or bytes that are no text.
    """
    text = text.strip()
    if not 1 <= len(text) <= longest:
        raise UsageError(
            f"A {kind} has 1 to {longest} characters, not {len(text)}.",
            f"give a {kind} of at most {longest} characters",
        )
    allowed = "\n\t" if lines else ""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in allowed:
            raise UsageError(
                f"A {kind} can't hold the control character {character!r}.", f"leave it out of the {kind}"
            )
    return text
