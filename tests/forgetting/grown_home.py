"""A home in which a stream was learned, made through the registry alone; the scores are invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limpet.registry import versions
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.registry.records import bases, evaluations, streams, tasks
from limpet.registry.store import Store
from limpet.registry.values import (
    ArmDraft,
    ArmRun,
    BaseRecord,
    Environment,
    EvaluationDraft,
    SplitRecord,
    TaskDefinition,
    TaskRecord,
    VersionDraft,
    VersionRecord,
)

__all__ = ["ENVIRONMENT", "TASKS", "add_base", "add_step", "add_task", "add_version", "grow"]

TASKS = ("bbc-news", "reuters-r8", "rotten-tomatoes", "election-tweets")
ENVIRONMENT = Environment("3.11", "2.13", "5.23", "0.21.2", "0.1.0", "cpu", "float32", 2)
LABELS = ("no", "yes")
EXAMPLES = 20
# scores after each step, in twentieths right; one row for each step
KEPT = ((19,), (19, 18), (19, 18, 16), (19, 18, 16, 17))
LOST = ((19,), (15, 18), (12, 16, 16), (9, 15, 11, 18))
SHARED = ((18,), (10, 18), (7, 12, 15), (6, 9, 10, 17))


def add_base(store: Store) -> BaseRecord:
    digests = {f"{part}digest": digest_json(part) for part in ("", "weights_", "config_", "tokenizer_")}
    record = BaseRecord(
        name="sample:minilm",
        architecture="bert",
        family="encoder",
        hidden_size=384,
        parameters=22_713_216,
        size=90_000_000,
        location={"kind": "sample", "name": "minilm"},
        created_at="2026-01-01T00:00:00.000000Z",
        **digests,
    )
    return bases.add(store, record)


def add_task(store: Store, name: str) -> TaskRecord:
    splits = []
    for split in ("train", "validation", "evaluation"):
        lines = [canonical_json({"text": f"{name} {split} {n}", "label": n % 2}) for n in range(EXAMPLES)]
        digest = store.blobs.put_bytes(b"\n".join(lines) + b"\n")
        splits.append(SplitRecord(split, digest, EXAMPLES, {"no": EXAMPLES // 2, "yes": EXAMPLES // 2}))
    definition = TaskDefinition(
        name, "classification", f"sample:{name}", "text", "label", "accuracy", EXAMPLES, EXAMPLES, 0, 64
    )
    digest = digest_json([split.digest for split in splits])
    created = "2026-01-01T00:00:00.000000Z"
    return tasks.add(store, TaskRecord(definition, LABELS, tuple(splits), digest, {"notes": []}, created))


def add_version(
    store: Store,
    task: str,
    base: BaseRecord,
    folder: Path,
    seed: int,
    method: str = "lora",
    role: str = "adapter",
) -> VersionRecord:
    record = tasks.get(store, task)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(f"{task} {seed} {method} {role}".encode())
    draft = VersionDraft(
        task=task,
        method=method,
        config={"method": {"r": 8, "alpha": 16}, "training": {"learning_rate": 1e-3, "epochs": 3}, "max_length": 64},
        base_digest=base.digest,
        data_digest=record.data_digest,
        labels=LABELS,
        seed=seed,
        environment=ENVIRONMENT,
        metrics={"score": 0.9},
        cost={
            "trainable_parameters": 337_920,
            "trainable_share": 0.0149,
            "train_seconds": 12.5,
            "examples_per_second": 60.0,
            "peak_memory_bytes": 1_000_000_000,
        },
        role="adapter" if role == "adapter" else "baseline",
    )
    return versions.register(store, draft, {file.name: file})[0]


def add_step(store: Store, arm: ArmRun, made: Sequence[VersionRecord], right: Sequence[int]) -> None:
    """Add the step that made the last of `made`, with `right[j]` of 20 examples right on the j-th task."""
    row = {}
    for version, count in zip(made, right, strict=True):
        targets = [n % 2 for n in range(EXAMPLES)]
        predictions = [target if n < count else 1 - target for n, target in enumerate(targets)]
        content = {"schema": 1, "predictions": predictions, "targets": targets}
        state = version if arm.strategy == "isolated" else made[-1]
        evaluation = evaluations.add(
            store,
            EvaluationDraft(
                version=version.reference,
                state=state.reference,
                kind="full",
                split="evaluation",
                metric="accuracy",
                score=count / EXAMPLES,
                examples=EXAMPLES,
                predictions_digest=store.blobs.put_bytes(canonical_json(content)),
                logits_digest=digest_json(predictions),
                plan_digest=digest_json("plan"),
                data_digest=tasks.get(store, version.task).split("evaluation").digest,
                base_digest=version.base_digest,
                environment=ENVIRONMENT,
                seconds=1.0,
            ),
        )
        row[version.task] = evaluation.id
    last = made[-1]
    unchanged = None if arm.method == "full" else True
    index = len(streams.steps(store, arm.id))
    streams.add_step(store, arm.id, index, version=last.reference, base_unchanged=unchanged, row=row)


def grow(
    store: Store,
    folder: Path,
    steps: int = 4,
    arms: Mapping[str, tuple[str, str]] | None = None,
    name: str = "four-topics",
) -> None:
    """Learn the first `steps` tasks of a stream of four under every arm; call it again with more to go on."""
    base = add_base(store)
    for task in TASKS:
        add_task(store, task)
    arms = arms or {
        "isolated": ("isolated", "lora"),
        "sequential-full": ("sequential", "full"),
        "sequential-shared": ("sequential", "lora"),
    }
    scores = {"isolated": KEPT, "sequential-full": LOST, "sequential-shared": SHARED}
    streams.create(store, name, {"name": name, "tasks": list(TASKS)}, base_digest=base.digest, tasks=TASKS)
    for position, (arm_name, (strategy, method)) in enumerate(arms.items()):
        arm = streams.arm_run(
            store, name, ArmDraft(arm_name, strategy=strategy, method=method, seed=0, settings={"set": {"r": 8}})
        )
        if method == "full":
            sweep = [{"settings": {"lr": lr}, "validation": {}, "mean": 0.5} for lr in (1e-5, 3e-5)]
            streams.set_sweep(store, arm.id, sweep, chosen={"lr": 3e-5})
        role = "adapter" if strategy == "isolated" else "baseline"
        # another seed for each arm, so that each arm makes versions of its own
        made = [add_version(store, task, base, folder, position, method, role) for task in TASKS[:steps]]
        done = len(streams.steps(store, arm.id))
        for count in range(done + 1, steps + 1):
            add_step(store, arm, made[:count], scores[arm_name][count - 1])
        if steps == len(TASKS):
            streams.finish_arm(store, arm.id)
