"""What looking back costs: the matrix of a home's growth with its metrics and intervals, and the gate, by tasks.

python benchmarks/gate.py [--sizes 2,10,50,100] [--examples 400] [--repetitions 5] [--folder FOLDER]

This is what follows the evaluations of an addition. No model is asked: answers are invented, four out of five right,
and stay the same after every step, as those of isolated adapters do. The evaluations are recorded in the registry of
a home by its public functions, with predictions in its blobs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from registry import BASE, DATA, ENVIRONMENT, draft, new_files, new_home, seed_task, task_name

from limpet.forgetting.gate.parse import GateRules
from limpet.forgetting.gate.verdicts import check, crossings
from limpet.forgetting.report.build import build_report
from limpet.registry import versions
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, streams
from limpet.registry.store import Store
from limpet.registry.values import ArmDraft, EvaluationDraft, VersionRecord

RULES = GateRules(max_forgetting=0.0, require_identical=True)


def answers(number: int, examples: int) -> tuple[bytes, float]:
    """Invent a task's answers; return them as they are kept, and their accuracy."""
    draw = random.Random(number)
    targets = [draw.randrange(5) for _ in range(examples)]
    predictions = [target if draw.random() < 0.8 else (target + 1) % 5 for target in targets]
    right = sum(map(int.__eq__, predictions, targets))
    return canonical_json({"schema": 1, "predictions": predictions, "targets": targets}), right / examples


def grow(store: Store, folder: Path, examples: int) -> Iterator[VersionRecord]:
    """Let a home grow by a task at a time, every earlier one evaluated again; yield the new version."""
    split = store.blobs.put_bytes(b'{"text":"a","label":0}\n')
    known: list[tuple[VersionRecord, str, float]] = []
    number = 0
    while True:
        number += 1
        name = task_name(number)
        with store.database.write() as session:
            seed_task(session, name, split)
        version, _ = versions.register(store, draft(name, number), new_files(folder))
        content, score = answers(number, examples)
        known.append((version, store.blobs.put_bytes(content), score))
        row = {
            one.task: evaluations.add(
                store,
                EvaluationDraft(
                    version=one.reference,
                    state=one.reference,
                    kind="full",
                    split="evaluation",
                    metric="accuracy",
                    score=its,
                    examples=examples,
                    predictions_digest=digest,
                    logits_digest=digest,
                    plan_digest=DATA,
                    data_digest=split,
                    base_digest=BASE,
                    environment=ENVIRONMENT,
                    seconds=1.0,
                ),
            ).id
            for one, digest, its in known
        }
        streams.extend(store, streams.HOME_STREAM, name, base_digest=BASE)
        arm = streams.arm_run(
            store, streams.HOME_STREAM, ArmDraft("isolated", strategy="isolated", method="any", seed=0, settings={})
        )
        streams.add_step(store, arm.id, None, version=version.reference, base_unchanged=True, row=row)
        yield version


def look_back(store: Store, version: VersionRecord) -> float:
    """Wall-clock seconds of the report and the gate after an addition."""
    started = time.perf_counter()
    (arm,) = build_report(store, streams.HOME_STREAM, added=version, only_judged=True).arms
    assert not crossings(check(arm, RULES))
    return time.perf_counter() - started


def measure(folder: Path, sizes: Sequence[int], examples: int, *, repetitions: int) -> None:
    """Print a line for each size, and the slope."""
    store, _ = new_home(folder)
    found: dict[int, float] = {}
    for number, version in enumerate(grow(store, folder / "files", examples), start=1):
        if number in sizes:
            times = [look_back(store, version) for _ in range(repetitions)]
            found[number] = statistics.median(times)
            print(f"{number:>6}{found[number]:>14.2f} ({min(times):.2f} to {max(times):.2f})", flush=True)
        if number == max(sizes):
            break
    print(f"{'slope':>6}{np.polyfit(list(found), list(found.values()), 1)[0]:>14.3f}   seconds a task")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2,10,50,100")
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to make the home; a temporary folder if not given")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}; seconds by number of tasks, {given.repetitions} repetitions")
    print(f"{'tasks':>6}{'look back':>14}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        sizes = [int(size) for size in given.sizes.split(",")]
        measure(Path(folder), sizes, given.examples, repetitions=given.repetitions)


if __name__ == "__main__":
    main()
