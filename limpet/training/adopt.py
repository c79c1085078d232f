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
from safetensors.torch import load_file, save_file
from torch import Tensor

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.registry.safetensors_header import check_header
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord, VersionDraft
from limpet.training import methods
from limpet.training.backbone import Backbone
from limpet.training.checkpoint import Checkpoint
from limpet.training.environment import current_environment
from limpet.training.heads import HEAD_FILES, ClassificationHead, HeadConfig, build_head, load_head, save_head
from limpet.training.learn import fit_task
from limpet.training.loop import LoopSettings
from limpet.training.methods._peft import PEFT_FILES
from limpet.training.model import TaskModel, base_modules
from limpet.training.progress import Progress

__all__ = ["adopt"]

_HEAD_EPOCHS = 5
_HEAD_LEARNING_RATE = 1e-2
_PREFIX = "base_model.model."


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
        UsageError: The folder holds a kind of adapter or head that limpet does not know.
        IntegrityError: Its tensors do not fit this base, or a file is corrupt.
    """
    config = _read_config(folder)
    method = methods.get_for(_method_of(config), backbone.record)
    with tempfile.TemporaryDirectory(prefix="limpet-adopt-") as name:
        staging = Path(name)
        head_config = _take_over(folder, staging, config, backbone, task)
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


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {str(folder)!r}.", "limpet adapter register TASK FOLDER")
    for name in PEFT_FILES:
        if not (folder / name).is_file():
            held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise NotFoundError(
                f"{folder} is not a peft adapter: it has no {name} (it holds {held}).",
                f"save it with model.save_pretrained({str(folder)!r})",
            )
    check_header(folder / PEFT_FILES[1])
    try:
        config = json.loads((folder / PEFT_FILES[0]).read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{folder / PEFT_FILES[0]} is not JSON: {error}", "save the adapter again") from error
    if not isinstance(config, dict):
        raise IntegrityError(f"{folder / PEFT_FILES[0]} is not a JSON object.", "save the adapter again")
    return config


def _method_of(config: Mapping[str, Any]) -> str:
    method = methods.for_peft_type(str(config.get("peft_type", "")))
    if method is None:
        known = sorted(kind for name in methods.names() if (kind := methods.get(name).peft_type))
        raise UsageError(
            f"Adapters of peft type {config.get('peft_type')!r} can't be registered; {', '.join(known)} can.",
            "limpet methods",
        )
    return method.name


def _take_over(
    folder: Path, staging: Path, config: dict[str, Any], backbone: Backbone, task: TaskRecord
) -> HeadConfig | None:
    """Copy the adapter into `staging` as one of the backbone alone, its head beside it; null if it has no head."""
    tensors = load_file(folder / PEFT_FILES[1])
    adapter, head = _split_head(tensors, backbone)
    settings = config | {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
    (staging / PEFT_FILES[0]).write_text(json.dumps(settings), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in adapter.items()}, staging / PEFT_FILES[1])
    if (folder / HEAD_FILES[0]).exists():
        for name in HEAD_FILES:
            if not (folder / name).is_file():
                raise NotFoundError(f"{folder} has {HEAD_FILES[0]} but no {name}.", "export the adapter again")
            shutil.copyfile(folder / name, staging / name)
        loaded = load_head({name: staging / name for name in HEAD_FILES}).config
        _check_labels(loaded.labels, task)
        _check_label_order(folder, task)
        return loaded
    if not head:
        return None
    weight = head["weight"]
    _check_labels(weight.shape[0], task)
    pooling = "last" if backbone.record.family == "decoder" else "pooler"
    made = ClassificationHead(
        HeadConfig("classification", pooling, weight.shape[1], weight.shape[0], 0.0, bias="bias" in head)
    )
    made.linear.load_state_dict(head)
    save_head(made, staging)
    return made.config


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


def _check_labels(count: int, task: TaskRecord) -> None:
    if count != len(task.labels):
        raise IntegrityError(
            f"The adapter's head has {count} labels, but task {task.name!r} has {len(task.labels)}.",
            f"limpet task show {task.name}",
        )


def _check_label_order(folder: Path, task: TaskRecord) -> None:
    path = folder / "labels.json"
    if path.is_file() and tuple(json.loads(path.read_text(encoding="utf-8"))) != task.labels:
        raise IntegrityError(
            f"The adapter's label map is not that of task {task.name!r}.", f"limpet task show {task.name}"
        )


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
    head = build_head(task, backbone.record).to(backbone.model.device)
    model = TaskModel(module, head, frozen)
    loop = LoopSettings(_HEAD_EPOCHS, _HEAD_LEARNING_RATE, 16, seed=0, dtype="float32")
    checkpoint = Checkpoint(staging / "head.checkpoint", interval=float("inf"))
    fit_task(store, backbone, task, model, task.definition.max_length, loop, checkpoint, progress)
    save_head(head, staging)
    return {"head_epochs": _HEAD_EPOCHS, "head_learning_rate": _HEAD_LEARNING_RATE}
