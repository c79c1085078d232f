"""Every method on the same tasks: how well it learns, and what it costs.

python benchmarks/methods.py sweep|learn [--base minilm] [--methods "lora;full"] [--seeds 0,1,2]
python benchmarks/methods.py cost [--repetitions 3]
python benchmarks/methods.py table

`sweep` tries learning rates with seed 0 and scores them on validation data. `learn` takes each method's best one,
learns each task with each seed, and evaluates. Both go through a home, as `limpet train` does, and may be started
several times at once: they share the work. `cost` measures processor seconds and memory: each method in a process of
its own, in turn. All of it is kept in `results/methods.jsonl`, and what is there is not run again: the key of a
result is base, task, data, method, settings, learning rate, seed and the sources of limpet's training. `table` prints
Markdown from what is there.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import _methods_table as tables
import numpy as np

import limpet
from limpet.home import Home, init
from limpet.training.samples import cache_folder

RESULTS = Path(__file__).with_name("results") / "methods.jsonl"
EPOCHS, BATCH_SIZE = 3, 16
COST_STEPS = 16


@dataclass(frozen=True)
class Arm:
    """A method with settings, under the name that the table has, and the learning rates to try."""

    name: str
    method: str
    rates: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A base with its tasks and methods."""

    base: str
    tasks: Mapping[str, Mapping[str, Any]]
    arms: tuple[Arm, ...]


_ADAPTER_RATES = (1e-3, 2e-3, 3e-3, 6e-3, 1e-2)
_ENCODER_ARMS = (
    Arm("full", "full", (5e-5, 1e-4, 2e-4, 4e-4)),
    Arm("lora", "lora", _ADAPTER_RATES),
    Arm("bottleneck", "bottleneck", _ADAPTER_RATES),
    Arm("bottleneck, pfeiffer", "bottleneck", (6e-3,), {"placement": "pfeiffer"}),
    Arm("partial", "partial", (1e-4, 3e-4, 1e-3, 3e-3)),
    Arm("probe", "probe", (1e-3, 1e-2, 3e-2, 1e-1)),
    Arm("ia3", "ia3", (3e-3, 1e-2, 3e-2, 1e-1)),
    Arm("prefix", "prefix", (3e-3, 1e-2, 3e-2, 1e-1)),
    Arm("prompt", "prompt", (1e-2, 3e-2, 1e-1, 3e-1)),
    Arm("p-tuning", "p-tuning", (1e-3, 3e-3, 1e-2, 3e-2)),
)
# one rate each: a sweep on this base would take hours of a processor
_DECODER_ARMS = (
    Arm("full", "full", (3e-5,)),
    Arm("lora", "lora", (1e-3,)),
    Arm("bottleneck", "bottleneck", (1e-3,)),
    Arm("partial", "partial", (3e-4,)),
    Arm("probe", "probe", (1e-2,)),
    Arm("ia3", "ia3", (1e-2,)),
    Arm("prefix", "prefix", (1e-2,)),
    Arm("prompt", "prompt", (3e-2,)),
    Arm("p-tuning", "p-tuning", (3e-3,)),
)
_MINILM = {"train_size": 600, "eval_size": 1000, "max_length": 32}
_SMOLLM2 = {"train_size": 100, "eval_size": 200, "max_length": 48}
PLANS = {
    "minilm": Plan(
        "sample:minilm", dict.fromkeys(("bbc-news", "reuters-r8", "rotten-tomatoes"), _MINILM), _ENCODER_ARMS
    ),
    "smollm2": Plan("sample:smollm2", {"bbc-news": _SMOLLM2}, _DECODER_ARMS),
}


def code_digest() -> str:
    """Digest of the sources that decide what training gives; default learning rates are part of a key already."""
    total = hashlib.sha256()
    folder = Path(limpet.__file__).parent / "training"
    for path in sorted(folder.rglob("*.py")):
        text = re.sub(r"^    learning_rate = .*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        total.update(f"{path.relative_to(folder)}\n{text}\n".encode())
    return total.hexdigest()[:12]


class Results:
    """The results file: one JSON object a line, appended to by several processes."""

    def __init__(self, path: Path, any_code: bool = False) -> None:
        self.path = path
        self._apart_from = {"code"} if any_code else set()
        self._held: list[Any] = []

    def rows(self) -> list[dict[str, Any]]:
        """All results, the oldest first."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def has(self, key: Mapping[str, Any]) -> bool:
        """Tell whether there is a result of that key."""
        wanted = {name: value for name, value in key.items() if name not in self._apart_from}
        return any(wanted.items() <= row["key"].items() for row in self.rows())

    def claim(self, key: Mapping[str, Any]) -> bool:
        """Tell whether this process is to find out: it isn't known, and no other process is at it."""
        folder = Path(tempfile.gettempdir()) / "limpet-benchmark"
        folder.mkdir(exist_ok=True)
        file = (folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # held until the process ends, however it ends
        self._held.append(file)
        return not self.has(key)

    def add(self, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Append a result; one write of one line, so that processes don't mix theirs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **values}, sort_keys=True) + "\n")


@contextmanager
def new_home(plan: Plan) -> Iterator[Home]:
    """Make a home with the plan's tasks, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        home = init(Path(folder) / "home", base=plan.base, mlflow="off")
        for task, options in plan.tasks.items():
            home.task.add(task, f"sample:{task}", **options)
        yield home


def sweep(plan: Plan, arguments: argparse.Namespace, results: Results) -> None:
    """Score each learning rate on validation data."""
    with new_home(plan) as home:
        jobs = [(task, arm, rate) for arm in chosen(plan, arguments) for rate in arm.rates for task in plan.tasks]
        for task, arm, rate in jobs:
            key = key_of("sweep", home, task, arm, rate, seed=0)
            if results.claim(key):
                results.add(key, learn_once(home, task, arm, rate, 0))
                say(results.rows()[-1])


def learn(plan: Plan, arguments: argparse.Namespace, results: Results) -> None:
    """Learn each task with each seed at the rate that the sweep found, and evaluate."""
    with new_home(plan) as home:
        arms = chosen(plan, arguments)
        jobs = [(seed, task, arm) for seed in arguments.seeds for arm in arms for task in plan.tasks]
        for seed, task, arm in jobs:
            rate = tables.best_rate(results.rows(), plan.base, arm.name, arm.rates)
            key = key_of("learn", home, task, arm, rate, seed)
            if results.claim(key):
                results.add(key, evaluate_once(home, task, arm, rate, seed))
                say(results.rows()[-1])


def key_of(kind: str, home: Home, task: str, arm: Arm, rate: float, seed: int) -> dict[str, Any]:
    """What decides a result."""
    return {
        "kind": kind,
        "base": home.base.show().name,
        "task": task,
        "data": home.task.show(task).data_digest[:19],
        "arm": arm.name,
        "method": arm.method,
        "settings": dict(arm.settings),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "learning_rate": rate,
        "seed": seed,
        "code": code_digest(),
    }


def settings_of(arm: Arm, rate: float, seed: int) -> Any:
    """The settings of one training run."""
    from limpet.training.learn import TrainingSettings

    return TrainingSettings(
        arm.method, arm.settings, epochs=EPOCHS, learning_rate=rate, batch_size=BATCH_SIZE, seed=seed
    )


def learn_once(home: Home, task: str, arm: Arm, rate: float, seed: int) -> dict[str, Any]:
    """Learn without registering; what validation said, epoch by epoch."""
    from limpet.errors import TrainingError
    from limpet.training.learn import discard
    from limpet.training.learn import learn as learn_task

    started = time.time()
    try:
        staged = learn_task(home.store, home.backbone(), home.task.show(task), settings_of(arm, rate, seed))
    except TrainingError as error:
        return {"validation": 0.0, "history": [], "note": str(error), "seconds": time.time() - started}
    discard(staged)
    metrics = staged.draft.metrics
    return {
        "validation": metrics["validation_accuracy"],
        "history": [epoch["validation"] for epoch in metrics["history"]],
        "seconds": time.time() - started,
    }


def evaluate_once(home: Home, task: str, arm: Arm, rate: float, seed: int) -> dict[str, Any]:
    """Learn, register and evaluate; which examples were right, so that methods can be paired example by example."""
    from limpet.registry import evaluations

    started = time.time()
    version = home.train(task, settings_of(arm, rate, seed), monitor=False).version
    record = evaluations.full(home.store, version.reference, version.reference)[0]
    said = evaluations.predictions(home.store, record)
    right = np.asarray(said["predictions"]) == np.asarray(said["targets"])
    files = {file.name: file.size for file in version.files}
    # a whole model for every run of `full` would fill the disk
    for file in version.files:
        if file.size > 50_000_000:
            home.store.blobs.remove(file.digest)
    return {
        "validation": version.metrics["validation_accuracy"],
        "accuracy": version.metrics["accuracy"],
        "examples": len(right),
        "right": np.packbits(right).tobytes().hex(),
        "trainable_parameters": version.cost["trainable_parameters"],
        "trainable_share": version.cost["trainable_share"],
        "bytes": sum(files.values()),
        "train_seconds": version.cost["train_seconds"],
        "peak_memory_bytes": version.cost["peak_memory_bytes"],
        "seconds": time.time() - started,
    }


class StepClock:
    """A progress that notes when every step ended, and how long features took, in seconds of the processor.

    One thread computes a step and may have to wait for others: on a busy machine wall-clock time says little.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.feature_seconds = 0.0
        self._name, self._started = "", 0.0

    def start(self, description: str, total: int) -> None:
        """Work begins."""
        self._name, self._started = description, time.process_time()

    def advance(self, done: int, detail: str = "") -> None:
        """A step is behind."""
        if self._name == "train":
            self.ends.append(time.process_time())

    def finish(self) -> None:
        """The work has ended."""
        if self._name == "features":
            self.feature_seconds += time.process_time() - self._started

    def note(self, text: str) -> None:
        """Nothing to say."""


def cost(plan: Plan, arguments: argparse.Namespace, results: Results) -> None:
    """Measure each method alone, in a process of its own, in turn, so that a slow minute meets all of them."""
    for repetition in range(arguments.repetitions):
        for arm in chosen(plan, arguments):
            command = [sys.executable, __file__, "cost-once", "--base", arguments.base, "--methods", arm.name]
            with tempfile.TemporaryDirectory() as cache:
                # features of another run would be found again; everything else may be
                for path in cache_folder().iterdir():
                    if path.name != "features":
                        (Path(cache) / path.name).symlink_to(path)
                environment = os.environ | {"LIMPET_CACHE": cache}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            said = json.loads(done.stdout.splitlines()[-1])
            key = {
                "kind": "cost",
                "base": plan.base,
                "arm": arm.name,
                "repetition": repetition,
                "code": code_digest(),
            }
            results.add(key, said | {"load": os.getloadavg()[0]})
            print(f"cost {arm.name}: {said}", flush=True)


def cost_once(plan: Plan, arm: Arm) -> None:
    """Learn one epoch on a part of the first task, and print what it took as JSON."""
    from limpet.training.learn import TrainingSettings
    from limpet.training.learn import learn as learn_task

    task, clock = next(iter(plan.tasks)), StepClock()
    options = plan.tasks[task]
    # features are of all that is trained on; steps are alike
    size = options["train_size"] if arm.method == "probe" else COST_STEPS * BATCH_SIZE
    with new_home(replace(plan, tasks={task: {**options, "train_size": size, "eval_size": 50}})) as home:
        settings = TrainingSettings(arm.method, arm.settings, epochs=1, learning_rate=arm.rates[0])
        draft = learn_task(home.store, home.backbone(), home.task.show(task), settings, progress=clock).draft
    # what is done once at the beginning is no part of a step
    steps = np.diff(clock.ends)[2:]
    print(
        json.dumps(
            {
                "step_seconds": float(np.median(steps)),
                "feature_seconds": clock.feature_seconds,
                "peak_memory_bytes": draft.cost["peak_memory_bytes"],
            }
        )
    )


def chosen(plan: Plan, arguments: argparse.Namespace) -> list[Arm]:
    """The arms that were asked for."""
    return [arm for arm in plan.arms if not arguments.methods or arm.name in arguments.methods.split(";")]


def say(row: Mapping[str, Any]) -> None:
    """Print a result as one line."""
    key = row["key"]
    scores = {name: row[name] for name in ("validation", "accuracy") if name in row}
    print(
        f"{key['kind']} {key['task']} {key['arm']} {key['learning_rate']:g} seed {key['seed']}: "
        f"{scores} in {row['seconds']:.0f} s",
        flush=True,
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sweep", "learn", "cost", "cost-once", "table"), nargs="?", default="table")
    parser.add_argument("--base", choices=tuple(PLANS), default="minilm")
    parser.add_argument("--methods", help="names as in the table, with semicolons between; all if not given")
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--any-code", action="store_true", help="results of other sources count as there")
    arguments = parser.parse_args()
    results = Results(arguments.results, arguments.any_code)
    plan = PLANS[arguments.base]
    if arguments.what == "cost-once":
        cost_once(plan, chosen(plan, arguments)[0])
    elif arguments.what == "table":
        for one in PLANS.values():
            print_tables(one, results.rows())
    else:
        {"sweep": sweep, "learn": learn, "cost": cost}[arguments.what](plan, arguments, results)


def print_tables(plan: Plan, rows: list[dict[str, Any]]) -> None:
    """Print all tables of a base."""
    arms = {arm.name: arm.rates for arm in plan.arms}
    steps = EPOCHS * -(-next(iter(plan.tasks.values()))["train_size"] // BATCH_SIZE)
    if not any(row["key"]["kind"] == "learn" and row["key"]["base"] == plan.base for row in rows):
        return
    print(f"\n{plan.base}\n")
    print(tables.accuracy_table(rows, plan.base, arms, list(plan.tasks)), end="\n\n")
    print(tables.cost_table(rows, plan.base, arms, next(iter(plan.tasks)), steps, BATCH_SIZE), end="\n\n")
    if any(tables.sweep_means(rows, plan.base, arm) for arm in arms):
        print(tables.sweep_table(rows, plan.base, arms))


if __name__ == "__main__":
    main()
