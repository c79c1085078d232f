"""How the registry answers at 1,000, 10,000 and 100,000 versions, beside MLflow's and beside the disk itself.

python benchmarks/registry.py [--quick] [--runs N] [--folder FOLDER]

Homes are seeded in bulk through the schema's own tables, with whole manifests, stored files, aliases and a chained
log, so that `limpet verify` finds nothing wrong with the smallest one. MLflow's registry (SQLite backend store) is
seeded through its tables too, without tags, up to 10,000 versions. What is timed goes through public functions. A
registration stores an adapter of 1.4 MB with four small files, other bytes each time. The disk's own limit is as many
bytes and fsyncs by plain calls, and a commit of SQLite, taken in turn with the registrations. MLflow's
`create_model_version` records where a file lies, and stores none.

The folder must lie on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from limpet.registry import versions
from limpet.registry.database.row_digests import note_written
from limpet.registry.database.schema import EnvironmentRow, TaskRow, VersionFileRow, VersionRow
from limpet.registry.formats.canonical import canonical_json, digest_bytes, digest_json
from limpet.registry.records import bases, log, tasks
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import (
    BaseRecord,
    Environment,
    FileEntry,
    SplitRecord,
    TaskDefinition,
    TaskRecord,
    VersionDraft,
)
from limpet.registry.verification import verify
from limpet.registry.versions import VersionQuery, aliases

VERSIONS_PER_TASK = 100
ADAPTER_BYTES, HEAD_BYTES = 1_400_000, 7_868
BASE, DATA = digest_bytes(b"base"), digest_bytes(b"data")
LABELS = ("business", "entertainment", "politics", "sports", "tech")
ENVIRONMENT = Environment("3.11.7", "2.13.0", "5.23.0", "0.21.2", "0.1.0", "cpu:x86_64:AVX512", "bfloat16", 2)
CONFIG = {
    "max_length": 64,
    "method": {
        "alpha": 16,
        "dora": False,
        "dropout": 0.0,
        "exclude_modules": ["pooler.dense"],
        "r": 8,
        "rslora": False,
        "target_modules": ["dense", "key", "query", "value"],
    },
    "training": {"batch_size": 16, "dtype": "bfloat16", "epochs": 2, "learning_rate": 0.003, "max_seconds": None},
}


@dataclass(frozen=True)
class Timing:
    """The milliseconds of an operation, call by call, on a system with so many versions."""

    versions: int
    operation: str
    system: str
    times: Sequence[float]

    @property
    def median(self) -> float:
        """The median of all calls."""
        return statistics.median(self.times)

    def __str__(self) -> str:
        low, _, high = statistics.quantiles(self.times, n=4)
        return (
            f"{self.versions:>8,}  {self.operation:16} {self.system:8} {self.median:9.3f} {low:9.3f} {high:9.3f} "
            f"{max(self.times):9.3f} {1000 / self.median:9,.0f}"
        )


HEADER = (
    f"{'versions':>8}  {'operation':16} {'system':8} {'median ms':>9} {'quarter':>9} {'3rd q.':>9} {'most':>9} "
    f"{'a second':>9}"
)


def milliseconds(call: Callable[[], object]) -> float:
    """Call once; wall-clock milliseconds."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def timed(runs: int, call: Callable[[], object]) -> list[float]:
    """Call so many times, and a tenth as often before, uncounted."""
    for _ in range(runs // 10 + 1):
        call()
    return [milliseconds(call) for _ in range(runs)]


def task_name(index: int) -> str:
    """Return the name of a task."""
    return f"task-{index:04}"


def new_home(folder: Path) -> tuple[Store, tuple[FileEntry, ...]]:
    """Make a home with a base, and store the files that all seeded versions share."""
    store = create_store(folder / "home", Settings(cache=folder / "cache"))
    bases.add(
        store,
        BaseRecord(
            "sample:minilm", BASE, DATA, DATA, DATA, "bert", "encoder", 384, 22_713_216, 90_852_864, {}, utc_now()
        ),
    )
    files = new_files(folder / "seed")
    blobs = {name: store.blobs.put(path) for name, path in sorted(files.items())}
    return store, tuple(FileEntry(name, blob.digest, blob.size) for name, blob in blobs.items())


def new_files(folder: Path) -> dict[str, Path]:
    """Write the five files of an adapter; the tensors are other bytes each time."""
    folder.mkdir(exist_ok=True)
    contents = {
        "adapter_config.json": canonical_json({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "more": "x" * 1000}),
        "adapter_model.safetensors": secrets.token_bytes(ADAPTER_BYTES),
        "head.json": canonical_json({"pooling": "mean", "hidden_size": 384, "labels": len(LABELS)}),
        "head.safetensors": secrets.token_bytes(HEAD_BYTES),
        "labels.json": canonical_json(LABELS),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def draft(task: str, seed: int) -> VersionDraft:
    """Return a draft as `limpet train` makes it."""
    history = [{"epoch": 1, "loss": 0.8264828108251094, "validation": 0.828125}]
    score = 0.5 + seed * 7919 % 1000 / 2001
    metrics = {"score": score, "accuracy": score, "validation_accuracy": 0.953125, "history": history}
    cost = {"trainable_parameters": 333_701, "trainable_share": 0.0146919, "train_seconds": 5.664817}
    return VersionDraft(
        task, "lora", CONFIG, BASE, DATA, LABELS, seed, ENVIRONMENT, metrics, cost, lineage={"stream": "nightly"}
    )


def seed(store: Store, files: tuple[FileEntry, ...], first: int, *, last: int) -> None:
    """Bring a home from `first` to `last` versions, each task with an alias on one of its own."""
    splits = store.blobs.put_bytes(b'{"text":"a","label":0}\n')
    names = [task_name(index) for index in range(first // VERSIONS_PER_TASK, last // VERSIONS_PER_TASK)]
    with store.database.write() as session:
        for name in names:
            seed_versions(session, seed_task(session, name, splits), name, files=files)
    for name in names:
        aliases.promote(store, f"{name}@{VERSIONS_PER_TASK // 2}", "production")


def seed_task(session: Session, name: str, splits: str) -> int:
    """Insert a task; return the id of its row."""
    definition = TaskDefinition(name, "classification", "csv:a.csv", "text", "label", "accuracy", None, None, 0, 64)
    kept = tuple(SplitRecord(split, splits, 1, {"business": 1}) for split in ("train", "validation", "evaluation"))
    record = TaskRecord(definition, LABELS, kept, DATA, {"notes": []}, utc_now())
    row = TaskRow(name=name, **tasks.content(record))
    session.add(row)
    session.flush()
    return row.id


def seed_versions(session: Session, task_id: int, task: str, *, files: tuple[FileEntry, ...]) -> None:
    """Insert the versions of a task, with their files and the events of the log."""
    environment = session.scalar(select(EnvironmentRow.id)) or seed_environment(session)
    start = session.scalar(select(func.max(VersionRow.id))) or 0
    rows: list[dict[str, Any]] = []
    for number in range(1, VERSIONS_PER_TASK + 1):
        made, now = draft(task, seed=number), utc_now()
        digest = versions.identity(made, files)
        more = {"digest": digest, "created_at": now, "files": [asdict(entry) for entry in files]}
        manifest = canonical_json(asdict(made) | more)
        rows.append(
            {
                "id": start + number,
                "task_id": task_id,
                "number": number,
                "digest": digest,
                "manifest": manifest.decode(),
                "manifest_digest": digest_bytes(manifest),
                "method": made.method,
                "role": made.role,
                "seed": made.seed,
                "score": made.metrics["score"],
                "size": sum(entry.size for entry in files),
                "trainable_parameters": made.cost["trainable_parameters"],
                "base_digest": BASE,
                "data_digest": DATA,
                "environment_id": environment,
                "created_at": now,
            }
        )
    session.connection().execute(insert(VersionRow), rows)
    kept = [{"version_id": row["id"], **asdict(entry)} for row in rows for entry in files]
    session.connection().execute(insert(VersionFileRow), kept)
    for row in rows:
        note_written(session, VersionRow.__table__, (row["id"],))
        detail = {"digest": row["digest"], "method": row["method"]}
        log.record(session, "register", f"{task}@{row['number']}", detail=detail, actor="bench")


def seed_environment(session: Session) -> int:
    """Insert the environment that all versions share; return the id of its row."""
    row = EnvironmentRow(digest=digest_json(asdict(ENVIRONMENT)), content=asdict(ENVIRONMENT))
    session.add(row)
    session.flush()
    return row.id


class Disk:
    """What the disk itself takes for the bytes and fsyncs of a registration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for index in range(256):
            (folder / f"{index:02x}").mkdir(parents=True)
        self.database = sqlite3.connect(folder / "commits.db", isolation_level=None)
        self.database.execute("PRAGMA synchronous = EXTRA")
        self.database.execute("CREATE TABLE commits (content TEXT)")

    def store(self, files: dict[str, bytes]) -> None:
        """Write and sync the two new files, sync five folders, commit."""
        for content in files.values():
            place = self.folder / f"{secrets.randbelow(256):02x}"
            if len(content) > 5000:
                file = os.open(self.folder / "new", os.O_CREAT | os.O_WRONLY)
                os.write(file, content)
                os.fsync(file)
                os.close(file)
                (self.folder / "new").rename(place / secrets.token_hex(16))
            entry = os.open(place, os.O_RDONLY)
            os.fsync(entry)
            os.close(entry)
        self.database.execute("BEGIN IMMEDIATE")
        self.database.execute("INSERT INTO commits VALUES (?)", ("x" * 5000,))
        self.database.execute("COMMIT")


def measure_limpet(store: Store, folder: Path, count: int, *, runs: int) -> Iterator[Timing]:
    """Time the reads, then registrations in turn with the disk itself."""
    chance = random.Random(count)
    task_count = count // VERSIONS_PER_TASK

    def some_task() -> str:
        return task_name(chance.randrange(task_count))

    def some_version() -> str:
        return f"{some_task()}@{chance.randint(1, VERSIONS_PER_TASK)}"

    reads: dict[str, Callable[[], object]] = {
        "resolve an alias": lambda: versions.resolve(store, f"{some_task()}@production"),
        "show": lambda: versions.look_up(store, some_version()),
        "list 50": lambda: versions.find(store, limit=50),
        "list 50 by score": lambda: versions.find(store, VersionQuery(sort="-score"), limit=50),
    }
    for operation, call in reads.items():
        yield Timing(count, operation, "limpet", timed(runs * 10, call))
    sources = [new_files(folder / f"source-{index}") for index in range(runs + 3)]
    contents = [{name: path.read_bytes() for name, path in files.items()} for files in sources]
    disk = Disk(folder / f"disk-{count}")
    # what the sources left to be written is not the registrations' to wait for
    os.sync()
    ours, bare = [], []
    for index, (files, content) in enumerate(zip(sources, contents, strict=True)):
        made = draft(some_task(), seed=1_000_000 + index)
        ours.append(milliseconds(partial(versions.register, store, made, files)))
        bare.append(milliseconds(partial(disk.store, content)))
    yield Timing(count, "register", "limpet", ours[3:])
    yield Timing(count, "register", "disk", bare[3:])


def mlflow_client(folder: Path) -> Any:
    """Make MLflow's registry, with its first version made by its client."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model(task_name(0))
    client.create_model_version(task_name(0), f"{folder}/source-0/adapter_model.safetensors")
    client.set_registered_model_alias(task_name(0), "production", "1")
    return client


def seed_mlflow(database: Path, first: int, last: int) -> None:
    """Copy the first version to all others, through MLflow's tables."""
    with sqlite3.connect(database) as connection:
        for index in range(first // VERSIONS_PER_TASK, last // VERSIONS_PER_TASK):
            name = task_name(index)
            if index > 0:
                copy_rows(connection, "registered_models", {"name": name})
                copy_rows(connection, "registered_model_aliases", {"name": name, "version": VERSIONS_PER_TASK // 2})
            for number in range(2 if index == 0 else 1, VERSIONS_PER_TASK + 1):
                copy_rows(connection, "model_versions", {"name": name, "version": number})


def copy_rows(connection: sqlite3.Connection, table: str, changes: dict[str, Any]) -> None:
    """Insert the first task's first row again, with other values in some columns."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(f":{column}" if column in changes else column for column in columns)
    where = "name = 'task-0000'" + (" AND version = 1" if "version" in columns else "")
    connection.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {where}", changes)


def measure_mlflow(client: Any, folder: Path, count: int, *, runs: int) -> Iterator[Timing]:
    """Time the same operations of MLflow's registry."""
    chance = random.Random(count)
    task_count = count // VERSIONS_PER_TASK

    def some_task() -> str:
        return task_name(chance.randrange(task_count))

    source = f"{folder}/source-0/adapter_model.safetensors"
    calls: dict[str, Callable[[], object]] = {
        "resolve an alias": lambda: client.get_model_version_by_alias(some_task(), "production"),
        "show": lambda: client.get_model_version(some_task(), str(chance.randint(1, VERSIONS_PER_TASK))),
        "list 50": lambda: client.search_model_versions(max_results=50),
        "register": lambda: client.create_model_version(some_task(), source),
    }
    for operation, call in calls.items():
        yield Timing(count, operation, "mlflow", timed(runs, call))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200, 1,000 and 2,000 versions; MLflow up to 1,000")
    parser.add_argument(
        "--runs", type=int, default=50, help="registrations at each size; reads are ten times as many"
    )
    parser.add_argument("--folder", type=Path, help="where to make the homes; a temporary folder if not given")
    arguments = parser.parse_args()
    sizes, mlflow_sizes = (
        ([200, 1000, 2000], [200, 1000]) if arguments.quick else ([1000, 10_000, 100_000], [1000, 10_000])
    )
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        store, files = new_home(folder)
        client = mlflow_client(folder)
        print(HEADER, flush=True)
        seeded = 0
        for size in sizes:
            # what was registered at the size before stays, and is a few versions more
            seed(store, files, seeded, last=size)
            if size == sizes[0] and (problems := verify.verify(store)):
                raise SystemExit(f"the seeded home is not sound: {problems[0]}")
            steps = [measure_limpet(store, folder, size, runs=arguments.runs)]
            if size in mlflow_sizes:
                seed_mlflow(folder / "mlflow.db", seeded, size)
                steps.append(measure_mlflow(client, folder, size, runs=arguments.runs))
            for step in steps:
                for timing in step:
                    timings.append(timing)
                    print(timing, flush=True)
            seeded = size
    report(timings)


def report(timings: list[Timing]) -> None:
    """Print the ratios: large to small, MLflow and the disk to limpet."""
    medians = {(timing.operation, timing.system, timing.versions): timing.median for timing in timings}
    sizes = sorted({timing.versions for timing in timings})
    print(f"\n{'operation':16} {'x at ' + format(sizes[-1], ','):>14}  MLflow's time to ours, and ours to the disk's")
    for operation in dict.fromkeys(timing.operation for timing in timings):
        ours = {size: medians[operation, "limpet", size] for size in sizes}
        peers = [
            f"MLflow / limpet at {size:,}: {medians[operation, 'mlflow', size] / ours[size]:.1f}"
            for size in sizes
            if (operation, "mlflow", size) in medians
        ]
        disk = [
            f"limpet / disk at {size:,}: {ours[size] / medians[operation, 'disk', size]:.2f}"
            for size in sizes
            if (operation, "disk", size) in medians
        ]
        print(f"{operation:16} {ours[sizes[-1]] / ours[sizes[0]]:14.2f}  {'; '.join(peers + disk)}")


if __name__ == "__main__":
    main()
