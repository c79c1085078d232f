"""Runs a stream: every arm learns the tasks one after the other, and every earlier task is evaluated after each.

Each piece is kept before the next begins: a step in the database, a learned adapter in its run's folder, a training
run in its checkpoint. Run again after any interruption, the stream goes on at the step it had reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from limpet.errors import NotFoundError
from limpet.forgetting import monitor
from limpet.forgetting.stream_spec import ArmSpec, StreamSpec, TaskSpec
from limpet.registry import streams, tasks, versions
from limpet.registry.store import Store
from limpet.registry.values import ArmRun, Role, StepRecord, StreamRecord, TaskRecord, VersionRecord
from limpet.training import data, methods
from limpet.training.backbone import Backbone
from limpet.training.corpora import CORPORA
from limpet.training.learn import Staged, Start, TrainingSettings, discard, learn
from limpet.training.progress import SILENT, Progress

__all__ = ["run_stream"]


@dataclass(frozen=True)
class _Run:
    """What every step of one stream needs."""

    store: Store
    backbone: Backbone
    spec: StreamSpec
    tasks: tuple[TaskRecord, ...]
    progress: Progress


def run_stream(store: Store, backbone: Backbone, spec: StreamSpec, progress: Progress = SILENT) -> StreamRecord:
    """Run every arm under every seed, going on where an earlier run had stopped.

    Raises:
        ConflictError: A stream of this name was made from another file.
        InterruptedRunError: A signal came; the same command goes on from there.
        IntegrityError: A file is corrupt, or the base was changed.
    """
    for arm in spec.arms:
        for candidate in arm.candidates():
            # a wrong setting is found before the first minute of training
            settings = _settings(spec, arm, candidate, seed=0)
            methods.get_for(arm.method, backbone.record).resolve(backbone.model, settings.method_settings)
    records = tuple(_task(store, task, spec.training, progress) for task in spec.tasks)
    for arm in spec.arms:
        for record in records:
            methods.check_task_type(methods.get(arm.method), record, backbone.record)
    names = tuple(task.name for task in records)
    streams.create(store, spec.name, dict(spec.source), backbone.record.digest, names)
    run = _Run(store, backbone, spec, records, progress)
    for arm in spec.arms:
        for seed in spec.seeds:
            _run_arm(run, arm, seed)
    return streams.get(store, spec.name)


def _task(store: Store, task: TaskSpec, training: Mapping[str, Any], progress: Progress) -> TaskRecord:
    if not task.definition:
        try:
            return tasks.get(store, task.name)
        except NotFoundError:
            if task.name not in CORPORA:
                raise
    definition = {"data": f"sample:{task.name}"} | dict(task.definition)
    if "max_length" in training:
        definition.setdefault("max_length", training["max_length"])
    names = {"text": "text_column", "label": "target_column", "target": "target_column"}
    progress.note(f"reading {task.name} from {definition['data']}")
    arguments: dict[str, Any] = {names.get(key) or key: value for key, value in definition.items()}
    return data.add_task(store, task.name, **arguments)


def _run_arm(run: _Run, arm: ArmSpec, seed: int) -> None:
    settings = {"set": dict(arm.settings), "training": dict(run.spec.training)}
    record = streams.arm_run(run.store, run.spec.name, arm.name, arm.strategy, arm.method, seed, settings)
    if record.finished:
        return
    chosen = record.chosen or _choose(run, arm, seed, record)
    made: list[VersionRecord] = [
        versions.resolve(run.store, step.version) for step in streams.steps(run.store, record.id)
    ]
    for index in range(len(made), len(run.tasks)):
        previous = made[-1].reference if made and arm.strategy == "sequential" else None
        start = Start.from_version(run.store, run.backbone, previous) if previous else None
        staged = _learn(run, arm, seed, index, chosen, start)
        role: Role = "adapter" if arm.strategy == "isolated" else "baseline"
        draft = replace(staged.draft, role=role, parent=previous)
        added = monitor.add_version(run.store, run.backbone, draft, staged.files, run.progress)
        step = _evaluate_step(run, arm, record, made, added)
        made.append(added.version)
        discard(staged)
        scores = "  ".join(f"{task} {step.row[task].score:.3f}" for task in step.row)
        run.progress.note(f"{arm.name} (seed {seed}) learned {added.version.reference}:  {scores}")
    streams.finish_arm(run.store, record.id)


def _learn(
    run: _Run, arm: ArmSpec, seed: int, index: int, candidate: Mapping[str, Any], start: Start | None
) -> Staged:
    lineage = {"stream": run.spec.name, "arm": arm.name, "step": index}
    settings = _settings(run.spec, arm, candidate, seed)
    task = run.tasks[index]
    run.progress.note(f"{arm.name} (seed {seed}) {_describe(candidate)}learns {task.name}")
    return learn(
        run.store,
        run.backbone,
        task,
        settings,
        start=start,
        lineage=lineage,
        resume=True,
        progress=run.progress,
    )


def _describe(candidate: Mapping[str, Any]) -> str:
    return "".join(
        f"{key}={value:g} " if isinstance(value, float) else f"{key}={value} " for key, value in candidate.items()
    )


def _settings(spec: StreamSpec, arm: ArmSpec, candidate: Mapping[str, Any], seed: int) -> TrainingSettings:
    merged = dict(spec.training) | dict(arm.settings) | dict(candidate)
    return TrainingSettings.of(arm.method, merged, seed)


def _evaluate_step(
    run: _Run, arm: ArmSpec, record: ArmRun, earlier: list[VersionRecord], added: monitor.Added
) -> StepRecord:
    """Evaluate every task so far; a sequential arm has only the newest backbone state, but every task's own head."""
    newest = added.version
    row = {}
    for version in earlier:
        state = version if arm.strategy == "isolated" else newest
        row[version.task] = monitor.evaluate(run.store, run.backbone, version, state, run.progress).id
    run.backbone.check_unchanged()
    unchanged = None if methods.get(arm.method).capabilities.trains_base_copy else True
    return streams.add_step(
        run.store,
        record.id,
        index=len(earlier),
        task=newest.task,
        version=newest.reference,
        base_unchanged=unchanged,
        row=row | {newest.task: added.evaluation.id},
    )


def _choose(run: _Run, arm: ArmSpec, seed: int, record: ArmRun) -> dict[str, Any]:
    """Learn the whole stream once for every candidate, and choose by validation data; other seeds use the choice."""
    if not arm.sweep:
        return {}
    first = next(other for other in streams.arm_runs(run.store, run.spec.name) if other.name == arm.name)
    if seed != run.spec.seeds[0] and first.chosen:
        streams.set_sweep(run.store, record.id, first.sweep, first.chosen)
        return dict(first.chosen)
    learned: list[list[Staged]] = []
    sweep: list[dict[str, Any]] = []
    for candidate in arm.candidates():
        stages: list[Staged] = []
        for index in range(len(run.tasks)):
            start = Start.from_staged(stages[-1]) if stages and arm.strategy == "sequential" else None
            stages.append(_learn(run, arm, seed, index, candidate, start))
        scores = _validation_scores(run, arm, stages)
        mean = sum(scores.values()) / len(scores)
        sweep.append({"settings": candidate, "validation": scores, "mean": mean})
        learned.append(stages)
        run.progress.note(f"{arm.name} (seed {seed}) {_describe(candidate)}validation {mean:.3f}")
    best = max(range(len(sweep)), key=lambda index: sweep[index]["mean"])
    streams.set_sweep(run.store, record.id, tuple(sweep), sweep[best]["settings"])
    for index, stages in enumerate(learned):
        if index != best:
            for staged in stages:
                discard(staged)
    return dict(sweep[best]["settings"])


def _validation_scores(run: _Run, arm: ArmSpec, stages: list[Staged]) -> dict[str, float]:
    """Score every task on its validation split after the last step."""
    scores = {}
    for task, staged in zip(run.tasks, stages, strict=True):
        state = staged if arm.strategy == "isolated" else stages[-1]
        max_length = int(staged.draft.config["max_length"])
        measured = monitor.measure(
            run.store,
            run.backbone,
            task,
            "validation",
            max_length,
            arm.method,
            state.files,
            staged.files,
            run.progress,
        )
        scores[task.name] = measured.score
    return scores
