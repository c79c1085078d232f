"""General ability: what the base can do beside the stream's tasks, before anything is learned and after every step.

An ability task is asked on data that the stream does not learn. After a step it is asked under the weights that the
step left: those that answer for all tasks where an arm shares them, the step's own adapter where each task has one.
An arm of adapters is also asked at its end what each adapter does to a task that is not its own, and what the base
alone is.

Everything found is kept once, under what decides it; asked again, it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limpet.errors import UsageError
from limpet.forgetting.monitor.monitor import Measured, Part, measure
from limpet.forgetting.stream.stream_file import AbilitySpec, parse_stream
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import general_ability, tasks
from limpet.registry.store import Store
from limpet.registry.values import AbilityDraft, AbilityRecord, StreamRecord, TaskRecord, VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation import general_ability as ability
from limpet.training.evaluation.general_ability import AbilityTask, Answers, Question
from limpet.training.generation.demonstrations import DEFAULT_TEMPLATE
from limpet.training.model.task_model import Answering, version_files
from limpet.training.progress import SILENT, Progress

__all__ = [
    "Where",
    "adapter_question",
    "ask",
    "compare_adapters",
    "other_adapter",
    "ability_task_of",
    "ability_tasks_of",
    "recall",
]


@dataclass(frozen=True)
class Where:
    """Under which versions a question is asked, by reference; see `AbilityRecord`."""

    state: str | None = None
    head: str | None = None
    after: str | None = None


def ability_task_of(
    backbone: Backbone, spec: AbilitySpec, task: TaskRecord | None, *, learned: Sequence[TaskRecord]
) -> Question:
    """Return an ability task as it is asked.

    Args:
        backbone: The base in memory.
        spec: The ability task as the stream file has it.
        task: Its task; null where it is of the evaluation harness.
        learned: The tasks that the stream learns.

    Raises:
        UsageError: The base can't answer it, or the stream learns its data.
    """
    if task is None:
        assert spec.harness is not None
        ability.check(backbone, spec.harness)
        return spec.harness
    data = task.definition.data
    for other in learned:
        if _overlap(data, other.definition.data):
            raise UsageError(
                f"The ability task {spec.kind!r} on {task.name!r} asks about {data}, which the stream learns as "
                f"{other.name!r}.",
                "name data that is held back",
            )
    ability_task = _ability_task(spec, task)
    ability.check(backbone, ability_task)
    return ability_task


def ability_tasks_of(store: Store, stream: StreamRecord) -> tuple[Question, ...]:
    """Return the ability tasks that a stream asks; none where its file has none.

    Raises:
        NotFoundError: An ability task is not there, as in a stream that was stopped before its first minute.
    """
    if "ability" not in stream.spec:
        return ()
    specs = parse_stream(stream.spec).ability
    return tuple(
        spec.harness or _ability_task(spec, tasks.as_of(store, spec.task.name, stream.created_at)) for spec in specs
    )


def _ability_task(spec: AbilitySpec, task: TaskRecord) -> AbilityTask:
    assert spec.size is not None
    return AbilityTask(
        kind=spec.kind,
        task=task,
        size=spec.size,
        template=spec.options.get("template", DEFAULT_TEMPLATE),
        words=spec.options.get("label_words", ""),
    )


def _overlap(one: str, other: str) -> bool:
    """Tell whether two data SPECs share rows, as `sample:20newsgroups` and `sample:20newsgroups/rec` do."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def ask(
    store: Store,
    backbone: Backbone,
    ability_task: Question,
    *,
    state: VersionRecord | None,
    after: VersionRecord | None = None,
    progress: Progress = SILENT,
) -> AbilityRecord:
    """Ask an ability task, unless it was asked, and keep the answers.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        ability_task: The question.
        state: The version whose weights are on the base; null for the base alone.
        after: Where the base alone is asked again: the version that was taken off it last.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    where = Where(state=state.reference if state else None, after=after.reference if after else None)
    kept = recall(store, ability_task.identity, backbone.record.digest, where=where)
    if kept is not None:
        return kept
    weights = (state.method, version_files(store, backbone, state)) if state else None
    answers = ability.ask(store, backbone, ability_task, weights=weights, progress=progress)
    return _keep(store, backbone, ability_task.identity, where=where, metric=ability_task.metric, answers=answers)


def recall(store: Store, question: dict[str, Any], base_digest: str, *, where: Where) -> AbilityRecord | None:
    """Return what was found of a question; null where it was not asked."""
    return general_ability.find(store, question, base_digest, head=where.head, state=where.state, after=where.after)


def _keep(
    store: Store,
    backbone: Backbone,
    question: dict[str, Any],
    *,
    where: Where,
    metric: str,
    answers: Answers | Measured,
) -> AbilityRecord:
    content = {"schema": 1, "predictions": answers.outcome.predictions, "targets": answers.targets}
    return general_ability.add(
        store,
        AbilityDraft(
            probe=question,
            head=where.head,
            state=where.state,
            after=where.after,
            metric=metric,
            score=answers.score,
            examples=len(answers.targets),
            predictions_digest=store.blobs.put_bytes(canonical_json(content)),
            logits_digest=answers.outcome.logits_digest,
            plan_digest=answers.plan_digest,
            base_digest=backbone.record.digest,
            environment=backbone.environment(backbone.evaluation_dtype),
            seconds=answers.outcome.seconds,
        ),
    )


def other_adapter(names: Sequence[str], task: str) -> str | None:
    """Return the task whose adapter stands for a wrong one: the next in the stream, the first after the last."""
    return None if len(names) < 2 else names[(names.index(task) + 1) % len(names)]


def adapter_question(task: TaskRecord, version: VersionRecord) -> dict[str, Any]:
    """Return what a task's own head is asked under other weights than its own, as JSON."""
    return {
        "kind": "adapter",
        "task": task.name,
        "evaluation": task.split("evaluation").digest,
        "max_length": int(version.config["max_length"]),
    }


def compare_adapters(
    store: Store, backbone: Backbone, heads: Mapping[str, VersionRecord], *, progress: Progress = SILENT
) -> None:
    """Score every task through its own head under another task's adapter, and under none; keep both.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        heads: Each task's version, in the order of the stream.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file is corrupt, or a version belongs to another base.
    """
    for name, version in heads.items():
        wrong = other_adapter(list(heads), name)
        for state in (None, heads[wrong]) if wrong else (None,):
            task = tasks.of_version(store, version)
            _through_own_head(store, backbone, task, head=version, state=state, progress=progress)


def _through_own_head(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    head: VersionRecord,
    state: VersionRecord | None,
    progress: Progress,
) -> AbilityRecord:
    question = adapter_question(task, head)
    where = Where(state=state.reference if state else None, head=head.reference)
    kept = recall(store, question, backbone.record.digest, where=where)
    if kept is not None:
        return kept
    answering = Answering(
        method=state.method if state else methods.NO_ADAPTER,
        state=version_files(store, backbone, state) if state else {},
        head=version_files(store, backbone, head),
        max_length=question["max_length"],
    )
    measured = measure(store, backbone, task, answering=answering, part=Part(), progress=progress)
    return _keep(store, backbone, question, where=where, metric=task.definition.metric, answers=measured)
