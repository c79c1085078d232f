"""What the documents of a bundle say, held field by field against what limpet writes; no home is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from limpet.errors import IntegrityError
from limpet.first_few import first_few
from limpet.registry.exchange.bundle_format import LARGEST_JSON, Index
from limpet.registry.exchange.document_schemas import (
    BASE,
    BASE_HELD,
    DEFINITION,
    MANIFEST,
    MANIFEST_SINCE_0004,
    SPLIT,
    TASK,
    TASK_REVISED,
    Check,
    wrong_fields,
)
from limpet.registry.formats import peft_config
from limpet.registry.formats.adapter_files import HEAD_FILES, LABELS_FILE, PEFT_FILES
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.formats.peft_allowed_fields import peft_type_of
from limpet.registry.formats.safetensors_header import check_header
from limpet.registry.formats.split_lines import split_problem
from limpet.registry.formats.strict_json import read_json
from limpet.registry.formats.task_documents import FORMS, head_problem, outputs_problem
from limpet.registry.records import reference_outputs, tasks
from limpet.registry.values import (
    Environment,
    FileEntry,
    SplitRecord,
    TaskDefinition,
    TaskRecord,
    VersionDraft,
)
from limpet.registry.versions import MANIFEST_FILE, identity

__all__ = [
    "BASE_FILE",
    "OUTPUTS_FILE",
    "TASK_FILE",
    "BundledBase",
    "BundledVersion",
    "check_entries",
    "is_reserved",
    "split_file",
]

TASK_FILE = "task.json"
BASE_FILE = "base.json"
OUTPUTS_FILE = "probe.json"
_SPLITS = ("train", "validation", "evaluation")
_MOST_SPLITS = 1000
# what a revision adds for evaluation is a split of its own
_ADDED_SPLIT = re.compile(r"evaluation-r([1-9][0-9]{0,3})", re.ASCII)
_ADDED_FILE = re.compile(rf"data-{_ADDED_SPLIT.pattern}\.jsonl", re.ASCII)


def split_file(split: str) -> str:
    """Return the name of a split's entry in a bundle."""
    return f"data-{split}.jsonl"


_RESERVED = frozenset({MANIFEST_FILE, TASK_FILE, BASE_FILE, OUTPUTS_FILE, *map(split_file, _SPLITS)})


def is_reserved(name: str) -> bool:
    """Tell whether an entry is one of a bundle's own; `labels.json` may be one of the version's files too."""
    return name in _RESERVED or _ADDED_FILE.fullmatch(name) is not None


@dataclass(frozen=True)
class BundledBase:
    """The base that a bundle's version was trained on: what to call it, its fingerprint, and how it is held."""

    name: str
    kind: str
    digest: str
    held: str | None = None


@dataclass(frozen=True)
class BundledVersion:
    """A bundle whose every document was found sound: a version about to be registered.

    `splits` has a local file for each split by its name, and is empty where the bundle has no data; `outputs` is the
    blob of the version's reference outputs, null where it has none.
    """

    draft: VersionDraft
    digest: str
    created_at: str
    manifest_digest: str
    files: Mapping[str, Path]
    task: TaskRecord
    base: BundledBase
    splits: Mapping[str, Path]
    outputs: bytes | None


def check_entries(index: Index, copies: Mapping[str, Path]) -> BundledVersion:
    """Read the documents among a bundle's entries and hold them against each other.

    Args:
        index: What the bundle lists.
        copies: A local copy of each entry, whose digest was checked.

    Raises:
        IntegrityError: A document has another form, or two contradict each other.
    """
    entries = {entry.name: entry for entry in index.entries}
    for name in (MANIFEST_FILE, LABELS_FILE, TASK_FILE, BASE_FILE):
        if name not in copies:
            raise _bad(f"the bundle has no {name}")
    # one document after the other: what is not kept makes room for the next
    manifest = _checked(MANIFEST_FILE, _read(copies, MANIFEST_FILE), MANIFEST, optional=MANIFEST_SINCE_0004)
    listed = _check_files(manifest, entries)
    draft, task = _draft(manifest), _task(_read(copies, TASK_FILE))
    base = _base(_read(copies, BASE_FILE))
    digest = identity(draft, listed)
    _agree("digest of the manifest and of its content", manifest["digest"], digest)
    _agree(f"version of bundle.json and of {MANIFEST_FILE}", (index.task, index.digest), (draft.task, digest))
    _agree(f"labels of {LABELS_FILE} and of {MANIFEST_FILE}", _read(copies, LABELS_FILE), list(draft.labels))
    _agree(f"task of {TASK_FILE} and of {MANIFEST_FILE}", task.name, draft.task)
    _agree(f"labels of {TASK_FILE} and of {MANIFEST_FILE}", task.labels, draft.labels)
    _agree(f"data of {TASK_FILE} and of {MANIFEST_FILE}", task.data_digest, draft.data_digest)
    _agree(f"base of {BASE_FILE} and of {MANIFEST_FILE}", base.digest, draft.base_digest)
    _check_adapter({file.name for file in listed}, draft.method, copies)
    _check_head({file.name for file in listed}, copies, task)
    _check_others({file.name for file in listed}, copies)
    return BundledVersion(
        draft=draft,
        digest=digest,
        created_at=manifest["created_at"],
        manifest_digest=entries[MANIFEST_FILE].digest,
        files={file.name: copies[file.name] for file in listed},
        task=task,
        base=base,
        splits=_splits(task, entries, copies),
        outputs=_outputs(draft, task, copies),
    )


def _read(copies: Mapping[str, Path], name: str) -> JsonValue:
    # the documents that limpet writes itself have one form; an adapter's files keep the form they came in
    raw = copies[name].read_bytes()
    if len(raw) > LARGEST_JSON:
        raise _bad(f"{name} has {len(raw)} bytes, more than {LARGEST_JSON}")
    return read_json(raw, name, canonical=is_reserved(name))


def _check_files(manifest: JsonObject, entries: Mapping[str, FileEntry]) -> tuple[FileEntry, ...]:
    files = tuple(FileEntry(**file) for file in manifest["files"])
    names = [file.name for file in files]
    if not files or names != sorted(set(names)):
        raise _bad(f"the files of {MANIFEST_FILE} are not in the order of their names, each once")
    for file in files:
        if is_reserved(file.name):
            raise _bad(f"{file.name} can't be a file of a version in a bundle")
        if entries.get(file.name) != file:
            raise _bad(f"the entry {file.name[:100]!r} is not the file that {MANIFEST_FILE} lists")
    if unknown := {name for name in entries.keys() - set(names) - {LABELS_FILE} if not is_reserved(name)}:
        raise _bad(f"the entry {min(unknown)!r} is not listed in {MANIFEST_FILE}")
    return files


def _draft(manifest: JsonObject) -> VersionDraft:
    taken = {field.name: manifest[field.name] for field in fields(VersionDraft) if field.name in manifest}
    return VersionDraft(
        **taken | {"labels": tuple(manifest["labels"]), "environment": Environment(**manifest["environment"])}
    )


def _task(document: JsonValue) -> TaskRecord:
    revised = isinstance(document, dict) and not TASK_REVISED.keys().isdisjoint(document)
    content = _checked(TASK_FILE, document, TASK | TASK_REVISED if revised else TASK)
    # tasks without options have none in their definition
    definition = _checked(f"the definition of {TASK_FILE}", {"options": {}, **content["definition"]}, DEFINITION)
    if (kind := definition["type"]) not in FORMS:
        raise _bad(f"its task is of type {kind!r}, which is not known here")
    for split in content["splits"]:
        _checked(f"a split of {TASK_FILE}", split, SPLIT)
    record = TaskRecord(
        definition=TaskDefinition(**definition),
        labels=tuple(content["labels"]),
        splits=tuple(SplitRecord(**split) for split in content["splits"]),
        data_digest=content["data_digest"],
        checks=content["checks"],
        created_at=content["created_at"],
        **{name: content[name] for name in TASK_REVISED if revised},
    )
    _check_split_names([split.name for split in record.splits], record.revision)
    _agree(
        f"data_digest of {TASK_FILE} and of its splits",
        record.data_digest,
        tasks.data_digest(record.definition, record.labels, record.splits),
    )
    if record.previous == record.data_digest:
        raise _bad(f"the task of {TASK_FILE} is the revision before itself")
    return record


def _check_split_names(names: Sequence[str], revision: int) -> None:
    if tuple(names[: len(_SPLITS)]) != _SPLITS:
        raise _bad(f"the splits of {TASK_FILE} are not {', '.join(_SPLITS)}")
    if len(names) > _MOST_SPLITS:
        raise _bad(f"{TASK_FILE} has {len(names)} splits, more than {_MOST_SPLITS}")
    last = 1
    for name in names[len(_SPLITS) :]:
        added = _ADDED_SPLIT.fullmatch(name)
        if added is None or not last < int(added[1]) <= revision:
            raise _bad(f"the split {name[:60]!r} of {TASK_FILE} is not one that a revision up to {revision} adds")
        last = int(added[1])


def _base(document: JsonValue) -> BundledBase:
    content = _checked(BASE_FILE, document, BASE, optional=BASE_HELD)
    return BundledBase(content["name"], content["kind"], content["digest"], content.get("held"))


def _check_adapter(names: set[str], method: str, copies: Mapping[str, Path]) -> None:
    headers = {name: check_header(copies[name], name) for name in sorted(names) if name.endswith(".safetensors")}
    if len(names & set(PEFT_FILES)) == 1:
        raise _bad(f"of {' and '.join(PEFT_FILES)} there is only one")
    if PEFT_FILES[0] not in names:
        return
    config = _read(copies, PEFT_FILES[0])
    if not isinstance(config, dict):
        raise _bad(f"{PEFT_FILES[0]} is not a table")
    kind = config.get("peft_type")
    if kind != peft_type_of(method):
        raise _bad(f"{PEFT_FILES[0]} is of peft type {str(kind)[:40]!r}, and {MANIFEST_FILE} says method {method!r}")
    if wrong := peft_config.problems(config):
        raise _bad(f"{PEFT_FILES[0]}: {'; '.join(f'{name} {what}' for name, what in wrong[:5])}")
    shapes = {name: shape for name, (_, shape) in headers[PEFT_FILES[1]].items()}
    if others := peft_config.unlike_norms(config, shapes):
        raise _bad(
            f"{PEFT_FILES[0]}: modules_to_save names {others[0][:60]!r}, and the adapter keeps no norm of that name"
        )
    if peft_config.oversized(config, shapes.values()):
        raise _bad(f"{PEFT_FILES[0]}: its rank is not that of a tensor")


def _check_head(names: set[str], copies: Mapping[str, Path], task: TaskRecord) -> None:
    if HEAD_FILES[0] not in names:
        return
    if wrong := head_problem(task.definition.type, _read(copies, HEAD_FILES[0]), task.labels):
        raise _bad(f"{HEAD_FILES[0]}: {wrong}")
    if (HEAD_FILES[1] in names) != FORMS[task.definition.type].tensors:
        raise _bad(f"of {' and '.join(HEAD_FILES)} there is only one")


def _check_others(names: set[str], copies: Mapping[str, Path]) -> None:
    """Read the other documents of a version too: they are checked again by what loads them."""
    for name in sorted(names - {PEFT_FILES[0], HEAD_FILES[0], LABELS_FILE}):
        if name.endswith(".json"):
            _read(copies, name)


def _splits(task: TaskRecord, entries: Mapping[str, FileEntry], copies: Mapping[str, Path]) -> dict[str, Path]:
    files = {split_file(split.name) for split in task.splits}
    if unknown := {name for name in entries if _ADDED_FILE.fullmatch(name)} - files:
        raise _bad(f"the entry {min(unknown)!r} is no split of {TASK_FILE}")
    present = [split for split in task.splits if split_file(split.name) in entries]
    if not present:
        return {}
    if len(present) != len(task.splits):
        raise _bad("the bundle has some of the task's splits, not all")
    for split in present:
        name = split_file(split.name)
        _agree(f"digest of {name} and in {TASK_FILE}", entries[name].digest, split.digest)
        problem = split_problem(
            copies[name],
            name,
            task.definition.type,
            labels=task.labels,
            examples=split.examples,
            label_counts=split.label_counts,
        )
        if problem:
            raise _bad(problem)
    return {split.name: copies[split_file(split.name)] for split in present}


def _outputs(draft: VersionDraft, task: TaskRecord, copies: Mapping[str, Path]) -> bytes | None:
    if OUTPUTS_FILE not in copies:
        return None
    data = copies[OUTPUTS_FILE].read_bytes()
    outputs = reference_outputs.parse(data)
    if wrong := outputs_problem(task.definition.type, outputs.logits, draft.labels):
        raise _bad(f"{OUTPUTS_FILE}: {wrong}")
    return data


def _checked(
    what: str, document: JsonValue, wanted: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None
) -> JsonObject:
    """Return a document whose fields are those that limpet writes."""
    wrong = list(wrong_fields(document, wanted, optional))
    if wrong or not isinstance(document, dict):
        raise _bad(f"{what}: {first_few(wrong, joint='; ')}")
    return document


def _agree(what: str, first: object, second: object) -> None:
    if first != second:
        raise _bad(f"the {what} differ")


def _bad(why: str) -> IntegrityError:
    return IntegrityError(
        f"The bundle can't be taken in: {why}. Nothing was kept.", "export the version again, from a home that has it"
    )
