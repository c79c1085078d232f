"""Fitting a model to a task's examples, alone or along with other tasks: from splits to the loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limpet.errors import UsageError
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.backbone import Backbone
from limpet.training.checkpoint import Checkpoint
from limpet.training.companions import ALONE, Along, Companion
from limpet.training.data import read_split
from limpet.training.evaluate import Encoded, run
from limpet.training.features import fit_head, kept_in
from limpet.training.loop import Fitted, LoopSettings, fit
from limpet.training.lower_layers import keep
from limpet.training.model import OtherHead, TaskModel
from limpet.training.objectives import Mixture, TaskLoss
from limpet.training.progress import Progress
from limpet.training.scoring import no_common_unit, score

__all__ = ["fit_task", "measure_untrained"]


def fit_task(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
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
    train, validation = read_split(store, task, "train"), read_split(store, task, "validation")
    encoded = model.encode(backbone.tokenizer, train, max_length, learning=True)
    held_back = model.encode(backbone.tokenizer, validation, max_length)
    own = _HeldBack(task, model, held_back, [example.target for example in validation], device, loop.dtype)
    inputs = {"train": encoded.inputs_digest(targets=True), "validation": held_back.inputs_digest()}
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        if along.companions or along.penalty:
            raise UsageError(
                "The method trains nothing but heads, so there are no weights that tasks could share.",
                "choose a method that trains more: limpet methods",
            )
        kept = [kept_in(backbone, model, one, loop.dtype) if keep_answers else None for one in (encoded, held_back)]
        fitted = fit_head(model, encoded, held_back, own.measure, kept, loop, checkpoint, progress)
        return replace(fitted, inputs=inputs)
    started = time.perf_counter()
    if model.lower is not None and not along.companions:
        states = backbone.lower_states if keep_answers else None
        # a head that writes asks the backbone word by word, and has to be asked in full
        if task.definition.type in methods.FEATURES:
            encoded, held_back = keep(model, [encoded, held_back], device, progress, loop.dtype, states)
            own = replace(own, encoded=held_back)
        else:
            [encoded] = keep(model, [encoded], device, progress, loop.dtype, states)
    before = time.perf_counter() - started
    losses, learned = [TaskLoss(encoded, model.head, device, at_once=loop.at_once)], [own]
    for place, companion in enumerate(along.companions):
        along_data = _along_data(store, backbone, model, place, companion, max_length)
        inputs[f"train/{companion.task.name}"] = along_data.inputs_digest(targets=True)
        losses.append(TaskLoss(along_data, OtherHead(model, place).head, device, place, loop.at_once))
        if companion.head is None:
            learned.append(_held_back(store, backbone, model, place, companion.task, max_length, loop.dtype))

    unlike = no_common_unit({one.task.name: one.task.definition.metric for one in learned})

    def validate() -> float | Mapping[str, float]:
        scores = {one.task.name: one.validate() for one in learned}
        return scores if unlike else sum(scores.values()) / len(scores)

    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    mixture = Mixture(losses, along.penalty, parameters)
    return replace(fit(model, mixture, loop, validate, checkpoint, progress).after(before), inputs=inputs)


def measure_untrained(
    store: Store, backbone: Backbone, task: TaskRecord, model: TaskModel, max_length: int, progress: Progress
) -> Fitted:
    """Score what needs no training on the validation split, as the loop would have."""
    validation = read_split(store, task, "validation")
    started = time.perf_counter()
    encoded = model.encode(backbone.tokenizer, validation, max_length)
    outcome = run(model, encoded, backbone.model.device, progress, dtype=backbone.evaluation_dtype)
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
    """A task's validation examples, and what answers them."""

    task: TaskRecord
    model: TaskModel | OtherHead
    encoded: Encoded
    targets: list[Any]
    device: Any
    dtype: str

    def measure(self, predictions: Sequence[Any]) -> float:
        """Score predictions of the examples."""
        return score(self.task.definition.metric, predictions, self.targets)

    def validate(self) -> float:
        """Score the model as it is."""
        return self.measure(run(self.model, self.encoded, self.device, dtype=self.dtype).predictions)


def _along_data(
    store: Store, backbone: Backbone, model: TaskModel, place: int, companion: Companion, max_length: int
) -> Encoded:
    head = OtherHead(model, place).head
    examples = read_split(store, companion.task, "train")
    if companion.indices is not None:
        examples = [examples[index] for index in companion.indices]
    return head.encode(backbone.tokenizer, examples, max_length, True)


def _held_back(
    store: Store, backbone: Backbone, model: TaskModel, place: int, task: TaskRecord, max_length: int, dtype: str
) -> _HeldBack:
    other, examples = OtherHead(model, place), read_split(store, task, "validation")
    encoded = other.head.encode(backbone.tokenizer, examples, max_length, False)
    return _HeldBack(task, other, encoded, [example.target for example in examples], backbone.model.device, dtype)
