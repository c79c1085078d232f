"""Frozen features: the head learns from them what it would learn on the frozen base, and they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from limpet.home import Home
from limpet.registry.cache import keep, recall
from limpet.registry.records import tasks
from limpet.training.batching.inference import run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.fit_task import fit_task
from limpet.training.learning.learn import learn
from limpet.training.learning.loop import LoopSettings, Validation, fit
from limpet.training.learning.objectives import TaskLoss
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.runs.run_folder import discard
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model import feature_cache
from limpet.training.model.head_files import build_head
from limpet.training.model.task_model import TaskModel, base_modules
from limpet.training.progress import SILENT
from limpet.training.task_types import score

PROBE = TrainingSettings("probe", epochs=3, batch_size=8, dtype="float32")


def test_a_head_on_features_becomes_the_head_on_the_frozen_base(home: Home, tmp_path: Path) -> None:
    backbone, task = home.backbone(), tasks.get(home.store, "place")
    loop = LoopSettings(3, 1e-2, 8, seed=0, dtype="float32")
    heads = []
    for path in ("features", "base"):
        torch.manual_seed(0)
        train = read_split(home.store, task, "train")
        model = TaskModel(backbone.model, build_head(task, backbone.record, train), base_modules(backbone))
        checkpoint = Checkpoint(tmp_path / f"{path}.checkpoint", float("inf"))
        if path == "features":
            fit_task(TrainingRun(home.store, backbone, task, replace(PROBE, max_length=16)), model, checkpoint)
        else:
            encoded = model.encode(backbone.tokenizer, train, 16, learning=True)
            held_back = read_split(home.store, task, "validation")
            texts = model.encode(backbone.tokenizer, held_back, 16, learning=True)
            wanted = [example.target for example in held_back]

            def validate(model: Any = model, texts: Any = texts, wanted: Any = wanted) -> Validation:
                outcome = run_batches(model, texts, "cpu")
                loss = model.head.loss_of(outcome.rows, texts.fields["targets"].rows)
                return Validation(score("accuracy", outcome.predictions, wanted), loss)

            fit(
                model,
                TaskLoss(encoded, model.head, "cpu"),
                loop,
                validate=validate,
                checkpoint=checkpoint,
                progress=SILENT,
            )
        heads.append(model.head.state_dict())
        assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    ours, theirs = heads
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


def test_the_backbone_is_not_asked_a_second_time(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto_dtype: str
) -> None:
    first = home.train("place", PROBE).version
    kept = sorted((tmp_path / "cache" / "features").iterdir())
    # what is served is in float32, and held against what was measured
    of_a_version = 3 + (auto_dtype != "float32")
    assert len(kept) == of_a_version, "one file for each split"
    computed: list[int] = []
    real = feature_cache._compute

    def counted(model: Any, encoded: Any, *others: Any, **named: Any) -> list[torch.Tensor]:
        computed.append(len(encoded.ids))
        return real(model, encoded, *others, **named)

    monkeypatch.setattr(feature_cache, "_compute", counted)
    home.train("place", replace(PROBE, seed=1))
    assert computed == []
    # another length is another key; a file that is not whole is not used
    home.train("place", replace(PROBE, max_length=8))
    assert len(computed) == of_a_version
    for path in kept:
        path.write_bytes(path.read_bytes()[:-8])
    task = tasks.get(home.store, "place")
    again = learn(TrainingRun(home.store, home.backbone(), task, PROBE))
    assert len(computed) == of_a_version + 2
    assert {name: path.read_bytes() for name, path in again.files.items()}.keys() == {f.name for f in first.files}
    discard(again)
    assert home.train("place", PROBE).version.digest == first.digest


def test_what_features_took_counts_as_training_time_also_where_they_were_kept(home: Home, tmp_path: Path) -> None:
    first = home.train("place", PROBE).version.cost["train_seconds"]
    for path in (tmp_path / "cache" / "features").iterdir():
        line, _, numbers = bytes(recall(path) or b"").partition(b"\n")
        about = json.dumps(json.loads(line) | {"seconds": 1000.0}).encode()
        keep(path, about.ljust(len(line)), b"\n", numbers)
    again = home.train("place", replace(PROBE, seed=1)).version.cost
    assert first < 100
    assert again["train_seconds"] > 2000
    assert again["examples_per_second"] < 1


def test_a_probe_is_its_head_alone(home: Home) -> None:
    version = home.train("place", PROBE).version
    assert {file.name for file in version.files} == {"head.json", "head.safetensors", "labels.json"}
    assert version.cost["trainable_parameters"] == 32 * 3 + 3


def test_an_adopted_adapter_s_features_are_not_kept(home: Home, tmp_path: Path) -> None:
    home.train("place", TrainingSettings(epochs=1, dtype="float32"))
    folder = home.adapter.export("place@1", tmp_path / "out")
    for name in ("head.json", "head.safetensors"):
        (folder / name).unlink()
    home.adapter.register("place", folder)
    assert not (tmp_path / "cache" / "features").exists()
