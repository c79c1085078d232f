"""AdamW with states of 8 bits beside 32: their bytes, the loss, and how long a step takes, on SmolLM2.

python benchmarks/optimizer_states.py [--method lora] [--rank 16] [--rows 192] [--epochs 2] [--seeds 0,1,2]

Needs the extra: pip install 'limpet[quantised]'. The task is to write the headlines of BBC News articles. Runs of the
two optimizers take turns; the seconds are of training alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from _sides import environment
from torch.optim.optimizer import register_optimizer_step_post_hook

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init
from limpet.training.learning.optimization.optimizers import OPTIMIZERS, kept_state
from limpet.training.learning.settings import TrainingSettings


def train(home: Home, settings: TrainingSettings) -> dict[str, float]:
    """Learn the task, and return what was measured."""
    states: set[int] = set()

    def look(optimizer: Any, *_: object) -> None:
        kept = [kept_state(state) for state in optimizer.state.values()]
        states.add(sum(tensor.nbytes for state in kept for tensor in state.values()))

    hook = register_optimizer_step_post_hook(look)
    version = home.train("headline", settings, monitor=False).version
    hook.remove()
    last = version.metrics["history"][-1]
    return {
        "states": max(states),
        "loss": last["loss"],
        "validation": last["validation_loss"],
        "seconds": version.cost["train_seconds"],
        "parameters": version.cost["trainable_parameters"],
    }


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    silence()
    torch.set_num_threads(given.threads)
    print(environment(given.threads))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in OPTIMIZERS}
    with tempfile.TemporaryDirectory() as name:
        home = init(Path(name) / "home", base="sample:smollm2", mlflow="off")
        columns = {"text_column": "body", "target_column": "headline"}
        sizes = {"train_size": given.rows, "eval_size": 40, "max_length": 96}
        home.task.add("headline", "sample:bbc-news", type="generation", **columns, **sizes)
        for seed in map(int, given.seeds.split(",")):
            for optimizer in OPTIMIZERS:
                settings = TrainingSettings(
                    given.method,
                    {"r": given.rank} if given.method == "lora" else {},
                    epochs=given.epochs,
                    seed=seed,
                    optimizer=optimizer,
                )
                found[optimizer].append(train(home, settings))
                print(seed, optimizer, found[optimizer][-1], flush=True)
    usual, short = (found[name] for name in OPTIMIZERS)
    print(f"\n{'':12}{'states':>12}{'train loss':>12}{'validation':>12}{'seconds':>10}")
    for optimizer, runs in found.items():
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        print(f"{optimizer:12}{means['states'] / 1e6:9.2f} MB", end="")
        print(f"{means['loss']:12.4f}{means['validation']:12.4f}{means['seconds']:10.1f}")
    for key in ("states", "loss", "validation", "seconds"):
        ratios = [one[key] / other[key] for one, other in zip(short, usual, strict=True)]
        print(f"{key} of adamw-8bit to those of adamw: {min(ratios):.4f} to {max(ratios):.4f}")


if __name__ == "__main__":
    main()
