"""Versions in MLflow: each a logged model, and a version of its task's registered model with aliases.

The weights stay in limpet's blobs; MLflow holds the digests by which to find them. Limpet's aliases win: one
that was set or moved in MLflow's own interface is put back.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import LimpetError
from limpet.forgetting.json_form import as_json
from limpet.forgetting.mlflow_mirror.sent_items import REGISTERED
from limpet.forgetting.mlflow_mirror.tracking import HOME, KEY, Tracking, milliseconds
from limpet.forgetting.monitor.kept_predictions import read_predictions
from limpet.forgetting.monitor.version_errors import find_errors
from limpet.registry import versions
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import tasks
from limpet.registry.values import TaskRecord, VersionRecord
from limpet.registry.versions import VersionQuery

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, LoggedModel, RunTag

__all__ = [
    "ERRORS_FILE",
    "all_versions",
    "dataset_inputs",
    "dataset_name",
    "flat",
    "logged_model",
    "push_aliases",
    "push_deletion",
    "push_name",
    "push_registered",
    "push_removal",
]

ERRORS_FILE = "errors.json"
"""What a version gets wrong, beside its card."""
_MOST_WRONG = 100
_DELETED = "limpet.deleted"
_REMOVED = "limpet.removed"
_VERSION = "limpet.version"
_RENAMED = "limpet-"
_RESERVED = re.compile(r"latest|v[0-9]+")
# MLflow knows a dataset by at most 36 characters of digest; the whole one is in a tag
_DATASET_DIGEST = 36


def all_versions(tracking: Tracking, task: str) -> list[VersionRecord]:
    """Return every version of a task, oldest first; the deleted ones too, so that MLflow counts as limpet does."""
    found: list[VersionRecord] = []
    cursor = None
    while True:
        page = versions.find(tracking.store, VersionQuery(task=task, deleted=True), limit=500, cursor=cursor)
        found.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            return sorted(found, key=lambda version: version.number)


def flat(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give nested settings as MLflow's flat parameters: `training.learning_rate`, lists as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def dataset_inputs(tracking: Tracking, task: TaskRecord) -> list[DatasetInput]:
    """Return a task's splits as MLflow dataset inputs, each with its whole digest as a tag."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    contexts = {"train": "training", "validation": "validation"}
    schema = {"mlflow_colspec": [{"name": "text", "type": "string"}, {"name": "label", "type": "long"}]}
    return [
        DatasetInput(
            Dataset(
                name=dataset_name(tracking, task, split.name),
                digest=short_digest(split.digest),
                source_type="limpet",
                source=json.dumps({"uri": task.definition.data, "digest": split.digest}),
                schema=json.dumps(schema),
                profile=json.dumps({"num_rows": split.examples, "labels": dict(split.label_counts)})[:10_000],
            ),
            [
                InputTag("mlflow.data.context", contexts.get(split.name, "evaluation")),
                InputTag("limpet.digest", split.digest),
            ],
        )
        for split in task.splits
    ]


def dataset_name(tracking: Tracking, task: TaskRecord, split: str) -> str:
    """Return what MLflow calls a split of a revision, which stays: a dataset can't be renamed there."""
    # a task that was never revised keeps the name that it had before there were revisions
    return f"{tracking.first(task.name if task.revision == 1 else task.reference)}/{split}"


def short_digest(digest: str) -> str:
    """Return as much of a digest as MLflow has room for in a dataset."""
    return digest.removeprefix("sha256:")[:_DATASET_DIGEST]


def logged_model(tracking: Tracking, reference: str, run: str | None) -> str:
    """Return the id of a version's logged model, made if it is not there.

    Args:
        tracking: The mirror.
        reference: The version, as `task@3`.
        run: The run that made the version; None makes a run of its own for it.
    """
    key = f"model:{reference}"
    if known := tracking.known(key):
        return known
    version = versions.look_up(tracking.store, reference)
    found = tracking.client.search_logged_models([tracking.experiment], tracking.filter(key), max_results=1)
    model = found[0] if found else _create_model(tracking, version, run or _own_run(tracking, version))
    if str(model.status) != "READY":
        _write_card(tracking, model, version)
        tracking.client.finalize_logged_model(model.model_id, "READY")
    tracking.keep(key, model.model_id, version.digest)
    return str(model.model_id)


def _create_model(tracking: Tracking, version: VersionRecord, run: str) -> LoggedModel:
    params = dict(flat(version.config)) | {
        "method": version.method,
        "seed": str(version.seed),
        "labels": json.dumps(list(version.labels), ensure_ascii=False),
    }
    tags = _version_tags(version) | {"mlflow.model.isExternal": "true"}
    return tracking.client.create_logged_model(
        tracking.experiment,
        # dots are illegal in the names of logged models
        name=f"{version.task.replace('.', '-')}-{version.number}",
        source_run_id=run,
        tags=tracking.tags(f"model:{version.reference}", tags),
        params=params,
        model_type=f"limpet {version.role}",
    )


def _write_card(tracking: Tracking, model: LoggedModel, version: VersionRecord) -> None:
    """Write the small file that lets MLflow register a model whose weights lie elsewhere; beside it, its errors."""
    from mlflow.models.utils import get_external_mlflow_model_spec

    with tempfile.TemporaryDirectory() as folder:
        get_external_mlflow_model_spec(model).save(str(Path(folder) / "MLmodel"))
        if (errors := _errors(tracking, version)) is not None:
            (Path(folder) / ERRORS_FILE).write_text(errors, encoding="utf-8")
        tracking.client.log_model_artifacts(model.model_id, folder)


def _errors(tracking: Tracking, version: VersionRecord) -> str | None:
    """Return what a version gets wrong as JSON, label by label and with examples; null where that is not known."""
    try:
        errors = find_errors(tracking.store, version, read=read_predictions(tracking.store))
    except LimpetError:
        # what is wrong with kept predictions is for limpet verify to say, and no reason to send nothing
        return None
    if errors is None:
        return None
    content = as_json(replace(errors, wrong=errors.wrong[:_MOST_WRONG])) | {"wrong_examples": len(errors.wrong)}
    return json.dumps(content, ensure_ascii=False, indent=1)


def _own_run(tracking: Tracking, version: VersionRecord) -> str:
    """Return the run of a version that no stream made, such as one trained elsewhere and registered."""
    from mlflow.entities import Metric

    key = f"version:{version.reference}"
    made = milliseconds(version.created_at)
    started = made - round(1000 * float(version.cost.get("train_seconds") or 0))
    parent = _run_of_baselines(tracking, made) if version.role == "baseline" else None
    run = tracking.run(key, version.reference, parent, started_at=started)
    identity = run.info.run_id
    tracking.client.log_inputs(identity, datasets=dataset_inputs(tracking, tasks.of_version(tracking.store, version)))
    metrics = [
        Metric(key, float(value), made, 0)
        for key, value in (*version.metrics.items(), *version.cost.items())
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    tracking.client.log_batch(identity, metrics=metrics, tags=_run_tags(_version_tags(version)))
    tracking.client.set_terminated(identity, "FINISHED", end_time=made)
    tracking.keep(key, identity, version.digest)
    return str(identity)


def _run_of_baselines(tracking: Tracking, made: int) -> str:
    """Return the run that folds away those of baselines beside the arms, such as heads of class means.

    There are several for each step of a stream, and MLflow draws curves of the first ten runs that it lists.
    """
    key = "baselines"
    if known := tracking.known(key):
        return known
    identity = str(tracking.run(key, "baselines beside the arms", None, started_at=made).info.run_id)
    tracking.client.set_terminated(identity, "FINISHED", end_time=made)
    tracking.keep(key, identity, key)
    return identity


def _version_tags(version: VersionRecord) -> dict[str, str]:
    return {
        _VERSION: version.reference,
        "limpet.digest": version.digest,
        "limpet.method": version.method,
        "limpet.role": version.role,
        "limpet.base_digest": version.base_digest,
        "limpet.data_digest": version.data_digest,
        "limpet.created_at": version.created_at,
        "limpet.parent": version.parent or "none",
    }


def _run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]


def push_registered(tracking: Tracking, version: VersionRecord) -> bool:
    """Make a version of the task's registered model for this version; False if it is there already."""
    key = f"{REGISTERED}{version.reference}"
    if tracking.known(key):
        return False
    name = _registered_model(tracking, version.task)
    model = tracking.client.get_logged_model(logged_model(tracking, version.reference, None))
    found = tracking.client.search_model_versions(
        f"name = '{name}' AND tags.`{KEY}` = '{tracking.key(key)}'", max_results=1
    )
    number = found[0].version if found else _create_version(tracking, name, key, version=version, model=model)
    tracking.keep(key, str(number), version.digest)
    return True


def push_deletion(tracking: Tracking, version: VersionRecord) -> bool:
    """Say on what MLflow has of a deleted version that it was deleted; False if that was said, or it was not."""
    key = f"deleted:{version.reference}"
    if version.deleted is None or tracking.known(key):
        return False
    said = f"{version.deleted.created_at} by {version.deleted.actor}: {version.deleted.reason}"
    model = logged_model(tracking, version.reference, None)
    tracking.client.set_logged_model_tags(model, {_DELETED: said})
    number = tracking.known(f"{REGISTERED}{version.reference}")
    tracking.client.set_model_version_tag(_registered_model(tracking, version.task), number, _DELETED, said)
    tracking.keep(key, model, said)
    return True


def _create_version(tracking: Tracking, name: str, key: str, *, version: VersionRecord, model: LoggedModel) -> str:
    made = tracking.client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=model.source_run_id,
        tags=tracking.tags(key, _version_tags(version)),
        description=_version_note(version),
        await_creation_for=0,
        model_id=model.model_id,
    )
    return str(made.version)


def _version_note(version: VersionRecord) -> str:
    return f"{version.method}, {version.digest}: `limpet adapter show {version.reference}`"


def _registered_model(tracking: Tracking, task: str) -> str:
    """Return the name of the task's registered model, made if it is not there."""
    from mlflow.exceptions import MlflowException

    key = f"task:{task}"
    if known := tracking.known(key):
        return known if tracking.unchanged(key, task) else _rename_model(tracking, known, task)
    # looked up anew, it may have the name that the task had at the last sync
    if found := tracking.client.search_registered_models(tracking.filter(key), max_results=1):
        return _rename_model(tracking, found[0].name, task)
    tags = tracking.tags(key, {"limpet.task": task})
    name = f"limpet-{task}"
    # another home on the same server may have taken the name
    for candidate in (name, f"{name}-{tracking.home}"):
        try:
            tracking.client.create_registered_model(candidate, tags=tags, description=_described(task))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if tracking.client.get_registered_model(candidate).tags.get(HOME) != tracking.home:
                continue
        name = candidate
        break
    tracking.keep(key, name, task)
    return name


def _rename_model(tracking: Tracking, known: str, task: str) -> str:
    """Give the registered model of a task that was renamed the task's new name."""
    from mlflow.exceptions import MlflowException

    key, name = f"task:{task}", known
    for candidate in (f"limpet-{task}", f"limpet-{task}-{tracking.home}"):
        try:
            tracking.client.rename_registered_model(known, candidate)
        except MlflowException as error:
            # a sync that was cut off here has renamed it already
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
                raise
            tags = tracking.client.get_registered_model(candidate).tags
            if (tags.get(HOME), tags.get(KEY)) != (tracking.home, tracking.key(key)):
                continue
        name = candidate
        break
    tracking.client.set_registered_model_tag(name, "limpet.task", task)
    tracking.client.update_registered_model(name, _described(task))
    tracking.keep(key, name, task)
    return name


def _described(task: str) -> str:
    return f"The versions of the limpet task {task}, mirrored."


def push_name(tracking: Tracking, version: VersionRecord) -> None:
    """Say on what MLflow has of a version what the version is called now, where its task was ever renamed."""
    key = f"named:{version.reference}"
    if not tracking.was_renamed(version.task) or tracking.unchanged(key, version.reference):
        return
    model = logged_model(tracking, version.reference, None)
    tracking.client.set_logged_model_tags(model, {_VERSION: version.reference})
    run = tracking.client.get_logged_model(model).source_run_id
    tracking.client.set_tag(run, _VERSION, version.reference)
    name, number = _registered_model(tracking, version.task), tracking.known(f"{REGISTERED}{version.reference}")
    tracking.client.set_model_version_tag(name, number, _VERSION, version.reference)
    tracking.client.update_model_version(name, number, _version_note(version))
    tracking.keep(key, model, version.reference)


def push_removal(tracking: Tracking, task: TaskRecord) -> None:
    """Say on the registered model of a task that was removed by whom, when and why; so do its versions."""
    key = f"removed:{task.name}"
    if task.removed is None or tracking.known(key) or not tracking.known(f"task:{task.name}"):
        return
    said = f"{task.removed.created_at} by {task.removed.actor}: {task.removed.reason}"
    name = _registered_model(tracking, task.name)
    tracking.client.set_registered_model_tag(name, _REMOVED, said)
    tracking.keep(key, name, said)


def push_aliases(tracking: Tracking, task: str, records: list[VersionRecord]) -> tuple[int, list[str]]:
    """Make the aliases of a task's registered model those of the task: set, moved, removed.

    Returns:
        How many changed, and a note for each alias that MLflow knows by another name.
    """
    wanted: dict[str, str] = {}
    notes = []
    for version in records:
        for alias in version.aliases:
            shown = _legal_alias(alias)
            if shown != alias:
                notes.append(f"{task}@{alias} is {shown} in MLflow, where {alias} is not a legal alias")
            registered = tracking.known(f"{REGISTERED}{version.reference}")
            assert registered is not None
            wanted[shown] = registered
    key = f"aliases:{task}"
    if tracking.unchanged(key, wanted) or not (wanted or tracking.known(key)):
        return 0, notes
    name = _registered_model(tracking, task)
    aliases = tracking.client.get_registered_model(name).aliases
    gone = aliases.keys() - wanted.keys()
    for alias in gone:
        tracking.client.delete_registered_model_alias(name, alias)
    moved = [alias for alias, number in wanted.items() if str(aliases.get(alias)) != number]
    for alias in moved:
        tracking.client.set_registered_model_alias(name, alias, wanted[alias])
    tracking.keep(key, name, wanted)
    return len(moved) + len(gone), notes


def _legal_alias(alias: str) -> str:
    """Return the name of an alias in MLflow, another one for each alias.

    MLflow keeps `latest` and `v<N>` to itself and knows no dots. What needs another name begins with `limpet-`, and
    so does what would be taken for one of these.
    """
    if "." not in alias and not _RESERVED.fullmatch(alias) and not alias.startswith(_RENAMED):
        return alias
    return _RENAMED + alias.replace("_", "__").replace(".", "_dot_")
