"""Fitting a model to a task's examples, alone or jointly with other tasks: from splits to the loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from limpet.errors import UsageError
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example
from limpet.training.batching.inference import run_batches
from limpet.training.batching.packing import PackedTexts
from limpet.training.data.replayed_rows import Replayed, ReplayTerms, replay_rows
from limpet.training.data.stored_splits import read_split
from limpet.training.heads.class_weights import balanced_weights, positive_weights
from limpet.training.learning.fit_head import fit_head
from limpet.training.learning.joint_training import NO_JOINT, JointTask
from limpet.training.learning.loop import Fitted, Validation, fit
from limpet.training.learning.objectives import Mixture, Replay, TaskLoss, TrainingData
from limpet.training.learning.ranks.group import ALONE
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.training_run import TrainingRun
from limpet.training.learning.validation import ValidationSplit
from limpet.training.model.activation_checkpointing import activation_checkpointing
from limpet.training.model.frozen_layer_cache import add_frozen_states
from limpet.training.model.task_model import OtherHead, TaskModel
from limpet.training.task_types import no_common_unit, score

__all__ = ["fit_task", "measure_untrained", "own_loss"]


def fit_task(run: TrainingRun, model: TaskModel, checkpoint: Checkpoint) -> Fitted | None:
    """Fit what is trainable in `model` on a task's training split; its validation split chooses the epoch.

    Where that is nothing but the head, the texts pass the backbone once, not in every epoch; where it is the top
    layers, they pass the layers below once. Where other tasks' heads are trained too, the best epoch is that of the
    best mean score, or of the best mean rank where the tasks' scores have no common unit.

    Args:
        run: What is learned, and how.
        model: The backbone with a method attached, and a head.
        checkpoint: Where to write the state, and to resume from.

    Returns:
        What training gave; null where it needs one process alone, and this is another one.

    Raises:
        InterruptedRunError: A signal came; a checkpoint was kept.
        RankLostError: Another process of the training has ended; a checkpoint was kept.
        TrainingError: The loss is not finite.
        UsageError: Nothing but heads is trained, and there is something to learn jointly.
    """
    rows = _rows(run)
    train = model.encode(run.backbone.tokenizer, rows.examples, run.max_length, learning=True)
    validation = ValidationSplit.of(run, run.task, model)
    _weigh_labels(run, model, train)
    inputs = {"train": train.inputs_digest(targets=True), "validation": validation.encoded.inputs_digest()}
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        if run.joint != NO_JOINT:
            raise UsageError(
                "The method trains nothing but heads, so there are no weights that tasks could share.",
                "choose a method that trains more: limpet methods",
            )
        if run.settings.checkpointing:
            raise UsageError(
                "The method trains nothing but a head, so no layer keeps anything for a backward pass.",
                "leave out --checkpointing",
            )
        if not run.ranks.leads:
            return None
        if run.ranks.world > 1:
            run.progress.note("nothing but a head is trained, so one process does it")
        alone = replace(run, ranks=ALONE)
        fitted = fit_head(alone, model, train, replay=rows.replay, validation=validation, checkpoint=checkpoint)
        return replace(fitted, inputs=inputs)
    started = time.perf_counter()
    if model.lower is not None and not run.joint.tasks:
        train, validation = _past_frozen_layers(run, model, train, validation=validation)
    before = time.perf_counter() - started
    joint_data = [_joint_data(run, model, index) for index in range(len(run.joint.tasks))]
    for joint, data in zip(run.joint.tasks, joint_data, strict=True):
        inputs[f"train/{joint.task.name}"] = data.inputs_digest(targets=True)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    validations = [validation, *_joint_validations(run, model)]
    losses = _losses(run, model, [train, *joint_data], replay=rows.replay)
    run.ranks.meet(run.folder.name, run.backbone.device)
    with activation_checkpointing(model) if run.settings.checkpointing else nullcontext():
        fitted = fit(
            model,
            Mixture(losses, run.joint.penalty, parameters, run.ranks.world),
            run.loop,
            validate=lambda: _validate(validations),
            checkpoint=checkpoint,
            progress=run.progress,
        )
    return replace(fitted.after(before), inputs=inputs)


def own_loss(run: TrainingRun, model: TaskModel) -> TaskLoss:
    """Return the loss of the training examples of a task that is learned alone, every layer computing each time."""
    rows = _rows(run)
    train = model.encode(run.backbone.tokenizer, rows.examples, run.max_length, learning=True)
    _weigh_labels(run, model, train)
    return _losses(run, model, [train], replay=rows.replay)[0]


def _weigh_labels(run: TrainingRun, model: TaskModel, train: Encoded) -> None:
    """Let rare labels weigh more in the loss, where that was asked for.

    Raises:
        UsageError: The task has no labels.
    """
    if run.settings.class_weights is None:
        return
    kind, head = run.task.definition.type, model.head
    if kind not in ("classification", "token-classification", "multi-label"):
        raise UsageError(
            f"Class weights are of tasks with labels, and {run.task.name!r} is of type {kind!r}.",
            "leave out --class-weights",
        )
    rows = train.fields["targets"].rows
    head.class_weights = (
        positive_weights(rows) if kind == "multi-label" else balanced_weights(rows, head.config.outputs)
    )


@dataclass(frozen=True)
class _Rows:
    """What is learned, and which of it an epoch has only some of."""

    examples: list[Example]
    replay: Replay | None = None


def _rows(run: TrainingRun) -> _Rows:
    """Return what is learned: the training split, or what is new of it and as many old rows as were asked for."""
    replay, start = run.settings.replay, run.start
    if replay is None or start is None or start.data is None:
        return _Rows(read_split(run.store, run.task, "train"))
    terms = ReplayTerms(replay, run.loop.epochs, run.settings.seed)
    rows = replay_rows(run.store, run.task, start.data, terms=terms)
    if not rows.examples:
        raise UsageError(
            f"{run.task.name!r} has no training row that is new or corrected since {start.reference}, and none is to "
            "be replayed.",
            f"limpet train {run.task.name} --from {start.reference} --replay 100",
        )
    run.progress.note(_described(rows, start.reference))
    return _Rows(rows.examples, Replay(rows.order, rows.replayed) if rows.order else None)


def _described(rows: Replayed, start: str | None) -> str:
    replayed = "replayed" if rows.replayed in (0, rows.old) else "replayed in each epoch, others every time"
    return (
        f"{rows.new} rows are new or corrected since {start}; {rows.replayed} of the {rows.old} others are {replayed}"
    )


def measure_untrained(run: TrainingRun, model: TaskModel) -> Fitted:
    """Score what needs no training on the validation split, as the loop would have."""
    backbone, metric = run.backbone, run.task.definition.metric
    examples = read_split(run.store, run.task, "validation")
    started = time.perf_counter()
    encoded = model.encode(backbone.tokenizer, examples, run.max_length)
    outcome = run_batches(model, encoded, run.backbone.device, progress=run.progress, dtype=backbone.evaluation_dtype)
    value = score(metric, outcome.predictions, [example.target for example in examples])
    return Fitted(
        best_score=value,
        best_epoch=0,
        history=(),
        steps=0,
        examples=0,
        seconds=time.perf_counter() - started,
        examples_per_second=0.0,
        inputs={"validation": encoded.inputs_digest()},
    )


def _past_frozen_layers(
    run: TrainingRun, model: TaskModel, train: Encoded, *, validation: ValidationSplit
) -> tuple[Encoded, ValidationSplit]:
    """Return both splits with what the lowest trained layer reads of them."""
    states = run.backbone.lower_states if run.use_cache else None
    # a head that writes asks the backbone word by word, and has to be asked in full
    reads_features = run.task.definition.type in methods.NON_GENERATIVE
    texts = [train, validation.encoded] if reads_features else [train]
    passed = add_frozen_states(
        model, texts, run.backbone.device, progress=run.progress, dtype=run.loop.dtype, states=states
    )
    return passed[0], replace(validation, encoded=passed[1]) if reads_features else validation


def _joint_data(run: TrainingRun, model: TaskModel, index: int) -> Encoded:
    """Encode the training examples of a task that is learned jointly."""
    joint, head = run.joint.tasks[index], OtherHead(model, index).head
    examples = read_split(run.store, joint.task, "train")
    if joint.indices is not None:
        examples = [examples[place] for place in joint.indices]
    return head.encode(run.backbone.tokenizer, examples, run.max_length, learning=True)


def _joint_validations(run: TrainingRun, model: TaskModel) -> list[ValidationSplit]:
    """Encode the validation examples of the tasks whose heads are trained too."""
    return [
        ValidationSplit.of(run, joint.task, OtherHead(model, index))
        for index, joint in enumerate(run.joint.tasks)
        if joint.head is None
    ]


def _losses(run: TrainingRun, model: TaskModel, data: Sequence[Encoded], *, replay: Replay | None) -> list[TaskLoss]:
    """Return the loss of each task: the one that the run is for, then those that are learned jointly."""
    loop, share = run.loop, run.ranks.share
    limit = loop.max_tokens_per_microbatch
    most = loop.batch_size if loop.accumulate > 1 else None

    def of_joint(index: int, joint: JointTask) -> TaskLoss:
        head = OtherHead(model, index).head
        return TaskLoss(
            _packed(run, joint.task, data[index + 1]),
            head,
            run.backbone.device,
            index,
            limit,
            joint.draws,
            max_texts_per_microbatch=most,
            share=share,
        )

    own = TaskLoss(
        _packed(run, run.task, data[0]),
        model.head,
        run.backbone.device,
        max_tokens_per_microbatch=limit,
        replay=replay,
        max_texts_per_microbatch=most,
        share=share,
    )
    return [own, *(of_joint(index, joint) for index, joint in enumerate(run.joint.tasks))]


def _packed(run: TrainingRun, task: TaskRecord, data: Encoded) -> TrainingData:
    """Return a task's training examples in shared rows, where that was asked for and answers are learned."""
    packs = run.settings.packing and task.definition.type not in methods.NON_GENERATIVE
    return PackedTexts(data, run.max_length) if packs else data


def _validate(splits: Sequence[ValidationSplit]) -> Validation:
    """Validate all tasks that are trained: by their mean score, or by each where those have no common unit."""
    measured = {split.task.name: split.validate() for split in splits}
    scores = {name: value for name, (value, _) in measured.items()}
    loss = sum(loss for _, loss in measured.values()) / len(measured)
    unlike = no_common_unit({split.task.name: split.task.definition.metric for split in splits})
    return Validation(scores if unlike else sum(scores.values()) / len(scores), loss)
