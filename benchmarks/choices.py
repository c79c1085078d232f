"""What each choice of `limpet train` saves: the same training with it and without, in turn, in the same run.

python benchmarks/choices.py [--task reuters-r8] [--repetitions 3] [--train-size 256] [--threads 2]

MiniLM, texts of up to 128 tokens, batches of 16; each method with its own learning rate. A repetition is a seed, and
which of the two comes first changes from one to the next. Seconds are those of training as a version's cost has them:
steps, and what is computed before them. `score` is the largest difference between the two validation scores of a
seed: choices only change how the same is computed, so it is that of rounding. Weights are cast, once or each time,
only where products are in bfloat16. What `kept-layers` saves grows with the epochs, so it has three; the others have
one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _sides import Side, environment, home_of, make_home, paired, spread

from limpet.training.base.precision import resolve_dtype

PAIRS = (
    ("lora", "cast-once", 1),
    ("lora", "quick-layers", 1),
    ("full", "fused-optimizer", 1),
    ("partial", "kept-layers", 3),
)
"""A method, a choice, and how many epochs it learns with it and without it."""


@dataclass(frozen=True)
class Job:
    """A training run without the choices that are named; a `short` one ends after a second."""

    folder: Path
    task: str
    method: str
    epochs: int
    seed: int
    disable: Sequence[str] = ()
    short: bool = False


def train(job: Job) -> tuple[float, float]:
    """Learn a task as `limpet train` does; seconds of training, and the best validation score."""
    from limpet.training.learning.learn import learn
    from limpet.training.learning.runs.run_folder import discard
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.learning.training_run import TrainingRun

    home = home_of(job.folder)
    settings = TrainingSettings(
        job.method,
        epochs=job.epochs,
        seed=job.seed,
        disable=tuple(job.disable),
        max_seconds=1.0 if job.short else None,
    )
    task = home.task.show(job.task)
    staged = learn(TrainingRun(home.store, home.backbone(), task, settings))
    discard(staged)
    return float(staged.draft.cost["train_seconds"]), staged.draft.metrics[f"validation_{task.definition.metric}"]


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="reuters-r8")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--train-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(f"{environment(given.threads)}\n{given.task}, {given.repetitions} repetition(s)\n")
    print(f"{'method':9}{'choice':17}{'seconds':24}{'without':24}{'times as fast':24}score", flush=True)
    with tempfile.TemporaryDirectory() as name:
        side, folder = Side(given.threads), Path(name)
        side.do(partial(make_home, eval_size=100, max_length=128), folder, [given.task], given.train_size)
        for method, choice, epochs in PAIRS:
            if choice == "cast-once" and resolve_dtype("auto") != "bfloat16":
                continue
            seconds: dict[tuple[str, ...], list[float]] = {(): [], (choice,): []}
            scores: dict[tuple[str, ...], list[float]] = {(): [], (choice,): []}
            side.do(train, Job(folder, given.task, method, epochs, 0, short=True))
            for seed in range(given.repetitions):
                for without in ((), (choice,)) if seed % 2 else ((choice,), ()):
                    took, score = side.do(train, Job(folder, given.task, method, epochs, seed, without))
                    seconds[without].append(took)
                    scores[without].append(score)
            apart = max(abs(a - b) for a, b in zip(scores[()], scores[(choice,)], strict=True))
            ratio = paired(seconds[(choice,)], seconds[()])
            print(
                f"{method:9}{choice:17}{spread(seconds[()]):24}{spread(seconds[(choice,)]):24}{ratio:24}{apart:.3f}",
                flush=True,
            )
        side.end()
    print(environment(given.threads))


if __name__ == "__main__":
    main()
