"""Adopting an adapter that plain peft code trained elsewhere: checked against the base, and given a head.

A folder that `adapter export` wrote has its head beside it. A classifier saved by peft (`modules_to_save`) has it
among its tensors; it is taken out. An adapter of the backbone alone gets a head here: the adapter stays as it is, and
one linear layer is fitted on the task's training examples. What is to write text needs none: the base has one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from limpet.errors import NotFoundError, UsageError
from limpet.first_few import first_few
from limpet.registry.formats.adapter_files import HEAD_FILES, LABELS_FILE, PEFT_FILES
from limpet.registry.formats.task_documents import has_tensors
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord, VersionDraft
from limpet.training import methods
from limpet.training.adoption import peft_folder
from limpet.training.adoption.adopted_head import foreign_head, foreign_problems, own_problems, row_order
from limpet.training.adoption.from_model import compare, make_adapter, told_comparison
from limpet.training.adoption.mutated_start import without_start
from limpet.training.adoption.peft_folder import Fitting, PeftFolder
from limpet.training.adoption.peft_wrapper import Unwrapped
from limpet.training.adoption.source import Source
from limpet.training.adoption.trained_prompt import TOKENIZER_FILES, differences, own_ends
from limpet.training.base.backbone import Backbone
from limpet.training.base.environment import current_environment
from limpet.training.base.locate import is_called
from limpet.training.data.stored_splits import read_split
from limpet.training.heads import Head
from limpet.training.heads.generation import GenerationConfig
from limpet.training.learning.fit_task import fit_task
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.head_files import build_head, load_head, save_head, write_labels
from limpet.training.model.task_model import TaskModel, base_modules
from limpet.training.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["adopt"]

# to the loop the adapter is a part of a frozen base, and the head all that is learned
_HEAD_SETTINGS = TrainingSettings(methods.NO_ADAPTER, epochs=5, learning_rate=1e-2, dtype="float32")


@contextmanager
def adopt(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    source: Source,
    progress: Progress,
) -> Iterator[tuple[VersionDraft, dict[str, Path]]]:
    """Check a peft folder and give it a head, for the length of a `with` block.

    Args:
        store: The home's registry.
        backbone: The base that the adapter must fit.
        task: What the adapter was trained for.
        source: A folder with `adapter_config.json` and `adapter_model.safetensors`, or a whole model's.
        progress: Receives what was left out, and when a head is fitted.

    Raises:
        NotFoundError: A file is missing.
        UsageError: The folder holds a kind of adapter or head that limpet does not know, a field of its
            configuration is wrong, a file is a link, or the labels are not those of the task; or a whole model's
            change has no rank that is low.
        IntegrityError: Its tensors do not fit this base, or a file is corrupt.
    """
    with tempfile.TemporaryDirectory(prefix="limpet-adopt-") as name:
        folder, labels = source.folder, source.labels
        staging, copies = Path(name) / "staging", Path(name) / "copies"
        staging.mkdir()
        copies.mkdir()
        made = None
        peft_folder.copy_files(folder, TOKENIZER_FILES, copies)
        if source.rank is None:
            peft_folder.copy_files(folder, (*PEFT_FILES, *HEAD_FILES, LABELS_FILE), copies)
        else:
            rank = source.rank
            made = make_adapter(folder, backbone, task, rank=rank, target=copies, progress=progress)
        peft_files = _read(source, copies)
        method = methods.get_for(_method_of(peft_files.config), backbone.record)
        order = row_order(task, labels)
        fitting = _take_over(folder, copies, peft_files, backbone=backbone, task=task)
        origin = _say(fitting, peft_files, backbone, progress=progress)
        for recorded, value, note in differences(folder, copies, backbone, task=task):
            origin[recorded] = value
            progress.note(note)
        _write_adapter(fitting, staging)
        frozen = base_modules(backbone)
        module: PreTrainedModel = method.load(backbone.model, {path.name: path for path in staging.iterdir()})
        try:
            parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
            method.save(module, backbone.record.name, staging)
            brought = _Brought(copies, fitting.parts.head, order, labels)
            trained = _put_head(brought, store, backbone, task=task, staging=staging, progress=progress)
            if trained is None:
                progress.note("the folder has no head: fitting one, with the adapter as it is")
                run = TrainingRun(store, backbone, task, _HEAD_SETTINGS, progress=progress)
                trained = _fit_head(run, module, frozen, staging=staging)
        finally:
            method.detach(module)
        backbone.check_unchanged()
        write_labels(staging, task.labels)
        files = {path.name: path for path in sorted(staging.iterdir()) if path.suffix != ".checkpoint"}
        if made is not None and source.rank is not None:
            compared = compare(store, backbone, task, made=made, files=files)
            origin["from_model"] = made.recorded(source.rank) | compared
            progress.note(told_comparison(compared))
        head = load_head({name: path for name, path in files.items() if name in HEAD_FILES})
        parameters += sum(p.numel() for p in head.parameters())
        draft = VersionDraft(
            task=task.name,
            method=method.name,
            config={
                "method": method.recorded(peft_files.config | fitting.config),
                "training": {"source": "registered"} | trained,
                "max_length": task.definition.max_length,
                **_recorded_ends(head),
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
            lineage={"registered": origin} if origin else {},
        )
        yield draft, files


def _recorded_ends(head: Head) -> dict[str, Any]:
    ends = head.config.ends if isinstance(head.config, GenerationConfig) else None
    return {"end_tokens": list(ends)} if ends else {}


def _read(source: Source, copies: Path) -> PeftFolder:
    """Read the copies of an adapter's files; what its beginning took from the base is given back."""
    trained = peft_folder.read(source.folder, copies)
    if source.initial is None:
        return trained
    before = copies / "initial"
    before.mkdir()
    peft_folder.copy_files(source.initial, PEFT_FILES, before)
    return without_start(trained, peft_folder.read(source.initial, before), source.initial)


def _method_of(config: Mapping[str, Any]) -> str:
    method = methods.for_peft_type(str(config.get("peft_type", "")))
    if method is None:
        raise UsageError(
            f"Adapters of peft type {config.get('peft_type')!r} can't be registered: no method here saves them.",
            "limpet methods",
        )
    if unfit := getattr(method, "unfit", ""):
        raise UsageError(f"Adapters of {method.name!r} can't be registered: {unfit}.", "limpet methods")
    return method.name


def _take_over(folder: Path, copies: Path, made: PeftFolder, *, backbone: Backbone, task: TaskRecord) -> Fitting:
    """Return the adapter as one of the backbone alone, after all of it and its head were found to fit."""
    brings_head = (copies / HEAD_FILES[0]).exists()
    if brings_head and has_tensors(task.definition.type) and not (copies / HEAD_FILES[1]).exists():
        raise NotFoundError(f"{folder} has {HEAD_FILES[0]} but no {HEAD_FILES[1]}.", "export the adapter again")

    def head_problems(parts: Unwrapped) -> list[str]:
        problems = (
            own_problems(copies, backbone, task) if brings_head else foreign_problems(parts.head, backbone, task)
        )
        if brings_head and parts.head:
            problems.append(f"it brings two heads: {HEAD_FILES[0]}, and one among its tensors")
        return problems

    return peft_folder.check(folder, made, backbone, find=head_problems)


def _say(fitting: Fitting, made: PeftFolder, backbone: Backbone, *, progress: Progress) -> dict[str, Any]:
    """Say what was left away and what may be wrong, and return it for the record."""
    origin: dict[str, Any] = {}
    named = made.config.get("base_model_name_or_path")
    if isinstance(named, str) and named and not is_called(backbone.record, named):
        origin["base_model_name_or_path"] = named[:500]
        progress.note(
            f"its adapter_config.json names the base {named[:200]!r}, and this home's is {backbone.record.name!r}: "
            "if these are two models, its answers are wrong, and nothing in its files can tell"
        )
    if fitting.ignored:
        origin["ignored_fields"] = list(fitting.ignored)
        progress.note(f"fields that say nothing about a trained adapter are left away: {', '.join(fitting.ignored)}")
    if fitting.parts.copies:
        origin["copies_of_the_base"] = fitting.parts.copies
        progress.note(f"copies of the base's own tensors are left away: {first_few(fitting.parts.copies)}")
    return origin


def _write_adapter(fitting: Fitting, staging: Path) -> None:
    (staging / PEFT_FILES[0]).write_text(json.dumps(fitting.config), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in fitting.parts.adapter.items()}
    save_file(tensors, staging / PEFT_FILES[1])


@dataclass(frozen=True)
class _Brought:
    """The head that a folder brings: files of limpet's own, or peft's tensors with the labels of their rows."""

    copies: Path
    tensors: Mapping[str, Tensor]
    order: tuple[str, ...]
    labels: Sequence[str] | None


def _put_head(
    brought: _Brought, store: Store, backbone: Backbone, *, task: TaskRecord, staging: Path, progress: Progress
) -> dict[str, Any] | None:
    """Write the head that needs no fitting, and return what is recorded of it; null where one has to be fitted."""
    files = [brought.copies / name for name in HEAD_FILES if (brought.copies / name).exists()]
    if brought.labels is not None and (files or not brought.tensors):
        what = f"a {HEAD_FILES[0]} of its own" if files else "no such head"
        raise UsageError(
            f"--labels names the rows of a head that peft saved, and this folder has {what}.", "leave out --labels"
        )
    if files:
        for file in files:
            shutil.copyfile(file, staging / file.name)
        return {}
    if has_tensors(task.definition.type) and not brought.tensors:
        return None
    train = read_split(store, task, "train")
    if not has_tensors(task.definition.type):
        head = build_head(task, backbone.record, train)
        ends = own_ends(brought.copies, backbone)
        if ends and isinstance(head.config, GenerationConfig):
            head = type(head)(replace(head.config, ends=ends))
        save_head(head, staging)
        return {}
    if brought.order:
        said = "as --labels says" if brought.labels is not None else "another order: --labels a,b,c"
        progress.note(f"the rows of its head stand for {first_few(brought.order)}, in this order ({said})")
    save_head(foreign_head(brought.tensors, brought.order, backbone=backbone, task=task, train=train), staging)
    return {"head_rows": list(brought.order)} if brought.order != task.labels else {}


def _fit_head(run: TrainingRun, module: PreTrainedModel, frozen: frozenset[int], *, staging: Path) -> dict[str, Any]:
    """Fit one linear layer on the adapter's features and save it; return the settings used."""
    module.requires_grad_(False)
    torch.manual_seed(0)
    train = read_split(run.store, run.task, "train")
    head = build_head(run.task, run.backbone.record, train).to(run.backbone.device)
    checkpoint = Checkpoint(staging / "head.checkpoint", interval=float("inf"))
    fit_task(run, TaskModel(module, head, frozen), checkpoint)
    save_head(head, staging)
    return {"head_epochs": run.settings.epochs, "head_learning_rate": run.settings.learning_rate}
