"""Every method on the same tasks: how well it learns, and what it costs.

python benchmarks/methods.py sweep|learn [--base minilm] [--tasks bbc-news] [--methods "lora;full"] [--seeds 0,1,2]
python benchmarks/methods.py cost [--base minilm] [--tasks bbc-news] [--repetitions 3]
python benchmarks/methods.py table

Tasks stand in groups; those of a group share their learning rates. `sweep` tries rates with seed 0 and scores them on
validation data. `learn` takes each method's best one for the group, learns each task with each seed, and evaluates.
Both go through a home, as `limpet train` does, and may be started several times at once: they share the work. `cost`
measures seconds and memory: each method in a process of its own, in turn, on the first task of the group. All of it
is kept in `results/methods.jsonl`, and what is there is not run again: the key of a result is base, task, data,
method, settings, learning rate, seed, the dtype that is trained in here and the sources of limpet's training. `table`
prints Markdown of what is there, dtype by dtype.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _methods_table as tables
import numpy as np

import limpet
from limpet.home import Home, init
from limpet.registry.cache import cache_folder
from limpet.training.base.precision import resolve_dtype

RESULTS = Path(__file__).with_name("results") / "methods.jsonl"
EPOCHS = 3
NOTHING = "none"
"""The arm that learns nothing: the base answers as it is."""


@dataclass(frozen=True)
class Arm:
    """A method with settings, under the name that the table has, and the learning rates to try.

    One that learns no weights has no rates.
    """

    name: str
    method: str
    rates: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Tasks that share a sweep: a method has one learning rate for all of them."""

    tasks: Mapping[str, Mapping[str, Any]]
    arms: tuple[Arm, ...]

    @property
    def first(self) -> str:
        """The task that costs are measured on."""
        return next(iter(self.tasks))


@dataclass(frozen=True)
class Plan:
    """A base with its groups of tasks; `cost_steps` are how many steps a cost is measured by."""

    base: str
    batch_size: int
    cost_steps: int
    groups: tuple[Group, ...]

    def steps(self, group: Group) -> int:
        """How many steps a method learns the group's first task in."""
        return EPOCHS * -(-group.tasks[group.first]["train_size"] // self.batch_size)


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
# two rates each, about the best that trials found: a wide sweep on this base would take hours of a processor
_WRITING_ARMS = (
    Arm("full", "full", (1e-4, 3e-4)),
    Arm("lora", "lora", (1e-3, 2e-3)),
    Arm("bottleneck", "bottleneck", (1e-3, 2e-3)),
    Arm("partial", "partial", (3e-3, 1e-2)),
    Arm("ia3", "ia3", (1e-2, 3e-2)),
    Arm("prefix", "prefix", (3e-2, 1e-1)),
    Arm("prefix, projected", "prefix", (1e-3, 3e-3), {"projection": True}),
    Arm("prompt", "prompt", (3e-2, 1e-1)),
    Arm("p-tuning", "p-tuning", (3e-3, 1e-2)),
)
_LABELLING_ARMS = (*_WRITING_ARMS, Arm("probe", "probe", (1e-2, 3e-2)), Arm("icl", "icl"))
_MINILM = {"train_size": 600, "eval_size": 1000, "max_length": 32}
_BBC_NEWS = {"train_size": 128, "eval_size": 200, "max_length": 48}
_HEADLINE = {
    "data": "sample:bbc-news",
    "type": "generation",
    "train_size": 96,
    "eval_size": 48,
    "max_length": 80,
    "max_new_tokens": 16,
}
PLANS = {
    "minilm": Plan(
        "sample:minilm",
        batch_size=16,
        cost_steps=16,
        groups=(Group(dict.fromkeys(("bbc-news", "reuters-r8", "rotten-tomatoes"), _MINILM), _ENCODER_ARMS),),
    ),
    "smollm2": Plan(
        "sample:smollm2",
        batch_size=8,
        cost_steps=8,
        groups=(
            Group({"bbc-news": _BBC_NEWS}, _LABELLING_ARMS),
            Group({"headline": _HEADLINE}, (Arm(NOTHING, NOTHING), *_WRITING_ARMS)),
        ),
    ),
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
        rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        # results that were kept first don't name their dtype; all are of a processor that multiplies bfloat16
        return [row | {"key": {"dtype": "bfloat16"} | row["key"]} for row in rows]

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
def new_home(plan: Plan, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[Home]:
    """Make a home of the plan's base with some tasks, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        home = init(Path(folder) / "home", base=plan.base, mlflow="off")
        for task, options in tasks.items():
            home.task.add(task, **({"data": f"sample:{task}"} | options))
        yield home


def sweep(plan: Plan, group: Group, arguments: argparse.Namespace, *, results: Results) -> None:
    """Score each learning rate on validation data."""
    with new_home(plan, group.tasks) as home:
        jobs = [(task, arm, rate) for arm in chosen(group, arguments) for rate in arm.rates for task in group.tasks]
        for task, arm, rate in jobs:
            key = key_of("sweep", home, plan, learned=Learned(task, arm, rate, 0))
            if results.claim(key):
                results.add(key, learn_once(home, plan, task, arm=arm, rate=rate, seed=0))
                say(results.rows()[-1])


def learn(plan: Plan, group: Group, arguments: argparse.Namespace, *, results: Results) -> None:
    """Learn each task with each seed at the rate that the sweep found, and evaluate."""
    with new_home(plan, group.tasks) as home:
        arms = chosen(group, arguments)
        jobs = [(seed, task, arm) for seed in arguments.seeds for arm in arms for task in group.tasks]
        for seed, task, arm in jobs:
            rate = tables.best_rate(
                tables.of_group(results.rows(), plan.base, group.tasks, dtype=resolve_dtype("auto")),
                arm.name,
                arm.rates,
            )
            if arm.rates and rate is None:
                sys.exit(f"{arm.name}: no learning rate was tried yet; run sweep first")
            plain = arm.method == NOTHING
            key = key_of("learn", home, plan, learned=Learned(task, arm, rate, None if plain else seed))
            if results.claim(key):
                found = (
                    answer_untaught(home, task)
                    if plain
                    else evaluate_once(home, plan, task, arm=arm, rate=rate, seed=seed)
                )
                results.add(key, found)
                say(results.rows()[-1])


@dataclass(frozen=True)
class Learned:
    """What a result is of: a task learned by an arm at a rate with a seed; null for both where nothing is learned."""

    task: str
    arm: Arm
    rate: float | None
    seed: int | None


def key_of(kind: str, home: Home, plan: Plan, *, learned: Learned) -> dict[str, Any]:
    """What decides a result."""
    arm = learned.arm
    return {
        "kind": kind,
        "base": home.base.show().name,
        "task": learned.task,
        "data": home.task.show(learned.task).data_digest[:19],
        "arm": arm.name,
        "method": arm.method,
        "settings": dict(arm.settings),
        "epochs": EPOCHS,
        "batch_size": plan.batch_size,
        "learning_rate": learned.rate,
        "seed": learned.seed,
        "dtype": resolve_dtype("auto"),
        "code": code_digest(),
    }


def settings_of(plan: Plan, arm: Arm, rate: float | None, *, seed: int) -> Any:
    """The settings of one training run."""
    from limpet.training.learning.settings import TrainingSettings

    return TrainingSettings(
        arm.method, arm.settings, epochs=EPOCHS, learning_rate=rate, batch_size=plan.batch_size, seed=seed
    )


def learn_once(home: Home, plan: Plan, task: str, *, arm: Arm, rate: float, seed: int) -> dict[str, Any]:
    """Learn without registering; what validation said, epoch by epoch."""
    from limpet.errors import TrainingError
    from limpet.training.learning.learn import learn as learn_task
    from limpet.training.learning.runs.run_folder import discard
    from limpet.training.learning.training_run import TrainingRun

    started, record = time.time(), home.task.show(task)
    try:
        staged = learn_task(TrainingRun(home.store, home.backbone(), record, settings_of(plan, arm, rate, seed=seed)))
    except TrainingError as error:
        return {"validation": 0.0, "history": [], "note": str(error), "seconds": time.time() - started}
    discard(staged)
    metrics = staged.draft.metrics
    return {
        "validation": metrics[f"validation_{record.definition.metric}"],
        "history": [epoch["validation"] for epoch in metrics["history"]],
        "seconds": time.time() - started,
    }


def evaluate_once(home: Home, plan: Plan, task: str, *, arm: Arm, rate: float | None, seed: int) -> dict[str, Any]:
    """Learn, register and evaluate; with every example's score, so that methods can be paired example by example."""
    from limpet.registry.records import evaluations

    started, name = time.time(), home.task.show(task).definition.metric
    version = home.train(task, settings_of(plan, arm, rate, seed=seed), monitor=False).version
    record = evaluations.full(home.store, version.reference, version.reference)[0]
    said = evaluations.predictions(home.store, record)
    files = {file.name: file.size for file in version.files}
    # a whole model for every run of `full` would fill the disk
    for file in version.files:
        if file.size > 50_000_000:
            home.store.blobs.remove(file.digest)
    return {
        **scored(name, said["predictions"], said["targets"]),
        "validation": version.metrics[f"validation_{name}"],
        "trainable_parameters": version.cost["trainable_parameters"],
        "trainable_share": version.cost["trainable_share"],
        "bytes": sum(files.values()),
        "train_seconds": version.cost["train_seconds"],
        "peak_memory_bytes": version.cost["peak_memory_bytes"],
        "seconds": time.time() - started,
    }


def answer_untaught(home: Home, name: str) -> dict[str, Any]:
    """Let the base do a task that it was not taught: its own head, the task's prompt and nothing else."""
    from limpet.training.batching.inference import run_batches
    from limpet.training.data.stored_splits import read_split
    from limpet.training.model.head_files import build_head
    from limpet.training.model.task_model import TaskModel

    started, task, backbone = time.time(), home.task.show(name), home.backbone()
    examples = read_split(home.store, task, "evaluation")
    head = build_head(task, backbone.record, [])
    head.bind_base(backbone)
    model = TaskModel(backbone.model, head, frozenset())
    encoded = model.encode(backbone.tokenizer, examples, task.definition.max_length)
    written = run_batches(model, encoded, backbone.device).predictions
    return {
        **scored(task.definition.metric, written, [example.target for example in examples]),
        "trainable_parameters": 0,
        "trainable_share": 0.0,
        "bytes": 0,
        "seconds": time.time() - started,
    }


def scored(name: str, predictions: Any, targets: Any) -> dict[str, Any]:
    """The score with those of the examples: which were right, or their values where there is no right and wrong."""
    from limpet.training.task_types import metric

    used = metric(name)
    assert used.counts is not None
    values = used.counts(predictions, targets)[0]
    each = {"values": values.round(6).tolist()}
    if used.is_correct is not None:
        each = {"right": np.packbits(values.astype(bool)).tobytes().hex()}
    return {"metric": name, "score": used.score(predictions, targets), "examples": len(targets), **each}


class StepClock:
    """A progress that notes when every step ended, and how long features or lower layers took, by two clocks.

    On a busy machine wall-clock time says little; of several threads, the processor's is their sum.
    """

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []
        self.features = np.zeros(2)
        self._name, self._started = "", self._now()

    def start(self, description: str, total: int) -> None:
        """Work begins."""
        self._name, self._started = description, self._now()

    def advance(self, done: int, detail: str = "") -> None:
        """A step is behind."""
        if self._name == "train":
            self.ends.append(self._now())

    def finish(self) -> None:
        """The work has ended."""
        if self._name in ("features", "lower layers"):
            self.features += np.subtract(self._now(), self._started)

    def note(self, text: str) -> None:
        """Nothing to say."""

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def cost(plan: Plan, group: Group, arguments: argparse.Namespace, *, results: Results) -> None:
    """Measure each method alone, in a process of its own, in turn, so that a slow minute meets all of them."""
    for repetition in range(arguments.repetitions):
        for arm in chosen(group, arguments):
            # learning in context and the base as it is take no step
            if not arm.rates:
                continue
            command = [sys.executable, __file__, "cost-once", "--base", arguments.base, "--tasks", group.first]
            command += ["--methods", arm.name]
            with tempfile.TemporaryDirectory() as cache:
                # features of another run would be found again; everything else may be
                for path in cache_folder().iterdir():
                    if path.name != "features":
                        (Path(cache) / path.name).symlink_to(path)
                environment = os.environ | {"LIMPET_CACHE": cache}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            said = json.loads(done.stdout.splitlines()[-1])
            key = {
                "kind": "cost",
                "base": plan.base,
                "task": group.first,
                "arm": arm.name,
                "repetition": repetition,
                "dtype": resolve_dtype("auto"),
                "code": code_digest(),
            }
            results.add(key, said | {"load": os.getloadavg()[0]})
            print(f"cost {group.first} {arm.name}: {said}", flush=True)


def cost_once(plan: Plan, group: Group, arm: Arm) -> None:
    """Learn one epoch on a part of the first task, and print what it took as JSON."""
    import torch

    from limpet.training import methods
    from limpet.training.learning.learn import learn as learn_task
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.learning.training_run import TrainingRun

    task, clock = group.first, StepClock()
    options = group.tasks[task]
    # features and lower layers are of all that is trained on; steps are alike
    once = arm.method == "probe" or isinstance(methods.get(arm.method), methods.SupportsFrozenPrefix)
    size = options["train_size"] if once else plan.cost_steps * plan.batch_size
    with new_home(plan, {task: {**options, "train_size": size, "eval_size": 50}}) as home:
        settings = TrainingSettings(
            arm.method, arm.settings, epochs=1, learning_rate=arm.rates[0], batch_size=plan.batch_size
        )
        run = TrainingRun(home.store, home.backbone(), home.task.show(task), settings, progress=clock)
        draft = learn_task(run).draft
    # what is done once at the beginning is no part of a step
    wall, processor = np.median(np.diff(clock.ends, axis=0)[2:], axis=0).tolist()
    print(
        json.dumps(
            {
                "step_seconds": wall,
                "step_processor_seconds": processor,
                "feature_seconds": float(clock.features[0]),
                "feature_processor_seconds": float(clock.features[1]),
                "threads": torch.get_num_threads(),
                "peak_memory_bytes": draft.cost["peak_memory_bytes"],
            }
        )
    )


def chosen(group: Group, arguments: argparse.Namespace) -> list[Arm]:
    """The arms that were asked for."""
    return [arm for arm in group.arms if not arguments.methods or arm.name in arguments.methods.split(";")]


def say(row: Mapping[str, Any]) -> None:
    """Print a result as one line."""
    key = row["key"]
    scores = {name: round(row[name], 4) for name in ("validation", "score") if name in row}
    rate = "" if key["learning_rate"] is None else f" {key['learning_rate']:g}"
    seed = "" if key["seed"] is None else f" seed {key['seed']}"
    print(f"{key['kind']} {key['task']} {key['arm']}{rate}{seed}: {scores} in {row['seconds']:.0f} s", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sweep", "learn", "cost", "cost-once", "table"), nargs="?", default="table")
    parser.add_argument("--base", choices=tuple(PLANS), default="minilm")
    parser.add_argument("--tasks", help="with commas between: the groups that have one of them; all if not given")
    parser.add_argument("--methods", help="names as in the table, with semicolons between; all if not given")
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--any-code", action="store_true", help="results of other sources count as there")
    arguments = parser.parse_args()
    results = Results(arguments.results, arguments.any_code)
    if arguments.what == "table":
        for one in PLANS.values():
            for group in one.groups:
                for dtype in ("bfloat16", "float32"):
                    print_tables(one, group, results.rows(), dtype=dtype)
        return
    plan = PLANS[arguments.base]
    for group in plan.groups:
        if arguments.tasks and not set(arguments.tasks.split(",")) & set(group.tasks):
            continue
        if arguments.what == "cost-once":
            cost_once(plan, group, chosen(group, arguments)[0])
        else:
            {"sweep": sweep, "learn": learn, "cost": cost}[arguments.what](plan, group, arguments, results=results)


def print_tables(plan: Plan, group: Group, rows: list[dict[str, Any]], *, dtype: str) -> None:
    """Print all tables of a group that has results in a dtype."""
    arms, tasks = {arm.name: arm.rates for arm in group.arms}, list(group.tasks)
    known = tables.of_group(rows, plan.base, tasks, dtype=dtype)
    if any(row["key"]["kind"] == "learn" for row in known):
        print(f"\n{plan.base}: {', '.join(tasks)}, trained in {dtype}\n")
        print(tables.score_table(known, arms, tasks), end="\n\n")
        print(
            tables.cost_table(known, arms, group.first, steps=plan.steps(group), batch_size=plan.batch_size),
            end="\n\n",
        )
        if any(tables.sweep_means(known, arm) for arm in arms):
            print(tables.sweep_table(known, arms))


if __name__ == "__main__":
    main()
