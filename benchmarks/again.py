"""Evaluating a version again: every layer asked, and from what the frozen base gave for the same texts before.

python benchmarks/again.py [--task election-tweets] [--repetitions 5] [--threads 2]

MiniLM, 600 texts: a probe, whose head reads features that are kept, and the two upper layers (`partial`), which read
what the layers below gave. Each is evaluated in turn as `limpet evaluate` does, which asks everything anew, and as
the monitor does after an addition; answers are compared bit by bit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from _sides import environment, paired, spread

from limpet.cli.terminal.quiet_libraries import silence
from limpet.forgetting.monitor import monitor
from limpet.home import Home, init
from limpet.registry import versions
from limpet.training.learning.settings import TrainingSettings

METHODS = {"probe": {}, "partial": {"layers": 2}}


def measure(home: Home, reference: str, repetitions: int) -> tuple[list[float], list[float]]:
    """Seconds of evaluations of a version, anew and from what is kept, in turn."""
    backbone, version = home.backbone(), versions.resolve(home.store, reference)
    found: dict[bool, list[float]] = {True: [], False: []}
    digests = set()
    for _ in range(repetitions + 1):
        for anew, seconds in found.items():
            started = time.perf_counter()
            digests.add(
                monitor.evaluate(home.store, backbone, version, part=monitor.Part(bypass_cache=anew)).logits_digest
            )
            seconds.append(time.perf_counter() - started)
    assert len(digests) == 1
    # the first ones prepare what the others find
    return found[True][1:], found[False][1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="election-tweets")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    silence()
    torch.set_num_threads(given.threads)
    print(f"{environment(given.threads)}\n{given.task}, 600 texts, {given.repetitions} repetitions, seconds\n")
    print(f"{'method':9}{'every layer':24}{'from what is kept':24}times as fast", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = init(Path(folder) / "home", base="sample:minilm", mlflow="off")
        home.task.add(given.task, f"sample:{given.task}", train_size=64, eval_size=600, max_length=64)
        for name, settings in METHODS.items():
            trained = home.train(given.task, TrainingSettings(name, settings, epochs=1), monitor=False)
            anew, kept = measure(home, trained.version.reference, given.repetitions)
            print(f"{name:9}{spread(anew, 2):24}{spread(kept, 2):24}{paired(anew, kept)}", flush=True)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
