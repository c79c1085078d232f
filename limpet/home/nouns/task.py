"""`home.task`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from limpet.home.public import public
from limpet.loading import loading
from limpet.registry import versions
from limpet.registry.records import tasks
from limpet.registry.versions import VersionQuery

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.cleanup.task_removal import RemovedTask
    from limpet.registry.values import TaskRecord
    from limpet.training.data.overlong import Overlong
    from limpet.training.data.reading.chat_forms import DataFormat
    from limpet.training.data.rows import Row
    from limpet.training.data.splitter import NearDuplicates
    from limpet.training.data.task_diff import TaskDifference
    from limpet.training.evaluation.suspects import Suspects
    from limpet.training.progress import Progress

__all__ = ["RevisionOptions", "TaskOptions", "Tasks"]


class RevisionOptions(TypedDict, total=False):
    """What `home.task.revise` takes beside the data; what is left out is as in the revision before.

    `text_column` and `target_column` name columns, `labels` the order of the labels (new ones stand last by default);
    `train_size` and `eval_size` say how many of the new rows are trained and evaluated on.
    """

    text_column: str | None
    target_column: str | None
    labels: Sequence[str] | None
    train_size: int | None
    eval_size: int | None


class TaskOptions(TypedDict, total=False):
    """What `home.task.add` takes beside the task's name and data: the fields of
    `limpet.training.data.task_request.TaskRequest`; null finds a thing out of the data, or takes the usual."""

    type: str
    text_column: str | None
    target_column: str | None
    metric: str | None
    train_size: int | None
    eval_size: int | None
    split_seed: int
    max_length: int | None
    prompt: str | None
    max_new_tokens: int | None
    labels: Sequence[str] | None
    near_duplicates: NearDuplicates
    overlong: Overlong
    format: DataFormat
    system: str | None
    chat_template: str | None


@public("home.task")
class Tasks:
    """`home.task`: datasets with their type, labels, metric and splits."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def add(self, name: str, data: object, **options: Unpack[TaskOptions]) -> TaskRecord:
        """Read a dataset, split it and keep it.

        Args:
            name: The task's name.
            data: A data SPEC or a path; or rows: a list of dicts, a pandas DataFrame, a `datasets` Dataset or
                DatasetDict, or a dict with such under `train` and, if there are any, `evaluation` and `validation`.
                Rows are kept in the home by their digest, and the task's SPEC is `memory:` with that digest.
            **options: See `TaskOptions`.

        Raises:
            ConflictError: Another task has this name.
            DataError: The data can't serve as such a task.
            NotFoundError: There is no such data.
            UsageError: An argument is wrong, or the data has another form.
        """
        from limpet.training.data.build_task import add_task
        from limpet.training.data.reading.given import given_data
        from limpet.training.data.task_request import TaskRequest

        store = self._context.store
        return add_task(store, TaskRequest(name, given_data(store, data), **options))

    def revise(
        self, name: str, data: object, *, progress: Progress | None = None, **options: Unpack[RevisionOptions]
    ) -> TaskRecord:
        """Make the next revision of a task out of more rows, corrected targets or new labels.

        `data` may have all rows again or only those that are new or corrected: a text that the task has already keeps
        its place, and takes the target that it has now. What was evaluated on stays; where its targets were
        corrected, every evaluation that is kept is scored anew. New rows for evaluation are a split of their own.

        Args:
            name: The task.
            data: A data SPEC, a path or rows, as in `add`.
            progress: Receives what could not be scored anew.
            options: See `RevisionOptions`.

        Returns:
            The revision; the newest there is where the data change nothing.

        Raises:
            NotFoundError: There is no such task or data.
            DataError: The data can't serve as such a task.
        """
        with loading():
            from limpet.forgetting.monitor.rescoring import rescore
            from limpet.training.data.reading.given import given_data
            from limpet.training.data.revise_task import RevisionRequest, revise_task
            from limpet.training.progress import SILENT

        store = self._context.store
        record = revise_task(store, RevisionRequest(name, given_data(store, data), **options))
        # also where nothing changed: it may have been interrupted here before
        rescore(store, record, progress or SILENT)
        return record

    def revisions(self, name: str) -> tuple[TaskRecord, ...]:
        """Return every revision of a task, the oldest first."""
        return tasks.revisions(self._context.store, name)

    def learned_on(self, name: str) -> dict[int, list[str]]:
        """Return, by the number of each revision of a task, the versions that were learned on it."""
        learned: dict[str, list[str]] = {}
        cursor = None
        while True:
            query = VersionQuery(task=name, sort="number")
            page = versions.find(self._context.store, query, limit=1000, cursor=cursor)
            for version in page.items:
                learned.setdefault(version.data_digest, []).append(version.reference)
            if (cursor := page.cursor) is None:
                break
        return {record.revision: learned.get(record.data_digest, []) for record in self.revisions(name)}

    def diff(self, a: str, b: str) -> TaskDifference:
        """Return what tells two revisions apart, `name@r1` and `name@r2`; see `limpet.training.data.task_diff`."""
        from limpet.training.data.task_diff import compare_tasks

        store = self._context.store
        return compare_tasks(store, tasks.get(store, a), tasks.get(store, b))

    def list(self) -> tuple[TaskRecord, ...]:
        """All tasks, oldest first."""
        return tasks.list_all(self._context.store)

    def show(self, name: str) -> TaskRecord:
        """Return one task in its newest revision, or in the one of `name@r2`."""
        return tasks.get(self._context.store, name)

    def rename(self, old: str, new: str) -> TaskRecord:
        """Give a task another name; see `limpet.registry.records.renaming`."""
        from limpet.home.task_life import rename

        return rename(self._context, old, new)

    def remove(self, name: str, reason: str, *, dry_run: bool = False) -> RemovedTask:
        """Remove a task with its versions; with `dry_run`, only say what it would be or why it can't be.

        See `limpet.registry.cleanup.task_removal`.
        """
        from limpet.home.task_life import remove

        return remove(self._context, name, reason, dry_run=dry_run)

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

    def examples(self, name: str, split: str = "train", most: int = 3) -> Mapping[str, Sequence[Row]]:
        """Return a few rows of each label of a task's split; see `limpet.training.data.rows`."""
        from limpet.training.data.rows import examples_of_labels

        return examples_of_labels(self._context.store, self.show(name), split, most=most)

    def rows(self, version: str, split: str = "train", *, first: int = 1) -> Iterator[Row]:
        """Give the rows that a version was learned on, or those of another split of the same data.

        Args:
            version: The version, `task@3` or `task@alias`.
            split: `train`, `validation`, `evaluation`, or what a revision added for evaluation.
            first: The row to begin with, from 1.

        Raises:
            NotFoundError: There is no such version or split.
        """
        from limpet.training.data.rows import read_rows

        store = self._context.store
        return read_rows(store, tasks.of_version(store, versions.look_up(store, version)), split, first=first)

    def suspects(self, name: str, *, progress: Progress | None = None) -> Suspects:
        """Return the training examples that are likely to be labelled wrongly; see
        `limpet.training.evaluation.suspects`.

        Raises:
            UsageError: The texts of such a task have no labels of their own.
        """
        from limpet.training.evaluation.suspects import check_suspectable, find_suspects
        from limpet.training.progress import SILENT

        record, progress = self.show(name), progress or SILENT
        # before the base is loaded
        check_suspectable(record)
        return find_suspects(self._context.store, self._context.backbone(progress), record, progress=progress)
