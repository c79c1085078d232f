"""Strategies: the ways to learn a stream, one module each, found by their presence in this folder.

A strategy says what a step begins with, what is learned along, what holds the weights back, and which weights
answer for an earlier task afterwards. Nothing outside its module names it; adding one is one file here and one test.
A module whose name does not begin with `_` offers `STRATEGY`.

All of them learn by the same loop, in the same order of data, with one head for each task, which is trained while its
task is learned and stays as it is from then on (only `joint` learns all heads anew).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from limpet.errors import UsageError
from limpet.forgetting.strategies._context import Context, stage
from limpet.registry.values import Role, TaskRecord

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["Context", "Strategy", "check_task_type", "get", "names", "resolve_settings", "stage"]


class Strategy(Protocol):
    """One way to learn the tasks of a stream."""

    name: str
    summary: str
    role: Role
    """The role of the versions that it makes: what is no `adapter` is never a task's current version."""
    shares_state: bool
    """Whether the newest weights answer for every task; else each task keeps its own."""
    method: str | None
    """The only method that it works with; null where the arm chooses."""
    measures: Literal["baseline", "joint"] | None
    """What other arms are measured against: b of `fwt_gem`, or a* of `intransigence`."""
    learns_all: bool
    """Whether its last step learns every task from the base, so that a sweep needs no other step."""
    task_types: frozenset[str] | None
    """The types of task that it can answer; null where the method alone decides."""
    settings: Mapping[str, Any]
    """Its settings with their defaults, which stand in `set` and `sweep` beside those of the loop and the method."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that make no sense.

        Raises:
            UsageError: A value is out of its range.
        """

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """Learn the task at `index`.

        Args:
            context: The arm, and what it works with.
            index: The step, from 0.
            learned: For every earlier task, in order, what its step left: its head, and the weights it was learned
                with.

        Returns:
            What was learned: the task itself first, then any earlier task that was learned anew.
        """


@cache
def _strategies() -> dict[str, Strategy]:
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    strategies = [importlib.import_module(f"{__name__}.{name}").STRATEGY for name in modules]
    return {strategy.name: strategy for strategy in strategies}


def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    return tuple(sorted(_strategies()))


def get(name: str) -> Strategy:
    """Return the strategy of that name.

    Raises:
        UsageError: There is no such strategy.
    """
    if name not in _strategies():
        close = difflib.get_close_matches(name, names(), n=1)
        raise UsageError(
            f"There is no strategy {name!r}; there are {', '.join(names())}.", f"strategy: {(close or names())[0]}"
        )
    return _strategies()[name]


def check_task_type(strategy: Strategy, task: TaskRecord) -> None:
    """Refuse a task of a type that a strategy can't answer, before anything is learned.

    Raises:
        UsageError: It can't.
    """
    if strategy.task_types is not None and task.definition.type not in strategy.task_types:
        raise UsageError(
            f"The strategy {strategy.name!r} can't answer task {task.name!r} of type {task.definition.type!r}: it is "
            f"for {' and '.join(sorted(strategy.task_types))} alone.",
            f"take the arm with strategy: {strategy.name} out of the stream file",
        )


def resolve_settings(strategy: Strategy, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a strategy's own settings over its defaults, and check them.

    Raises:
        UsageError: A value is of another type or out of its range.
    """
    resolved = dict(strategy.settings)
    for key, value in settings.items():
        kind = type(resolved[key])
        try:
            if isinstance(value, bool):
                raise TypeError
            resolved[key] = kind(value)
        except (TypeError, ValueError):
            raise UsageError(
                f"{key} of strategy {strategy.name!r} must be {kind.__name__}, not {value!r}.",
                f"{key}: {strategy.settings[key]}",
            ) from None
    strategy.check(resolved)
    return resolved
