"""Learning one task: from settings to the files of an adapter, staged for registration.

A run is known by the digest of all that decides its result. Its folder keeps the settings, the checkpoint and, at
the end, the staged files; so a run that was killed goes on, and one that had ended is not run again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.registry import versions
from limpet.registry.formats.canonical import canonical_json, digest_file, digest_json
from limpet.registry.store import Store
from limpet.registry.system.atomic_files import place_folder, write_file
from limpet.registry.values import Environment, TaskRecord, VersionDraft
from limpet.training import methods
from limpet.training.base.backbone import Backbone, positions
from limpet.training.base.environment import current_environment
from limpet.training.base.precision import EMULATED, check_dtype, is_emulated, resolve_dtype
from limpet.training.batching.batches import PAD_TO, at_once
from limpet.training.data.build_task import read_split
from limpet.training.data.overlong import cut
from limpet.training.heads import Head, build_head, load_head, save_head
from limpet.training.learning import peak_memory
from limpet.training.learning.checkpoint import Checkpoint
from limpet.training.learning.fit_task import fit_task, measure_untrained
from limpet.training.learning.joint_training import Along, Companion, Penalty
from limpet.training.learning.loop import Fitted, LoopSettings
from limpet.training.learning.run_lock import alone_in
from limpet.training.model.fast_paths import check_choices, computing
from limpet.training.model.task_model import TaskModel, base_modules, version_files
from limpet.training.progress import SILENT, Progress

__all__ = [
    "Staged",
    "Start",
    "TrainingSettings",
    "discard",
    "fit_task",
    "learn",
    "read_staged",
    "run_folder",
    "unfinished_run",
    "write_draft",
]

_CHECKPOINT_SECONDS = 20.0
_LOOP_KEYS = {
    "lr": "learning_rate",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "max_length": "max_length",
    "weight_decay": "weight_decay",
    "dtype": "dtype",
    "without": "without",
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a task is to be learned.

    `learning_rate` None means the method's own; `max_length` (tokens) None means the task's; `dtype` is `auto`,
    `bfloat16` or `float32`; `max_seconds` ends training early; `weight_decay` pulls matrices towards 0, and no
    norm, bias, scale or factor (see `limpet.training.learning.weight_decay`); `without` names what is not to be done
    although it is faster (see `limpet.training.model.fast_paths.CHOICES`).
    """

    method: str = methods.DEFAULT
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 16
    seed: int = 0
    max_length: int | None = None
    dtype: str = "auto"
    max_seconds: float | None = None
    weight_decay: float = 0.01
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, method: str, settings: Mapping[str, Any], seed: int) -> TrainingSettings:
        """Tell what is the loop's (`lr` and the others of a stream's `training`) from what is the method's."""
        own = dict(settings)
        loop = {name: own.pop(key) for key, name in _LOOP_KEYS.items() if key in own}
        # of a file it is a list
        loop["without"] = tuple(str(name) for name in loop.get("without", ()))
        return cls(method=method, method_settings=own, seed=seed, **loop)

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            UsageError: A value makes no sense.
        """
        ranges = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "learning_rate": (self.learning_rate is None or 0 < self.learning_rate < 10, "above 0 and below 10"),
            "seed": (0 <= self.seed < 2**31, "0 to 2147483647"),
            "max_length": (self.max_length is None or self.max_length >= 2, "2 or more"),
            "weight_decay": (0 <= self.weight_decay < 1, "0 or more and below 1"),
            "max_seconds": (self.max_seconds is None or self.max_seconds > 0, "above 0"),
        }
        check_choices(self.without)
        check_dtype(self.dtype)
        for name, (fine, allowed) in ranges.items():
            if not fine:
                words = name.replace("_", " ")
                raise UsageError(f"The {words} can't be {getattr(self, name)!r}.", f"it must be {allowed}")


@dataclass(frozen=True)
class Start:
    """The adapter that training begins with instead of new tensors; `reference` is its version, if it has one."""

    method: str
    task: str
    labels: tuple[str, ...]
    files: Mapping[str, Path]
    digest: str
    reference: str | None

    @classmethod
    def from_version(cls, store: Store, backbone: Backbone, reference: str) -> Start:
        """Begin with a registered version."""
        version = versions.resolve(store, reference)
        files = version_files(store, backbone, version)
        digest = digest_json({file.name: file.digest for file in version.files})
        return cls(version.method, version.task, version.labels, files, digest, version.reference)

    @classmethod
    def from_staged(cls, staged: Staged) -> Start:
        """Begin with what was just learned and is not registered."""
        draft, files = staged.draft, staged.files
        digest = digest_json({name: digest_file(path) for name, path in files.items()})
        return cls(draft.method, draft.task, draft.labels, files, digest, None)


@dataclass(frozen=True)
class Staged:
    """A learned adapter that is not registered yet: its files, and the draft of its version.

    `companions` are the adapters of other tasks that were learned along: the same weights, with heads of their own.
    """

    folder: Path
    draft: VersionDraft
    companions: tuple[Staged, ...] = ()

    @property
    def files(self) -> dict[str, Path]:
        """The adapter's files by name."""
        return {path.name: path for path in sorted((self.folder / "files").iterdir())}


def learn(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    settings: TrainingSettings,
    start: Start | None = None,
    companions: Sequence[Companion] = (),
    penalty: Penalty | None = None,
    lineage: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Staged:
    """Learn `task` by `settings` and stage the result.

    Args:
        store: The home's registry.
        backbone: The base in memory; it is checked to be unchanged afterwards.
        task: What is learned.
        settings: How.
        start: The adapter to begin with.
        companions: Examples of other tasks to learn, or to rehearse, along with it.
        penalty: Added to the loss of every step.
        lineage: Recorded with the version (stream, arm); no part of its identity.
        resume: Go on from a checkpoint of the same run, if there is one.
        progress: Told of every step.

    Raises:
        ConflictError: Another process is at the same run.
        InterruptedRunError: A signal came; a checkpoint was kept.
        IntegrityError: The base was changed.
        UsageError: The method trains no weights that tasks could share, and there is something to learn along.
    """
    method = methods.get_for(settings.method, backbone.record)
    methods.check_task_type(method, task, backbone.record)
    config = _resolve(method, backbone, task, settings=settings, start=start)
    if is_emulated(config["training"].get("dtype", "")):
        progress.note(EMULATED)
    if companions:
        config["companions"] = [companion.identity for companion in companions]
    if penalty is not None:
        config["penalty"] = penalty.identity
    identity = {
        "task": task.name,
        "method": method.name,
        "config": config,
        "base": backbone.record.digest,
        "data": task.data_digest,
        "seed": settings.seed,
        "start": start.digest if start else None,
    }
    folder = run_folder(store, digest_json(identity))
    with alone_in(folder, f"Another process is learning {task.name!r} with these settings."):
        if (staged := _kept(folder / "staged", progress)) is not None:
            return staged
        if not resume:
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        parent = start.reference if start else None
        run = {"task": task.name, "settings": asdict(settings), "parent": parent}
        write_file(folder / "run.json", canonical_json(run))
        along = Along(tuple(companions), penalty)
        return _train(
            store,
            backbone,
            task,
            settings=settings,
            config=config,
            start=start,
            along=along,
            lineage=dict(lineage or {}),
            folder=folder,
            progress=progress,
        )


def discard(staged: Staged) -> None:
    """Remove a run's folder, once its version is registered or not wanted."""
    shutil.rmtree(staged.folder.parent, ignore_errors=True)


def unfinished_run(store: Store, task: str) -> tuple[TrainingSettings, str | None]:
    """Return settings and parent version of the newest unfinished run of a task, for `--resume`.

    Raises:
        NotFoundError: The task has no unfinished run.
    """
    runs = sorted((store.path / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["task"] == task:
                settings = content["settings"] | {"without": tuple(content["settings"].get("without", ()))}
                return TrainingSettings(**settings), content["parent"]
        except (OSError, ValueError, KeyError, TypeError):
            # what a power cut has left of a run is none
            continue
    raise NotFoundError(f"Task {task!r} has no unfinished training run.", f"limpet train {task}")


def _resolve(
    method: methods.Method,
    backbone: Backbone,
    task: TaskRecord,
    *,
    settings: TrainingSettings,
    start: Start | None,
) -> dict[str, Any]:
    if start is not None and start.method != method.name:
        raise UsageError(
            f"{start.reference} was learned by {start.method!r}, so {method.name!r} can't go on from it.",
            f"--method {start.method}",
        )
    if start is not None and isinstance(method, methods.OwnHead):
        raise UsageError(
            f"{method.name!r} trains nothing, so it can't go on from {start.reference}.", f"--method {method.name}"
        )
    resolved = method.resolve(backbone.model, settings.method_settings)
    return {
        "method": resolved,
        # where nothing is trained, no setting of training is a part of what was made
        "training": {} if isinstance(method, methods.OwnHead) else _training(method, settings),
        "max_length": _max_length(
            method, backbone, resolved, wanted=settings.max_length or task.definition.max_length
        ),
    }


def _training(method: methods.Method, settings: TrainingSettings) -> dict[str, Any]:
    training = {
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate or method.learning_rate,
        "batch_size": settings.batch_size,
        "dtype": resolve_dtype(settings.dtype),
        "max_seconds": settings.max_seconds,
        # versions without it were made when every parameter was decayed by 0.01, norms and factors too
        "weight_decay": settings.weight_decay,
    }
    # what is done by default is no part of a version's identity: it gives the same adapter, up to rounding
    return training | ({"without": sorted(settings.without)} if settings.without else {})


def _max_length(method: methods.Method, backbone: Backbone, config: Mapping[str, Any], *, wanted: int) -> int:
    """Return the longest text that there is room for, beside the method's virtual tokens, in the base's positions."""
    taken = method.virtual_tokens(config)
    places = positions(backbone.model)
    if places is None or (not taken and wanted <= places):
        return wanted
    # padding takes positions too
    room = (places - taken) // PAD_TO * PAD_TO
    if room < PAD_TO:
        raise UsageError(
            f"{method.name!r} takes {taken} of the {places} positions of {backbone.record.name!r}, which leaves no "
            "room for a text.",
            f"--set virtual_tokens={max(1, places // 4)}",
        )
    return min(wanted, room)


def _train(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    settings: TrainingSettings,
    config: dict[str, Any],
    start: Start | None,
    along: Along,
    lineage: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> Staged:
    method = methods.get(settings.method)
    if not isinstance(method, methods.Layered):
        # kept for another method, it would count as this one's memory
        backbone.lower_states.clear()
    mark = peak_memory.begin()
    frozen = base_modules(backbone)
    # the method's and the head's initial values come from the seed alone
    torch.manual_seed(settings.seed)
    if start is None:
        module = method.attach(backbone.model, config["method"])
    else:
        module = method.load(backbone.model, start.files)
    try:
        continues = start is not None and start.task == task.name and start.labels == task.labels
        if isinstance(method, methods.OwnHead):
            train = read_split(store, task, "train")
            head = method.build_head(
                backbone, task, train, config=config["method"], max_length=config["max_length"], seed=settings.seed
            )
        else:
            head = load_head(start.files) if start and continues else _new_head(store, backbone, task)
        head.bind(backbone)
        others = [_head_of(store, backbone, companion) for companion in along.companions]
        device = backbone.model.device
        model = TaskModel(module, head.to(device), frozen, others=[other.to(device) for other in others])
        if isinstance(method, methods.Layered) and "kept-layers" not in settings.without:
            model.lower = method.lower_layers(module)
        dtype = config["training"].get("dtype", "float32")
        with computing(method, module, dtype, without=settings.without):
            fitted, environment = _fit(
                store,
                backbone,
                task,
                settings=settings,
                config=config,
                model=model,
                along=along,
                folder=folder,
                progress=progress,
            )
        peak = peak_memory.peak(mark)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        staging = folder / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        learned = [(task, head, staging)]
        learned += [
            (companion.task, other, staging / "companions" / str(number))
            for number, (companion, other) in enumerate(zip(along.companions, others, strict=True))
            if companion.head is None
        ]
        for one, its_head, place in learned:
            files = place / "files"
            files.mkdir(parents=True)
            method.save(module, config["method"], backbone.record.name, folder=files)
            save_head(its_head, files)
            _write_json(files / "labels.json", list(one.labels))
    finally:
        method.detach(module)
    backbone.check_unchanged()
    draft = VersionDraft(
        task=task.name,
        method=method.name,
        config=config,
        base_digest=backbone.record.digest,
        data_digest=task.data_digest,
        labels=task.labels,
        seed=settings.seed,
        environment=environment,
        metrics={
            f"validation_{task.definition.metric}": fitted.best_score,
            "history": list(fitted.history),
        },
        cost={
            "trainable_parameters": trainable,
            "trainable_share": trainable / backbone.record.parameters,
            "train_seconds": fitted.seconds,
            "examples_per_second": fitted.examples_per_second,
            "examples_seen": fitted.examples,
            "optimiser_steps": fitted.steps,
            "peak_memory_bytes": peak.total if peak else None,
            "peak_memory_added_bytes": peak.added if peak else None,
        },
        parent=start.reference if start else None,
        lineage=lineage,
        inputs=dict(fitted.inputs),
    )
    for one, _, place in learned:
        metrics = {**draft.metrics, "cut": cut(store, backbone.tokenizer, one, max_length=config["max_length"])}
        own = replace(draft, task=one.name, data_digest=one.data_digest, labels=one.labels, metrics=metrics)
        write_draft(place, own)
    place_folder(staging, folder / "staged")
    return read_staged(folder / "staged")


def _new_head(store: Store, backbone: Backbone, task: TaskRecord) -> Head:
    return build_head(task, backbone.record, read_split(store, task, "train"))


def _head_of(store: Store, backbone: Backbone, companion: Companion) -> Head:
    if companion.head is None:
        head = _new_head(store, backbone, companion.task)
    else:
        head = load_head(companion.head).requires_grad_(False)
    head.bind(backbone)
    return head


def _fit(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    settings: TrainingSettings,
    config: dict[str, Any],
    model: TaskModel,
    along: Along,
    folder: Path,
    progress: Progress,
) -> tuple[Fitted, Environment]:
    training = config["training"]
    if not training:
        dtype = backbone.evaluation_dtype
        measured = measure_untrained(
            store, backbone, task, model=model, max_length=config["max_length"], progress=progress
        )
        return measured, current_environment(dtype)
    loop = LoopSettings(
        epochs=training["epochs"],
        learning_rate=training["learning_rate"],
        batch_size=training["batch_size"],
        seed=settings.seed,
        dtype=training["dtype"],
        max_seconds=training["max_seconds"],
        weight_decay=training["weight_decay"],
        fused="fused-optimizer" not in settings.without,
        at_once=None if "token-budget" in settings.without else at_once(backbone.model.device.type),
    )
    interval = float(os.environ.get("LIMPET_CHECKPOINT_SECONDS", _CHECKPOINT_SECONDS))
    checkpoint = Checkpoint(folder / "checkpoint.safetensors", interval)
    by_default, max_length = not settings.without, config["max_length"]
    fitted = fit_task(
        store,
        backbone,
        task,
        model=model,
        max_length=max_length,
        loop=loop,
        checkpoint=checkpoint,
        progress=progress,
        keep_answers=by_default,
        along=along,
    )
    return fitted, current_environment(loop.dtype)


def run_folder(store: Store, digest: str) -> Path:
    """Return the folder of the run that `digest` identifies, made if it is new."""
    folder = store.path / "runs" / digest.removeprefix("sha256:")[:32]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_draft(folder: Path, draft: VersionDraft) -> None:
    """Write the draft of a staged version beside its files, with a digest of each."""
    digests = {path.name: digest_file(path) for path in sorted((folder / "files").iterdir())}
    (folder / "draft.json").write_bytes(canonical_json({"draft": asdict(draft), "files": digests}))


def read_staged(folder: Path) -> Staged:
    """Read what a run had staged in `folder`.

    Raises:
        IntegrityError: It is not whole, as after a power cut.
    """
    try:
        content = json.loads((folder / "draft.json").read_text(encoding="utf-8"))
        # what an older program has staged has no digests
        plain, digests = (content["draft"], content["files"]) if "draft" in content else (content, None)
        draft = replace(
            VersionDraft(**plain), labels=tuple(plain["labels"]), environment=Environment(**plain["environment"])
        )
        staged = Staged(folder, draft)
        if digests is not None and digests != {name: digest_file(path) for name, path in staged.files.items()}:
            raise ValueError("a file is not as it was staged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"What a run has staged in {folder} is not whole ({error}).", f"train again: rm -r {folder}"
        ) from error
    along = sorted((folder / "companions").glob("*"), key=lambda path: int(path.name))
    return replace(staged, companions=tuple(read_staged(one) for one in along))


def _kept(folder: Path, progress: Progress) -> Staged | None:
    """Return what an earlier run has staged; what is not whole is thrown away, as nobody can use it."""
    if not folder.exists():
        return None
    try:
        return read_staged(folder)
    except IntegrityError as error:
        progress.note(f"{error.message} It is trained again.")
        shutil.rmtree(folder)
        return None


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
