"""A run as a value: what decides its result decides its folder, as it has since the first release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limpet.home import Home
from limpet.registry.formats.canonical import digest_json
from limpet.training.learning.joint_training import JointTask, JointTraining
from limpet.training.learning.runs.run_folder import Start
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun

SETTINGS = TrainingSettings("probe", epochs=2, batch_size=8, learning_rate=0.01, dtype="float32", seed=7)


@dataclass(frozen=True)
class NoPenalty:
    """Adds nothing."""

    identity: dict[str, Any]

    def __call__(self, parameters: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError


def identity_of(home: Home, **more: Any) -> dict[str, Any]:
    """All that decides a run of `place`, in the words that a kept folder of any release was named by."""
    training = {
        "epochs": 2,
        "learning_rate": 0.01,
        "batch_size": 8,
        "dtype": "float32",
        "max_seconds": None,
        "weight_decay": 0.01,
    }
    return {
        "task": "place",
        "method": "probe",
        "config": {"method": {}, "training": training, "max_length": 16} | more,
        "base": home.backbone().record.digest,
        "data": home.task.show("place").data_digest,
        "seed": 7,
        "start": None,
    }


def folder_of(home: Home, identity: dict[str, Any]) -> Path:
    return home.path / "runs" / digest_json(identity).removeprefix("sha256:")[:32]


def test_a_run_lies_where_every_release_would_have_put_it(home: Home) -> None:
    run = TrainingRun(home.store, home.backbone(), home.task.show("place"), SETTINGS)
    assert run.folder == folder_of(home, identity_of(home))
    assert not run.folder.exists(), "who asks where a run lies has not begun one"


def test_what_is_learned_jointly_decides_the_folder_too(home: Home) -> None:
    wet = home.task.show("wet")
    joint = JointTraining((JointTask(wet, (3, 1), None, draws=5),), NoPenalty({"ewc": 2.0}))
    run = TrainingRun(home.store, home.backbone(), home.task.show("place"), SETTINGS, joint=joint)
    companion = {"task": "wet", "data": wet.data_digest, "indices": digest_json([3, 1]), "head": None, "draws": 5}
    more = {"companions": [companion], "penalty": {"ewc": 2.0}}
    assert run.folder == folder_of(home, identity_of(home, **more))


def test_lineage_and_progress_decide_nothing(home: Home) -> None:
    place = home.task.show("place")
    run = TrainingRun(home.store, home.backbone(), place, SETTINGS, lineage={"stream": "three", "step": 1})
    assert run.folder == folder_of(home, identity_of(home))


def test_the_adapter_that_a_run_begins_with_decides_its_folder(home: Home) -> None:
    start = Start("probe", "place", ("a", "b"), {}, "sha256:1234", "place@1")
    run = TrainingRun(home.store, home.backbone(), home.task.show("place"), SETTINGS, start=start)
    assert run.folder == folder_of(home, identity_of(home) | {"start": "sha256:1234"})
