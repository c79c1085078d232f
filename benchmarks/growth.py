"""What the T-th task costs: adding its data, learning it, evaluating all tasks again, in full and as an audit.

python benchmarks/growth.py [--quick] [--folder FOLDER]

Every task is another draw of 32 training and 400 evaluation examples of rotten-tomatoes, learned by LoRA in one epoch
on MiniLM. At T = 2, 10, 50 and 100 everything is timed; the slope is that of the least-squares line over T. The two
seconds for which a training measures the latency of its version are left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init
from limpet.training.learning.settings import TrainingSettings

SIZES = (2, 10, 50, 100)
SETTINGS = TrainingSettings(epochs=1, batch_size=16)
COLUMNS = ("add the task", "learn it", "evaluate all", "audit all")


def timed(work: Callable[[], Any]) -> float:
    """Wall-clock seconds of some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def add(home: Home, number: int) -> None:
    """Add a task of its own examples."""
    options = {"train_size": 32, "eval_size": 400, "max_length": 32, "split_seed": number}
    home.task.add(f"films-{number}", "sample:rotten-tomatoes", **options)


def learn(home: Home, number: int) -> None:
    """Learn a task without looking at the others."""
    home.train(f"films-{number}", SETTINGS, monitor=False)


def measure(home: Home, sizes: tuple[int, ...]) -> dict[int, tuple[float, ...]]:
    """Let a home grow, and time what one more task costs at each of the sizes."""
    found: dict[int, tuple[float, ...]] = {}
    for number in range(1, sizes[-1] + 1):
        adding, learning = timed(partial(add, home, number)), timed(partial(learn, home, number))
        if number in sizes:
            full, audit = timed(home.evaluate), timed(partial(home.evaluate, audit=True))
            found[number] = (adding, learning, full, audit)
            shown = "".join(f"{seconds:>14.2f}" for seconds in found[number])
            print(f"{number:>6}{shown}", flush=True)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 10 tasks")
    parser.add_argument("--folder", type=Path, help="where to make the home; a temporary folder if not given")
    arguments = parser.parse_args()
    silence()
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"
    sizes = SIZES[:2] if arguments.quick else SIZES
    print(f"{torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}; seconds by number of tasks")
    print(f"{'tasks':>6}" + "".join(f"{name:>14}" for name in COLUMNS))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        home = init(Path(folder) / "home", base="sample:minilm", mlflow="off")
        home.backbone()
        found = measure(home, sizes)
    slopes = (np.polyfit(list(found), [row[place] for row in found.values()], 1)[0] for place in range(len(COLUMNS)))
    print(f"{'slope':>6}" + "".join(f"{slope:>14.3f}" for slope in slopes) + "   seconds a task")


if __name__ == "__main__":
    main()
