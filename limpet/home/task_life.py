"""A task gets another name, or is removed, once nothing of the home names it any more that would not follow."""

from __future__ import annotations

from limpet.errors import ConflictError
from limpet.home.context import HomeContext
from limpet.home.status import unfinished_runs
from limpet.registry.cleanup import task_removal
from limpet.registry.cleanup.task_removal import RemovedTask
from limpet.registry.records import renaming, tasks
from limpet.registry.settings import SETTINGS_FILE
from limpet.registry.values import TaskRecord

__all__ = ["remove", "rename"]


def rename(context: HomeContext, old: str, new: str) -> TaskRecord:
    """Give a task another name; arguments and errors as in `limpet.registry.records.renaming.rename`.

    Raises:
        ConflictError: And where rules of the gate name the task, or a training of it has not ended.
    """
    _check_unnamed(context, old, f"write [gate.tasks.{new}] there instead, then run the command again")
    renaming.rename(context.store, old, new)
    return tasks.get(context.store, new)


def remove(context: HomeContext, name: str, reason: str, *, dry_run: bool = False) -> RemovedTask:
    """Remove a task with its versions; arguments and errors as in `limpet.registry.cleanup.task_removal.remove`.

    Raises:
        ConflictError: And where rules of the gate name the task, or a training of it has not ended.
    """
    check = task_removal.check_removable(context.store, name, reason)
    _check_unnamed(context, name, "take its table out there, then run the command again")
    return check if dry_run else task_removal.remove(context.store, name, reason)


def _check_unnamed(context: HomeContext, name: str, hint: str) -> None:
    """Check that nothing outside the database names a task: it would lose its meaning without a word."""
    from limpet.forgetting.gate.parse import read_rules

    store = context.store
    if name in read_rules(store.path).tasks:
        raise ConflictError(
            f"[gate.tasks.{name}] in {store.path / SETTINGS_FILE} has rules of the task {name!r}, which would no "
            "longer hold for it.",
            hint,
        )
    if name in unfinished_runs(store.path).tasks:
        raise ConflictError(
            f"A training of {name!r} goes on, or was interrupted, and names the task in {store.path / 'runs'}.",
            f"limpet train {name} --resume ends it; or remove its folder there",
        )
