"""Texts that people leave in the registry: reasons, tags, notes."""

from __future__ import annotations

import unicodedata

from limpet.errors import UsageError

__all__ = ["check_reason", "check_text", "without_stop"]

_LONGEST_REASON = 1000


def check_reason(reason: str, *, needed: bool = False) -> str:
    """Return why something is done, without the spaces around it; empty only where it is not needed.

    Raises:
        UsageError: It is empty though needed, too long, or can't be shown on a terminal.
    """
    return check_text("reason", reason, _LONGEST_REASON) if needed or reason.strip() else ""


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
        raise UsageError(f"The {kind} has {len(text)} characters, not 1 to {longest}.", f"give another {kind}")
    allowed = "\n\t" if lines else ""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in allowed:
            raise UsageError(f"The {kind} holds the control character {character!r}.", "leave it out")
    return text


def without_stop(text: str) -> str:
    """Return what somebody wrote without the full stop at its end, for a sentence that has its own."""
    return text.rstrip().rstrip(".")
