"""`home.task`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.registry import tasks

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import TaskRecord

__all__ = ["Tasks"]


class Tasks:
    """`home.task`: datasets with their type, labels, metric and splits."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def add(self, name: str, data: str, **options: Any) -> TaskRecord:
        """Read a dataset, split it and keep it; `options` are those of `limpet.training.data.build_task`."""
        from limpet.training.data import add_task

        return add_task(self._home.store, name, data, **options)

    def list(self) -> tuple[TaskRecord, ...]:
        """All tasks, oldest first."""
        return tasks.list_all(self._home.store)

    def show(self, name: str) -> TaskRecord:
        """Return one task."""
        return tasks.get(self._home.store, name)
