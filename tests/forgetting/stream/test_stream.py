"""Streams: every arm learns every task, every earlier task is evaluated again, and an interruption costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet.errors import ConflictError, InterruptedRunError, NotFoundError, UsageError
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.values import Report
from limpet.forgetting.stream.stream_file import parse_stream, read_stream
from limpet.home import Home, open_home
from limpet.registry.records import streams
from tests.tiny_home import tiny_home
from tests.training.learning.test_learn import StopAt

STREAM: dict[str, Any] = {
    "name": "two",
    "tasks": ["place", "wet"],
    "training": {"epochs": 4, "batch_size": 8, "dtype": "float32", "max_length": 16},
    "arms": [
        {"name": "isolated", "strategy": "isolated", "method": "lora", "set": {"r": 4, "lr": "5e-3"}},
        {"name": "sequential-full", "strategy": "sequential", "method": "full", "sweep": {"lr": [1e-6, 5e-3]}},
        {"name": "sequential-shared", "strategy": "sequential", "method": "lora", "set": {"r": 4, "lr": 5e-3}},
    ],
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(STREAM | changes), encoding="utf-8")
    return path


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def scores(report: Report) -> list[Any]:
    return [(arm.name, arm.seed, arm.matrix, arm.metrics, arm.versions) for arm in report.arms]


@dataclass(frozen=True)
class Ran:
    """A home that has run the stream undisturbed, and what came of it."""

    home: Home
    report: Report
    warnings: tuple[str, ...]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Ran:
    """The stream, run once for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("ran")
    home = tiny_home(folder, base_folder)
    return Ran(home, *home.stream.run(write(folder)))


def test_isolated_adapters_forget_nothing_and_the_other_arms_are_measured(ran: Ran) -> None:
    report = ran.report
    assert ran.warnings == ()
    isolated = arm(report, "isolated")
    assert isolated.metrics["bwt_gem"] == 0.0
    assert isolated.identical_predictions is True
    assert [len([score for score in row if score is not None]) for row in isolated.matrix] == [1, 2]
    assert report.base.unchanged is True
    assert arm(report, "sequential-full").metrics["bwt_gem"] is not None
    assert all(len(arm.versions) == 2 for arm in report.arms)


@pytest.mark.parametrize("name", ["sequential-full", "sequential-shared"])
def test_a_later_task_changes_what_a_sequential_arm_answers_on_an_earlier_one(ran: Ran, name: str) -> None:
    run = next(run for run in streams.arm_runs(ran.home.store, "two") if run.name == name)
    first, second = streams.steps(ran.home.store, run.id)
    assert second.row["place"].state == second.version
    assert second.row["place"].logits_digest != first.row["place"].logits_digest
    assert arm(ran.report, name).identical_predictions is False


def test_a_learning_rate_is_chosen_on_validation_data_and_the_sweep_is_kept(ran: Ran) -> None:
    home = ran.home
    swept = next(run for run in streams.arm_runs(home.store, "two") if run.name == "sequential-full")
    means = {candidate["settings"]["lr"]: candidate["mean"] for candidate in swept.sweep}
    assert set(means) == {1e-6, 5e-3}
    assert swept.chosen["lr"] == max(means, key=lambda lr: means[lr])
    version = home.adapter.show(streams.steps(home.store, swept.id)[0].version)
    assert version.config["training"]["learning_rate"] == swept.chosen["lr"]


def test_baselines_are_kept_but_are_never_the_current_version(ran: Ran) -> None:
    home, report = ran.home, ran.report
    assert home.adapter.show("place").reference == arm(report, "isolated").versions[0].reference
    baseline = home.adapter.show(arm(report, "sequential-full").versions[0].reference)
    assert baseline.role == "baseline"
    assert baseline.lineage["stream"] == "two"


def test_a_stream_that_has_ended_is_not_run_again(ran: Ran, tmp_path: Path) -> None:
    again, _ = ran.home.stream.run(write(tmp_path))
    assert scores(again) == scores(ran.report)


@pytest.mark.parametrize(
    "step",
    [pytest.param(1, id="in its first step", marks=pytest.mark.slow), pytest.param(30, id="further on")],
)
def test_an_interrupted_stream_goes_on_to_the_same_scores(home: Home, tmp_path: Path, ran: Ran, step: int) -> None:
    path = write(tmp_path)

    class StopLater(StopAt):
        """Interrupts after so many training steps over all runs."""

        def advance(self, done: int, detail: str = "") -> None:
            if self.training:
                self.step -= 1
                if self.step == 0:
                    super().advance(self.step, detail)

    with pytest.raises(InterruptedRunError) as interrupted:
        home.stream.run(path, progress=StopLater(step))
    assert interrupted.value.hint == f"limpet stream run {path}"
    report, _ = open_home(home.path).stream.run(path)
    assert [(arm.name, arm.matrix) for arm in report.arms] == [(arm.name, arm.matrix) for arm in ran.report.arms]
    assert [len(arm.versions) for arm in report.arms] == [2, 2, 2]
    assert not list((home.path / "runs").glob("*/checkpoint.safetensors"))


def test_another_file_under_the_same_name_is_a_conflict(home: Home, tmp_path: Path) -> None:
    home.stream.run(write(tmp_path, arms=STREAM["arms"][:1]))
    with pytest.raises(ConflictError):
        home.stream.run(write(tmp_path, arms=STREAM["arms"][:2]))


def test_a_task_that_exists_nowhere_is_named_before_any_training(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        home.stream.run(write(tmp_path, tasks=["place", "nowhere"]))
    assert not home.adapter.list().items


def test_a_wrong_setting_of_the_last_arm_is_found_before_any_training(home: Home, tmp_path: Path) -> None:
    arms = [*STREAM["arms"][:1], {"name": "b", "strategy": "sequential", "method": "lora", "set": {"rank": 4}}]
    with pytest.raises(UsageError, match="rank"):
        home.stream.run(write(tmp_path, arms=arms))
    assert not home.adapter.list().items


def test_a_misspelt_setting_names_the_arm_and_what_its_strategy_has(home: Home, tmp_path: Path) -> None:
    arm = {"name": "held", "strategy": "ewc", "method": "full", "sweep": {"lambdaa": [1, 10]}}
    with pytest.raises(UsageError, match=r"Arm 'held' \(the strategy 'ewc' has lambda\): .*lambdaa"):
        home.stream.run(write(tmp_path, arms=[arm]))


@pytest.mark.parametrize("strategy", ["sequential", "replay", "ewc", "joint"])
def test_a_method_without_weights_to_share_is_refused_before_any_training(
    home: Home, tmp_path: Path, strategy: str
) -> None:
    arms = [{"name": "heads", "strategy": strategy, "method": "probe"}]
    with pytest.raises(UsageError, match="no weights that tasks could share"):
        home.stream.run(write(tmp_path, arms=arms))
    assert not home.adapter.list().items


def test_a_stream_disables_what_its_file_names(home: Home, tmp_path: Path) -> None:
    for wrong in (["magic"], [["cast-once"]], "cast-once", [1]):
        with pytest.raises(UsageError, match=r"no optimization|must be list"):
            home.stream.run(write(tmp_path, training={**STREAM["training"], "disable": wrong}))
    training = {**STREAM["training"], "disable": ["quick-layers"]}
    home.stream.run(write(tmp_path, training=training, arms=STREAM["arms"][:1]))
    versions = home.adapter.list().items
    assert [version.config["training"]["without"] for version in versions] == [["quick-layers"]] * len(
        STREAM["tasks"]
    )


def test_every_task_of_a_stream_may_be_defined_in_its_file(home: Home, tmp_path: Path) -> None:
    inline = {"name": "place-small", "data": f"csv:{tmp_path / 'place.csv'}", "train_size": 30, "eval_size": 15}
    report, _ = home.stream.run(write(tmp_path, tasks=["wet", inline], arms=STREAM["arms"][:1]))
    assert [task.name for task in report.tasks] == ["wet", "place-small"]
    assert home.task.show("place-small").definition.max_length == 16


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Bad Name"}, "Bad Name"),
        ({"name": "home"}, "home"),
        ({"tasks": []}, "tasks"),
        ({"tasks": ["a", "a"]}, "stands twice"),
        ({"seeds": [0, 0]}, "stands twice"),
        ({"seeds": [-1]}, "seeds"),
        ({"epochs": 3}, "epochs"),
        ({"training": {"epoch": 3}}, "epoch"),
        ({"training": {"epochs": "many"}}, "epochs"),
        ({"arms": [{"name": "a", "strategy": "magic", "method": "lora"}]}, "magic"),
        ({"arms": [{"name": "a", "strategy": "isolated"}]}, "method"),
        ({"arms": [{"name": "a", "strategy": "isolated", "method": "lora", "sweep": {"lr": 1e-3}}]}, "sweep"),
    ],
)
def test_a_wrong_stream_file_names_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_stream(STREAM | changes)


def test_numbers_in_the_exponent_form_that_yaml_reads_as_text_are_numbers() -> None:
    spec = parse_stream(yaml.safe_load(yaml.safe_dump(STREAM).replace("'5e-3'", "5e-3")))
    assert spec.arms[0].settings["lr"] == 0.005


def test_a_missing_stream_file_and_one_that_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_stream(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(UsageError, match="YAML"):
        read_stream(tmp_path / "bad.yaml")
