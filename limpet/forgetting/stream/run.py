"""Runs a stream: every arm learns the tasks one after the other, and every earlier task is evaluated after each.

Each piece is kept before the next begins: a step in the database, a learned adapter in its run's folder, a training
run in its checkpoint. Run again after any interruption, the stream goes on at the step it had reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limpet.errors import NotFoundError, UsageError
from limpet.forgetting import strategies
from limpet.forgetting.monitor.growth import Answers, Row, keep_row, measure_and_register
from limpet.forgetting.monitor.monitor import Part, measure
from limpet.forgetting.strategies import Context, Strategy
from limpet.forgetting.stream import forward_transfer, general_ability
from limpet.forgetting.stream.stream_file import ArmSpec, StreamSpec, TaskSpec
from limpet.names import shown_method
from limpet.registry import versions
from limpet.registry.records import streams, tasks
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, ArmRun, StepRecord, StreamRecord, TaskRecord, VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.data.build_task import add_task
from limpet.training.data.reading.sample_corpora import CORPORA
from limpet.training.data.stored_splits import read_once
from limpet.training.data.task_request import TaskRequest
from limpet.training.evaluation.general_ability import Question
from limpet.training.learning.runs.run_folder import Staged, Start, discard
from limpet.training.learning.settings import TrainingSettings
from limpet.training.metrics.units import mean_ranks
from limpet.training.model.task_model import Answering
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import no_common_unit

__all__ = ["run_stream"]


@dataclass(frozen=True)
class _Run:
    """What every step of one stream needs; `first` is the stream whose sweeps hold for this one too."""

    store: Store
    backbone: Backbone
    spec: StreamSpec
    first: str
    tasks: tuple[TaskRecord, ...]
    ability_tasks: tuple[Question, ...]
    progress: Progress


@dataclass(frozen=True)
class _Growing:
    """An arm under one seed while it grows: each task's newest head, with the weights that it was learned with."""

    record: ArmRun
    strategy: Strategy
    heads: dict[str, VersionRecord]


class _Learned(Mapping[str, Start]):
    """What was learned of each earlier task; files are looked up, and verified, when they are asked for."""

    def __init__(self, names: tuple[str, ...], find: Callable[[str], Start]) -> None:
        self._names, self._find = names, find
        self._found: dict[str, Start] = {}

    def __getitem__(self, task: str) -> Start:
        if task not in self._names:
            raise KeyError(task)
        if task not in self._found:
            self._found[task] = self._find(task)
        return self._found[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def run_stream(store: Store, backbone: Backbone, spec: StreamSpec, *, progress: Progress = SILENT) -> StreamRecord:
    """Run every arm under every seed, going on where an earlier run had stopped; then the other orders of the tasks.

    Raises:
        ConflictError: A stream of this name was made from another file.
        InterruptedRunError: A signal came; the same command goes on from there.
        IntegrityError: A file is corrupt, or the base was changed.
    """
    for arm in spec.arms:
        _check_settings(backbone, spec, arm)
    begun = next((stream.created_at for stream in streams.list_all(store) if stream.name == spec.name), None)
    records = tuple(_task(store, task, spec.training, begun=begun, progress=progress) for task in spec.tasks)
    for arm in spec.arms:
        for record in records:
            strategies.check_task_type(strategies.get(arm.strategy), record)
            methods.check_task_type(methods.get(arm.method), record, backbone.record)
    ability_tasks = tuple(
        general_ability.ability_task_of(
            backbone,
            ability_task,
            None
            if ability_task.harness
            else _task(store, ability_task.task, spec.training, begun=begun, progress=progress),
            learned=records,
        )
        for ability_task in spec.ability
    )
    by_name = {record.name: record for record in records}
    for number in range(1, spec.orders + 1):
        ordered = spec.in_order(number)
        in_order = tuple(by_name[task.name] for task in ordered.tasks)
        names = tuple(task.name for task in in_order)
        streams.create(store, ordered.name, dict(ordered.source), base_digest=backbone.record.digest, tasks=names)
        run = _Run(store, backbone, ordered, spec.name, in_order, ability_tasks, progress)
        for ability_task in ability_tasks:
            general_ability.ask(store, backbone, ability_task, state=None, progress=progress)
        for arm in ordered.arms:
            for seed in ordered.seeds:
                _run_arm(run, arm, seed)
    return streams.get(store, spec.name)


def _check_settings(backbone: Backbone, spec: StreamSpec, arm: ArmSpec) -> None:
    """Find what an arm can't be learned with, before the first minute of training."""
    strategy, method = strategies.get(arm.strategy), methods.get_for(arm.method, backbone.record)
    try:
        for candidate in arm.candidates():
            settings, own = _settings(spec, arm, candidate, seed=0)
            strategies.resolve_settings(strategy, own)
            config = method.resolve(backbone.model, settings.method_settings)
    except UsageError as error:
        has = f" (the strategy {strategy.name!r} has {', '.join(strategy.settings)})" if strategy.settings else ""
        raise UsageError(f"Arm {arm.name!r}{has}: {error.message}", error.hint) from error
    if strategy.shares_state or strategy.learns_all:
        _check_shareable(backbone, arm, method, config=config)


def _check_shareable(backbone: Backbone, arm: ArmSpec, method: methods.Method, *, config: Mapping[str, Any]) -> None:
    """Refuse a method that trains nothing but heads where tasks are to share what is trained."""
    module = method.attach(backbone.model, config)
    try:
        trained = any(parameter.requires_grad for parameter in module.parameters())
    finally:
        method.detach(module)
    if not trained:
        raise UsageError(
            f"Arm {arm.name!r}: {shown_method(method.name)!r} trains no weights that tasks could share, so the "
            f"strategy {arm.strategy!r} has nothing to work on.",
            "choose another method, or strategy: isolated",
        )


def _task(
    store: Store, task: TaskSpec, training: Mapping[str, Any], *, begun: str | None, progress: Progress
) -> TaskRecord:
    """Return a task of the stream; one that has begun goes on with the revisions that there were then."""
    if not task.definition:
        try:
            if task.revision is not None:
                return tasks.get(store, f"{task.name}@r{task.revision}")
            return tasks.get(store, task.name) if begun is None else tasks.as_of(store, task.name, begun)
        except NotFoundError:
            if task.name not in CORPORA or task.revision is not None:
                raise
    definition = {"data": f"sample:{task.name}"} | dict(task.definition)
    if "max_length" in training:
        definition.setdefault("max_length", training["max_length"])
    names = {"text": "text_column", "label": "target_column", "target": "target_column"}
    progress.note(f"reading {task.name} from {definition['data']}")
    arguments: dict[str, Any] = {names.get(key) or key: value for key, value in definition.items()}
    return add_task(store, TaskRequest(task.name, **arguments))


def _run_arm(run: _Run, arm: ArmSpec, seed: int) -> None:
    settings = {"set": dict(arm.settings), "training": dict(run.spec.training)}
    record = streams.arm_run(
        run.store,
        run.spec.name,
        ArmDraft(arm.name, strategy=arm.strategy, method=arm.method, seed=seed, settings=settings),
    )
    if record.finished:
        return
    chosen = record.chosen or _choose(run, arm, seed, record=record)
    strategy, context = strategies.get(arm.strategy), _context(run, arm, chosen, seed=seed)
    steps = streams.steps(run.store, record.id)
    heads = {
        task.name: versions.resolve(run.store, steps[-1].row[task.name].version) for task in run.tasks[: len(steps)]
    }
    growing = _Growing(record, strategy, heads)
    for index in range(len(steps), len(run.tasks)):
        _say(context, f"learns {run.tasks[index].name}", chosen)
        with read_once(run.tasks[index]):
            staged = strategy.stage(context, index, _learned(run, heads))
            step = _grow(run, growing, staged, index=index, settings=context.training)
        discard(staged[0])
        scores = "  ".join(f"{task} {step.row[task].score:.3f}" for task in step.row)
        run.progress.note(f"{arm.name} (seed {seed}) learned {step.version}:  {scores}")
        _moved(run)
    if run.ability_tasks and strategy.role == "adapter":
        _compare_with_base(run, {task.name: heads[task.name] for task in run.tasks})
    streams.finish_arm(run.store, record.id)
    _moved(run)


def _moved(run: _Run) -> None:
    """Let the stream have moved last, and not one of its orders: it is what readers, gate and mirror take."""
    if run.first != run.spec.name:
        streams.touch(run.store, run.first)


def _compare_with_base(run: _Run, heads: Mapping[str, VersionRecord]) -> None:
    """Ask the base alone again, with every adapter taken off, and each task under an adapter that is not its own."""
    *_, newest = heads.values()
    for ability_task in run.ability_tasks:
        general_ability.ask(run.store, run.backbone, ability_task, state=None, after=newest, progress=run.progress)
    general_ability.compare_adapters(run.store, run.backbone, heads, progress=run.progress)
    run.backbone.check_unchanged()


def _learned(run: _Run, heads: Mapping[str, VersionRecord]) -> _Learned:
    def find(task: str) -> Start:
        return Start.from_version(run.store, run.backbone, heads[task].reference)

    return _Learned(tuple(heads), find)


def _grow(
    run: _Run, arm: _Growing, staged: tuple[Staged, ...], *, index: int, settings: TrainingSettings
) -> StepRecord:
    """Register what a step learned, and keep the row of every task so far; the arm's heads are brought up to date."""
    shared, heads = arm.strategy.shares_state, arm.heads
    previous = heads[run.tasks[index - 1].name].reference if index and shared else None
    added = [
        measure_and_register(
            run.store,
            run.backbone,
            replace(one.draft, role=arm.strategy.role, parent=previous),
            files=one.files,
            progress=run.progress,
        )
        for one in staged
    ]
    heads |= {one.version.task: one.version for one in added}
    learned, newest = {one.version.task for one in added}, heads[run.tasks[index].name]
    others = [
        Answers(version, newest if shared else version) for task, version in heads.items() if task not in learned
    ]
    cells = _future(run, index, newest if shared else None, length=settings.max_length)
    for ability_task in run.ability_tasks:
        general_ability.ask(run.store, run.backbone, ability_task, state=newest, progress=run.progress)
    unchanged = None if methods.get(newest.method).capabilities.trains_base_copy else True
    row = Row(arm.record.id, index, others, cells, unchanged)
    # a step is named by the task whose turn it was
    added.sort(key=lambda one: one.version.reference == newest.reference)
    return keep_row(run.store, run.backbone, added, row=row, progress=run.progress)


def _future(run: _Run, index: int, state: VersionRecord | None, *, length: int | None) -> dict[str, int]:
    """Return the evaluations of the tasks that come later, where the stream asks for them."""
    if not run.spec.evaluate_future:
        return {}
    return {
        task.name: forward_transfer.evaluate(
            run.store,
            run.backbone,
            task,
            state=state,
            max_length=length or task.definition.max_length,
            progress=run.progress,
        ).id
        for task in run.tasks[index + 1 :]
        if forward_transfer.has_class_means(task)
    }


def _context(run: _Run, arm: ArmSpec, candidate: Mapping[str, Any], *, seed: int) -> Context:
    settings, own = _settings(run.spec, arm, candidate, seed=seed)
    return Context(
        store=run.store,
        backbone=run.backbone,
        tasks=run.tasks,
        training=settings,
        settings=strategies.resolve_settings(strategies.get(arm.strategy), own),
        lineage={"stream": run.spec.name, "arm": arm.name},
        progress=run.progress,
    )


def _settings(
    spec: StreamSpec, arm: ArmSpec, candidate: Mapping[str, Any], *, seed: int
) -> tuple[TrainingSettings, dict[str, Any]]:
    """Return how each task is learned, and the settings of the strategy itself."""
    merged = dict(spec.training) | dict(arm.settings) | dict(candidate)
    own = {key: merged.pop(key) for key in strategies.get(arm.strategy).settings if key in merged}
    return TrainingSettings.of(arm.method, merged, seed), own


def _choose(run: _Run, arm: ArmSpec, seed: int, *, record: ArmRun) -> dict[str, Any]:
    """Learn the whole stream once for every candidate, and choose by validation data.

    Other seeds and other orders use the choice.
    """
    if not arm.sweep:
        return {}
    first = next(other for other in streams.arm_runs(run.store, run.first) if other.name == arm.name)
    if first.id != record.id and first.chosen:
        streams.set_sweep(run.store, record.id, first.sweep, chosen=first.chosen)
        return dict(first.chosen)
    unlike = no_common_unit({task.name: task.definition.metric for task in run.tasks})
    learned: list[tuple[Staged, ...]] = []
    sweep: list[dict[str, Any]] = []
    for candidate in arm.candidates():
        stages, scores = _try(run, arm, candidate, seed=seed)
        mean = None if unlike else sum(scores.values()) / len(scores)
        sweep.append({"settings": candidate, "validation": scores, "mean": mean})
        learned.append(stages)
        shown = ", ".join(f"{task} {value:.3f}" for task, value in scores.items()) if mean is None else f"{mean:.3f}"
        run.progress.note(f"{arm.name} (seed {seed}) {_describe(candidate)}validation {shown}")
    best = max(range(len(sweep)), key=lambda index: sweep[index]["mean"]) if unlike is None else _rank(sweep, unlike)
    streams.set_sweep(run.store, record.id, tuple(sweep), chosen=sweep[best]["settings"])
    for index, stages in enumerate(learned):
        if index != best:
            for staged in stages:
                discard(staged)
    return dict(sweep[best]["settings"])


def _rank(sweep: Sequence[dict[str, Any]], reason: str) -> int:
    """Give every candidate its mean rank and the reason why it has no mean score; return the place of the best."""
    ranks = mean_ranks([candidate["validation"] for candidate in sweep])
    for candidate, rank in zip(sweep, ranks, strict=True):
        candidate |= {"mean_rank": rank, "reason": reason}
    return ranks.index(min(ranks))


def _try(
    run: _Run, arm: ArmSpec, candidate: Mapping[str, Any], *, seed: int
) -> tuple[tuple[Staged, ...], dict[str, float]]:
    """Learn the stream with one candidate; return the runs, and each task's validation score after the last step."""
    strategy, context = strategies.get(arm.strategy), _context(run, arm, candidate, seed=seed)
    stages: list[Staged] = []
    heads: dict[str, Staged] = {}
    last = len(run.tasks) - 1
    for index in range(last if strategy.learns_all else 0, last + 1):
        _say(context, f"learns {run.tasks[index].name}", candidate)
        staged = strategy.stage(context, index, _staged_before(heads))
        stages.append(staged[0])
        heads |= {one.draft.task: one for one in staged}
    scores = {}
    for task in run.tasks:
        head = heads[task.name]
        state = stages[-1] if strategy.shares_state else head
        answering = Answering(arm.method, state.files, head.files, int(head.draft.config["max_length"]))
        measured = measure(
            run.store, run.backbone, task, answering=answering, part=Part("validation"), progress=run.progress
        )
        scores[task.name] = measured.score
    return tuple(stages), scores


def _staged_before(heads: Mapping[str, Staged]) -> _Learned:
    known = dict(heads)

    def find(task: str) -> Start:
        return Start.from_staged(known[task])

    return _Learned(tuple(known), find)


def _say(context: Context, what: str, candidate: Mapping[str, Any]) -> None:
    arm, seed = context.lineage["arm"], context.training.seed
    context.progress.note(f"{arm} (seed {seed}) {_describe(candidate)}{what}")


def _describe(candidate: Mapping[str, Any]) -> str:
    return "".join(
        f"{key}={value:g} " if isinstance(value, float) else f"{key}={value} " for key, value in candidate.items()
    )
