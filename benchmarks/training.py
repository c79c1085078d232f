"""Training beside the Trainer of transformers with peft, as it comes and at its best, in the same run.

python benchmarks/training.py [--tasks bbc-news,reuters-r8,election-tweets] [--methods lora|full|lora,full] [--quick]
    [--epochs 1] [--repetitions 3] [--train-size 256] [--threads 2]

MiniLM, texts of up to 128 tokens, batches of 16, LoRA of rank 8 on all linear layers but the pooler or full
fine-tuning; all sides have the same examples, tokenizer, learning rate (Limpet's default), schedule and number of
steps. A repetition is a seed: every side learns in turn, in a process of its own. Limpet's head reads the mean over
the text, the peer's is that of `BertForSequenceClassification`, behind its pooler. The peer at its best (bf16 where
the processor has it, texts grouped by length) tries both implementations of attention before and takes the faster.

Examples per second are those of the steps: no side is charged with loading, tokenising, validation or saving; `run`
has the seconds with all of that but loading the base. Peak memory is the resident set of the process while it learns.
`of limit` is the share of what products of matrices alone allow in the same dtype, measured in the same run: only the
arithmetic that real tokens need is counted, so padding is waste.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _peer import ALPHA, ATTENTIONS, RANK, Examples, Run, TrainingJob, tokenised, train_peer
from _sides import Side, environment, half_width, home_of, make_home, paired, spread

TASKS = ("bbc-news", "reuters-r8", "election-tweets")
MAX_LENGTH, BATCH_SIZE = 128, 16
REHEARSAL = 4 * BATCH_SIZE
LIMPET, DEFAULT, BEST = "limpet", "Trainer, default", "Trainer, best"


def train_limpet(job: TrainingJob) -> Run:
    """Learn a task as `limpet train` does, and score it on the evaluation split."""
    from limpet.forgetting.monitor.monitor import Part, measure
    from limpet.training.learning.learn import learn
    from limpet.training.learning.runs.run_folder import discard
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.learning.training_run import TrainingRun
    from limpet.training.model.task_model import Answering

    home = home_of(job.folder)
    backbone, task = home.backbone(), home.task.show(job.task)
    settings = TrainingSettings(
        job.method,
        {"r": RANK, "alpha": ALPHA} if job.method == "lora" else {},
        epochs=job.epochs,
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        seed=job.seed,
        # a rehearsal ends after a second
        max_seconds=None if job.limit is None else 1.0,
    )
    started = time.perf_counter()
    staged = learn(TrainingRun(home.store, backbone, task, settings))
    whole, draft = time.perf_counter() - started, staged.draft
    files = staged.files
    answering = Answering(draft.method, files, files, job.max_length)
    found = measure(home.store, backbone, task, answering=answering, part=Part())
    discard(staged)
    cost: Mapping[str, Any] = draft.cost
    return Run(cost["train_seconds"], whole, found.score, cost["peak_memory_bytes"] or 0)


def default_rates(methods: Sequence[str]) -> dict[str, float]:
    """The learning rate that each method has by itself."""
    from limpet.training import methods as known

    return {name: known.get(name).learning_rate for name in methods}


def lengths(folder: Path, task: str) -> list[int]:
    """How many tokens each training example has."""
    from transformers import AutoTokenizer

    rows = tokenised(
        AutoTokenizer.from_pretrained(folder / "base"), Examples.read(folder / f"{task}.json").train, MAX_LENGTH
    )
    return [len(row["input_ids"]) for row in rows]


def gemm_speed(hidden: int, inner: int) -> float:
    """Return what the products of a layer reach alone, in GFLOP/s: a batch of 16 texts of 128 tokens."""
    import torch

    from limpet.training.base.precision import resolve_dtype

    dtype = getattr(torch, resolve_dtype("auto"))
    tokens = BATCH_SIZE * MAX_LENGTH
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    operands = [
        (torch.randn(tokens, wide, dtype=dtype), torch.randn(wide, high, dtype=dtype)) for wide, high in shapes
    ]
    seconds = []
    with torch.inference_mode():
        for _ in range(40):
            started = time.perf_counter()
            for left, right in operands:
                left @ right
            seconds.append(time.perf_counter() - started)
    # the first ones prepare what the others find
    return sum(2 * tokens * wide * high for wide, high in shapes) / statistics.median(seconds[10:]) / 1e9


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point operations that learning a text needs, padding left out.

    Embeddings, normalisation, the head and everything else that is no product of matrices count for nothing.
    """

    layers: int
    hidden: int
    inner: int

    @classmethod
    def of(cls, base: Path) -> Arithmetic:
        """Read the shapes of a BERT."""
        said = json.loads((base / "config.json").read_text(encoding="utf-8"))
        return cls(said["num_hidden_layers"], said["hidden_size"], said["intermediate_size"])

    def gflop(self, tokens: int, method: str) -> float:
        """Return what one text takes, forward and back, in 1e9 operations."""
        linear = 2 * tokens * self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.inner)
        # two products forward, and two for each of them backward
        attention = 3 * 4 * tokens**2 * self.hidden * self.layers
        if method == "full":
            return (3 * linear + attention) / 1e9
        # frozen weights: no gradient of theirs, and none for what goes into the first layer
        back = linear - 2 * tokens * 3 * self.hidden**2
        low_rank = 2 * tokens * self.layers * RANK * (4 * 2 * self.hidden + 2 * (self.hidden + self.inner))
        return (linear + back + attention + 3 * low_rank) / 1e9


def choose_attention(side: Side, job: TrainingJob) -> str:
    """Try both implementations of attention in turn, twice, and return the faster."""
    best = dict.fromkeys(ATTENTIONS, float("inf"))
    for _ in range(2):
        for name in ATTENTIONS:
            run = side.do(train_peer, replace(job, attention=name, limit=REHEARSAL))
            best[name] = min(best[name], run.step_seconds)
    return min(best, key=lambda name: best[name])


def compare(
    sides: Mapping[str, Side], job: TrainingJob, repetitions: int, *, gemm: Side, shapes: Arithmetic
) -> tuple[dict[str, list[Run]], list[float], str]:
    """Let every side learn a task with every seed in turn; also what GEMM reached meanwhile, and the attention."""
    jobs = {LIMPET: job, DEFAULT: job, BEST: replace(job, best=True)}
    attention = choose_attention(sides[BEST], jobs[BEST])
    jobs[BEST] = replace(jobs[BEST], attention=attention)
    work = {LIMPET: train_limpet, DEFAULT: train_peer, BEST: train_peer}
    for name in (LIMPET, DEFAULT):
        sides[name].do(work[name], replace(jobs[name], limit=BATCH_SIZE))
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    limits = []
    for seed in range(repetitions):
        limits.append(gemm.do(gemm_speed, shapes.hidden, shapes.inner))
        # who comes first changes, so that nobody always meets the processor at its coolest
        order = [*sides][seed % len(sides) :] + [*sides][: seed % len(sides)]
        for name in order:
            runs[name].append(sides[name].do(work[name], replace(jobs[name], seed=seed)))
    return runs, limits, attention


def show(
    job: TrainingJob, runs: Mapping[str, list[Run]], limits: Sequence[float], *, attention: str, tokens: Sequence[int]
) -> None:
    """Print what the sides took, and each comparison."""
    examples = job.epochs * len(tokens)
    shapes = Arithmetic.of(job.folder / "base")
    gflop = statistics.mean(shapes.gflop(one, job.method) for one in tokens)
    speed = {name: [examples / run.step_seconds for run in found] for name, found in runs.items()}
    print(
        f"\n{job.task}, {job.method}, lr {job.learning_rate:g}; {len(tokens)} texts of "
        f"{statistics.mean(tokens):.0f} tokens, {gflop:.2f} GFLOP each; GEMM {spread(limits, 0)} GFLOP/s"
    )
    print(f"{'':18}{'examples/s':24}{'of limit':>8}{'run, s':>9}{'peak MiB':>10}  accuracy")
    for name, found in runs.items():
        share = statistics.median(s * gflop / limit for s, limit in zip(speed[name], limits, strict=True))
        print(
            f"{name:18}{spread(speed[name]):24}{share:8.0%}"
            f"{statistics.median(run.whole_seconds for run in found):9.1f}"
            f"{statistics.median(run.peak_bytes for run in found) / 2**20:10.0f}  "
            f"{mean_of([run.accuracy for run in found])}"
        )
    for name in (DEFAULT, BEST):
        memory = statistics.median(a.peak_bytes / b.peak_bytes for a, b in zip(runs[LIMPET], runs[name], strict=True))
        apart = [a.accuracy - b.accuracy for a, b in zip(runs[LIMPET], runs[name], strict=True)]
        print(
            f"to {name}: {paired(speed[LIMPET], speed[name])} times as fast, "
            f"memory {memory:.2f}, accuracy {mean_of(apart, '+')}"
        )
    print(f"the best had {attention} attention", flush=True)


def mean_of(values: Sequence[float], sign: str = "") -> str:
    """The mean, and half of the 95 % t-interval over seeds."""
    half = half_width(values)
    return f"{statistics.mean(values):{sign}.3f}" + ("" if half is None else f" ± {half:.3f}")


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default="lora", help="lora, full, or both with a comma between")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--train-size", type=int, default=256)
    parser.add_argument("--eval-size", type=int, default=240)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few examples of one task, once: a trial of the script")
    given = parser.parse_args()
    tasks, methods = given.tasks.split(","), given.methods.split(",")
    if given.quick:
        tasks, given.repetitions, given.train_size, given.eval_size = tasks[:1], 1, 64, 48
    print(f"{environment(given.threads)}\n{given.epochs} epoch(s), {given.repetitions} repetition(s)", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clerk = Side(given.threads)
        clerk.do(
            partial(make_home, eval_size=given.eval_size, max_length=MAX_LENGTH), folder, tasks, given.train_size
        )
        rates = clerk.do(default_rates, methods)
        tokens = {task: clerk.do(lengths, folder, task) for task in tasks}
        peaks: dict[str, list[int]] = {}
        for method in methods:
            sides = {name: Side(given.threads) for name in (LIMPET, DEFAULT, BEST)}
            for task in tasks:
                job = TrainingJob(folder, task, method, rates[method], MAX_LENGTH, given.epochs, BATCH_SIZE, seed=0)
                runs, limits, attention = compare(
                    sides, job, given.repetitions, gemm=clerk, shapes=Arithmetic.of(folder / "base")
                )
                show(job, runs, limits, attention=attention, tokens=tokens[task])
                peaks.setdefault(method, []).extend(run.peak_bytes for run in runs[LIMPET])
            for side in sides.values():
                side.end()
        clerk.end()
    if len(peaks) > 1:
        first, *_, last = peaks
        print(f"\nlimpet's peak memory, {first} to {last}: {max(peaks[first]) / max(peaks[last]):.2f}")
    print(environment(given.threads))


if __name__ == "__main__":
    main()
