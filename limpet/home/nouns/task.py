"""`home.task`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpet.registry.records import tasks

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.values import TaskRecord

__all__ = ["Tasks"]


class Tasks:
    """`home.task`: datasets with their type, labels, metric and splits."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def add(self, name: str, data: str, **options: Any) -> TaskRecord:
        """Read a dataset, split it and keep it; `options` are the fields of
        `limpet.training.data.task_request.TaskRequest`."""
        from limpet.training.data.build_task import add_task
        from limpet.training.data.task_request import TaskRequest

        return add_task(self._context.store, TaskRequest(name, data, **options))

    def list(self) -> tuple[TaskRecord, ...]:
        """All tasks, oldest first."""
        return tasks.list_all(self._context.store)

    def show(self, name: str) -> TaskRecord:
        """Return one task."""
        return tasks.get(self._context.store, name)

    def majority_baseline(self, name: str) -> float | None:
        """Return the score of the same answer to every text; see
        `limpet.training.data.description.baseline.majority_baseline`."""
        from limpet.training.data.description.baseline import majority_baseline

        return majority_baseline(self._context.store, self.show(name))

    def cut(self, name: str) -> Mapping[str, Mapping[str, int]] | None:
        """Return what of each split is longer than the task's limits, and by how much; see `Lengths.over`.

        It is null where that was not counted yet and the base is not on this machine.
        """
        from limpet.training.data.overlong import cut, find_tokenizer

        record = self.show(name)
        if recorded := record.checks.get("cut"):
            found: Mapping[str, Mapping[str, int]] = recorded
            return found
        tokenizer = find_tokenizer(self._context.store)
        if tokenizer is None:
            return None
        return cut(self._context.store, tokenizer, record, max_length=record.definition.max_length)

    def left_out(self, name: str) -> Sequence[str]:
        """Say what of a task's data is in no split and why, a sentence for each reason; see
        `limpet.training.data.description.removed`."""
        from limpet.training.data.description.removed import left_out

        return left_out(self.show(name))

    def label_notes(self, name: str) -> Sequence[str]:
        """Say what is to be looked at among a task's labels: which may be misspelt, are rare or outweigh others; see
        `limpet.training.data.description.label_notes`."""
        from limpet.training.data.description.label_notes import label_notes

        return label_notes(self.show(name))
