"""The folder of a training run: its record, and the adapter that it staged for registration.

A run is known by the digest of all that decides its result. Its folder keeps the settings, the checkpoint and, at
the end, the staged files; so a run that was killed goes on, and one that had ended is not run again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from limpet.errors import IntegrityError, NotFoundError
from limpet.registry import versions
from limpet.registry.formats.canonical import canonical_json, digest_file, digest_json
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.system.atomic_files import write_file
from limpet.registry.values import Environment, TaskRecord, VersionDraft
from limpet.training.base.backbone import Backbone
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import version_files
from limpet.training.progress import Progress

__all__ = [
    "Staged",
    "Start",
    "discard",
    "find_staged",
    "joint_folder",
    "read_staged",
    "run_folder",
    "unfinished_run",
    "write_draft",
    "write_record",
]

_RECORD = "run.json"
_DRAFT = "draft.json"
_JOINT = "companions"
"""The folder of adapters that were learned jointly; older programs look for it under this name."""


@dataclass(frozen=True)
class Start:
    """The adapter that training begins with instead of new tensors; `reference` is its version, if it has one.

    `data` is the revision of its task that the version was learned on.
    """

    method: str
    task: str
    labels: tuple[str, ...]
    files: Mapping[str, Path]
    digest: str
    reference: str | None
    data: TaskRecord | None = None

    @classmethod
    def from_version(cls, store: Store, backbone: Backbone, reference: str) -> Start:
        """Begin with a registered version."""
        version = versions.resolve(store, reference)
        files = version_files(store, backbone, version)
        digest = digest_json({file.name: file.digest for file in version.files})
        data = tasks.of_version(store, version)
        return cls(version.method, version.task, version.labels, files, digest, version.reference, data)

    @classmethod
    def from_staged(cls, staged: Staged) -> Start:
        """Begin with what was just learned and is not registered."""
        draft, files = staged.draft, staged.files
        digest = digest_json({name: digest_file(path) for name, path in files.items()})
        return cls(draft.method, draft.task, draft.labels, files, digest, None)


@dataclass(frozen=True)
class Staged:
    """A learned adapter that is not registered yet: its files, and the draft of its version.

    `joint` are the adapters of other tasks that were learned with it: the same weights, with heads of their own.
    """

    folder: Path
    draft: VersionDraft
    joint: tuple[Staged, ...] = ()

    @property
    def files(self) -> dict[str, Path]:
        """The adapter's files by name."""
        return {path.name: path for path in sorted((self.folder / "files").iterdir())}


def run_folder(store: Store, digest: str) -> Path:
    """Return the folder of the run that `digest` identifies."""
    return store.path / "runs" / digest.removeprefix("sha256:")[:32]


def joint_folder(staging: Path, index: int) -> Path:
    """Return where a task that was learned jointly is staged, beside the task that the run is for."""
    return staging / _JOINT / str(index)


def discard(staged: Staged) -> None:
    """Remove a run's folder, once its version is registered or not wanted."""
    shutil.rmtree(staged.folder.parent, ignore_errors=True)


def write_record(folder: Path, task: str, settings: TrainingSettings, *, parent: str | None) -> None:
    """Write what `unfinished_run` reads."""
    record = {"task": task, "settings": settings.recorded(), "parent": parent}
    write_file(folder / _RECORD, canonical_json(record))


def unfinished_run(store: Store, task: str) -> tuple[TrainingSettings, str | None]:
    """Return settings and parent version of the newest unfinished run of a task, for `--resume`.

    Raises:
        NotFoundError: The task has no unfinished run.
    """
    records = (store.path / "runs").glob(f"*/{_RECORD}")
    for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["task"] == task:
                return TrainingSettings.from_record(content["settings"]), content["parent"]
        except (OSError, ValueError, KeyError, TypeError):
            # what a power cut has left of a run is none
            continue
    raise NotFoundError(f"Task {task!r} has no unfinished training run.", f"limpet train {task}")


def write_draft(folder: Path, draft: VersionDraft) -> None:
    """Write the draft of a staged version beside its files, with a digest of each."""
    digests = {path.name: digest_file(path) for path in sorted((folder / "files").iterdir())}
    (folder / _DRAFT).write_bytes(canonical_json({"draft": asdict(draft), "files": digests}))


def read_staged(folder: Path) -> Staged:
    """Read what a run had staged in `folder`.

    Raises:
        IntegrityError: It is not whole, as after a power cut.
    """
    try:
        content = json.loads((folder / _DRAFT).read_text(encoding="utf-8"))
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
    joint = sorted((folder / _JOINT).glob("*"), key=lambda path: int(path.name))
    return replace(staged, joint=tuple(map(read_staged, joint)))


def find_staged(folder: Path, progress: Progress) -> Staged | None:
    """Return what an earlier run has staged; what is not whole is thrown away, as nobody can use it."""
    if not folder.exists():
        return None
    try:
        return read_staged(folder)
    except IntegrityError as error:
        progress.note(f"{error.message} It is trained again.")
        shutil.rmtree(folder)
        return None
