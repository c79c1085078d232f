"""Another name for a task: what it was called before stays its own, so that no name ever means two tasks.

A version keeps its digest and its manifest, in which its task has the name of that time.
"""

from __future__ import annotations

from limpet.errors import ConflictError
from limpet.names import check_name
from limpet.registry.records import log
from limpet.registry.records.rows import current_names, find_task, names_of, recorded_task
from limpet.registry.store import Store

__all__ = ["rename"]


def rename(store: Store, old: str, new: str, *, dry_run: bool = False) -> None:
    """Give a task another name, which is free or was its own before; renamed so already, it stays as it is.

    Args:
        store: The open home.
        old: What the task is called now.
        new: What it is called from here on.
        dry_run: Only find out whether it can be.

    Raises:
        ConflictError: Another task has the name, had it before, or was removed under it.
        NotFoundError: There is no such task.
        UsageError: The name is not on the allow-list.
    """
    check_name("task", new)
    with store.database.read() if dry_run else store.database.write("task rename") as session:
        # a command that died after its commit is typed again
        if current_names(session).get(old) == new:
            return
        task = find_task(session, old)
        known = names_of(task.name, task.former_names)
        if new not in known and recorded_task(session, new) is not None:
            raise ConflictError(f"There is a task {new!r} already.", "choose another name")
        if new == old or dry_run:
            return
        task.name, task.former_names = new, " ".join(known)
        log.record(session, "task rename", new, detail={"from": old})
