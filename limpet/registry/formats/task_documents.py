"""What the documents of a task and of its versions look like, by the type of task: lines of splits, heads, probes.

The registry computes nothing, but what it takes in and what it verifies must have the form of its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FORMS", "Form", "has_tensors", "head_problem", "outputs_problem", "row_problem"]


_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Form:
    """The form of one type of task.

    Args:
        key: Where a split's line has its target.
        text: Tells whether a value is a text as this type has it.
        target: Tells whether a value is a target of a text, under a label map.
        labels: The labels that a line has, as often as it has them; sums of them are the split's counts.
        outputs: How many numbers a probe has for each input, by the number of labels; null where it may be any.
        tensors: Whether a head has tensors of its own.
    """

    key: str
    text: Callable[[object], bool]
    target: Callable[[Any, Any, Sequence[str]], bool]
    labels: Callable[[Any, Sequence[str]], Sequence[str]]
    outputs: Callable[[int], int | None]
    tensors: bool = True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_words(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_asked(value: object) -> bool:
    """Tell whether a value is a text, or a conversation: messages that end with what a user asks."""
    if not isinstance(value, list):
        return isinstance(value, str)
    return (
        bool(value)
        and all(isinstance(turn, dict) and set(turn) == {"role", "content"} for turn in value)
        and all(turn["role"] in _ROLES and isinstance(turn["content"], str) for turn in value)
        and value[-1]["role"] == "user"
    )


def _is_id(value: object, labels: Sequence[str]) -> bool:
    # a bool is an int to Python
    return type(value) is int and 0 <= value < len(labels)


def _are_ids(value: object, labels: Sequence[str]) -> bool:
    return isinstance(value, list) and all(_is_id(one, labels) for one in value) and value == sorted(set(value))


def _are_tags(value: object, words: Sequence[str], labels: Sequence[str]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(words)
        and all(isinstance(tag, str) and tag in labels for tag in value)
    )


FORMS: dict[str, Form] = {
    "classification": Form(
        key="label",
        text=_is_text,
        target=lambda value, text, labels: _is_id(value, labels),
        labels=lambda value, labels: (labels[value],),
        outputs=lambda labels: labels,
    ),
    "regression": Form(
        key="target",
        text=_is_text,
        target=lambda value, text, labels: type(value) is float and math.isfinite(value) and not labels,
        labels=lambda value, labels: (),
        outputs=lambda labels: 1,
    ),
    "multi-label": Form(
        key="labels",
        text=_is_text,
        target=lambda value, text, labels: _are_ids(value, labels),
        labels=lambda value, labels: [labels[one] for one in value],
        outputs=lambda labels: labels,
    ),
    "token-classification": Form(
        key="tags",
        text=_are_words,
        target=_are_tags,
        labels=lambda value, labels: value,
        outputs=lambda labels: labels,
    ),
    "generation": Form(
        key="target",
        text=_is_asked,
        target=lambda value, text, labels: isinstance(value, str) and not labels,
        labels=lambda value, labels: (),
        outputs=lambda labels: None,
        tensors=False,
    ),
}
"""The form of every type of task, by its name."""


def has_tensors(kind: str) -> bool:
    """Tell whether heads of a type of task have tensors of their own."""
    return FORMS[kind].tensors if kind in FORMS else True


def row_problem(kind: str, row: object, labels: Sequence[str]) -> str:
    """Say what is wrong with a line of a split: `example`, `label`; nothing where it is sound."""
    form = FORMS[kind]
    if not isinstance(row, dict) or not form.text(row.get("text")):
        return "is no example"
    if set(row) != {"text", form.key} or not form.target(row[form.key], row["text"], labels):
        return f"has no {'label' if form.key == 'label' else 'target'} of the task"
    return ""


def head_problem(kind: str, content: object, labels: Sequence[str]) -> str:
    """Say what is wrong with a head's configuration; nothing where it is that of a head of the task."""
    if not isinstance(content, dict):
        return "it is not a JSON object"
    if content.get("labels") != len(labels):
        return f"it has {content.get('labels')!r} labels, and the manifest {len(labels)}"
    if isinstance(content.get("type"), str) and content["type"] != kind:
        return f"it is of type {content['type']!r}, and the task of type {kind!r}"
    return ""


def outputs_problem(kind: str, logits: Sequence[Sequence[float]], labels: Sequence[str]) -> str:
    """Say what is wrong with the width of a probe's rows; nothing where it is that of the task."""
    form = FORMS.get(kind)
    wanted = form.outputs(len(labels)) if form else len(labels)
    width = len(logits[0])
    if wanted is None or width == wanted:
        return ""
    if wanted != len(labels):
        return f"it has {width} logits for each input, and tasks of type {kind!r} {wanted}"
    return f"it has {width} logits for each input, and the manifest {len(labels)} labels"
