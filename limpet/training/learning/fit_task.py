"""Fitting a model to a task's examples, alone or along with other tasks: from splits to the loop."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from limpet.errors import UsageError
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.frozen_layers import keep
from limpet.training.base.precision import autocast
from limpet.training.batching.inference import Encoded, Outcome, in_batches, run
from limpet.training.data.build_task import read_split
from limpet.training.learning.checkpoint import Checkpoint
from limpet.training.learning.joint_training import ALONE, Along, Companion
from limpet.training.learning.loop import Fitted, LoopSettings, Validation, fit
from limpet.training.learning.objectives import Mixture, TaskLoss
from limpet.training.metrics.metric import no_common_unit, score
from limpet.training.model.feature_cache import fit_head, kept_in
from limpet.training.model.task_model import OtherHead, TaskModel
from limpet.training.progress import Progress

__all__ = ["fit_task", "measure_untrained"]


def fit_task(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    model: TaskModel,
    max_length: int,
    loop: LoopSettings,
    checkpoint: Checkpoint,
    progress: Progress,
    keep_answers: bool = False,
    along: Along = ALONE,
) -> Fitted:
    """Fit what is trainable in `model` on a task's training split; its validation split chooses the epoch.

    Where that is nothing but the head, the texts pass the backbone once, not in every epoch; where it is the top
    layers, they pass the layers below once.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        task: What is learned.
        model: The backbone with a method attached, and a head.
        max_length: Longest text in tokens.
        loop: Settings of the loop.
        checkpoint: Where to write the state, and to resume from.
        progress: Told of every step.
        keep_answers: Keep what the frozen base gives for the texts for what comes later, as where it is computed in
            the default way.
        along: What is learned along. Where that is other tasks' heads, the best epoch is that of the best mean score,
            or of the best mean rank where the tasks' scores have no common unit.

    Raises:
        InterruptedRunError: A signal came; a checkpoint was kept.
        TrainingError: The loss is not finite.
        UsageError: Nothing but heads is trained, and there is something to learn along.
    """
    device = backbone.model.device
    train = read_split(store, task, "train")
    encoded = model.encode(backbone.tokenizer, train, max_length, learning=True)
    own = _held_back(store, backbone, model, task=task, max_length=max_length, dtype=loop.dtype)
    held_back = own.encoded
    inputs = {"train": encoded.inputs_digest(targets=True), "validation": held_back.inputs_digest()}
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        if along.companions or along.penalty:
            raise UsageError(
                "The method trains nothing but heads, so there are no weights that tasks could share.",
                "choose a method that trains more: limpet methods",
            )
        kept = [
            kept_in(backbone, model, one, dtype=loop.dtype) if keep_answers else None for one in (encoded, held_back)
        ]
        fitted = fit_head(
            model,
            encoded,
            held_back,
            measure=own.measure,
            kept=kept,
            loop=loop,
            checkpoint=checkpoint,
            progress=progress,
        )
        return replace(fitted, inputs=inputs)
    started = time.perf_counter()
    if model.lower is not None and not along.companions:
        states = backbone.lower_states if keep_answers else None
        # a head that writes asks the backbone word by word, and has to be asked in full
        if task.definition.type in methods.FEATURES:
            encoded, held_back = keep(
                model, [encoded, held_back], device, progress=progress, dtype=loop.dtype, states=states
            )
            own = replace(own, encoded=held_back)
        else:
            [encoded] = keep(model, [encoded], device, progress=progress, dtype=loop.dtype, states=states)
    before = time.perf_counter() - started
    losses, learned = [TaskLoss(encoded, model.head, device, at_once=loop.at_once)], [own]
    for place, companion in enumerate(along.companions):
        along_data = _along_data(store, backbone, model, place=place, companion=companion, max_length=max_length)
        inputs[f"train/{companion.task.name}"] = along_data.inputs_digest(targets=True)
        losses.append(
            TaskLoss(along_data, OtherHead(model, place).head, device, place, loop.at_once, companion.draws)
        )
        if companion.head is None:
            other = OtherHead(model, place)
            learned.append(
                _held_back(store, backbone, other, task=companion.task, max_length=max_length, dtype=loop.dtype)
            )

    unlike = no_common_unit({one.task.name: one.task.definition.metric for one in learned})

    def validate() -> Validation:
        found = {one.task.name: one.validate() for one in learned}
        scores = {name: score for name, (score, _) in found.items()}
        loss = sum(loss for _, loss in found.values()) / len(found)
        return Validation(scores if unlike else sum(scores.values()) / len(scores), loss)

    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    mixture = Mixture(losses, along.penalty, parameters)
    return replace(
        fit(model, mixture, loop, validate=validate, checkpoint=checkpoint, progress=progress).after(before),
        inputs=inputs,
    )


def measure_untrained(
    store: Store, backbone: Backbone, task: TaskRecord, *, model: TaskModel, max_length: int, progress: Progress
) -> Fitted:
    """Score what needs no training on the validation split, as the loop would have."""
    validation = read_split(store, task, "validation")
    started = time.perf_counter()
    encoded = model.encode(backbone.tokenizer, validation, max_length)
    outcome = run(model, encoded, backbone.model.device, progress=progress, dtype=backbone.evaluation_dtype)
    value = score(task.definition.metric, outcome.predictions, [example.target for example in validation])
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


@dataclass(frozen=True)
class _HeldBack:
    """A task's validation examples, and what answers them.

    `to_read` has them with their targets, as in training, where an answer is written and has no loss of its own; null
    elsewhere, and where a target is longer than what can be read.
    """

    task: TaskRecord
    model: TaskModel | OtherHead
    encoded: Encoded
    to_read: Encoded | None
    targets: list[Any]
    device: Any
    dtype: str

    def measure(self, outcome: Outcome) -> Validation:
        """Tell how good answers to the examples are."""
        return Validation(*self._measured(outcome))

    def validate(self) -> tuple[float, float]:
        """Return the score and the loss of the model as it is."""
        return self._measured(run(self.model, self.encoded, self.device, dtype=self.dtype))

    def _measured(self, outcome: Outcome) -> tuple[float, float]:
        value = score(self.task.definition.metric, outcome.predictions, self.targets)
        if self.to_read is not None:
            return value, self._loss_of_reading(self.to_read)
        targets = self.encoded.fields.get("targets")
        return value, self.model.head.loss_of(outcome.rows, targets.rows) if targets else math.inf

    def _loss_of_reading(self, texts: Encoded) -> float:
        head, total, terms = self.model.head, 0.0, 0
        with torch.no_grad(), autocast(self.device, self.dtype):
            for _, batch in in_batches(texts, self.device):
                targets = batch.pop("targets")
                count = head.terms(targets)
                total += float(head.loss(self.model(**batch), targets)) * count
                terms += count
        return total / max(1, terms)


def _along_data(
    store: Store, backbone: Backbone, model: TaskModel, *, place: int, companion: Companion, max_length: int
) -> Encoded:
    head = OtherHead(model, place).head
    examples = read_split(store, companion.task, "train")
    if companion.indices is not None:
        examples = [examples[index] for index in companion.indices]
    return head.encode(backbone.tokenizer, examples, max_length, learning=True)


def _held_back(
    store: Store, backbone: Backbone, model: TaskModel | OtherHead, *, task: TaskRecord, max_length: int, dtype: str
) -> _HeldBack:
    examples, head = read_split(store, task, "validation"), model.head
    reads = task.definition.type in methods.FEATURES
    encoded, to_read = head.encode(backbone.tokenizer, examples, max_length, learning=reads), None
    if not reads:
        with suppress(UsageError):
            to_read = head.encode(backbone.tokenizer, examples, max_length, learning=True)
    targets = [example.target for example in examples]
    device = backbone.model.device
    plan = encoded.planned_for(device.type)
    return _HeldBack(task, model, plan, to_read and to_read.planned_for(device.type), targets, device, dtype)
