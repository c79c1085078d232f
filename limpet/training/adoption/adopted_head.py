"""The head of an adapter that was made elsewhere: its own where it brings one, in the order of the task's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import HEAD_FILES, LABELS_FILE
from limpet.registry.formats.strict_json import read_json
from limpet.registry.values import TaskRecord
from limpet.training.base.backbone import Backbone
from limpet.training.batching.examples import Example
from limpet.training.heads import Head
from limpet.training.heads.regression import RegressionConfig
from limpet.training.model.head_files import load_head
from limpet.training.task_types import task_type

__all__ = ["foreign_head", "foreign_problems", "own_problems", "row_order"]

# what the linear layer of transformers' sequence classifiers reads
_POOLING = {"encoder": "pooler", "decoder": "last", "encoder-decoder": "pooler"}
_OF_TEXTS = ("classification", "multi-label", "regression")


def row_order(task: TaskRecord, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Return the labels of a task in the order in which the rows of a foreign head stand for them.

    Args:
        task: The task.
        labels: The order that its maker names; null where nobody did. Numbers are then taken in their own order, as
            every trainer takes them, and other labels in that of the task.

    Raises:
        UsageError: What is named are not the labels of the task, each once.
    """
    if labels is None:
        numbers = [label for label in task.labels if label.removeprefix("-").isdecimal()]
        return tuple(sorted(task.labels, key=int)) if len(numbers) == len(task.labels) else task.labels
    if sorted(labels) != sorted(task.labels):
        raise UsageError(
            f"The labels {', '.join(labels)} are not those of task {task.name!r}, each once: "
            f"{', '.join(task.labels[:8])}{' ...' if len(task.labels) > 8 else ''}.",
            f"limpet task show {task.name}",
        )
    return tuple(labels)


def foreign_head(
    tensors: Mapping[str, Tensor],
    order: Sequence[str],
    *,
    backbone: Backbone,
    task: TaskRecord,
    train: Sequence[Example],
) -> Head:
    """Return the head of a task with the weights of a classifier that peft saved.

    Args:
        tensors: Its `weight` (rows, width), and its `bias` (rows) where it has one.
        order: The label of each row.
        backbone: The base.
        task: The task.
        train: Its training examples.
    """
    kind = task_type(task.definition.type).head
    config = replace(
        kind.configure(task, backbone.record, train), dropout=0.0, bias="bias" in tensors, **_reading(backbone, task)
    )
    if isinstance(config, RegressionConfig):
        # its outputs are the numbers themselves
        config = replace(config, mean=0.0, deviation=1.0)
    head = kind(config)
    rows = [list(order).index(label) for label in task.labels] or [0]
    head.linear.load_state_dict({name: tensor[rows] for name, tensor in tensors.items()})
    return head


def foreign_problems(tensors: Mapping[str, Tensor], backbone: Backbone, task: TaskRecord) -> list[str]:
    """Say what is wrong with a classifier that peft saved with the adapter; nothing if there is none."""
    if not tensors:
        return []
    kind = task.definition.type
    if kind == "generation":
        return [f"it brings the head of a classifier, and task {task.name!r} is of type {kind!r}"]
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if set(tensors) - {"weight", "bias"}:
        return [f"its head has more than one layer ({', '.join(sorted(tensors)[:4])}), which limpet can't take over"]
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return ["its head is not one linear layer"]
    problems = _size_problems(weight.shape[0], weight.shape[1], backbone, task=task)
    if _reading(backbone, task).get("pooling") == "pooler" and not backbone.pooled:
        problems.append("its head reads the base's pooler, which its files do not have: it read random numbers")
    return problems


def own_problems(copies: Path, backbone: Backbone, task: TaskRecord) -> list[str]:
    """Say what is wrong with the head that a folder of `adapter export` brings."""
    problems = []
    try:
        config = load_head({name: copies / name for name in HEAD_FILES if (copies / name).exists()}).config
        if config.type != task.definition.type:
            return [f"its head is of type {config.type!r}, and task {task.name!r} of type {task.definition.type!r}"]
        if task.definition.type != "generation":
            problems += _size_problems(config.outputs, config.hidden_size, backbone, task=task)
    except IntegrityError as error:
        problems.append(error.message)
    path = copies / LABELS_FILE
    if path.exists():
        try:
            labels = read_json(path.read_bytes(), LABELS_FILE)
        except IntegrityError as error:
            return [*problems, error.message]
        if labels != list(task.labels):
            problems.append(f"the adapter's label map is not that of task {task.name!r}")
    return problems


def _reading(backbone: Backbone, task: TaskRecord) -> dict[str, Any]:
    """What the classifiers of transformers read, where a type of task leaves a choice."""
    return {"pooling": _POOLING[backbone.record.family]} if task.definition.type in _OF_TEXTS else {}


def _size_problems(rows: int, width: int, backbone: Backbone, *, task: TaskRecord) -> list[str]:
    problems = []
    if task.definition.type == "regression":
        if rows != 1:
            problems.append(f"the head has {rows} outputs, and task {task.name!r} asks for one number")
    elif rows != len(task.labels):
        problems.append(f"the head has {rows} labels, but task {task.name!r} has {len(task.labels)}")
    if width != backbone.record.hidden_size:
        problems.append(f"the head reads {width} features, and the base gives {backbone.record.hidden_size}")
    return problems
