"""What the bytes say, beyond being those that were recorded: tensors, configurations, labels, predictions, probes.

Bytes that hash as recorded can still be wrong: they may have been wrong when they were registered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Text, select, type_coerce
from sqlalchemy.orm import defer
from sqlalchemy.sql.base import ExecutableOption

from limpet.errors import LimpetError
from limpet.registry.database.schema import AbilityRow, EvaluationRow, ReferenceOutputsRow, TaskRow, VersionRow
from limpet.registry.findings import Finding
from limpet.registry.formats.adapter_files import DEMONSTRATIONS_FILE, HEAD_FILES, LABELS_FILE, PEFT_FILES
from limpet.registry.formats.task_documents import head_problem, outputs_problem
from limpet.registry.formats.tensors import first_not_finite
from limpet.registry.records.reference_outputs import parse
from limpet.registry.records.rows import names_of, references, version_record
from limpet.registry.store import Store
from limpet.registry.values import FileEntry, VersionRecord

__all__ = ["check_contents"]

_PAGE = 200
_Row = TypeVar("_Row", VersionRow, EvaluationRow, AbilityRow)
_SAFETENSORS = ".safetensors"


@dataclass
class _Checked:
    """A home's blobs as they are checked: `broken` ones are named already, tensors are read once for all versions."""

    store: Store
    broken: Collection[str]
    tensors: dict[str, str] = field(default_factory=dict)


def check_contents(store: Store, broken: Collection[str] = ()) -> Iterator[Finding]:
    """Yield what the files of versions, the predictions and the probes say wrong.

    Args:
        store: The open home.
        broken: Digests of blobs that are known to be missing or changed, to pass by.
    """
    checked = _Checked(store, broken)
    # rows are read in pages, and nobody who writes waits while the bytes are read
    yield from _paged(store, VersionRow, lambda rows: _check_versions(checked, rows))
    yield from _paged(store, EvaluationRow, lambda rows: _check_evaluations(checked, rows))
    # what was asked may be no JSON any more, which is named already, and is not needed here
    yield from _paged(store, AbilityRow, lambda rows: _check_abilities(checked, rows), defer(AbilityRow.probe))


def _paged(
    store: Store,
    table: type[_Row],
    check: Callable[[Sequence[_Row]], Iterator[Finding]],
    *options: ExecutableOption,
) -> Iterator[Finding]:
    last = 0
    while True:
        with store.database.read() as session:
            rows = session.scalars(
                select(table).options(*options).where(table.id > last).order_by(table.id).limit(_PAGE)
            ).all()
        if not rows:
            return
        last = rows[-1].id
        yield from check(rows)


def _check_versions(checked: _Checked, rows: Sequence[VersionRow]) -> Iterator[Finding]:
    alive = {row.id for row in rows if row.deleted_at is None}
    with checked.store.database.read() as session:
        of_page = ReferenceOutputsRow.version_id.between(rows[0].id, rows[-1].id)
        outputs = dict(
            session.execute(select(ReferenceOutputsRow.version_id, ReferenceOutputsRow.digest).where(of_page)).all()
        )
        columns = (TaskRow.name, TaskRow.former_names, type_coerce(TaskRow.definition, Text))
        definitions = session.execute(select(*columns)).all()
    # a version keeps the name that its task had
    kinds = {
        name: _kind(definition) for current, former, definition in definitions for name in names_of(current, former)
    }
    for row in rows:
        if row.id in alive and (problems := list(_check_version(checked, row, kinds, outputs=outputs.get(row.id)))):
            # deleted and collected meanwhile, it has no files that could be wrong
            with checked.store.database.read() as session:
                is_deleted = session.scalar(select(VersionRow.deleted_at).where(VersionRow.id == row.id)) is not None
            yield from () if is_deleted else problems


def _check_version(
    checked: _Checked, row: VersionRow, kinds: dict[str, str], *, outputs: str | None
) -> Iterator[Finding]:
    try:
        version = version_record(row, ())
    except (LimpetError, KeyError, TypeError, ValueError):
        return  # its manifest is named already
    kind = kinds.get(version.task, "")
    for entry in version.files:
        if entry.digest not in checked.broken and (detail := _file(checked, version, kind, entry=entry)):
            yield Finding("content", f"{version.reference}, {entry.name}", detail)
    if outputs is None or outputs in checked.broken:
        return
    if detail := _outputs(checked, version, kind, digest=outputs):
        yield Finding("content", f"{version.reference}, probe", detail)


def _kind(text: str) -> str:
    try:
        definition = json.loads(text)
    except (ValueError, RecursionError):
        return ""  # the task's row is named already
    kind = definition.get("type") if isinstance(definition, dict) else None
    return kind if isinstance(kind, str) else ""


def _file(checked: _Checked, version: VersionRecord, kind: str, *, entry: FileEntry) -> str:
    try:
        if entry.name.endswith(_SAFETENSORS):
            return _tensors(checked, entry)
        if check := _JSON_FILES.get(entry.name):
            return check(version, kind, json.loads(checked.store.blobs.read(entry.digest)))
    except LimpetError as error:
        return error.message
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    return ""


def _tensors(checked: _Checked, entry: FileEntry) -> str:
    if entry.digest not in checked.tensors:
        path = checked.store.blobs.path(entry.digest)
        tensor = first_not_finite(path, entry.name)
        checked.tensors[entry.digest] = f"its tensor {tensor} has a value that is not finite" if tensor else ""
    return checked.tensors[entry.digest]


def _adapter_config(version: VersionRecord, kind: str, content: object) -> str:
    if not isinstance(content, dict):
        return "it is not a JSON object"
    settings = version.config.get("method")
    settings = settings if isinstance(settings, dict) else {}
    for theirs, ours in (("r", "r"), ("lora_alpha", "alpha")):
        if theirs in content and ours in settings and content[theirs] != settings[ours]:
            return f"its {theirs} is {content[theirs]!r}, and the manifest's {ours} {settings[ours]!r}"
    said = content.get("peft_type")
    if isinstance(said, str) and not _names(said, version.method):
        return f"its peft_type is {said!r}, and the manifest's method {version.method!r}"
    return ""


def _names(kind: str, method: str) -> bool:
    """Tell whether a method saves peft's type: `ia3` saves IA3, `prefix` PREFIX_TUNING, `peft:oft` OFT."""
    said, own = kind.lower().replace("_", "-"), method.removeprefix("peft:").replace("_", "-")
    return said in (own, f"{own}-tuning")


def _head(version: VersionRecord, kind: str, content: object) -> str:
    return head_problem(kind, content, version.labels)


def _labels(version: VersionRecord, kind: str, content: object) -> str:
    return "" if content == list(version.labels) else "its labels are not those of the manifest"


def _demonstrations(version: VersionRecord, kind: str, content: object) -> str:
    if not isinstance(content, dict):
        return "it is not a JSON object"
    return "" if content.get("labels") == list(version.labels) else "its labels are not those of the manifest"


_JSON_FILES: dict[str, Callable[[VersionRecord, str, Any], str]] = {
    PEFT_FILES[0]: _adapter_config,
    DEMONSTRATIONS_FILE: _demonstrations,
    HEAD_FILES[0]: _head,
    LABELS_FILE: _labels,
}


def _outputs(checked: _Checked, version: VersionRecord, kind: str, *, digest: str) -> str:
    try:
        outputs = parse(checked.store.blobs.read(digest))
    except LimpetError as error:
        return error.message
    return outputs_problem(kind, outputs.logits, version.labels)


def _check_evaluations(checked: _Checked, rows: Sequence[EvaluationRow]) -> Iterator[Finding]:
    with checked.store.database.read() as session:
        named = references(session, [row.version_id for row in rows])
    for row in rows:
        if row.predictions_digest not in checked.broken and (detail := _evaluation(checked.store, row)):
            yield Finding("content", f"evaluation {row.id} of {named.get(row.version_id)}", detail)


def _check_abilities(checked: _Checked, rows: Sequence[AbilityRow]) -> Iterator[Finding]:
    for row in rows:
        if row.predictions_digest not in checked.broken and (detail := _evaluation(checked.store, row)):
            yield Finding("content", f"ability {row.id}", detail)


def _evaluation(store: Store, evaluation: EvaluationRow | AbilityRow) -> str:
    try:
        content = json.loads(store.blobs.read(evaluation.predictions_digest))
    except LimpetError as error:
        return error.message
    except (ValueError, RecursionError) as error:
        return f"its predictions are not JSON ({error})"
    predictions = content.get("predictions") if isinstance(content, dict) else None
    targets = content.get("targets") if isinstance(content, dict) else None
    if not isinstance(predictions, list) or not isinstance(targets, list):
        return "its predictions have no list of predictions and one of targets"
    if not len(predictions) == len(targets) == evaluation.examples:
        return f"it has {len(predictions)} predictions and {len(targets)} targets for {evaluation.examples} examples"
    if evaluation.metric == "accuracy" and predictions:
        accuracy = sum(a == b for a, b in zip(predictions, targets, strict=True)) / len(targets)
        if accuracy != evaluation.score:
            return f"its accuracy is recorded as {evaluation.score!r}, and its predictions give {accuracy!r}"
    return ""
