"""The monitor: after every addition, every earlier task is evaluated again, and what changed is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from limpet.errors import ConflictError, GateError, IntegrityError
from limpet.forgetting.gate.rules import GateRules
from limpet.home import Home, open_home
from limpet.registry.records import evaluations, gate_refusals, streams
from limpet.training.learning.settings import TrainingSettings
from tests.forgetting.monitor.settings import QUICK
from tests.tiny import tiny_base, tiny_csv

AUTO = TrainingSettings(epochs=2, batch_size=8)


def test_every_earlier_task_is_evaluated_again_with_the_same_bits(home: Home, auto_dtype: str) -> None:
    home.train("place", AUTO)
    added = home.train("wet", AUTO)
    assert set(added.row) == {"place", "wet"}
    arm = home.report("home").arms[0]
    assert arm.matrix[0][1] is None
    assert arm.matrix[0][0] == arm.matrix[1][0]
    assert arm.identical_predictions is True
    first, second = streams.steps(home.store, streams.arm_runs(home.store, "home")[0].id)
    assert first.row["place"].logits_digest == second.row["place"].logits_digest
    assert first.row["place"].plan_digest == second.row["place"].plan_digest
    assert first.row["place"].id != second.row["place"].id


def test_an_evaluation_keeps_predictions_and_environment(home: Home, auto_dtype: str) -> None:
    home.train("place", QUICK)
    (evaluation,) = home.evaluate(["place"])
    kept = evaluations.predictions(home.store, evaluation)
    right = sum(a == b for a, b in zip(kept["predictions"], kept["targets"], strict=True))
    assert right / evaluation.examples == evaluation.score
    assert evaluation.environment.threads >= 1
    assert evaluation.environment.dtype == home.backbone().evaluation_dtype == auto_dtype


class StopsLookingBack:
    """A reader who presses Ctrl-C while an earlier task is evaluated again."""

    def start(self, description: str, total: int) -> None:
        if description == "evaluate place":
            raise KeyboardInterrupt

    def advance(self, done: int, detail: str = "") -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None: ...


def test_a_row_that_was_interrupted_leaves_the_growth_as_it_was(trained: Home) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained.train("wet", QUICK, progress=StopsLookingBack())
    assert trained.stream.show("home").tasks == ("place",)
    trained.train("wet", QUICK)
    assert trained.stream.show("home").tasks == ("place", "wet")


def test_the_gate_lets_an_isolated_adapter_through(trained: Home) -> None:
    added = trained.train("wet", QUICK, max_forgetting=0.0, promote="production")
    assert added.promoted is not None
    assert trained.gate("home", GateRules(0.0, 0.0, True)).arms[0].metrics["bwt_gem"] == 0.0


def test_a_crossed_gate_keeps_the_version_and_refuses_its_promotion(trained: Home) -> None:
    with pytest.raises(GateError) as crossed:
        trained.train("wet", QUICK, max_forgetting=-0.5, promote="production")
    assert crossed.value.exit_code == 6
    assert trained.adapter.show("wet@1").aliases == ()
    assert gate_refusals.for_version(trained.store, "wet@1")
    with pytest.raises(GateError):
        trained.adapter.promote("wet@1", "production")


def test_the_gate_judges_a_retrained_task_before_it_is_promoted(trained: Home) -> None:
    trained.adapter.promote("place@1", "production")
    trained.train("wet", QUICK)
    with pytest.raises(GateError, match="place@2"):
        trained.train("place", TrainingSettings(epochs=1, seed=1, dtype="float32"), max_forgetting=-0.5)
    assert trained.adapter.show("place").reference == "place@1"


def test_a_byte_of_a_head_that_changed_on_disk_is_found_before_it_is_used(trained: Home) -> None:
    version = trained.adapter.show("place@1")
    digest = next(file.digest for file in version.files if file.name == "head.safetensors")
    path = trained.store.blobs.path(digest)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        trained.train("wet", QUICK)
    with pytest.raises(IntegrityError):
        trained.predict("place", ["old reef"])


def test_another_base_is_refused_before_any_training(trained: Home, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", seed=9)
    second = open_home(trained.path, base=str(other))
    second.base.add(str(other))
    with pytest.raises(ConflictError, match="has grown on"):
        second.train("wet", QUICK)
    with pytest.raises(IntegrityError, match="trained on the base"):
        second.predict("place", ["old reef"])


def test_the_home_can_be_copied_and_goes_on_growing(trained: Home, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "copy")
    copy = open_home(tmp_path / "copy")
    copy.task.add("more", f"csv:{tiny_csv(tmp_path / 'more.csv', seed=5)}", max_length=16)
    assert set(copy.train("more", QUICK).row) == {"place", "more"}
    assert len(trained.adapter.list().items) == 1


def test_tasks_that_a_stream_learned_are_watched_like_the_others(home: Home, tmp_path: Path) -> None:
    (tmp_path / "stream.yaml").write_text(
        "{name: one, tasks: [place], training: {epochs: 1, dtype: float32}, "
        "arms: [{name: isolated, strategy: isolated, method: lora}]}",
        encoding="utf-8",
    )
    home.stream.run(tmp_path / "stream.yaml")
    home.train("wet", QUICK)
    report = home.report("home")
    assert [task.name for task in report.tasks] == ["place", "wet"]
    assert report.arms[0].matrix[1][0] == report.arms[0].matrix[0][0]
    assert report.arms[0].identical_predictions is True
    with pytest.raises(GateError):
        home.train("wet", TrainingSettings(epochs=1, seed=3, dtype="float32"), max_forgetting=-0.5)
