"""The turns of a conversation as data have them: a list of messages, checked turn by turn.

OpenAI's and transformers' form has `role` and `content`, ShareGPT's `from` and `value`. What a conversation of texts
can't hold (tool calls, images) is refused by its name, so that nothing is learned as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from limpet.errors import DataError
from limpet.first_few import first_few
from limpet.training.batching.examples import Conversation, Turn

__all__ = ["TurnForm", "asked", "form_of_turns", "is_turns", "other_keys", "read_turns", "split_answer"]

TurnForm = Literal["messages", "sharegpt"]
"""How the parts of a turn are called."""
_KEYS: dict[TurnForm, tuple[str, str]] = {"messages": ("role", "content"), "sharegpt": ("from", "value")}
_ROLES = {
    "messages": {"system": "system", "user": "user", "assistant": "assistant"},
    "sharegpt": {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "assistant": "assistant",
    },
}
_OF_TOOLS = ("tool", "function", "ipython", "function_call", "function_response", "tool_call", "observation")
_TOOL_KEYS = ("tool_calls", "tool_call_id", "function_call")
_TOOL_HINT = "take rows with tool calls out, or write what they gave into the user's turn"
_MEDIA = ("image", "audio", "video", "file")
_MEDIA_HINT = "take rows with images, sound and files out: a base reads texts here"


def is_turns(cell: object) -> bool:
    """Tell whether a cell holds a list of turns."""
    return isinstance(cell, list | tuple) and bool(cell) and all(isinstance(turn, Mapping) for turn in cell)


def form_of_turns(cell: Sequence[Mapping[str, object]]) -> TurnForm | None:
    """Return how a list of turns calls their parts, as its first turn says; null where it is no such form."""
    return next((form for form, keys in _KEYS.items() if set(keys) <= set(cell[0])), None) or next(
        (form for form, keys in _KEYS.items() if set(keys) & set(cell[0])), None
    )


def other_keys(cell: object) -> set[str]:
    """Return what the turns of a cell say beside who says what, where it says anything."""
    known = {key for keys in _KEYS.values() for key in keys}
    turns = cell if isinstance(cell, list | tuple) else ()
    return {
        str(key)
        for turn in turns
        if isinstance(turn, Mapping)
        for key, value in turn.items()
        if key not in known and value is not None
    }


def read_turns(cell: object, form: TurnForm) -> list[Turn]:
    """Return the turns of a cell.

    Args:
        cell: The cell.
        form: How the parts of a turn are called.

    Raises:
        DataError: It is no list of turns, or one of them can't be read.
    """
    key = _KEYS[form][0]
    if not isinstance(cell, list | tuple) or not cell:
        what = "an empty list" if isinstance(cell, list | tuple) else f"{type(cell).__name__}"
        raise DataError(f"holds {what}, not a list of turns", _example(form))
    turns = [_turn(part, number, form) for number, part in enumerate(cell, 1)]
    systems = [number for number, turn in enumerate(turns, 1) if turn.role == "system"]
    if len(systems) > 1:
        raise DataError(
            f"has {len(systems)} system messages (turns {first_few(map(str, systems))})",
            "write them as one, or take one out",
        )
    if systems and systems != [1]:
        raise DataError(f"has its system message as turn {systems[0]}", f"write the turn of the {key} 'system' first")
    return turns


def split_answer(turns: Sequence[Turn]) -> tuple[Conversation, str, int]:
    """Return what is asked, the last answer, and how many turns behind that are left away: nobody answers them.

    Raises:
        DataError: No turn is the assistant's, or what stands before the last of them is no question.
    """
    answers = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise DataError(
            "has no turn of the assistant: there is no answer to learn", "write the answer as its last turn"
        )
    last = answers[-1]
    return asked(turns[:last], before="the last answer"), turns[last].content, len(turns) - last - 1


def asked(turns: Sequence[Turn], *, before: str = "an answer") -> Conversation:
    """Return what is asked for an answer: turns of which the last is a user's.

    Args:
        turns: The turns.
        before: What follows them, for messages.

    Raises:
        DataError: The last one is another's, or two answers stand behind each other.
    """
    roles = [turn.role for turn in turns]
    if "user" not in roles:
        raise DataError(
            f"has no user's turn before {before}: nothing is asked", "write what is asked as a user's turn"
        )
    for number, (first, second) in enumerate(pairwise([*roles, "assistant"]), 1):
        if first == second == "assistant":
            raise DataError(
                f"has two turns of the assistant behind each other (from turn {number} on)",
                "write them as one turn, or put what the user said between them",
            )
    return Conversation(tuple(turns))


def _turn(part: object, number: int, form: TurnForm) -> Turn:
    key, value = _KEYS[form]
    if not isinstance(part, Mapping):
        raise DataError(f"holds {type(part).__name__} as turn {number}, not a table", _example(form))
    _refuse_tools(part, number, key=key)
    other = next(keys for name, keys in _KEYS.items() if name != form)
    if part.get(key) is None and all(part.get(name) is not None for name in other):
        raise DataError(
            f"mixes two forms: turn {number} has {other[0]!r} and {other[1]!r}, others {key!r} and {value!r}",
            "write all turns in one form",
        )
    if part.get(key) is None:
        raise DataError(f"has no {key!r} in turn {number}", _example(form))
    role = part[key]
    if not isinstance(role, str) or role not in _ROLES[form]:
        raise DataError(
            f"has the unknown {key} {role!r} in turn {number}", f"known are {', '.join(_ROLES[form])}: rename it"
        )
    content = _content(part.get(value), number, value=value)
    if not content.strip() and _ROLES[form][role] != "system":
        whose = "answer of the assistant" if _ROLES[form][role] == "assistant" else "turn of the user"
        raise DataError(f"has an empty {whose} (turn {number})", "write what is said there, or take the row out")
    return Turn(_ROLES[form][role], content)


def _refuse_tools(part: Mapping[str, object], number: int, *, key: str) -> None:
    if calls := next((name for name in _TOOL_KEYS if part.get(name)), None):
        raise DataError(f"has tool calls ({calls!r}) in turn {number}, which are not learned", _TOOL_HINT)
    if part.get(key) in _OF_TOOLS:
        raise DataError(
            f"has a turn of a tool ({key} {part[key]!r}, turn {number}): tool calls are not learned", _TOOL_HINT
        )


def _content(content: object, number: int, *, value: str) -> str:
    """Return what a turn says: a text, or texts that are put together a line each."""
    if isinstance(content, str):
        return content
    if content is None:
        raise DataError(f"has no {value!r} in turn {number}", "write what is said there, or take the row out")
    if not isinstance(content, list | tuple):
        raise DataError(
            f"holds {type(content).__name__} as {value!r} of turn {number}, not a text", "write it as a text"
        )
    lines = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, Mapping) and kind == "text" and isinstance(part.get("text"), str):
            lines.append(str(part["text"]))
            continue
        if isinstance(part, str):
            lines.append(part)
            continue
        if media := next((name for name in _MEDIA if name in str(kind)), None):
            article = "an" if media[0] in "ai" else "a"
            raise DataError(f"has {article} {media} in turn {number} (a part of the type {kind!r})", _MEDIA_HINT)
        raise DataError(
            f"has a part of the type {kind!r} in turn {number}, which is no text",
            'write {"type": "text", "text": "..."}, or a text alone',
        )
    return "\n".join(lines)


def _example(form: TurnForm) -> str:
    key, value = _KEYS[form]
    user, assistant = ("user", "assistant") if form == "messages" else ("human", "gpt")
    return f'[{{"{key}": "{user}", "{value}": "a question"}}, {{"{key}": "{assistant}", "{value}": "its answer"}}]'
