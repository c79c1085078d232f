"""A home with a base and two tasks, and drafts of versions; importable by other processes of a test."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from limpet.registry import versions
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import bases, evaluations, general_ability, tasks
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store, open_store
from limpet.registry.values import (
    AbilityDraft,
    AbilityRecord,
    BaseRecord,
    Environment,
    EvaluationDraft,
    EvaluationRecord,
    SplitRecord,
    TaskDefinition,
    TaskRecord,
    VersionDraft,
    VersionRecord,
)
from tests.migrated import with_database

BASE = digest_bytes(b"base")
ROWS = b'{"label":0,"text":"a"}\n'
LABELS = ("x", "y")
SPLITS = tuple(SplitRecord(split, digest_bytes(ROWS), 1, {"x": 1}) for split in ("train", "validation", "evaluation"))
WHEN = "2026-01-02T03:04:05.000006Z"
PREDICTIONS = b'{"predictions":[0,1],"targets":[0,0]}'
# what is done in a home before it is copied: a function of a module, by which the copy is known
Grow = Callable[[Store], object]
ENVIRONMENT = Environment("3.11", "2.13", "5.0", "0.21", "0.1", "cpu", "float32", 1)


def a_definition(name: str) -> TaskDefinition:
    return TaskDefinition(name, "classification", "csv:a.csv", "text", "label", "accuracy", None, None, 0, 64)


DATA = tasks.data_digest(a_definition("any"), LABELS, SPLITS)


def a_base(name: str = "sample:tiny", digest: str = BASE) -> BaseRecord:
    location = {"kind": "sample", "name": "tiny"}
    return BaseRecord(name, digest, DATA, DATA, DATA, "bert", "encoder", 32, 1000, 4000, location, WHEN)


def a_task(store: Store, name: str) -> TaskRecord:
    store.blobs.put_bytes(ROWS)
    return TaskRecord(a_definition(name), LABELS, SPLITS, DATA, {"notes": []}, WHEN)


def revise(store: Store, name: str = "news", text: str = "b") -> TaskRecord:
    """Add a revision of a task that has a row more for training and one for evaluation."""
    known = tasks.get(store, name)
    added = b'{"label":1,"text":"%s"}\n' % text.encode()
    train = store.blobs.put_bytes(ROWS + added)
    part = f"evaluation-r{known.revision + 1}"
    splits = (
        SplitRecord("train", train, 2, {"x": 1, "y": 1}),
        *known.splits[1:],
        SplitRecord(part, store.blobs.put_bytes(added), 1, {"y": 1}),
    )
    return tasks.add(
        store,
        replace(
            known,
            splits=splits,
            data_digest=tasks.data_digest(known.definition, known.labels, splits),
            revision=known.revision + 1,
            previous=known.data_digest,
        ),
    )


def stock(folder: Path, db: str | None = None, blobs: str | None = None) -> Store:
    """Make a home with one base and the tasks `news` and `films`."""
    if db is None:
        with_database(folder)
    store = create_store(folder, Settings(db=db, blobs=blobs, cache=folder.parent / "cache"))
    bases.add(store, a_base())
    for name in ("news", "films"):
        tasks.add(store, a_task(store, name))
    return store


def draft(task: str = "news", seed: int = 0, **changes: Any) -> VersionDraft:
    made = VersionDraft(
        task,
        "lora",
        {"r": 8},
        BASE,
        DATA,
        LABELS,
        seed,
        ENVIRONMENT,
        {"score": seed / 100},
        {"trainable_parameters": 10},
    )
    return replace(made, **changes)


def add_version(store: Store, task: str = "news", seed: int = 0, **changes: Any) -> VersionRecord:
    return register(store, draft(task, seed, **changes))[0]


def add_evaluation(store: Store, version: str, predictions: bytes = PREDICTIONS, **changes: Any) -> EvaluationRecord:
    """Keep a full evaluation of a version; its score is the accuracy of `PREDICTIONS`."""
    fields: dict[str, Any] = {
        "version": version,
        "state": version,
        "kind": "full",
        "split": "evaluation",
        "metric": "accuracy",
        "score": 0.5,
        "examples": 2,
        "logits_digest": DATA,
        "plan_digest": DATA,
        "data_digest": DATA,
        "base_digest": BASE,
        "environment": ENVIRONMENT,
        "seconds": 1.0,
    }
    if "predictions_digest" not in changes:
        fields["predictions_digest"] = store.blobs.put_bytes(predictions)
    return evaluations.add(store, EvaluationDraft(**fields | changes))


def add_ability(store: Store) -> AbilityRecord:
    """Keep what an ability task found under two versions."""
    return general_ability.add(
        store,
        AbilityDraft(
            probe={"name": "words"},
            head="news@1",
            state="news@2",
            after=None,
            metric="accuracy",
            score=0.5,
            examples=2,
            predictions_digest=store.blobs.put_bytes(PREDICTIONS),
            logits_digest=DATA,
            plan_digest=DATA,
            base_digest=BASE,
            environment=ENVIRONMENT,
            seconds=1.0,
        ),
    )


def adapter_bytes(task: str, seed: int) -> bytes:
    """A safetensors file with one small tensor, another one for each task and seed."""
    header = json.dumps({task: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<16f", *range(seed, seed + 16))


def register(store: Store, made: VersionDraft) -> tuple[VersionRecord, bool]:
    return versions.register(store, made, {"adapter_model.safetensors": adapter_file(store, made)})


def adapter_file(store: Store, made: VersionDraft) -> Path:
    """Return the file to register for a draft, written unless it is there."""
    file = store.path / f"adapter-{made.task}-{made.seed}"
    if not file.is_file():
        file.write_bytes(adapter_bytes(made.task, made.seed))
    return file


def again(store: Store) -> Store:
    """Open the same home anew, as another process would."""
    return open_store(store.path)
