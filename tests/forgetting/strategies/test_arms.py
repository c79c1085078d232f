"""Every strategy learns a stream of three tiny tasks, and each differs from the others in what it promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limpet.errors import UsageError
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.values import Report
from limpet.forgetting.stream.run import run_stream
from limpet.forgetting.stream.stream_file import parse_stream
from limpet.home import Home, init
from limpet.registry import versions
from limpet.registry.records import streams
from limpet.registry.values import StepRecord
from tests.migrated import with_database
from tests.tiny import tiny_csv

LORA = {"method": "lora", "set": {"r": 4, "lr": 5e-3}}
STREAM: dict[str, Any] = {
    "name": "three",
    "tasks": ["place", "wet", "high"],
    "evaluate_future": True,
    "training": {"epochs": 1, "batch_size": 8, "dtype": "float32", "max_length": 16},
    "arms": [
        {"name": "isolated", "strategy": "isolated", **LORA},
        {"name": "full", "strategy": "per-task-full", "set": {"lr": 1e-3}},
        {"name": "sequential", "strategy": "sequential", **LORA},
        {"name": "replay", "strategy": "replay", "method": "lora", "set": {"r": 4, "lr": 5e-3, "buffer": 0.2}},
        {"name": "equal", "strategy": "replay", "method": "lora", "set": {"r": 4, "buffer": 9, "rehearsal": 1}},
        {"name": "ewc", "strategy": "ewc", "method": "full", "set": {"lr": 1e-3, "lambda": 1e6}},
        {"name": "free", "strategy": "ewc", "method": "full", "set": {"lr": 1e-3, "lambda": 0}},
        {"name": "joint", "strategy": "joint", **LORA},
        {"name": "frozen", "strategy": "frozen"},
    ],
}


@pytest.fixture(scope="module")
def grown_home(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Home:
    """A home that has learned the stream; tests must not change it."""
    folder = tmp_path_factory.mktemp("arms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMPET_CACHE", str(folder / "cache"))
        shutil.copytree(base_folder, folder / "base")
        home = init(with_database(folder / "home"), base=str(folder / "base"), mlflow="off")
        for seed, (name, labels) in enumerate(
            {"place": ("sea", "sky", "rock"), "wet": ("sea", "rock"), "high": ("sky", "rock")}.items()
        ):
            path = tiny_csv(folder / f"{name}.csv", labels=labels, seed=seed, rows=60)
            home.task.add(name, f"csv:{path}", max_length=16)
        run_stream(home.store, home.backbone(), parse_stream(STREAM))
        yield home


@pytest.fixture(scope="module")
def report(grown_home: Home) -> Report:
    return grown_home.report("three")


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def steps(home: Home, name: str) -> tuple[StepRecord, ...]:
    run = next(run for run in streams.arm_runs(home.store, "three") if run.name == name)
    return streams.steps(home.store, run.id)


def tensors(home: Home, reference: str, file: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        versions.files(home.store, versions.resolve(home.store, reference))[file]
    )
    return found


@pytest.mark.parametrize("name", ["isolated", "full", "frozen"])
def test_what_has_weights_of_its_own_forgets_nothing(report: Report, name: str) -> None:
    assert arm(report, name).metrics["bwt_gem"] == 0.0
    assert arm(report, name).identical_predictions is True


@pytest.mark.parametrize("name", ["sequential", "replay", "ewc"])
def test_one_set_of_weights_answers_for_every_task(grown_home: Home, report: Report, name: str) -> None:
    last = steps(grown_home, name)[-1]
    assert {last.row[task].state for task in ("place", "wet", "high")} == {last.version}
    assert arm(report, name).identical_predictions is False


def test_only_isolated_versions_become_current(grown_home: Home, report: Report) -> None:
    current = {version.reference for version in versions.current(grown_home.store)}
    assert current == {version.reference for version in arm(report, "isolated").versions}


def test_a_head_stays_as_it_was_when_its_task_is_rehearsed(grown_home: Home) -> None:
    first, second, _ = steps(grown_home, "replay")
    assert second.row["place"].version == first.version
    config = versions.resolve(grown_home.store, second.version).config
    (companion,) = config["companions"]
    assert companion["task"] == "place" and companion["head"]


def test_replay_sees_more_examples_than_the_task_has_and_says_so(grown_home: Home) -> None:
    alone, rehearsed = (
        versions.resolve(grown_home.store, steps(grown_home, name)[1].version).cost
        for name in ("sequential", "replay")
    )
    place = grown_home.task.show("place").split("train").examples
    assert rehearsed["examples_seen"] == alone["examples_seen"] + round(0.2 * place)
    assert rehearsed["optimiser_steps"] > alone["optimiser_steps"]


def test_a_rehearsal_ratio_of_1_rehearses_as_many_as_are_new(grown_home: Home) -> None:
    for step, plain in zip(steps(grown_home, "equal")[1:], steps(grown_home, "sequential")[1:], strict=True):
        rehearsed = versions.resolve(grown_home.store, step.version)
        alone = versions.resolve(grown_home.store, plain.version).cost["examples_seen"]
        assert rehearsed.cost["examples_seen"] == 2 * alone
        draws = sum(companion["draws"] for companion in rehearsed.config["companions"])
        assert draws == grown_home.task.show(step.task).split("train").examples


@pytest.mark.parametrize("rehearsal", ["twice", 0, -1, "inf"])
def test_a_ratio_that_makes_no_sense_is_refused_before_anything_is_learned(
    grown_home: Home, rehearsal: object
) -> None:
    settings = {"rehearsal": rehearsal}
    spec = {**STREAM, "name": "wrong", "arms": [{**LORA, "name": "a", "strategy": "replay", "set": settings}]}
    with pytest.raises(UsageError, match="neither a ratio of rehearsed to new examples above 0, nor 'once'"):
        run_stream(grown_home.store, grown_home.backbone(), parse_stream(spec))


def test_joint_learns_every_task_so_far_with_one_set_of_weights(grown_home: Home) -> None:
    last = steps(grown_home, "joint")[-1]
    made = [last.row[task].version for task in ("place", "wet", "high")]
    assert [last.row[task].state for task in ("place", "wet", "high")] == made
    weights = [tensors(grown_home, reference, "adapter_model.safetensors") for reference in made]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]) and torch.equal(tensor, weights[2][name])
    heads = [tensors(grown_home, reference, "head.safetensors")["weight"].shape[0] for reference in made]
    assert heads == [3, 2, 2]
    seen = versions.resolve(grown_home.store, last.version).cost["examples_seen"]
    sizes = [grown_home.task.show(task).split("train").examples for task in ("place", "wet", "high")]
    assert seen == sum(sizes)


def test_a_strong_penalty_keeps_the_weights_where_they_were(grown_home: Home) -> None:
    moved = {}
    for name in ("ewc", "free"):
        first, *_, last = steps(grown_home, name)
        before, after = (tensors(grown_home, step.version, "model.safetensors") for step in (first, last))
        moved[name] = sum(float((after[key] - before[key]).abs().sum()) for key in before)
    assert 0 < moved["ewc"] < 0.5 * moved["free"]


def test_the_score_before_learning_is_that_of_class_means_on_the_weights_of_the_moment(
    grown_home: Home, report: Report
) -> None:
    frozen = arm(report, "frozen").matrix
    isolated = arm(report, "isolated").matrix
    # what an isolated arm has for a task to come is the untouched base
    assert isolated[0][1:] == frozen[0][1:] == (frozen[1][1], frozen[2][2])
    first = steps(grown_home, "sequential")[0]
    assert first.row["high"].state == first.version
    version = versions.resolve(grown_home.store, first.row["high"].version)
    assert version.config["readout"] == {"kind": "class means", "state": first.version}
    assert versions.resolve(grown_home.store, steps(grown_home, "frozen")[0].version).cost["train_seconds"] == 0


def test_a_frozen_base_is_read_out_above_chance(report: Report) -> None:
    assert arm(report, "frozen").matrix[2][2] > 0.6


def test_a_finished_stream_makes_nothing_new(grown_home: Home) -> None:
    before = {run.id: streams.steps(grown_home.store, run.id) for run in streams.arm_runs(grown_home.store, "three")}
    run_stream(grown_home.store, grown_home.backbone(), parse_stream(STREAM))
    after = {run.id: streams.steps(grown_home.store, run.id) for run in streams.arm_runs(grown_home.store, "three")}
    assert after == before
    assert not list((grown_home.path / "runs").glob("*/staged"))
