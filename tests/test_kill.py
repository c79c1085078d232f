"""A training process killed with SIGKILL: nothing half-made is visible, and `--resume` ends at the same digest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch

from limpet.home import Home, Trained
from limpet.registry import versions
from limpet.registry.records import streams
from limpet.training.learning.settings import TrainingSettings
from tests.warm import Process, Warm

TRAIN = ["train", "place", "--method", "lora", "--epochs", "10", "--batch-size", "8", "--set", "dropout=0.1"]
LONG = [*TRAIN, "--epochs", "40"]


Start = Callable[..., Process]
"""Starts `limpet` with the home of the test: every step of a training writes a checkpoint."""


@pytest.fixture
def limpet(home: Home, warm: Warm) -> Start:
    environment = os.environ | {"LIMPET_CHECKPOINT_SECONDS": "0"}
    return partial(warm.limpet, "--home", home.path, "--json", env=environment)


def kill_after_steps(home: Home, limpet: Start, steps: int, *, resume: bool) -> None:
    """Start training or go on with it, and kill it once so many checkpoints were written."""
    process = limpet(*TRAIN, *(["--resume"] if resume else []))
    seen: set[int] = set()
    while len(seen) < steps:
        assert process.poll() is None, process.communicate()
        for path in (home.path / "runs").glob("*/checkpoint.safetensors"):
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def undisturbed(home: Home) -> Trained:
    """Train in this process, with one thread as the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return home.train("place", TrainingSettings("lora", {"dropout": 0.1}, epochs=10, batch_size=8))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "kills",
    [pytest.param([3], id="killed once"), pytest.param([1, 20], id="killed twice", marks=pytest.mark.slow)],
)
def test_a_killed_run_resumed_ends_at_the_digest_of_an_undisturbed_one(
    home: Home, limpet: Start, kills: list[int]
) -> None:
    for index, steps in enumerate(kills):
        kill_after_steps(home, limpet, steps, resume=index > 0)
        assert not home.adapter.list().items
    process = limpet("train", "place", "--resume")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    resumed = json.loads(printed)["version"]["digest"]
    again = undisturbed(home)
    assert again.version.digest == resumed
    assert not again.created
    assert home.verify().problems == ()


def test_two_tasks_may_be_trained_at_once(home: Home, limpet: Start) -> None:
    quick = ["--epochs", "3", "--batch-size", "8"]
    together = [limpet("train", task, *quick) for task in ("place", "wet")]
    for process in together:
        printed, said = process.communicate()
        assert process.returncode == 0, said
        assert json.loads(printed)["version"]["version"] == 1
    (arm,) = streams.arm_runs(home.store, streams.HOME_STREAM)
    assert {step.version for step in streams.steps(home.store, arm.id)} == {"place@1", "wet@1"}


def test_the_same_run_is_not_trained_twice_at_once(home: Home, limpet: Start) -> None:
    together = [limpet(*TRAIN) for _ in range(2)]
    for process in together:
        process.wait()
    codes = sorted(process.returncode for process in together)
    # the second either finds the first at it, or comes when it has ended and gets the same version
    assert codes in ([0, 0], [0, 4]), [process.communicate() for process in together]
    assert [version.number for version in home.adapter.list("place").items] == [1]


@pytest.mark.slow
def test_a_run_killed_at_random_times_always_ends_at_the_same_digest(home: Home, limpet: Start) -> None:
    draw = random.Random(0)
    for _ in range(20):
        process = limpet(*LONG, "--resume")
        try:
            process.communicate(timeout=draw.uniform(1.0, 9.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    final = limpet(*LONG, "--resume")
    printed, said = final.communicate()
    assert final.returncode == 0, said
    assert versions.resolve(home.store, "place@1").digest == json.loads(printed)["version"]["digest"]
    assert home.verify().problems == ()
