"""Learning one task: from a run to the files of an adapter, staged for registration."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from limpet.errors import LimpetError, UsageError
from limpet.names import shown_method
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.system.atomic_files import place_folder
from limpet.registry.values import TaskRecord, VersionDraft
from limpet.training import methods
from limpet.training.base.precision import EMULATED, is_emulated
from limpet.training.data.overlong import cut
from limpet.training.data.stored_splits import read_split
from limpet.training.heads import Head
from limpet.training.learning.fit_task import fit_task, measure_untrained
from limpet.training.learning.loop import Fitted
from limpet.training.learning.new_labels import place_new_labels
from limpet.training.learning.ranks.group import RankLostError
from limpet.training.learning.runs import peak_memory
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.runs.peak_memory import PeakMemory
from limpet.training.learning.runs.run_folder import (
    Staged,
    find_staged,
    joint_folder,
    read_staged,
    write_draft,
    write_record,
)
from limpet.training.learning.runs.run_lock import alone_in
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.fast_paths import fast_paths
from limpet.training.model.head_files import build_head, grow_head, load_head, save_head, write_labels
from limpet.training.model.packing_trial import check_packing
from limpet.training.model.task_model import OtherHead, TaskModel, base_modules

__all__ = ["attached", "computing", "learn", "learn_along"]

_CHECKPOINT = "checkpoint.safetensors"
_CHECKPOINT_SECONDS = 20.0


def learn(run: TrainingRun, *, resume: bool = False) -> Staged:
    """Learn a task and stage the result; the base is checked to be unchanged afterwards.

    Args:
        run: What is learned, and how.
        resume: Go on from a checkpoint of the same run, if there is one.

    Raises:
        ConflictError: Another process is at the same run.
        InterruptedRunError: A signal came; a checkpoint was kept.
        IntegrityError: The base was changed.
        TrainingError: Another process of the training has ended; a checkpoint was kept.
        UsageError: The method trains no weights that tasks could share, and there is something to learn jointly.
    """
    methods.check_task_type(run.method, run.task, run.backbone.record)
    _check_settings(run)
    if run.trains and is_emulated(run.dtype):
        run.progress.note(EMULATED)
    run.folder.mkdir(parents=True, exist_ok=True)
    with alone_in(run.folder, f"Another process is learning {run.task.name!r} with these settings."):
        if (staged := find_staged(run.folder / "staged", run.progress)) is not None:
            return staged
        if not resume:
            (run.folder / _CHECKPOINT).unlink(missing_ok=True)
        parent = run.start.reference if run.start else None
        write_record(run.folder, run.task.name, run.settings, parent=parent)
        if run.ranks.world > 1 and not run.trains:
            run.progress.note(f"{run.method.name} trains nothing, so one process does it")
        try:
            return _train(run)
        except RankLostError as error:
            raise _lost(run) from error


def learn_along(run: TrainingRun) -> None:
    """Take part in the training of the processes `run.ranks`, in one that does not lead them: it leaves nothing.

    Raises:
        InterruptedRunError: A signal came to one of them.
        RankLostError: Another process has ended.
    """
    if not run.trains:
        return
    _check_settings(run)
    with attached(run) as model:
        if run.settings.packing:
            check_packing(model)
        with computing(run, model):
            fit_task(run, model, Checkpoint(run.folder / _CHECKPOINT, math.inf, writes=False))
    run.backbone.check_unchanged()
    run.ranks.wait_for_all()


def _check_settings(run: TrainingRun) -> None:
    """Refuse settings that have nothing to act on.

    Raises:
        UsageError: There is such a setting.
    """
    if not run.trains and (idle := sorted(set(run.settings.later()) - {"replay"})):
        flag = f"--{idle[0].replace('_', '-')}"
        raise UsageError(
            f"{shown_method(run.method.name)!r} trains nothing, so {flag} has no effect.", f"leave out {flag}"
        )
    if not run.settings.packing:
        return
    if run.task.definition.type in methods.NON_GENERATIVE:
        why = (
            f"{run.task.name!r} is of type {run.task.definition.type!r}, and only answers that are written are packed"
        )
    elif run.backbone.record.family == "encoder-decoder":
        why = "an encoder-decoder's texts stand on two sides"
    elif run.method.virtual_tokens(run.config["method"]):
        why = f"{shown_method(run.method.name)!r} puts virtual tokens in front of each row"
    else:
        return
    raise UsageError(f"Texts can't share rows: {why}.", "leave out --packing")


def _lost(run: TrainingRun) -> LimpetError:
    """Return the error of a training whose other process has ended."""
    error, processes = run.ranks.reason(), run.ranks.world
    kept = (run.folder / _CHECKPOINT).exists()
    error.message += f" Nothing was registered{'; a checkpoint was kept' if kept else ''}."
    again = f"limpet train {run.task.name} --processes {processes}"
    error.hint = error.hint or (f"{again} --resume" if kept else again)
    return error


def _train(run: TrainingRun) -> Staged:
    if not isinstance(run.method, methods.SupportsFrozenPrefix):
        # kept for another method, it would count as this one's memory
        run.backbone.lower_states.clear()
    mark = peak_memory.begin()
    with attached(run) as model:
        if run.settings.packing:
            check_packing(model)
        with computing(run, model):
            fitted = _fit(run, model)
        cost = _cost(run, model, fitted, peak=peak_memory.peak(mark))
        staging = run.folder / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        adapters = _adapters(run, model, staging)
        for adapter in adapters:
            _save(run, model.module, adapter)
    run.backbone.check_unchanged()
    run.ranks.wait_for_all()
    draft = _draft(run, fitted, cost)
    for adapter in adapters:
        write_draft(adapter.folder, _draft_of(run, draft, adapter.task))
    place_folder(staging, run.folder / "staged")
    return read_staged(run.folder / "staged")


@contextmanager
def attached(run: TrainingRun) -> Iterator[TaskModel]:
    """Attach the method to the base, with the heads of all that is learned, for the length of a `with` block."""
    method, base = run.method, run.backbone.model
    frozen = base_modules(run.backbone)
    # the method's and the head's initial values come from the seed alone
    torch.manual_seed(run.settings.seed)
    module = method.load(base, run.start.files) if run.start else method.attach(base, run.config["method"])
    try:
        head, *others = (one.to(run.backbone.device) for one in _heads(run))
        model = TaskModel(module, head, frozen, others=others)
        if isinstance(method, methods.SupportsFrozenPrefix) and "kept-layers" not in run.settings.disable:
            model.lower = method.lower_layers(module)
        yield model
    finally:
        method.detach(module)


def computing(run: TrainingRun, model: TaskModel) -> AbstractContextManager[None]:
    """Let a model compute as the run's settings say, for the length of a `with` block."""
    dtype = run.config["training"].get("dtype", "float32")
    return fast_paths(run.method, model.module, dtype, disable=run.settings.disable)


def _fit(run: TrainingRun, model: TaskModel) -> Fitted:
    if not run.trains:
        return measure_untrained(run, model)
    interval = float(os.environ.get("LIMPET_CHECKPOINT_SECONDS", _CHECKPOINT_SECONDS))
    before = place_new_labels(run, model)
    fitted = fit_task(run, model, Checkpoint(run.folder / _CHECKPOINT, interval))
    if fitted is None:
        raise TypeError("the process that leads was left out of its own training")
    return fitted.after(before) if before else fitted


def _heads(run: TrainingRun) -> Iterator[Head]:
    """Make the task's head, then those of the tasks that are learned jointly."""
    yield _own_head(run)
    for joint in run.joint.tasks:
        head = _new_head(run, joint.task) if joint.head is None else load_head(joint.head).requires_grad_(False)
        head.bind_base(run.backbone)
        yield head


def _own_head(run: TrainingRun) -> Head:
    method, start, task = run.method, run.start, run.task
    head: Head
    if isinstance(method, methods.TrainingFree):
        head = method.build_head(
            run.backbone,
            task,
            read_split(run.store, task, "train"),
            config=run.config["method"],
            max_length=run.max_length,
            seed=run.settings.seed,
        )
    elif start is not None and start.task == task.name:
        head = load_head(start.files)
        if start.labels != task.labels:
            train = read_split(run.store, task, "train")
            head = grow_head(head, start.labels, build_head(task, run.backbone.record, train), labels=task.labels)
    else:
        head = _new_head(run, task)
    head.bind_base(run.backbone)
    return head


def _new_head(run: TrainingRun, task: TaskRecord) -> Head:
    return build_head(task, run.backbone.record, read_split(run.store, task, "train"))


@dataclass(frozen=True)
class _Adapter:
    """What was learned for one task, and the folder that it is staged in."""

    task: TaskRecord
    head: Head
    folder: Path


def _adapters(run: TrainingRun, model: TaskModel, staging: Path) -> list[_Adapter]:
    """Return the task's adapter, and those of other tasks whose heads were trained too."""
    joint = [
        _Adapter(joint.task, OtherHead(model, index).head, joint_folder(staging, index))
        for index, joint in enumerate(run.joint.tasks)
        if joint.head is None
    ]
    return [_Adapter(run.task, model.head, staging), *joint]


def _save(run: TrainingRun, module: nn.Module, adapter: _Adapter) -> None:
    files = adapter.folder / "files"
    files.mkdir(parents=True)
    run.method.save(module, run.backbone.record.name, files)
    save_head(adapter.head, files)
    write_labels(files, adapter.task.labels)


def _cost(run: TrainingRun, model: TaskModel, fitted: Fitted, *, peak: PeakMemory | None) -> JsonObject:
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {
        "trainable_parameters": trainable,
        "trainable_share": trainable / run.backbone.record.parameters,
        "train_seconds": fitted.seconds,
        "examples_per_second": fitted.examples_per_second,
        "examples_seen": fitted.examples,
        "optimiser_steps": fitted.steps,
        "peak_memory_bytes": peak.total if peak else None,
        "peak_memory_added_bytes": peak.added if peak else None,
        # versions of one process were recorded before there were several
        **({"processes": fitted.processes} if fitted.processes > 1 else {}),
    }


def _draft(run: TrainingRun, fitted: Fitted, cost: JsonObject) -> VersionDraft:
    return VersionDraft(
        task=run.task.name,
        method=run.method.name,
        config=run.config,
        base_digest=run.backbone.record.digest,
        data_digest=run.task.data_digest,
        labels=run.task.labels,
        seed=run.settings.seed,
        environment=run.backbone.environment(run.dtype),
        metrics={
            f"validation_{run.task.definition.metric}": fitted.best_score,
            "history": list(fitted.history),
        },
        cost=cost,
        parent=run.start.reference if run.start else None,
        lineage=dict(run.lineage),
        inputs=dict(fitted.inputs),
    )


def _draft_of(run: TrainingRun, draft: VersionDraft, task: TaskRecord) -> VersionDraft:
    """Return the draft for one of the tasks that were learned."""
    lost = cut(run.store, run.backbone.tokenizer, task, max_length=run.max_length)
    return replace(
        draft,
        task=task.name,
        data_digest=task.data_digest,
        labels=task.labels,
        metrics={**draft.metrics, "cut": lost},
    )
