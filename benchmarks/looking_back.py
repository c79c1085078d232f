"""What the 20th generation task costs by the monitor's mode: every earlier task evaluated, audited, or left alone.

python benchmarks/looking_back.py [--tasks N] [--examples E] [--runs R] [--base SPEC]

The tasks are copies of one small CSV of prompts and targets, each with a split of its own, learned by LoRA in one
epoch. A home with all tasks but the last is made once. Each run adds the last one to a fresh copy of it in each mode,
in turn, in one process with the base in memory; what is told is the median of the runs, and its ratio to `full`.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init, open_home
from limpet.training.learning.settings import TrainingSettings

MODES = ("full", "audit", "off")
SETTINGS = TrainingSettings(epochs=1, batch_size=16)
WORDS = ("harbour", "lantern", "granite", "meadow", "copper", "willow", "signal", "ribbon")


def write(path: Path, examples: int) -> Path:
    """Write a CSV of prompts whose target is their own words, turned around."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "target"))
        for number in range(examples + 40):
            words = [WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 5, 7)]
            rows.writerow((f"{number}: {' '.join(words)}", " ".join(reversed(words))))
    return path


def grow(home: Home, data: Path, tasks: int, *, examples: int) -> None:
    """Add all tasks, and learn all but the last."""
    sizes = {"train_size": 32, "eval_size": examples, "max_length": 32}
    for number in range(1, tasks + 1):
        home.task.add(f"turn-{number}", f"csv:{data}", type="generation", split_seed=number, **sizes)
        if number < tasks:
            home.train(f"turn-{number}", SETTINGS, monitor="off", mirror=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--examples", type=int, default=60, help="evaluation examples of each task")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--base", default="sample:smollm2")
    arguments = parser.parse_args()
    silence()
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = init(folder / "grown", base=arguments.base, mlflow="off")
        data = write(folder / "turn.csv", arguments.examples)
        grow(home, data, arguments.tasks, examples=arguments.examples)
        home.store.database.close()
        for run in range(arguments.runs):
            for mode in MODES:
                copy = open_home(shutil.copytree(home.path, folder / f"{mode}-{run}"))
                copy.backbone()
                started = time.perf_counter()
                added = copy.train(f"turn-{arguments.tasks}", SETTINGS, monitor=mode, mirror=False)
                seconds[mode].append(time.perf_counter() - started)
                assert len(added.audited) == (arguments.tasks - 1 if mode == "audit" else 0)
                copy.store.database.close()
                shutil.rmtree(copy.path)
    print(f"{'monitor':<10}{'seconds':>10}{'of full':>10}{'looking back':>15}")
    medians = {mode: statistics.median(seconds[mode]) for mode in MODES}
    for mode, median in medians.items():
        back = median - medians["off"]
        print(f"{mode:<10}{median:>10.2f}{median / medians['full']:>10.2f}{back:>15.2f}")


if __name__ == "__main__":
    main()
