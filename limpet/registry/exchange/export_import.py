"""Versions leave the home and come into another: a flat folder that plain peft reads, or one bundle."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.names import Reference
from limpet.registry import versions
from limpet.registry.exchange.bundle_format import pack, unpack
from limpet.registry.exchange.bundle_validation import (
    BASE_FILE,
    OUTPUTS_FILE,
    TASK_FILE,
    BundledVersion,
    check_entries,
    is_reserved,
    split_file,
)
from limpet.registry.formats.adapter_files import LABELS_FILE, labels_document
from limpet.registry.formats.canonical import CHUNK, canonical_json, digest_bytes
from limpet.registry.records import bases, log, reference_outputs, tasks
from limpet.registry.records.rows import find_version, version_records
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.atomic_files import place_folder
from limpet.registry.system.failpoints import reach
from limpet.registry.values import BaseRecord, FileEntry, TaskRecord, VersionDraft, VersionRecord
from limpet.registry.versions import MANIFEST_FILE

__all__ = ["export", "export_bundle", "import_bundle", "new_folder", "write_files"]


def export(store: Store, ref: str | Reference, folder: Path) -> Path:
    """Write a version's files into a new or empty folder, each verified on the way, all or none.

    The folder has the files under their flat names, `labels.json` (the label of each id, in order) and
    `manifest.json`, byte for byte as it was registered.

    Args:
        store: The open home.
        ref: The version.
        folder: Where to; made with its parents if need be.

    Returns:
        The folder.

    Raises:
        ConflictError: The folder is not empty, or is a file.
        IntegrityError: A file is missing or was changed.
        NotFoundError: There is no such version.
        LimpetError: The folder can't be written.
    """
    version, manifest = _version(store, ref)
    with new_folder(folder) as temporary:
        write_files(store, version, temporary, names=[file.name for file in version.files])
        (temporary / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
    return folder.absolute()


def write_files(store: Store, version: VersionRecord, folder: Path, *, names: Iterable[str]) -> None:
    """Write some of a version's files, each verified on the way, and its labels.

    Raises:
        IntegrityError: A file is missing or was changed.
    """
    digests = {file.name: file.digest for file in version.files}
    for name in names:
        # by pieces: a model may be larger than the memory
        with store.blobs.path(digests[name]).open("rb") as source, (folder / name).open("xb") as copy:
            shutil.copyfileobj(source, copy, CHUNK)
    if not (folder / LABELS_FILE).exists():
        (folder / LABELS_FILE).write_bytes(labels_document(version.labels))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `folder` when the `with` block has ended well: all of it or nothing.

    Raises:
        ConflictError: The folder is not empty, or is a file.
        LimpetError: The folder can't be written.
    """
    target = folder.absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ConflictError(f"{folder} is not an empty folder.", "choose a new folder")
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        # takes the place of an empty folder; fails where somebody has filled it meanwhile
        place_folder(temporary, target)
    except OSError as error:
        raise LimpetError(f"{folder} can't be written: {error.strerror}.", f"ls -ld {target.parent}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_bundle(store: Store, ref: str | Reference, path: Path, *, data: bool = True) -> Path:
    """Write a version into one file that another home can import, the same bytes for the same version.

    The bundle has the version's files, its labels, manifest and probe, its task, and what the base is; see
    `limpet.registry.exchange.bundle_format` for the format.

    Args:
        store: The open home.
        ref: The version.
        path: The file to make.
        data: Whether the task's splits come along, so that a home that does not know the task can take it in.

    Returns:
        The path, absolute.

    Raises:
        ConflictError: There is something at `path` already.
        IntegrityError: A file is missing or was changed.
        NotFoundError: There is no such version.
        UsageError: One of its files has a name that bundles use themselves, or can't be in a bundle.
        LimpetError: The file can't be written.
    """
    version, manifest = _version(store, ref)
    if taken := next((file.name for file in version.files if is_reserved(file.name)), None):
        raise UsageError(
            f"{version.reference} has a file {taken}, a name that bundles use themselves.",
            f"limpet adapter export {version.reference} FOLDER",
        )
    task = _revision_of(store, version, manifest)
    documents = {
        MANIFEST_FILE: manifest.encode("utf-8"),
        TASK_FILE: canonical_json(tasks.content(task)),
        BASE_FILE: canonical_json(_portable(bases.get(store, version.base_digest))),
    }
    if (outputs := reference_outputs.of(store, version.reference)) is not None:
        documents[OUTPUTS_FILE] = store.blobs.read(outputs.digest)
    if LABELS_FILE not in {file.name for file in version.files}:
        documents[LABELS_FILE] = labels_document(version.labels)
    contents: dict[FileEntry, Path | bytes] = {
        FileEntry(name, digest_bytes(content), len(content)): content for name, content in documents.items()
    }
    contents |= {file: store.blobs.path(file.digest) for file in version.files}
    for split in task.splits if data else ():
        file = store.blobs.path(split.digest)
        contents[FileEntry(split_file(split.name), split.digest, file.stat().st_size)] = file
    return pack(path, task.name, version.digest, contents=contents)


def import_bundle(store: Store, path: Path) -> tuple[VersionRecord, bool]:
    """Take the version of a bundle into the home; all of the bundle is checked before anything is kept.

    The version gets the next number of its task here, and the identity (digest) that it has elsewhere. Numbers
    belong to one home, so it has no parent; where it comes from is in its lineage.

    Args:
        store: The open home.
        path: The bundle.

    Returns:
        The version, and whether it was made now: importing again gives the version there is.

    Raises:
        NotFoundError: There is no such file, or this home lacks the base, or the task and its data.
        ConflictError: The task has another definition here.
        IntegrityError: The bundle is not sound.
        LimpetError: The home can't be written.
    """
    with _temporary_folder() as folder:
        bundled = check_entries(*unpack(path, folder))
        _check_base(store, bundled)
        known = tasks.check_new(store, bundled.task) is not None
        if not known and not bundled.splits:
            missing = f"revision {bundled.task.revision} of the task" if bundled.task.previous else "task"
            raise NotFoundError(
                f"There is no {missing} {bundled.task.name!r} in this home, and the bundle does not bring its data.",
                f"limpet task add {bundled.task.name} --data SPEC, or export without --without-data",
            )
        reach("import.checked")
        draft = _as_imported(bundled)

        def store_all() -> versions.StoredVersion:
            # also the splits of a task that is known here: its own bytes may have rotted
            store.blobs.put_all(list(bundled.splits.values()))
            return versions.store_version(store, draft, bundled.files, outputs=bundled.outputs)

        stored = store_all()
        reach("import.unpacked")
        splits = [] if known else [split.digest for split in bundled.task.splits]
        # task, version, probe and the log's event come in together, or none of them
        with recording(store, "import", [*stored.digests, *splits], again=store_all) as session:
            tasks.enter_task(session, bundled.task)
            version, created = versions.enter_version(session, draft, stored)
            if created:
                detail = {"digest": bundled.digest, "manifest_digest": bundled.manifest_digest}
                log.record(session, "import", version.reference, detail=detail)
    return version, created


def _version(store: Store, ref: str | Reference) -> tuple[VersionRecord, str]:
    with store.database.read() as session:
        row = find_version(session, ref)
        return version_records(session, [row])[0], row.manifest


def _revision_of(store: Store, version: VersionRecord, manifest: str) -> TaskRecord:
    """Return the revision that a version was learned on, under the name that its identity has for the task."""
    task = tasks.of_version(store, version)
    if task.data_digest != version.data_digest:
        raise IntegrityError(
            f"This home has no revision of the task {task.name!r} with the data of {version.reference} "
            f"({version.data_digest}).",
            "limpet verify",
        )
    return replace(task, definition=replace(task.definition, name=json.loads(manifest)["task"]))


def _portable(base: BaseRecord) -> dict[str, Any]:
    """Say what a base is, without a word about this machine."""
    kind = base.location["kind"]
    # a folder's name is a path; its last part tells people what it was
    spec = base.name.removesuffix(f"#{_held(base)}")
    name = spec if kind in ("sample", "hub") else PurePath(spec.partition("@")[0]).name
    facts = ("weights_digest", "config_digest", "tokenizer_digest", "architecture", "family", "hidden_size")
    return {
        "schema": 1,
        "name": re.sub(r"\.\.+|[^A-Za-z0-9._/:@-]", "-", name).lstrip("._/:@-")[:200] or "base",
        "kind": kind,
        "revision": base.location.get("revision"),
        "digest": base.digest,
        **{fact: getattr(base, fact) for fact in (*facts, "parameters", "size")},
        **({"held": held} if (held := _held(base)) else {}),
    }


def _held(base: BaseRecord) -> str | None:
    """Return the word that says how a base is held, where that is not as its files are: `nf4`, or a dtype."""
    recipe = base.location.get("recipe") or {}
    word: str | None = recipe.get("quantize") or recipe.get("dtype")
    return word


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="limpet-import-"))
    except OSError as error:
        raise LimpetError(
            f"The bundle can't be unpacked, because no temporary folder can be made: {error.strerror}.",
            "df -h; set TMPDIR to a folder with room",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_base(store: Store, bundled: BundledVersion) -> None:
    if any(base.digest == bundled.base.digest for base in bases.list_all(store)):
        return
    name = bundled.base.name
    is_path, held = bundled.base.kind not in ("sample", "hub"), f"#{bundled.base.held}" if bundled.base.held else ""
    spec = f"PATH{held}, where PATH is a copy of {name!r}" if is_path else f"{name}{held}"
    raise NotFoundError(
        f"The bundle's version was trained on the base {name!r} ({bundled.base.digest}), which this home does not "
        "know.",
        f"limpet base add {spec}",
    )


def _as_imported(bundled: BundledVersion) -> VersionDraft:
    draft = bundled.draft
    origin = {
        "parent": draft.parent,
        "manifest_digest": bundled.manifest_digest,
        "created_at": bundled.created_at,
        # streams and runs belong to their home as numbers do; of what was imported there, this home knows nothing
        "lineage": {name: value for name, value in draft.lineage.items() if name != "imported"},
    }
    return replace(draft, parent=None, lineage={"imported": origin})
