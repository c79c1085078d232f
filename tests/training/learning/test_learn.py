"""Learning a task: the base stays as it is, the same seed gives the same bits, and an interrupted run goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limpet.errors import IntegrityError, InterruptedRunError, NotFoundError, TrainingError, UsageError
from limpet.home import Home, open_home
from limpet.registry.records import tasks
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.heads.classification import ClassificationHead
from limpet.training.learning.learn import learn
from limpet.training.learning.runs.run_folder import Staged, Start, discard, unfinished_run
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.methods.lora import Lora
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import score
from tests.tiny import change_one_weight

QUICK = TrainingSettings(epochs=2, batch_size=8, dtype="float32")
AUTO = replace(QUICK, dtype="auto")


class StopAt:
    """Sends this process a signal after so many steps, as a person would with Ctrl-C."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number, self.training = step, number, False

    def start(self, description: str, total: int) -> None:
        self.training = description == "train"

    def advance(self, done: int, detail: str = "") -> None:
        if self.training and done == self.step:
            os.kill(os.getpid(), self.number)

    def finish(self) -> None:
        self.training = False

    def note(self, text: str) -> None:
        pass


def staged(
    home: Home,
    task: str = "place",
    settings: TrainingSettings = QUICK,
    *,
    start: Start | None = None,
    progress: Progress = SILENT,
    resume: bool = False,
) -> Staged:
    record = tasks.get(home.store, task)
    return learn(TrainingRun(home.store, home.backbone(), record, settings, start, progress=progress), resume=resume)


def contents(result: Staged) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in result.files.items()}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_tiny_task_is_learned_well_above_chance(home: Home, auto_dtype: str, method: str) -> None:
    settings = replace(AUTO, method=method, epochs=8, learning_rate=5e-3)
    home.train("place", settings)
    version = home.adapter.show("place@1")
    assert version.metrics["accuracy"] > 0.8
    assert version.environment.dtype == version.config["training"]["dtype"] == auto_dtype


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_base_in_memory_is_bit_for_bit_the_same_after_training(home: Home, auto_dtype: str, method: str) -> None:
    backbone = home.backbone()
    before = module_digest(backbone.model)
    names = [name for name, _ in backbone.model.named_modules()]
    staged(home, settings=replace(AUTO, method=method))
    assert module_digest(backbone.model) == before
    assert [name for name, _ in backbone.model.named_modules()] == names
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_same_seed_gives_the_same_files(home: Home, auto_dtype: str, method: str) -> None:
    settings = replace(AUTO, method=method)
    first = staged(home, settings=settings)
    kept = contents(first)
    discard(first)
    assert contents(staged(home, settings=settings)) == kept


def test_an_interrupted_run_goes_on_to_the_same_bits_in_any_dtype(home: Home, auto_dtype: str) -> None:
    undisturbed = staged(home, settings=AUTO)
    kept = contents(undisturbed)
    discard(undisturbed)
    with pytest.raises(InterruptedRunError):
        staged(home, settings=AUTO, progress=StopAt(13, signal.SIGTERM))
    assert contents(staged(home, settings=AUTO, resume=True)) == kept


def test_another_seed_gives_another_adapter(home: Home) -> None:
    assert contents(staged(home)) != contents(staged(home, settings=replace(QUICK, seed=1)))


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("step", [1, 9, 13], ids=["first step", "last step of an epoch", "inside the second epoch"])
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_to_the_same_bits(home: Home, method: str, step: int, number: int) -> None:
    settings = replace(QUICK, method=method, method_settings={"dropout": 0.1} if method == "lora" else {})
    undisturbed = staged(home, settings=settings)
    kept = contents(undisturbed)
    discard(undisturbed)
    with pytest.raises(InterruptedRunError):
        staged(home, settings=settings, progress=StopAt(step, number))
    assert contents(staged(home, settings=settings, resume=True)) == kept


def test_a_signal_during_the_last_validation_is_heard(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []

    def stop_in_the_last(metric: str, predictions: Any, targets: Any) -> float:
        scored.append(metric)
        if len(scored) == QUICK.epochs:
            os.kill(os.getpid(), signal.SIGINT)
        return score(metric, predictions, targets)

    undisturbed = staged(home)
    kept = contents(undisturbed)
    discard(undisturbed)
    monkeypatch.setattr("limpet.training.learning.validation.score", stop_in_the_last)
    with pytest.raises(InterruptedRunError):
        staged(home)
    assert contents(staged(home, resume=True)) == kept


def test_an_interrupted_run_is_found_again_with_its_settings(home: Home) -> None:
    with pytest.raises(InterruptedRunError):
        staged(home, settings=replace(QUICK, seed=7), progress=StopAt(3))
    found, parent = unfinished_run(home.store, "place")
    assert (found.seed, found.epochs, parent) == (7, 2, None)
    with pytest.raises(NotFoundError):
        unfinished_run(home.store, "wet")


def test_resume_refuses_other_settings_than_those_of_the_interrupted_run(home: Home) -> None:
    with pytest.raises(InterruptedRunError) as interrupted:
        home.train("place", QUICK, progress=StopAt(3))
    assert interrupted.value.hint == "limpet train place --resume"
    with pytest.raises(UsageError, match="seed 0, not 5"):
        home.train("place", replace(QUICK, seed=5), resume=True)
    assert home.train("place", resume=True).version.reference == "place@1"


def test_a_corrupt_checkpoint_is_refused_and_a_new_run_is_possible(home: Home) -> None:
    with pytest.raises(InterruptedRunError):
        home.train("place", QUICK, progress=StopAt(3))
    checkpoint = next((home.path / "runs").glob("*/checkpoint.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(IntegrityError, match="checkpoint"):
        home.train("place", QUICK, resume=True)
    assert home.train("place", QUICK).created


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_that_goes_on_from_a_version_moves_its_tensors(home: Home, method: str) -> None:
    settings = replace(QUICK, method=method)
    home.train("place", settings)
    start = Start.from_version(home.store, home.backbone(), "place@1")
    further = staged(home, "wet", settings, start=start)
    fresh = staged(home, "wet", settings)
    (name,) = [name for name in further.files if name in ("adapter_model.safetensors", "model.safetensors")]
    ends = [load_file(files[name]) for files in (start.files, further.files, fresh.files)]
    # those that take part in the answer: a base has a pooler, which a mean does not read
    moved = [key for key in ends[0] if "pooler" not in key and not torch.equal(ends[0][key], ends[1][key])]
    assert len(moved) >= 0.9 * len([key for key in ends[0] if "pooler" not in key])
    assert all(not torch.equal(ends[1][key], ends[2][key]) for key in moved)
    assert further.draft.cost["trainable_parameters"] == fresh.draft.cost["trainable_parameters"]


def test_a_version_names_the_one_that_training_began_with(home: Home) -> None:
    first = home.train("place", QUICK).version
    second = home.train("wet", QUICK, start_from="place@1").version
    assert second.parent == first.reference
    with pytest.raises(UsageError, match="can't go on"):
        home.train("wet", replace(QUICK, method="full"), start_from="place@1")


def test_a_loss_that_is_not_finite_ends_training_and_registers_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassificationHead, "loss", lambda self, logits, targets: logits.sum() * float("nan"))
    with pytest.raises(TrainingError, match="nan at step 1") as failed:
        home.train("place", QUICK)
    assert "--lr" in failed.value.hint
    assert not home.adapter.list().items


class DriftingBuffer(Lora):
    """LoRA that leaves a mark in a buffer of the base, as batch normalisation in training mode would."""

    def detach(self, module: Any) -> None:
        backbone = module.get_base_model()
        super().detach(module)
        backbone.embeddings.position_ids[0, 0] += 1


def test_a_buffer_of_the_base_that_drifts_is_caught(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "get", lambda name: DriftingBuffer())
    with pytest.raises(IntegrityError, match="changed in memory"):
        staged(home)


def test_a_base_with_one_weight_changed_is_refused_by_train_and_predict(home: Home, tmp_path: Path) -> None:
    home.train("place", QUICK)
    change_one_weight(tmp_path / "base")
    for again in (home, open_home(home.path)):
        with pytest.raises(IntegrityError) as refused:
            again.train("wet", QUICK)
        assert refused.value.exit_code == 5
        with pytest.raises(IntegrityError):
            again.predict("place", ["old reef"])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "draft.json").write_bytes(b""),
        lambda folder: _cut(folder / "draft.json"),
        lambda folder: (folder / "draft.json").unlink(),
        lambda folder: (folder / "files" / "head.safetensors").write_bytes(b""),
        lambda folder: _cut(folder / "files" / "adapter_model.safetensors"),
        lambda folder: (folder / "files" / "labels.json").unlink(),
    ],
    ids=["empty draft", "cut draft", "no draft", "empty head", "cut tensors", "no labels"],
)
def test_what_a_power_cut_left_of_a_staged_run_is_learned_again_without_a_person(
    home: Home, damage: Callable[[Path], object]
) -> None:
    settings = TrainingSettings(epochs=1, batch_size=32, dtype="float32")
    first = staged(home, settings=settings)
    kept = contents(first)
    damage(first.folder)
    assert contents(staged(home, settings=settings)) == kept


def test_what_an_older_program_has_staged_is_used(home: Home) -> None:
    settings = TrainingSettings(epochs=1, batch_size=32, dtype="float32")
    first = staged(home, settings=settings)
    file = first.folder / "draft.json"
    file.write_text(json.dumps(json.loads(file.read_bytes())["draft"], indent=2))
    before = file.stat().st_ino
    assert staged(home, settings=settings) == first
    assert file.stat().st_ino == before


@pytest.mark.parametrize("left", [b"", b'{"task": "pl', b"[]", b'{"task": "place"}'])
def test_what_a_power_cut_left_of_a_runs_record_is_no_unfinished_run(home: Home, left: bytes) -> None:
    folder = home.path / "runs" / "0123"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(left)
    with pytest.raises(NotFoundError, match="no unfinished training run"):
        unfinished_run(home.store, "place")
