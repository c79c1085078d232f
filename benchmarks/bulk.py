"""Answers for a file of short texts: as one call of `predict` gave them, as `predict_file` gives them, and by peft.

python benchmarks/bulk.py [--rows 2000] [--repetitions 3] [--threads 1] [--task rotten-tomatoes] [--epochs 2]
    [--flat 20000,200000] [--quick]

MiniLM, a LoRA of rank 8 on all linear layers, texts of up to 128 tokens. `predict` answers all texts at once, in
float32, from the adapter beside the base's weights, padded to multiples of 8: what a file of lines got before there
were rows. `labels` is `predict_file` to CSV; `probabilities` the same with a column for each label, all in float32.
The peer reads the exported adapter and head by plain peft: `peft, in order` in batches of 32 in the file's order, as
a loop over a DataLoader does; `peft, at its best` sorted by length, in bfloat16 where that is multiplied in hardware,
with the faster batch of 32 or 64. Every side reads a CSV and writes one, in a process of its own that has its model
loaded; they work in turn, and processor seconds are compared as well as seconds, because other programs may run.

Then memory: files of generated rows, answered by a tiny base, each in a process of its own; the peak of the resident
set beside what it was when the base was loaded.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _sides import Side, environment, half_width, home_of, make_home, paired, spread
from evaluation import Job, classifier

MAX_LENGTH, TRAIN_SIZE = 128, 320
BEFORE, LABELS, PROBABILITIES = "predict, at once", "predict_file, labels", "predict_file, probabilities"
IN_ORDER, BEST = "peft, in order", "peft, at its best"
WORDS = (
    *("wave", "tide", "salt", "reef", "boat", "shell", "cloud", "wind", "star", "moon"),
    *("the", "a", "of", "and", "in", "old", "new", "far", "near", "big"),
)


@dataclass(frozen=True)
class Answered:
    """What answering took, by the wall clock and the processor, and the labels in the order of the rows."""

    seconds: float
    processor_seconds: float
    labels: list[str]


def write_rows(folder: Path, task: str, count: int) -> None:
    """Write texts of a sample that the task was not learned from, with ids, as `rows.csv`."""
    from limpet.training.data.reading.sample_corpora import corpus

    sample = corpus(task)
    at = sample.columns.index("text")
    texts = [str(row[at]) for row in sample.train]
    random.Random(1).shuffle(texts)
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([number, text] for number, text in enumerate(texts[:count]))])


def learn(job: Job, epochs: int) -> float:
    """Learn the version, export it for the peer, and return its score."""
    from limpet.training.learning.settings import TrainingSettings

    home = home_of(job.folder)
    trained = home.train(job.task, TrainingSettings("lora", epochs=epochs), monitor=False)
    home.adapter.export(trained.version.reference, job.adapter)
    return float(trained.version.metrics["accuracy"])


def timed(work: Callable[[], list[str]]) -> Answered:
    """Let work give labels, and say what it took."""
    started, before = time.perf_counter(), time.process_time()
    labels = work()
    return Answered(time.perf_counter() - started, time.process_time() - before, labels)


def read_texts(folder: Path) -> list[str]:
    """The column of the texts."""
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Write the rows with their labels."""
    with (
        (folder / "rows.csv").open(encoding="utf-8", newline="") as file,
        (folder / "written.csv").open("w", encoding="utf-8", newline="") as out,
    ):
        rows = list(csv.reader(file))
        csv.writer(out).writerows(
            [[*rows[0], "label"], *([*row, label] for row, label in zip(rows[1:], labels, strict=True))]
        )


def at_once(job: Job) -> Answered:
    """Answer by `predict`, without what it would keep of the texts' tokens."""
    from limpet.training.batching.token_cache import seen_once

    home = home_of(job.folder)
    home.backbone()

    def work() -> list[str]:
        with seen_once():
            labels = [answer.label for answer in home.predict(f"{job.task}@1", read_texts(job.folder))]
        write_labels(job.folder, labels)
        return labels

    return timed(work)


def by_file(job: Job, probabilities: bool) -> Answered:
    """Answer by `predict_file`."""
    home = home_of(job.folder)
    home.backbone()
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        out = Path(folder, "answers.csv")

        def work() -> list[str]:
            home.predict_file(f"{job.task}@1", job.folder / "rows.csv", out, probabilities=probabilities)
            return []

        taken = timed(work)
        with out.open(encoding="utf-8", newline="") as file:
            return replace(taken, labels=[row["prediction"] for row in csv.DictReader(file)])


def by_peft(job: Job) -> Answered:
    """Answer by plain peft: in the file's order, or at its best."""
    import torch
    from transformers import AutoTokenizer

    from limpet.training.base.environment import bf16_is_fast

    tokenizer = AutoTokenizer.from_pretrained(job.folder / "base")
    model = classifier(job)
    names = home_of(job.folder).adapter.show(f"{job.task}@1").labels
    low = job.best and bf16_is_fast()

    def work() -> list[str]:
        texts = read_texts(job.folder)[: job.limit]
        ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        order = sorted(range(len(ids)), key=lambda at: len(ids[at])) if job.best else list(range(len(ids)))
        labels = [""] * len(ids)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            for start in range(0, len(order), job.batch_size):
                some = order[start : start + job.batch_size]
                batch = tokenizer.pad({"input_ids": [ids[at] for at in some]}, return_tensors="pt")
                found = model(batch["input_ids"], batch["attention_mask"])["logits"].argmax(-1).tolist()
                for at, label in zip(some, found, strict=True):
                    labels[at] = names[label]
        if job.limit is None:
            write_labels(job.folder, labels)
        return labels

    return timed(work)


def compare(folder: Path, task: str, *, threads: int, repetitions: int, epochs: int) -> None:
    """Let every side answer in turn, and print what it took."""
    clerk, job = Side(threads), Job(folder, task)
    print(f"{task}: accuracy {clerk.do(learn, job, epochs):.3f}", flush=True)
    clerk.end()
    sides = {name: Side(threads) for name in (BEFORE, LABELS, PROBABILITIES, IN_ORDER, BEST)}
    plain = replace(job, batch_size=32)
    tried = [replace(plain, best=True, batch_size=size, limit=200) for size in (32, 64)]
    seconds = [min(sides[BEST].do(by_peft, one).processor_seconds for _ in range(2)) for one in tried]
    best = replace(tried[seconds.index(min(seconds))], limit=None)
    works: dict[str, tuple[Callable[..., Answered], tuple[Any, ...]]] = {
        BEFORE: (at_once, (job,)),
        LABELS: (by_file, (job, False)),
        PROBABILITIES: (by_file, (job, True)),
        IN_ORDER: (by_peft, (plain,)),
        BEST: (by_peft, (best,)),
    }
    runs: dict[str, list[Answered]] = {name: [] for name in sides}
    for number in range(repetitions):
        # who comes first changes, so that nobody always meets the processor at its coolest
        for name in [*sides][number % len(sides) :] + [*sides][: number % len(sides)]:
            work, given = works[name]
            runs[name].append(sides[name].do(work, *given))
    before = runs[BEFORE]
    print(f"{'':30}{'seconds':26}{'processor seconds':26}{'before / this':22}labels as before")
    for name, answered in runs.items():
        same = statistics.mean(a == b for a, b in zip(answered[0].labels, before[0].labels, strict=True))
        ratios = paired([one.processor_seconds for one in before], [one.processor_seconds for one in answered])
        print(
            f"{name:30}{spread([one.seconds for one in answered]):26}"
            f"{spread([one.processor_seconds for one in answered]):26}{ratios:22}{same:.4f}"
        )
    ratios = [a.processor_seconds / b.processor_seconds for a, b in zip(runs[BEST], runs[LABELS], strict=True)]
    width = half_width(ratios)
    print(f"{BEST} / {LABELS}: {statistics.mean(ratios):.2f}" + (f" +- {width:.2f}" if width else ""))
    for side in sides.values():
        side.end()


# memory


def answer_generated(folder: Path, rows: int) -> tuple[int, float, float]:
    """Answer so many generated rows; return the peak above the loaded base in bytes, seconds, and rows a second."""
    import resource

    from limpet.home import open_home

    home = open_home(folder / "home")
    path = folder / f"{rows}.csv"
    draw = random.Random(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for number in range(rows):
            writer.writerow([number, " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))])
    home.predict("place", ["a wave"] * 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers = home.predict_file("place", path, folder / f"{rows}-answers.csv")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) * 1024, answers.seconds, answers.rows_per_second


def make_tiny_home(folder: Path) -> None:
    """Make a home with a version on a tiny base."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from limpet.home import init
    from limpet.training.learning.settings import TrainingSettings
    from tests.tiny import tiny_base, tiny_csv

    home = init(folder / "home", base=str(tiny_base(folder / "base")), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(folder / 'place.csv')}", max_length=16)
    home.train("place", TrainingSettings("lora", epochs=2), monitor=False)


def flat(folder: Path, sizes: Sequence[int], threads: int) -> None:
    """Print the peak of memory for files of several sizes."""
    clerk = Side(threads)
    clerk.do(make_tiny_home, folder)
    clerk.end()
    print(f"{'rows':>10}{'MiB above the loaded base':>28}{'seconds':>10}{'rows/s':>10}")
    for rows in sizes:
        side = Side(threads)
        peak, seconds, speed = side.do(answer_generated, folder, rows)
        side.end()
        print(f"{rows:10}{peak / 2**20:28.1f}{seconds:10.1f}{speed:10.0f}", flush=True)


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=3, help="0: memory alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--task", default="rotten-tomatoes")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--flat", default="20000,200000")
    parser.add_argument("--quick", action="store_true", help="few rows, once: a trial of the script")
    given = parser.parse_args()
    sizes, train_size = [int(size) for size in given.flat.split(",") if size], TRAIN_SIZE
    if given.quick:
        given.rows, given.repetitions, given.epochs, sizes, train_size = 100, 1, 1, [500, 5000], 100
    print(f"{environment(given.threads)}\n{given.rows} rows, {given.repetitions} repetition(s)", flush=True)
    if given.repetitions:
        with tempfile.TemporaryDirectory() as name:
            folder, clerk = Path(name), Side(given.threads)
            clerk.do(partial(make_home, eval_size=200, max_length=MAX_LENGTH), folder, [given.task], train_size)
            clerk.do(write_rows, folder, given.task, given.rows)
            clerk.end()
            compare(folder, given.task, threads=given.threads, repetitions=given.repetitions, epochs=given.epochs)
    if sizes:
        with tempfile.TemporaryDirectory() as name:
            flat(Path(name), sizes, given.threads)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
