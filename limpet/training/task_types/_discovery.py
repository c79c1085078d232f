"""The types of task that there are: each module of this folder whose name does not begin with `_` offers one."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from limpet.errors import UsageError
from limpet.training.task_types._base import TaskType

__all__ = ["every", "names", "task_type"]

_MEANT = {
    "entities": "token-classification",
    "multilabel": "multi-label",
    "ner": "token-classification",
    "pos": "token-classification",
    "seq2seq": "generation",
    "sft": "generation",
    "summarization": "generation",
    "tagging": "token-classification",
}
"""What others call a type of task."""
_PACKAGE = __name__.rpartition(".")[0]


@cache
def _types() -> dict[str, TaskType[Any]]:
    kinds = [
        importlib.import_module(f"{_PACKAGE}.{module.name}").TASK_TYPE
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if not module.name.startswith("_")
    ]
    # the commonest first
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: (kind.name != "classification", kind.name))}


def names() -> tuple[str, ...]:
    """The names of all types of task, classification first."""
    return tuple(_types())


def every() -> tuple[TaskType[Any], ...]:
    """All types of task."""
    return tuple(_types().values())


def task_type(name: str) -> TaskType[Any]:
    """Return the task type called `name`.

    Raises:
        UsageError: No such type works.
    """
    if name not in _types():
        raise UsageError(
            f"Tasks of type {name!r} are not available; the types that work are: {', '.join(names())}.",
            f"--type {_nearest(name)}",
        )
    return _types()[name]


def _nearest(name: str) -> str:
    typed = name.casefold()
    return _MEANT.get(typed) or next(iter(get_close_matches(typed, names(), n=1)), names()[0])
