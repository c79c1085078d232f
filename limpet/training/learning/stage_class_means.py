"""A head of class means as a version: staged as what was learned is, though nothing is trained."""

from __future__ import annotations

import shutil

from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.system.atomic_files import place_folder
from limpet.registry.values import VersionDraft
from limpet.training import methods
from limpet.training.evaluation.class_means import class_means
from limpet.training.learning.runs.run_folder import Staged, read_staged, run_folder, write_draft
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.head_files import save_head, write_labels

__all__ = ["stage_class_means"]


def stage_class_means(run: TrainingRun) -> Staged:
    """Stage a head of class means as a version of its task; nothing is trained.

    Args:
        run: The task, and in `start` the weights that are on the base. Of its settings only the length counts.

    Raises:
        UsageError: The task has no class means.
        IntegrityError: A file does not fit this base.
    """
    store, backbone, task, start = run.store, run.backbone, run.task, run.start
    max_length = run.settings.max_length or task.definition.max_length
    # versions keep it under this name since they were first made: it decides the digest
    origin = {"kind": "class means", "state": start.reference if start else None}
    config: JsonObject = {"method": {}, "max_length": max_length, "readout": origin}
    identity: JsonObject = {
        "readout": config,
        "task": task.name,
        "data": task.data_digest,
        "base": backbone.record.digest,
    }
    folder = run_folder(store, digest_json(identity))
    staging, staged = folder / "staging", folder / "staged"
    for left_over in (staging, staged):
        shutil.rmtree(left_over, ignore_errors=True)
    (staging / "files").mkdir(parents=True)
    weights = (start.method, start.files) if start else None
    head = class_means(store, backbone, task, max_length=max_length, state=weights, progress=run.progress)
    save_head(head, staging / "files")
    write_labels(staging / "files", task.labels)
    draft = VersionDraft(
        task=task.name,
        method=methods.NO_ADAPTER,
        config=config,
        base_digest=backbone.record.digest,
        data_digest=task.data_digest,
        labels=task.labels,
        seed=0,
        environment=backbone.environment(backbone.evaluation_dtype),
        metrics={},
        cost={"trainable_parameters": 0, "trainable_share": 0.0, "train_seconds": 0.0},
        role="baseline",
        lineage=dict(run.lineage),
    )
    write_draft(staging, draft)
    place_folder(staging, staged)
    return read_staged(staged)
