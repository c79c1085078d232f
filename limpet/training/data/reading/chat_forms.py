"""Forms of instruction data: which columns hold conversations, and what each row asks and answers.

`messages` have a list of turns with `role` and `content`, `sharegpt` one with `from` and `value`;
`prompt-completion` has what is asked and the answer, each a text or a list of messages. Texts are read as columns
are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from limpet.errors import DataError, UsageError
from limpet.first_few import first_few
from limpet.training.batching.examples import Conversation, Turn
from limpet.training.data.reading.lazy import made
from limpet.training.data.reading.tables import Table
from limpet.training.generation.turns import (
    TurnForm,
    asked,
    form_of_turns,
    is_turns,
    other_keys,
    read_turns,
    split_answer,
)

__all__ = [
    "CHATS",
    "FORMATS",
    "ChatColumns",
    "ChatRequest",
    "ChatRows",
    "DataFormat",
    "chat_columns",
    "notes_of",
    "of_columns",
    "said",
    "shared_system",
]

CHATS = "generation"
"""The type of tasks whose data may be conversations."""
DataFormat = Literal["auto", "columns", "messages", "sharegpt", "prompt-completion", "alpaca"]
FORMATS: tuple[DataFormat, ...] = ("auto", "columns", "messages", "sharegpt", "prompt-completion", "alpaca")
_LISTS = ("messages", "conversations", "conversation")
"""Usual names of the column of the turns."""
_TOOLS = ("tools", "functions")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_SYSTEM = "system"
_OTHERS = ("prompt", "completion", "instruction", "output", *_LISTS)
"""Columns of other forms: where a row has those and no conversation, a file mixes forms."""


@dataclass(frozen=True)
class ChatRequest:
    """What is asked of the form of data for generation.

    Args:
        format: One of `FORMATS`.
        system: The system message of what has none itself; null without any.
        hoists: Whether a system message that all conversations share becomes the task's.
        usual: Columns that are looked for before those of usual names.
    """

    format: DataFormat = "auto"
    system: str | None = None
    hoists: bool = True
    usual: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatColumns:
    """The columns of conversations: where the turns are, where the answer, and how turns call their parts."""

    format: DataFormat
    text: str
    target: str
    turns: TurnForm

    def read(self, columns: Sequence[str]) -> list[str]:
        """Return the columns that are read: those, and what would be lost without a word."""
        more = (*_TOOLS, *_MEDIA, _SYSTEM, *_OTHERS)
        return list(dict.fromkeys([self.text, self.target, *(name for name in more if name in columns)]))


def of_columns(text: str, target: str) -> DataFormat:
    """Return what the form of texts in these columns is called."""
    if (text, target) == ("prompt", "completion"):
        return "prompt-completion"
    return "alpaca" if (text.split("+")[0], target) == ("instruction", "output") else "columns"


def said(format_: DataFormat, columns: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the columns that a form of texts says, null where it says none.

    Raises:
        UsageError: The data lack them.
    """
    if format_ == "prompt-completion":
        wanted, text, target = ("prompt", "completion"), "prompt", "completion"
    elif format_ == "alpaca":
        text = "instruction+input" if "input" in columns else "instruction"
        wanted, target = ("instruction", "output"), "output"
    else:
        return None, None
    if missing := [name for name in wanted if name not in columns]:
        raise UsageError(
            f"--format {format_} has a column {missing[0]!r}, and the data have {', '.join(map(repr, columns))}.",
            "--format auto",
        )
    return text, target


def chat_columns(
    columns: Sequence[str], first: Callable[[str], object], request: ChatRequest, *, given: Sequence[str | None]
) -> ChatColumns | None:
    """Return the columns of conversations; null where the data have texts.

    Args:
        columns: Those that there are.
        first: Gives the first cell of a column that has anything in it.
        request: What is asked.
        given: The columns of the texts and of the targets that somebody named, null where nobody did.

    Raises:
        UsageError: The format has no such column, or one column was named too many.
        DataError: The turns are not in that form.
    """
    text, target = given
    format_ = request.format
    if format_ == "columns" or format_ == "alpaca":
        return None
    pair = (text or "prompt", target or "completion")
    if format_ in ("auto", "prompt-completion") and set(pair) <= set(columns):
        turns = [is_turns(first(name)) for name in pair]
        if any(turns):
            if not all(turns):
                lists, texts = pair if turns[0] else pair[::-1]
                raise DataError(
                    f"The column {lists!r} holds lists of messages and {texts!r} does not.",
                    'write both as lists: [{"role": "user", "content": "..."}]',
                )
            return ChatColumns("prompt-completion", *pair, turns=_form(first(pair[0]), pair[0], None))
    if format_ == "prompt-completion":
        return None
    if target is not None:
        if format_ == "auto":
            return None
        raise UsageError(f"--format {format_} has the answers in its turns, and no --target.", "leave out --target")
    usual = _LISTS if format_ != "sharegpt" else ("conversations", "conversation", "messages")
    names = [name for name in ([text] if text else (*request.usual, *usual)) if name in columns]
    wanted: TurnForm | None = None if format_ == "auto" else "messages" if format_ == "messages" else "sharegpt"
    for name in names:
        if is_turns(cell := first(name)):
            found = _form(cell, name, wanted)
            return ChatColumns(found, name, name, found)
    if wanted is None:
        return None
    raise DataError(
        f"The data have no column with a list of turns ({', '.join([text] if text else usual)}); their columns are: "
        f"{', '.join(map(repr, columns))}.",
        "--text COL names it, or --format auto",
    )


def _form(cell: Any, column: str, wanted: TurnForm | None) -> TurnForm:
    found = form_of_turns(cell)
    if found is None:
        raise DataError(
            f"The turns in the column {column!r} have {first_few(map(repr, cell[0]))}, and neither 'role' and "
            "'content' nor 'from' and 'value'.",
            '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
        )
    if wanted is not None and found != wanted:
        raise DataError(f"The turns in the column {column!r} are of the format {found}.", f"--format {found}")
    return found


@dataclass
class ChatRows:
    """All rows of a part of the data, checked; texts and targets are made of the cells when they are asked for."""

    where: str
    table: Table
    columns: ChatColumns
    without_system: str | None = None
    """A system message that the task has, and rows are kept without."""
    counts: Counter[str] = field(default_factory=Counter)
    systems: Counter[str | None] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    orders: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The first row with each order of roles."""
    _latest: tuple[int, tuple[Conversation, str, int]] | None = None

    def __post_init__(self) -> None:
        for at in range(len(self)):
            if self._cells(at)[0] is None:
                self._refuse_mixed(at)
                continue
            self.keys |= other_keys(self._cells(at)[0])
            conversation, _, unanswered = self._row(at)
            self.counts["unanswered"] += bool(unanswered)
            self.systems[conversation.system] += 1
            self.orders.setdefault(tuple(turn.role for turn in conversation.turns), at)

    def __len__(self) -> int:
        return len(self.table.cells[self.columns.text])

    @property
    def texts(self) -> Sequence[Conversation | None]:
        """What each row asks; null where it has nothing."""
        return made(len(self), self._text)

    @property
    def targets(self) -> Sequence[str | None]:
        """The answer of each row."""
        return made(len(self), lambda at: None if self._cells(at)[0] is None else self._row(at)[1])

    def _text(self, at: int) -> Conversation | None:
        if self._cells(at)[0] is None:
            return None
        conversation = self._row(at)[0]
        if conversation.system is not None and conversation.system == self.without_system:
            return Conversation(conversation.turns[1:])
        return conversation

    def _cells(self, at: int) -> tuple[Any, Any]:
        return self.table.cells[self.columns.text][at], self.table.cells[self.columns.target][at]

    def _row(self, at: int) -> tuple[Conversation, str, int]:
        """Return what a row asks, its answer, and how many turns stand behind that."""
        # whoever asks for a row's text asks for its target next
        if self._latest is None or self._latest[0] != at:
            self._latest = (at, self._read_row(at))
        return self._latest[1]

    def _read_row(self, at: int) -> tuple[Conversation, str, int]:
        column = self.columns.text
        try:
            self._refuse_columns(at)
            text, target = self._cells(at)
            turns = self._with_system(read_turns(text, self.columns.turns), at)
            if self.columns.text == self.columns.target:
                return split_answer(turns)
            if turns[-1].role == "assistant":
                raise DataError("ends with a turn of the assistant, which the answer follows", "--format messages")
            conversation = asked(turns)
            column = self.columns.target
            return conversation, _one_answer(read_turns(target, self.columns.turns)), 0
        except DataError as error:
            raise DataError(f"{self.where}, row {at + 1}: column {column!r} {error.message}.", error.hint) from error

    def _with_system(self, turns: list[Turn], at: int) -> list[Turn]:
        cell = self._other(_SYSTEM, at)
        if not isinstance(cell, str) or not cell.strip():
            return turns
        if turns[0].role == "system":
            raise DataError("has a system message, and the column 'system' another", "take one of them out")
        return [Turn("system", cell), *turns]

    def _other(self, column: str, at: int) -> object:
        return self.table.cells[column][at] if column in self.table.cells else None

    def _refuse_columns(self, at: int) -> None:
        for column in _TOOLS:
            if self._other(column, at) not in (None, "", [], "[]"):
                raise DataError(
                    f"has tools beside it (column {column!r}), and tool calls are not learned",
                    "take rows with tool calls out, or that column",
                )
        for column in _MEDIA:
            if self._other(column, at) not in (None, "", []):
                raise DataError(
                    f"has {column} beside it (column {column!r}), and only texts are learned",
                    "take rows with images, sound and films out, or that column",
                )

    def _refuse_mixed(self, at: int) -> None:
        mine = (self.columns.text, self.columns.target)
        others = [name for name in _OTHERS if name not in mine and self._other(name, at) is not None]
        if others:
            raise DataError(
                f"{self.where}, row {at + 1} has no conversation in the column {mine[0]!r}, but "
                f"{first_few(map(repr, others))}: the data mix two forms.",
                "write all rows in one form, or add each form as a task of its own",
            )


def _one_answer(turns: Sequence[Turn]) -> str:
    if len(turns) != 1 or turns[0].role != "assistant":
        raise DataError(
            f"holds {first_few(turn.role for turn in turns)}, and a completion is one turn of the assistant",
            'write the whole conversation as {"messages": [...]}',
        )
    return turns[0].content


def notes_of(parts: Mapping[str, ChatRows], system: str | None) -> list[str]:
    """Say what of conversations is left away, and which have a system message of their own."""
    notes = []
    total = sum(sum(rows.systems.values()) for rows in parts.values())
    if unanswered := sum(rows.counts["unanswered"] for rows in parts.values()):
        notes.append(f"{unanswered} of {total} conversations end with turns that nobody answers, which are left away")
    if keys := set().union(*(rows.keys for rows in parts.values())):
        notes.append(f"what turns say under {first_few(sorted(map(repr, keys)))} is not read")
    if system is not None:
        systems = sum((rows.systems for rows in parts.values()), Counter[str | None]())
        own = total - systems[None] - systems[system]
        if own:
            notes.append(
                f"{own} of {total} conversations have another system message of their own, and keep it: the task's "
                "stands where there is none"
            )
        elif systems[None] and systems[system]:
            notes.append(f"{systems[None]} of {total} conversations have no system message and get the task's")
    return notes


def shared_system(parts: Mapping[str, ChatRows]) -> str | None:
    """Return the system message that every conversation has; null where they differ."""
    systems = {system for rows in parts.values() for system in rows.systems}
    return systems.pop() if len(systems) == 1 else None
