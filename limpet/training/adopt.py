"""Adopting an adapter that plain peft code trained elsewhere: checked against the base, and given a head.

A folder that `adapter export` wrote has its head beside it. A classifier saved by peft (`modules_to_save`) has it
among its tensors; it is taken out. An adapter of the backbone alone gets a head here: the adapter stays as it is, and
one linear layer is fitted on the task's training examples.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.registry.store import Store
from limpet.registry.strict_json import read_json
from limpet.registry.values import TaskRecord, VersionDraft
from limpet.training import methods, peft_folder
from limpet.training.backbone import Backbone
from limpet.training.checkpoint import Checkpoint
from limpet.training.data import read_split
from limpet.training.environment import current_environment
from limpet.training.fitting import fit_task
from limpet.training.heads import HEAD_FILES, HeadConfig, build_head, load_head, save_head
from limpet.training.heads.classification import ClassificationHead
from limpet.training.loop import LoopSettings
from limpet.training.methods._peft import PEFT_FILES
from limpet.training.model import TaskModel, base_modules
from limpet.training.peft_folder import PeftFolder
from limpet.training.progress import Progress

__all__ = ["adopt"]

_HEAD_EPOCHS = 5
_HEAD_LEARNING_RATE = 1e-2
_LABELS_FILE = "labels.json"
_PREFIX = "base_model.model."
# what the linear layer of transformers' sequence classifiers reads
_POOLING = {"encoder": "pooler", "decoder": "last", "encoder-decoder": "pooler"}


@contextmanager
def adopt(
    store: Store, backbone: Backbone, task: TaskRecord, folder: Path, progress: Progress
) -> Iterator[tuple[VersionDraft, dict[str, Path]]]:
    """Check a peft folder and give it a head, for the length of a `with` block.

    Args:
        store: The home's registry.
        backbone: The base that the adapter must fit.
        task: What the adapter was trained for.
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        progress: Told when a head is fitted.

    Raises:
        NotFoundError: A file is missing.
        UsageError: The folder holds a kind of adapter or head that limpet does not know, a field of its
            configuration is wrong, a file is a link, or the task is no classification.
        IntegrityError: Its tensors do not fit this base, or a file is corrupt.
    """
    if task.definition.type != "classification":
        raise UsageError(
            f"Task {task.name!r} is of type {task.definition.type!r}, and adapters of other makers can be registered "
            "for classification tasks only: nothing says which head they were trained with.",
            f"limpet train {task.name}, or limpet adapter import of a bundle",
        )
    with tempfile.TemporaryDirectory(prefix="limpet-adopt-") as name:
        staging, copies = Path(name) / "staging", Path(name) / "copies"
        staging.mkdir()
        copies.mkdir()
        peft_folder.copy_files(folder, (*PEFT_FILES, *HEAD_FILES, _LABELS_FILE), copies)
        made = peft_folder.read(folder, copies)
        config = made.config
        method = methods.get_for(_method_of(config), backbone.record)
        head_config = _take_over(folder, copies, staging, made, backbone, task)
        files = {path.name: path for path in staging.iterdir()}
        frozen = base_modules(backbone)
        module: Any = method.load(backbone.model, files)
        try:
            parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
            method.save(module, {}, backbone.record.name, staging)
            trained: dict[str, Any] = {}
            if head_config is None:
                progress.note("the folder has no head: fitting one, with the adapter as it is")
                trained = _fit_head(store, backbone, task, module, frozen, staging, progress)
        finally:
            method.detach(module)
        backbone.check_unchanged()
        (staging / "labels.json").write_text(json.dumps(list(task.labels), indent=2) + "\n", encoding="utf-8")
        head = load_head({name: staging / name for name in HEAD_FILES})
        parameters += sum(p.numel() for p in head.parameters())
        draft = VersionDraft(
            task=task.name,
            method=method.name,
            config={
                "method": method.recorded(config),
                "training": {"source": "registered"} | trained,
                "max_length": task.definition.max_length,
            },
            base_digest=backbone.record.digest,
            data_digest=task.data_digest,
            labels=task.labels,
            seed=0,
            environment=current_environment("float32"),
            metrics={},
            cost={
                "trainable_parameters": parameters,
                "trainable_share": parameters / backbone.record.parameters,
                "train_seconds": None,
                "examples_per_second": None,
                "peak_memory_bytes": None,
            },
        )
        yield draft, {path.name: path for path in sorted(staging.iterdir()) if path.suffix != ".checkpoint"}


def _method_of(config: Mapping[str, Any]) -> str:
    method = methods.for_peft_type(str(config.get("peft_type", "")))
    if method is None:
        raise UsageError(
            f"Adapters of peft type {config.get('peft_type')!r} can't be registered: no method here saves them.",
            "limpet methods",
        )
    return method.name


def _take_over(
    folder: Path, copies: Path, staging: Path, made: PeftFolder, backbone: Backbone, task: TaskRecord
) -> HeadConfig | None:
    """Put the adapter into `staging` as one of the backbone alone, its head beside it; null if it has no head."""
    adapter, tensors = _split_head(made.tensors, backbone)
    brings_head = (copies / HEAD_FILES[0]).exists()
    if brings_head and not (copies / HEAD_FILES[1]).exists():
        raise NotFoundError(f"{folder} has {HEAD_FILES[0]} but no {HEAD_FILES[1]}.", "export the adapter again")
    wrong = _own_head_problems(copies, backbone, task) if brings_head else _head_problems(tensors, backbone, task)
    peft_folder.check(folder, made, adapter, backbone, *wrong)
    settings = made.config | peft_folder.NOT_TAKEN_OVER
    (staging / PEFT_FILES[0]).write_text(json.dumps(settings), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in adapter.items()}, staging / PEFT_FILES[1])
    if brings_head:
        for name in HEAD_FILES:
            shutil.copyfile(copies / name, staging / name)
        return load_head({name: staging / name for name in HEAD_FILES}).config
    if not tensors:
        return None
    labels, width = tensors["weight"].shape
    pooling = _POOLING[backbone.record.family]
    head = ClassificationHead(HeadConfig("classification", pooling, width, labels, 0.0, bias="bias" in tensors))
    head.linear.load_state_dict(tensors)
    save_head(head, staging)
    return head.config


def _split_head(tensors: Mapping[str, Tensor], backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take a sequence classifier's head out, and name the rest as peft names an adapter of the backbone alone."""
    inner = f"{_PREFIX}{backbone.model.base_model_prefix}."
    names = [name for name in tensors if name.startswith(_PREFIX)]
    heads = {name for name in names if name.removeprefix(_PREFIX).split(".")[0] in ("classifier", "score")}
    head = {name.removeprefix(_PREFIX).split(".", 1)[1]: tensors[name] for name in heads}
    if heads and set(head) - {"weight", "bias"}:
        raise UsageError(
            f"The adapter's head has more than one layer ({', '.join(sorted(head))}), which limpet can't take over.",
            "train the adapter on the backbone (task_type FEATURE_EXTRACTION); a head is then fitted here",
        )
    own = {name for name, _ in backbone.model.named_parameters()}
    rest = {}
    for name in tensors.keys() - heads:
        strip = name.startswith(inner) and not any(key.startswith(name.removeprefix(_PREFIX)) for key in own)
        rest[_PREFIX + name.removeprefix(inner) if strip else name] = tensors[name]
    return rest, head


def _own_head_problems(copies: Path, backbone: Backbone, task: TaskRecord) -> list[str]:
    """Say what is wrong with the head that a folder of `adapter export` brings."""
    problems = []
    try:
        config = load_head({name: copies / name for name in HEAD_FILES}).config
        problems += _size_problems(config.labels, config.hidden_size, backbone, task)
    except IntegrityError as error:
        problems.append(error.message)
    path = copies / _LABELS_FILE
    if path.exists():
        try:
            labels = read_json(path.read_bytes(), _LABELS_FILE)
        except IntegrityError as error:
            return [*problems, error.message]
        if labels != list(task.labels):
            problems.append(f"the adapter's label map is not that of task {task.name!r}")
    return problems


def _head_problems(head: Mapping[str, Tensor], backbone: Backbone, task: TaskRecord) -> list[str]:
    """Say what is wrong with a classifier that peft saved with the adapter; nothing if there is none."""
    if not head:
        return []
    weight, bias = head.get("weight"), head.get("bias")
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return ["the head is not one linear layer"]
    problems = _size_problems(weight.shape[0], weight.shape[1], backbone, task)
    if _POOLING[backbone.record.family] == "pooler" and not backbone.pooled:
        problems.append(
            "the head reads the base's pooler, which its files do not have: it was trained on random numbers"
        )
    return problems


def _size_problems(labels: int, width: int, backbone: Backbone, task: TaskRecord) -> list[str]:
    problems = []
    if labels != len(task.labels):
        problems.append(f"the head has {labels} labels, but task {task.name!r} has {len(task.labels)}")
    if width != backbone.record.hidden_size:
        problems.append(f"the head reads {width} features, and the base gives {backbone.record.hidden_size}")
    return problems


def _fit_head(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    module: Any,
    frozen: frozenset[int],
    staging: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Fit one linear layer on the adapter's features and save it; return the settings used."""
    module.requires_grad_(False)
    torch.manual_seed(0)
    head = build_head(task, backbone.record, read_split(store, task, "train")).to(backbone.model.device)
    model = TaskModel(module, head, frozen)
    loop = LoopSettings(_HEAD_EPOCHS, _HEAD_LEARNING_RATE, 16, seed=0, dtype="float32")
    checkpoint = Checkpoint(staging / "head.checkpoint", interval=float("inf"))
    fit_task(store, backbone, task, model, task.definition.max_length, loop, checkpoint, progress)
    save_head(head, staging)
    return {"head_epochs": _HEAD_EPOCHS, "head_learning_rate": _HEAD_LEARNING_RATE}
