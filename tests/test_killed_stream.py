"""A stream killed with SIGKILL again and again, and run again: the same matrix, predictions and probes' answers."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import func, select

from limpet.errors import NotFoundError
from limpet.home import Home, open_home
from limpet.registry.database.schema import AbilityRow
from limpet.registry.records import streams
from tests.tiny import tiny_csv
from tests.warm import Process, Warm

CHECKPOINTS = 3  # as many of a training run have been written when it is killed


def begin(warm: Warm, home: Path, file: Path) -> Process:
    environment = os.environ | {"LIMPET_CHECKPOINT_SECONDS": "0"}
    return warm.limpet("stream", "run", file, "--home", home, "--json", env=environment)


def kill_once(process: Process, reached: Callable[[], bool]) -> None:
    """Kill what runs the stream where it has reached a place."""
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def in_second_task(home: Home, arm: str) -> Callable[[], bool]:
    """Tell when an arm has learned one task and is in the middle of training for the next."""
    seen: set[int] = set()

    def reached() -> bool:
        if steps_of(home, arm) != 1:
            return False
        for path in (home.path / "runs").glob("*/checkpoint.safetensors"):
            try:
                seen.add(path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        return len(seen) >= CHECKPOINTS

    return reached


def steps_of(home: Home, arm: str) -> int:
    try:
        runs = {run.name: run.id for run in streams.arm_runs(home.store, "killed")}
    except NotFoundError:
        return 0
    return len(streams.steps(home.store, runs[arm])) if arm in runs else 0


def between_probes(home: Home) -> Callable[[], bool]:
    """Tell when the first of two probes was asked after the second step of the first arm."""

    def reached() -> bool:
        with home.store.database.read() as session:
            return int(session.scalar(select(func.count()).select_from(AbilityRow)) or 0) >= 5

    return reached


def found(path: Path) -> list[Any]:
    """Everything that a stream comes to, time apart."""
    home = open_home(path)
    cells = [
        {task: (cell.score, cell.predictions_digest, cell.logits_digest) for task, cell in step.row.items()}
        for run in streams.arm_runs(home.store, "killed")
        for step in streams.steps(home.store, run.id)
    ]
    report = home.report("killed")
    return [cells, [(arm.matrix, arm.ability, arm.adapters) for arm in report.arms], answers(home)]


def answers(home: Home) -> list[Any]:
    with home.store.database.read() as session:
        rows = session.scalars(select(AbilityRow).order_by(AbilityRow.id)).all()
    return [(row.probe_digest, row.score, row.predictions_digest, row.logits_digest) for row in rows]


@pytest.mark.slow
def test_a_stream_killed_in_training_and_in_probing_ends_as_an_undisturbed_one(
    home: Home, warm: Warm, tmp_path: Path
) -> None:
    file, other = tmp_path / "stream.yaml", tmp_path / "other"
    probes = [
        {"kind": "features", "name": name, "data": f"csv:{tmp_path / name}.csv"} for name in ("first", "second")
    ]
    for seed, probe in enumerate(probes, start=5):
        tiny_csv(tmp_path / f"{probe['name']}.csv", seed=seed)
    content = {
        "name": "killed",
        "tasks": ["place", "wet"],
        "training": {"epochs": 6, "batch_size": 8, "dtype": "float32", "max_length": 16},
        "ability": probes,
        "arms": [
            {"name": "replay", "strategy": "replay", "method": "lora", "set": {"lr": 1e-2}},
            {"name": "ewc", "strategy": "ewc", "method": "full", "set": {"lr": 1e-3}},
        ],
    }
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copytree(home.path, other)
    for reached in (in_second_task(home, "replay"), between_probes(home), in_second_task(home, "ewc")):
        kill_once(begin(warm, home.path, file), reached)
    for folder in (home.path, other):
        process = begin(warm, folder, file)
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert found(home.path) == found(other)
    assert len(answers(home)) == 2 + 2 * 2 * 2
    assert open_home(home.path).verify(deep=True).problems == ()
