"""SmolLM2 held in float32, bfloat16, int8 and nf4: what each form costs and answers, on two tasks of written answers.

python benchmarks/quantised.py [--rows 96] [--eval-rows 64] [--epochs 1] [--repetitions 3] [--threads 2]
                               [--forms float32,bfloat16,int8,nf4] [--tasks headlines,topics]

SmolLM2-135M-Instruct writes the headline of a BBC article (scored by its words) and the topic of a Reuters article
(scored by the whole text). Each form is a base of its own, in a home and a process of its own, and learns both by a
LoRA of rank 8 on all linear layers with the same rows and seed. Products are in bfloat16 where the processor
multiplies that in hardware, in all forms alike. A version is then compared on the base as it is stored (float32), as
`limpet evaluate TASK@1 --on sample:smollm2` does. Peaks are of the process's resident memory, while it learns and
while it answers 32 texts; the weights held are all tensors of the base in memory.

Speeds are measured afterwards: the forms take turns in learning and answering a few texts, and what is printed is how
many times the tokens a second of float32 a form reaches, repetition by repetition (median, least and most).

int8 and nf4 need the extra `quantised`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _sides import Side, environment, home_of, paired

BASE, RANK, BATCH_SIZE, RATE = "sample:smollm2", 8, 8, 1e-3
FORMS = ("float32", "bfloat16", "int8", "nf4")
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "headlines": (
        "sample:bbc-news",
        {"text_column": "body", "target_column": "headline", "max_length": 96, "max_new_tokens": 16},
    ),
    "topics": (
        "sample:reuters-r8",
        {
            "target_column": "label",
            "metric": "exact-match-v2",
            "max_length": 64,
            "max_new_tokens": 6,
            "prompt": "{text}\n\nOne word for the topic of this article:",
        },
    ),
}
_ANSWERED, _TIMED = 32, 8


@dataclass(frozen=True)
class Row:
    """What one form took and gave on one task; nothing is compared where the form is the base as it is stored."""

    examples: int
    score: float
    interval: tuple[float, float]
    differing: int | None
    difference: tuple[float, tuple[float, float]] | None
    learning_peak: int
    answering_peak: int
    adapter: int
    held: int


@dataclass(frozen=True)
class Work:
    """Which tasks are learned, of how many rows."""

    tasks: tuple[str, ...]
    rows: int
    eval_rows: int


def prepare(folder: Path, form: str, work: Work) -> None:
    """Make a form's home, with the tasks and one more of a few rows, which is timed."""
    from limpet.home import init

    home = init(folder / "home", base=f"{BASE}#{form}", mlflow="off")
    for name in work.tasks:
        data, options = TASKS[name]
        home.task.add(name, data, type="generation", train_size=work.rows, eval_size=work.eval_rows, **options)
    data, options = TASKS["headlines"]
    home.task.add("timed", data, type="generation", train_size=_TIMED, eval_size=_TIMED, **options)


def learn(folder: Path, task: str, epochs: int) -> Row:
    """Learn a task, and return what that took and gave."""
    from limpet.registry.records import evaluations, tasks
    from limpet.training.data.stored_splits import read_split
    from limpet.training.learning.runs import peak_memory

    home = home_of(folder)
    version = home.train(task, _settings(epochs), monitor=False, mirror=False).version
    texts = [example.text for example in read_split(home.store, tasks.get(home.store, task), "evaluation")]
    mark = peak_memory.begin()
    home.predict(f"{task}@1", texts[:_ANSWERED])
    answering = peak_memory.peak(mark)
    held = _held(home.backbone())
    if home.base.show().location.get("recipe") is None:
        found = None
        kept = evaluations.of_version(home.store, f"{task}@1")[0]
        score, interval = kept.score, _interval(home, kept)
    else:
        found = home.compare_bases(f"{task}@1", BASE)
        score, interval = found.own.score, found.own.interval
    return Row(
        examples=len(texts),
        score=score,
        interval=interval,
        differing=None if found is None else found.differing,
        difference=None if found is None else (found.difference, found.difference_interval),
        learning_peak=version.cost["peak_memory_bytes"],
        answering_peak=0 if answering is None else answering.total,
        adapter=version.size,
        held=held,
    )


def _held(backbone: Any) -> int:
    modules = [module for module in (backbone.model, backbone.lm_head) if module is not None]
    tensors = {t.data_ptr(): t.nbytes for module in modules for t in (*module.parameters(), *module.buffers())}
    return sum(tensors.values())


def _interval(home: Any, evaluation: Any) -> tuple[float, float]:
    from limpet.forgetting.metrics.intervals import score_interval
    from limpet.forgetting.monitor.kept_predictions import read_predictions

    kept = read_predictions(home.store)(evaluation)
    return score_interval(evaluation.metric, kept.predictions, kept.targets)


def _settings(epochs: int, seed: int = 0) -> Any:
    from limpet.training.learning.settings import TrainingSettings

    return TrainingSettings(
        "lora", {"r": RANK, "alpha": 2 * RANK}, epochs=epochs, batch_size=BATCH_SIZE, learning_rate=RATE, seed=seed
    )


def time_both(folder: Path, seed: int) -> tuple[float, float]:
    """Return the seconds in which a few texts are learned, and in which they are answered."""
    from limpet.forgetting.monitor.monitor import Part, measure
    from limpet.training.learning.learn import learn as learn_only
    from limpet.training.learning.training_run import TrainingRun
    from limpet.training.model.task_model import Answering

    home = home_of(folder)
    task, backbone = home.task.show("timed"), home.backbone()
    staged = learn_only(TrainingRun(home.store, backbone, task, _settings(1, seed)))
    answering = Answering("lora", staged.files, staged.files, task.definition.max_length)
    measured = measure(home.store, backbone, task, answering=answering, part=Part(bypass_cache=True))
    cost: Any = staged.draft.cost
    return cost["train_seconds"], measured.outcome.seconds


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--eval-rows", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    given = parser.parse_args()
    # nobody looks at how long a single answer takes
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"
    forms = given.forms.split(",")
    work = Work(tuple(given.tasks.split(",")), given.rows, given.eval_rows)
    with tempfile.TemporaryDirectory() as name:
        sides = {form: Side(given.threads) for form in forms}
        for form, side in sides.items():
            side.do(prepare, Path(name) / form, form, work)
        print(environment(given.threads))
        print(
            f"LoRA of rank {RANK}, {given.rows} rows, {given.epochs} epochs in batches of {BATCH_SIZE}, seed 0; "
            f"{given.eval_rows} evaluation rows, 95 % intervals; MB are millions of bytes\n"
        )
        columns = f"{'learning':>10}{'answering':>11}{'weights':>9}{'adapter':>9}"
        print(f"{'':18}{'score':27}on the base as stored{'':20}{columns} (MB)")
        for task in work.tasks:
            for form, side in sides.items():
                print(_line(task, form, side.do(learn, Path(name) / form, task, given.epochs)), flush=True)
        print(f"\ntokens a second to those of {forms[0]}, {given.repetitions} repetitions")
        print(f"{'':12}{'learning':22}answering")
        seconds: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
        for repetition in range(given.repetitions + 1):
            for form, side in sides.items():
                # by another seed each time: a run that was learned already is not learned again
                taken = side.do(time_both, Path(name) / form, repetition)
                # in the first, libraries and caches are warmed
                seconds[form] += [taken] if repetition else []
        for form in forms:
            both = [paired(*([pair[of] for pair in seconds[one]] for one in (forms[0], form))) for of in (0, 1)]
            medians = [statistics.median(pair[of] for pair in seconds[form]) for of in (0, 1)]
            print(f"{form:12}{both[0]:22}{both[1]:22}({medians[0]:.1f} s and {medians[1]:.1f} s)", flush=True)
        print(environment(given.threads))
        for side in sides.values():
            side.end()


def _line(task: str, form: str, row: Row) -> str:
    other = "-"
    if row.difference is not None:
        change, (low, high) = row.difference
        other = f"{row.differing} of {row.examples} differ, {change:+.3f} ({low:+.3f} to {high:+.3f})"
    score = f"{row.score:.3f} ({row.interval[0]:.3f} to {row.interval[1]:.3f})"
    sizes = [f"{part / 1e6:.0f}" for part in (row.learning_peak, row.answering_peak, row.held)]
    numbers = f"{sizes[0]:>10}{sizes[1]:>11}{sizes[2]:>9}{row.adapter / 1e6:9.2f}"
    return f"{task if form == FORMS[0] else '':10}{form:9}{score:27}{other:41}{numbers}"


if __name__ == "__main__":
    main()
