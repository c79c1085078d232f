"""A version's probe: the bits of its first day, and what no longer gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limpet.forgetting.monitor.growth import measure_and_register
from limpet.home import Home
from limpet.registry import versions
from limpet.registry.records import reference_outputs, tasks
from limpet.registry.records.reference_outputs import ReferenceOutputs
from limpet.training.base.backbone import Backbone
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.reference_outputs import TOLERANCE, Replay, reference_inputs, replay
from limpet.training.learning.learn import learn
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun

QUICK = TrainingSettings(epochs=2, batch_size=8, dtype="float32")


def replayed(home: Home, backbone: Backbone | None = None, probe: ReferenceOutputs | None = None) -> Replay:
    version = versions.resolve(home.store, "place@1")
    probe = probe or reference_outputs.of(home.store, "place@1")
    assert probe is not None
    return replay(home.store, backbone or home.backbone(), version, recorded=probe)


def test_a_trained_version_answers_its_probe_with_the_same_bits(home: Home) -> None:
    home.train("place", QUICK)
    found = replayed(home)
    assert found.identical and found.same_environment and found.sound
    assert (found.changed, found.largest_difference) == ((), 0.0)


def test_the_probe_holds_what_predict_answers(home: Home) -> None:
    home.train("place", QUICK)
    probe = reference_outputs.of(home.store, "place@1")
    assert probe is not None
    answers = home.predict("place@1", probe.inputs)
    assert tuple(answer.logits for answer in answers) == probe.logits
    assert probe.environment.dtype == "float32"


def test_the_inputs_are_the_same_every_time_and_of_the_evaluation_split(home: Home) -> None:
    task = tasks.get(home.store, "place")
    inputs = reference_inputs(home.store, task)
    assert inputs == reference_inputs(home.store, task)
    assert len(inputs) == 5
    assert set(inputs[:4]) <= {example.text for example in read_split(home.store, task, "evaluation")}


def test_a_base_loaded_in_bfloat16_is_caught_and_named(home: Home) -> None:
    home.train("place", QUICK)
    backbone = home.backbone()
    backbone.model.to(torch.bfloat16)
    found = replayed(home)
    assert not found.sound
    assert found.changed == ("dtype float32, now bfloat16",)
    assert found.largest_difference > TOLERANCE * found.scale


def test_another_attention_in_the_same_environment_is_caught(home: Home) -> None:
    home.train("place", QUICK)
    home.backbone().model.set_attn_implementation("sdpa")
    found = replayed(home)
    assert found.same_environment and not found.identical and not found.sound
    assert 0 < found.largest_difference < TOLERANCE * found.scale


def test_other_bits_in_another_environment_are_sound_up_to_the_tolerance(home: Home) -> None:
    home.train("place", QUICK)
    probe = reference_outputs.of(home.store, "place@1")
    assert probe is not None
    elsewhere = replace(probe, environment=replace(probe.environment, torch="2.0.0"))
    near = replayed(home, probe=replace(elsewhere, logits=scaled(probe, 1 + TOLERANCE / 2)))
    assert near.sound and not near.identical
    assert near.changed == (f"torch 2.0.0, now {torch.__version__}",)
    assert not replayed(home, probe=replace(elsewhere, logits=scaled(probe, 1 + TOLERANCE * 2))).sound
    assert not replayed(home, probe=replace(probe, logits=scaled(probe, 1 + TOLERANCE / 2))).sound


def scaled(probe: ReferenceOutputs, factor: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(value * factor for value in row) for row in probe.logits)


def test_a_probe_with_another_count_of_labels_is_never_sound(home: Home) -> None:
    home.train("place", QUICK)
    probe = reference_outputs.of(home.store, "place@1")
    assert probe is not None
    assert not replayed(home, probe=replace(probe, logits=tuple(row[:2] for row in probe.logits))).sound


def test_the_same_version_again_keeps_its_first_probe(home: Home) -> None:
    task = tasks.get(home.store, "place")
    staged = learn(TrainingRun(home.store, home.backbone(), task, QUICK))
    first = measure_and_register(home.store, home.backbone(), staged.draft, files=staged.files)
    before = reference_outputs.of(home.store, "place@1")
    torch.set_num_threads(torch.get_num_threads() + 1)
    try:
        again = measure_and_register(home.store, home.backbone(), staged.draft, files=staged.files)
    finally:
        torch.set_num_threads(torch.get_num_threads() - 1)
    assert (first.created, again.created) == (True, False)
    assert reference_outputs.of(home.store, "place@1") == before


@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_method_has_a_probe(home: Home, method: str) -> None:
    home.train("place", replace(QUICK, method=method))
    assert replayed(home).identical
