"""Streams in MLflow: a stream is a run, its arms are runs inside it, their steps are runs inside those.

The curves are on the arm's run: `score/<task>` with the step on the x axis, linked to the adapter that was
active and the data it was scored on, and each metric of forgetting as it stood after each step. Only steps
that were not sent yet are sent; a metric sent twice, after an interruption, is kept once by MLflow because
its time is the step's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from limpet.first_few import first_few
from limpet.forgetting.metrics import forgetting
from limpet.forgetting.mlflow_mirror.evidence import push_evidence
from limpet.forgetting.mlflow_mirror.tracking import Tracking, milliseconds
from limpet.forgetting.mlflow_mirror.versions import dataset_inputs, dataset_name, flat, logged_model, short_digest
from limpet.forgetting.render.plots import COLOURS
from limpet.forgetting.report.general_ability import found_after
from limpet.registry import versions
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import bases, streams, tasks
from limpet.registry.values import ArmRun, EvaluationRecord, StepRecord, StreamRecord, TaskRecord, VersionRecord
from limpet.training.task_types import no_common_unit

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

__all__ = ["complete_run", "push_stream"]

_METRICS_A_BATCH = 900
_PARAMS_A_BATCH = 100
_COSTS = (
    "train_seconds",
    "examples_per_second",
    "trainable_parameters",
    "trainable_share",
    "peak_memory_bytes",
    "peak_memory_added_bytes",
    "full_checkpoint_bytes",
)


def push_stream(tracking: Tracking, stream: StreamRecord) -> Counter[str]:
    """Send what is new of a stream: its run, its arms, their steps with their versions, plots and report.

    Returns:
        How many streams, arms, steps and versions were sent; nothing for a stream that did not change.
    """
    key = f"stream:{stream.name}"
    pushed: Counter[str] = Counter()
    if tracking.unchanged(key, asdict(stream)):
        return pushed
    run = tracking.run(key, stream.name, None, started_at=milliseconds(stream.created_at))
    arms = streams.arm_runs(tracking.store, stream.name)
    params, tags = _stream_facts(tracking, stream)
    complete_run(tracking, run, params, tags=tags)
    learned = [revision for name in stream.tasks for revision in _learned(tracking, name, arms)]
    inputs = [one for task in learned for one in dataset_inputs(tracking, task)]
    tracking.client.log_inputs(run.info.run_id, datasets=inputs)
    names = list(dict.fromkeys(arm.name for arm in arms))
    colours = {name: COLOURS[position % len(COLOURS)] for position, name in enumerate(names)}
    pieces = (_push_arm(tracking, stream, arm, parent=run.info.run_id, colour=colours[arm.name]) for arm in arms)
    sent = [piece for piece in pieces if piece is not None]
    push_evidence(
        tracking, stream.name, run.info.run_id, arm_runs=[(one.arm.name, one.arm.seed, one.run) for one in sent]
    )
    # only now, so that a mirror cut off before the plots draws them the next time
    for one in sent:
        tracking.keep(one.key, one.run, one.content)
        pushed += Counter(arms=1, steps=one.steps)
    running = stream.name != streams.HOME_STREAM and not (arms and all(arm.finished for arm in arms))
    _set_status(tracking, run.info.run_id, running, ended=milliseconds(stream.updated_at))
    tracking.keep(key, run.info.run_id, asdict(stream))
    pushed["streams"] += 1
    return pushed


def _stream_facts(tracking: Tracking, stream: StreamRecord) -> tuple[dict[str, str], dict[str, str]]:
    base = bases.get(tracking.store, stream.base_digest)
    params = {
        "base": base.name,
        "base.parameters": str(base.parameters),
        "base.architecture": base.architecture,
    }
    for name in stream.tasks:
        definition = tasks.content(tasks.get(tracking.store, name, past=True))["definition"]
        params |= {
            f"task.{tracking.first(name)}.{field}": str(value)
            for field, value in definition.items()
            if field != "name"
        }
    tags = {
        "limpet.stream": stream.name,
        "limpet.kind": "stream",
        # it has no curves of its own to be told apart by
        "mlflow.runColor": "#777777",
        "limpet.base_digest": stream.base_digest,
        "limpet.spec_digest": stream.digest,
        "limpet.tasks": json.dumps(list(stream.tasks)),
        "limpet.spec": json.dumps(stream.spec, sort_keys=True),
    }
    return params, tags


@dataclass(frozen=True)
class _SentArm:
    """An arm whose run and steps were just sent: what to keep of it, and how many steps were new."""

    arm: ArmRun
    key: str
    run: str
    content: JsonValue
    steps: int


def _push_arm(tracking: Tracking, stream: StreamRecord, arm: ArmRun, *, parent: str, colour: str) -> _SentArm | None:
    """Send the run of an arm and its new steps; None if nothing of it changed."""
    key = f"arm:{stream.name}:{arm.id}"
    steps = streams.steps(tracking.store, arm.id)
    content: list[JsonValue] = [asdict(arm), len(steps)]
    if tracking.unchanged(key, content):
        return None
    started = milliseconds(stream.created_at)
    made = [versions.look_up(tracking.store, step.version) for step in steps]
    if steps:
        started = milliseconds(steps[0].created_at) - _training_milliseconds(made[0])
    run = tracking.run(key, f"{arm.name}, seed {arm.seed}", parent, started_at=started)
    identity = run.info.run_id
    params = {"arm": arm.name, "strategy": arm.strategy, "method": arm.method, "seed": str(arm.seed)}
    # a setting was chosen before the first step, and stays
    chosen = dict(flat(arm.chosen, "chosen.")) if steps else {}
    tags = {
        "limpet.stream": stream.name,
        "limpet.kind": "arm",
        "limpet.arm": arm.name,
        "limpet.base_digest": stream.base_digest,
        "limpet.versions": json.dumps([step.version for step in steps]),
        "mlflow.runColor": colour,
        "limpet.sweep": json.dumps(list(arm.sweep), sort_keys=True),
    }
    complete_run(tracking, run, params | dict(flat(arm.settings)) | chosen, tags=tags)
    sent = sum(
        _push_step(tracking, stream, arm, so_far=steps[:count], version=version, parent=identity)
        for count, version in enumerate(made, start=1)
    )
    ended = milliseconds(steps[-1].created_at) if steps else started
    _set_status(tracking, identity, not arm.finished and stream.name != streams.HOME_STREAM, ended=ended)
    return _SentArm(arm, key, identity, content, sent)


def _push_step(
    tracking: Tracking,
    stream: StreamRecord,
    arm: ArmRun,
    *,
    so_far: Sequence[StepRecord],
    version: VersionRecord,
    parent: str,
) -> bool:
    """Send the newest of an arm's steps so far, its points on the arm's curves too; False if it is there."""
    from mlflow.entities import LoggedModelOutput, Metric

    step = so_far[-1]
    number = step.index + 1
    key = f"step:{stream.name}:{arm.id}:{number}"
    sent_as = tracking.first(step.version)
    if tracking.unchanged(key, sent_as):
        return False
    ended = milliseconds(step.created_at)
    started = ended - _training_milliseconds(version)
    run = tracking.run(key, f"step {number}: {step.task}", parent, started_at=started)
    identity = run.info.run_id
    params = {
        "task": step.task,
        "version": step.version,
        "arm": arm.name,
        "method": version.method,
        "step": str(number),
    }
    tags = {
        "limpet.stream": stream.name,
        "limpet.kind": "step",
        "limpet.arm": arm.name,
        "limpet.version": step.version,
        "limpet.digest": version.digest,
        "limpet.base_digest": version.base_digest,
        "limpet.audited": first_few([task for task, cell in step.row.items() if cell.kind == "carried"], 20)
        or "none",
        "limpet.base_unchanged": {True: "yes", False: "no", None: "a copy was trained"}[step.base_unchanged],
    }
    complete_run(tracking, run, params | dict(flat(version.config)), tags=tags)
    tracking.client.log_inputs(identity, datasets=dataset_inputs(tracking, tasks.of_version(tracking.store, version)))
    model = logged_model(tracking, step.version, identity)
    # a second output of the same model is an error, not a no-op
    outputs = getattr(run, "outputs", None)
    if model not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
        tracking.client.log_outputs(identity, [LoggedModelOutput(model, number)])
    costs = {f"cost/{name}": float(version.cost[name]) for name in _COSTS if version.cost.get(name) is not None}
    own = [Metric(name, value, ended, number) for name, value in costs.items()]
    own += [Metric(f"score_after_step/{task}", cell.score, ended, number) for task, cell in step.row.items()]
    own += [
        Metric(f"audited_after_step/{task}", 1.0, ended, number)
        for task, cell in step.row.items()
        if cell.kind == "carried"
    ]
    _log_metrics(tracking, identity, own)
    curves = [Metric(name, value, ended, number) for name, value in {**costs, **_stability(so_far)}.items()]
    _log_metrics(tracking, parent, [*_scores(tracking, step, ended), *curves, *_abilities(tracking, stream, step)])
    _set_status(tracking, identity, False, ended=ended)
    tracking.keep(key, identity, sent_as)
    return True


def _scores(tracking: Tracking, step: StepRecord, ended: int) -> list[Metric]:
    """Return the step's row of the matrix: adapter i on task j, on which data."""
    from mlflow.entities import Metric

    return [
        Metric(
            f"score/{task}",
            cell.score,
            ended,
            step.index + 1,
            model_id=logged_model(tracking, cell.state, None),
            dataset_name=dataset_name(tracking, _revision_of(tracking, cell), cell.split),
            dataset_digest=short_digest(cell.data_digest),
        )
        for task, cell in step.row.items()
    ]


def _learned(tracking: Tracking, name: str, arms: Sequence[ArmRun]) -> list[TaskRecord]:
    """Return the revisions of a task that a stream's versions were learned on; the newest where none was yet."""
    known = tasks.revisions(tracking.store, name, past=True)
    if len(known) == 1:
        return list(known)
    made = [step.version for arm in arms for step in streams.steps(tracking.store, arm.id) if step.task == name]
    data = {versions.look_up(tracking.store, version).data_digest for version in made}
    return [revision for revision in known if revision.data_digest in data] or [known[-1]]


def _revision_of(tracking: Tracking, cell: EvaluationRecord) -> TaskRecord:
    """Return the first revision that has the rows of an evaluation."""
    known = tasks.revisions(tracking.store, cell.task, past=True)
    has_rows = (task for task in known if any(split.digest == cell.data_digest for split in task.splits))
    return next(has_rows, known[-1])


def _abilities(tracking: Tracking, stream: StreamRecord, step: StepRecord) -> list[Metric]:
    """Return what ability tasks found after a step; before the first one, at 0, the base alone."""
    from mlflow.entities import Metric

    time, number = milliseconds(step.created_at), step.index + 1
    asked = {number: step.version} if step.index else {0: None, number: step.version}
    return [
        Metric(f"ability/{name}", value, time, at)
        for at, version in asked.items()
        for name, value in found_after(tracking.store, stream, version).items()
    ]


def _stability(steps: Sequence[StepRecord]) -> dict[str, float]:
    """Return each defined metric of METRICS.md for the tasks learned so far."""
    learned = [step.task for step in steps]
    columns = list(dict.fromkeys(learned))
    rows = [[step.row[task].score if task in step.row else None for task in columns] for step in steps]
    scored = {step.task: step.row[step.task].metric for step in steps if step.task in step.row}
    first = [learned.index(task) for task in columns]
    found = forgetting.all_metrics(rows, learned=first, common_unit=no_common_unit(scored) is None)
    return {key: value for key, value in found.items() if value is not None}


def complete_run(tracking: Tracking, run: Run, params: Mapping[str, str], *, tags: Mapping[str, str]) -> None:
    """Give a run the parameters that it lacks, and these tags; MLflow refuses a parameter a second value."""
    from mlflow.entities import Param, RunTag

    missing = [Param(key, value) for key, value in params.items() if key not in run.data.params]
    for start in range(0, max(len(missing), 1), _PARAMS_A_BATCH):
        some = [RunTag(key, value) for key, value in tags.items()] if start == 0 else []
        tracking.client.log_batch(run.info.run_id, params=missing[start : start + _PARAMS_A_BATCH], tags=some)


def _log_metrics(tracking: Tracking, run: str, found: Sequence[Metric]) -> None:
    for start in range(0, len(found), _METRICS_A_BATCH):
        tracking.client.log_batch(run, metrics=found[start : start + _METRICS_A_BATCH])


def _set_status(tracking: Tracking, run: str, running: bool, *, ended: int) -> None:
    if running:
        tracking.client.update_run(run, status="RUNNING")
    else:
        tracking.client.set_terminated(run, "FINISHED", end_time=ended)


def _training_milliseconds(version: VersionRecord) -> int:
    return round(1000 * float(version.cost.get("train_seconds") or 0))
