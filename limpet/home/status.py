"""One screen of a home: its base, what serves each task, what was added last, and what is due.

It reads the database and the names of files; no library of models is imported for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import LimpetError, NotFoundError
from limpet.first_few import first_few
from limpet.forgetting.mlflow_mirror import sent_items, state
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.cleanup.gc import collect
from limpet.registry.formats.html_table import html_table
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import alarms, bases, streams, tasks
from limpet.registry.settings import DEFAULT_BASE
from limpet.registry.versions import listing
from limpet.registry.versions.serving import TaskInService, serving_summary

if TYPE_CHECKING:
    from limpet.registry.store import Store
    from limpet.registry.values import BaseRecord, VersionRecord

__all__ = ["Due", "HomeStatus", "LookedBack", "UnfinishedRuns", "read_status", "unfinished_runs"]

_ADDITIONS = 5
_LITTLE = 1_000_000


@dataclass(frozen=True)
class Due:
    """Something that waits for somebody: what kind it is of, a sentence, and what to type next."""

    kind: str
    detail: str
    hint: str


@dataclass(frozen=True)
class LookedBack:
    """The monitor's mode by the home's settings, and how the last addition looked back at the earlier tasks.

    `audited` are the tasks whose score an audit carried forward then, `evaluated` those that were evaluated;
    `after` is the version that was added, null where the home has grown by none.
    """

    mode: str
    after: str | None = None
    evaluated: tuple[str, ...] = ()
    audited: tuple[str, ...] = ()
    not_evaluated: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return it for people."""
        if self.after is None or not (self.evaluated or self.audited or self.not_evaluated):
            return self.mode
        counted = (
            ("evaluated", self.evaluated),
            ("audited", self.audited),
            ("not evaluated", self.not_evaluated),
        )
        told = ", ".join(f"{len(names)} {what}" for what, names in counted if names)
        return f"{self.mode}; of the other tasks, after {self.after}: {told}"


@dataclass(frozen=True)
class HomeStatus:
    """A home at a glance.

    `base_name` is what the settings say, `base` its record, null until it was fetched for the first time. `tasks`
    have what serves each, in the order in which they were added; `additions` are the newest versions. `monitor` says
    what an addition does about the earlier tasks, and what the last one did.
    """

    path: Path
    base_name: str
    base: BaseRecord | None
    tasks: tuple[TaskInService, ...]
    additions: tuple[VersionRecord, ...]
    due: tuple[Due, ...]
    monitor: LookedBack

    def _repr_html_(self) -> str:
        served = (
            (
                task.task,
                task.version and task.version.reference,
                task.score,
                task.metric,
                task.change and task.change.sentence(),
            )
            for task in self.tasks
        )
        home = html_table(f"{self.path}, on {self.base_name}", ("task", "serves", "score", "metric", "since"), served)
        if not self.due:
            return home
        return home + html_table("due", ("how it is", "what to type"), ((due.detail, due.hint) for due in self.due))

    def to_json(self) -> JsonObject:
        """Return it as JSON, with versions by their references."""
        return {
            "home": str(self.path),
            "base": {"name": self.base_name, "digest": self.base and self.base.digest},
            "monitor": vars(self.monitor),
            "tasks": [_task_json(task) for task in self.tasks],
            "additions": [
                {
                    "version": version.reference,
                    "method": version.method,
                    "score": version.metrics.get("score"),
                    "created_at": version.created_at,
                }
                for version in self.additions
            ],
            "due": [{"kind": due.kind, "detail": due.detail, "hint": due.hint} for due in self.due],
        }


@dataclass(frozen=True)
class UnfinishedRuns:
    """Training that was interrupted, or goes on now: the tasks, and records of runs that can't be read."""

    tasks: tuple[str, ...]
    unreadable: tuple[Path, ...]


def read_status(store: Store) -> HomeStatus:
    """Return a home at a glance; nothing is changed."""
    try:
        base = bases.get(store)
    except LimpetError:
        base = None
    in_service = serving_summary(store)
    additions = listing.find(store, limit=_ADDITIONS).items
    due = tuple(_due(store, in_service))
    name = store.settings.base or DEFAULT_BASE
    return HomeStatus(store.path, name, base, in_service, additions, due, _looked_back(store, in_service))


def _looked_back(store: Store, in_service: tuple[TaskInService, ...]) -> LookedBack:
    """Read from the last step of the home's own growth what was done about what answers for the other tasks."""
    mode = store.settings.monitor or "full"
    if all(stream.name != streams.HOME_STREAM for stream in streams.list_all(store)):
        return LookedBack(mode)
    last = [streams.last_step(store, run.id) for run in streams.arm_runs(store, streams.HOME_STREAM)]
    step = next((step for step in last if step is not None), None)
    if step is None:
        return LookedBack(mode)
    cells = {task: cell.kind for task, cell in step.row.items() if task != step.task}
    others = [task.task for task in in_service if task.version is not None and task.task != step.task]
    return LookedBack(
        mode,
        step.version,
        tuple(task for task, kind in cells.items() if kind == "full"),
        tuple(task for task, kind in cells.items() if kind == "carried"),
        tuple(task for task in others if task not in cells),
    )


def unfinished_runs(path: Path) -> UnfinishedRuns:
    """Return the training runs of the home in this folder that have not ended."""
    names, unreadable = set(), []
    for file in sorted((path / "runs").glob("*/run.json")):
        try:
            names.add(str(json.loads(file.read_text(encoding="utf-8"))["task"]))
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(file)
    return UnfinishedRuns(tuple(sorted(names)), tuple(unreadable))


def _due(store: Store, in_service: tuple[TaskInService, ...]) -> Iterator[Due]:
    for alarm in alarms.open_alarms(store):
        yield Due("alarm", alarm.sentence(), f"limpet evaluate {alarm.version} --accept --reason TEXT")
    for name in unfinished_runs(store.path).tasks:
        yield Due("run", f"training of {name} is unfinished, or goes on now", f"limpet train {name} --resume")
    for task in in_service:
        if task.version is None:
            yield Due("task", f"{task.task} was never learned", f"limpet train {task.task}")
        else:
            yield from _revision_due(store, task.version)
    yield from _mirror_due(store)
    yield from _garbage_due(store)


def _revision_due(store: Store, version: VersionRecord) -> Iterator[Due]:
    try:
        newest, learned = tasks.get(store, version.task), tasks.of_version(store, version)
    except NotFoundError:
        return
    if newest.revision > learned.revision:
        yield Due(
            "revision",
            f"{newest.reference} is newer than what serves: {version.reference} was learned on {learned.reference}",
            f"limpet train {version.task} --from {version.reference}",
        )


def _mirror_due(store: Store) -> Iterator[Due]:
    stands = state.read(store)
    # a process that works on it now sends everything
    if store.settings.mlflow == "off" or stands.running:
        return
    if warning := stands.warning():
        yield Due("mirror", warning, "limpet ui --sync")
    elif unsent := sent_items.unsent_versions(store):
        verb = "is" if len(unsent) == 1 else "are"
        yield Due("mirror", f"{first_few(unsent, 3)} {verb} not in the MLflow mirror yet", "limpet ui --sync")


def _garbage_due(store: Store) -> Iterator[Due]:
    # a store on a server would be listed for seconds
    if not isinstance(store.blobs, LocalBlobs):
        return
    try:
        garbage = collect(store, dry_run=True)
    except LimpetError as error:
        yield Due("gc", error.message, error.hint)
        return
    if garbage.bytes >= _LITTLE or garbage.versions:
        going = f" and lets {len(garbage.versions)} versions go by retention" if garbage.versions else ""
        yield Due("gc", f"limpet gc frees {garbage.bytes / 1e6:.1f} MB{going}", "limpet gc")


def _task_json(task: TaskInService) -> JsonObject:
    change, gate = task.change, task.gate
    return {
        "task": task.task,
        "type": task.type,
        "metric": task.metric,
        "version": task.version and task.version.reference,
        "promoted": task.promoted,
        "score": task.score,
        "change": None if change is None else {**vars(change), "sentence": change.sentence()},
        "gate": None if gate is None else {**vars(gate), "sentence": gate.sentence()},
        "alarm": None if task.alarm is None else task.alarm.sentence(),
    }
