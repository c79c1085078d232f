"""What the bytes say, beyond being those that were recorded: tensors, configurations, labels, predictions, probes.

Bytes that hash as recorded can still be wrong: they may have been wrong when they were registered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import LimpetError
from limpet.registry._rows import version_record
from limpet.registry.probes import parse
from limpet.registry.problems import Problem
from limpet.registry.schema import AbilityRow, EvaluationRow, ProbeRow, TaskRow, VersionRow
from limpet.registry.store import Store
from limpet.registry.task_forms import head_problem, probe_problem
from limpet.registry.tensors import first_not_finite
from limpet.registry.values import FileEntry, VersionRecord

__all__ = ["check_contents"]

_BUFFER = 500
_SAFETENSORS = ".safetensors"


@dataclass
class _Checked:
    """A home's blobs as they are checked: `broken` ones are named already, tensors are read once for all versions."""

    store: Store
    broken: Collection[str]
    tensors: dict[str, str] = field(default_factory=dict)


def check_contents(store: Store, broken: Collection[str] = ()) -> Iterator[Problem]:
    """Yield what the files of versions, the predictions and the probes say wrong.

    Args:
        store: The open home.
        broken: Digests of blobs that are known to be missing or changed, to pass by.
    """
    checked = _Checked(store, broken)
    with store.database.read() as session:
        yield from _check_versions(session, checked)
        yield from _check_evaluations(session, checked)
        yield from _check_abilities(session, checked)


def _check_versions(session: Session, checked: _Checked) -> Iterator[Problem]:
    probes = dict(session.execute(select(ProbeRow.version_id, ProbeRow.digest)).all())
    kinds = {task.name: _kind(task.definition) for task in session.scalars(select(TaskRow))}
    query = select(VersionRow).where(VersionRow.deleted_at.is_(None)).order_by(VersionRow.id)
    for row in session.scalars(query.execution_options(yield_per=_BUFFER)):
        try:
            version = version_record(row, ())
        except (LimpetError, KeyError, TypeError, ValueError):
            continue  # its manifest is named already
        for entry in version.files:
            if entry.digest not in checked.broken and (
                detail := _file(checked, version, kinds.get(version.task, ""), entry)
            ):
                yield Problem("content", f"{version.reference}, {entry.name}", detail)
        digest = probes.get(row.id)
        kind = kinds.get(version.task, "")
        if digest is not None and digest not in checked.broken and (detail := _probe(checked, version, kind, digest)):
            yield Problem("content", f"{version.reference}, probe", detail)


def _kind(definition: Any) -> str:
    kind = definition.get("type") if isinstance(definition, dict) else None
    return kind if isinstance(kind, str) else ""


def _file(checked: _Checked, version: VersionRecord, kind: str, entry: FileEntry) -> str:
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


def _adapter_config(version: VersionRecord, kind: str, content: Any) -> str:
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


def _head(version: VersionRecord, kind: str, content: Any) -> str:
    return head_problem(kind, content, version.labels)


def _labels(version: VersionRecord, kind: str, content: Any) -> str:
    return "" if content == list(version.labels) else "its labels are not those of the manifest"


def _demonstrations(version: VersionRecord, kind: str, content: Any) -> str:
    if not isinstance(content, dict):
        return "it is not a JSON object"
    return "" if content.get("labels") == list(version.labels) else "its labels are not those of the manifest"


_JSON_FILES: dict[str, Callable[[VersionRecord, str, Any], str]] = {
    "adapter_config.json": _adapter_config,
    "demonstrations.json": _demonstrations,
    "head.json": _head,
    "labels.json": _labels,
}


def _probe(checked: _Checked, version: VersionRecord, kind: str, digest: str) -> str:
    try:
        probe = parse(checked.store.blobs.read(digest))
    except LimpetError as error:
        return error.message
    return probe_problem(kind, probe.logits, version.labels)


def _check_evaluations(session: Session, checked: _Checked) -> Iterator[Problem]:
    query = (
        select(EvaluationRow, TaskRow.name, VersionRow.number)
        .outerjoin(VersionRow, VersionRow.id == EvaluationRow.version_id)
        .outerjoin(TaskRow, TaskRow.id == VersionRow.task_id)
        .order_by(EvaluationRow.id)
    )
    for row, task, number in session.execute(query.execution_options(yield_per=_BUFFER)):
        if row.predictions_digest not in checked.broken and (detail := _evaluation(checked.store, row)):
            yield Problem("content", f"evaluation {row.id} of {task}@{number}", detail)


def _check_abilities(session: Session, checked: _Checked) -> Iterator[Problem]:
    query = select(AbilityRow).order_by(AbilityRow.id).execution_options(yield_per=_BUFFER)
    for row in session.scalars(query):
        if row.predictions_digest not in checked.broken and (detail := _evaluation(checked.store, row)):
            yield Problem("content", f"ability {row.id}", detail)


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
        found = sum(a == b for a, b in zip(predictions, targets, strict=True)) / len(targets)
        if found != evaluation.score:
            return f"its accuracy is recorded as {evaluation.score!r}, and its predictions give {found!r}"
    return ""
