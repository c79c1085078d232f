"""Examples: a text, the words of one or a conversation, and what its task wants for it; they need no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from limpet.registry.formats.json_values import JsonValue

__all__ = ["Conversation", "Example", "Text", "Turn", "flat_text", "stored_text", "text_of", "words_of"]


class Turn(NamedTuple):
    """One turn of a conversation: who says it (`system`, `user`, `assistant`), and what."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """All that was said before the answer that is asked for; its last turn is a user's."""

    turns: tuple[Turn, ...]

    @property
    def system(self) -> str | None:
        """What its system message says; null where it has none."""
        return self.turns[0].content if self.turns[0].role == "system" else None


Text = str | tuple[str, ...] | Conversation
"""A text, the words of one, or a conversation."""


@dataclass(frozen=True)
class Example:
    """One example of a task: its text, and its target as metrics take it; null where it is unknown."""

    text: Text
    target: Any = None


def flat_text(text: Text) -> str:
    """Return a text as one text, its words put together; of a conversation every turn, with who says it.

    Where a user's turn is all there is, it is that turn: the same question reads the same in every form of data.
    """
    if isinstance(text, Conversation):
        if len(text.turns) == 1:
            return text.turns[0].content
        return "\n".join(f"{turn.role}: {turn.content}" for turn in text.turns)
    return text if isinstance(text, str) else " ".join(text)


def words_of(text: Text) -> tuple[str, ...]:
    """Return the words of a text: those that it has, or what stands between its blanks."""
    return text if isinstance(text, tuple) else tuple(flat_text(text).split())


def stored_text(text: Text) -> JsonValue:
    """Return a text as a split stores it: a conversation as a list of messages."""
    if isinstance(text, Conversation):
        return [turn._asdict() for turn in text.turns]
    return text if isinstance(text, str) else list(text)


def text_of(value: str | Sequence[str | Mapping[str, str]]) -> Text:
    """Return the text of what a split stores: the reverse of `stored_text`."""
    if isinstance(value, str):
        return value
    turns = tuple(Turn(part["role"], part["content"]) for part in value if isinstance(part, Mapping))
    return Conversation(turns) if turns else tuple(part for part in value if isinstance(part, str))
