"""Every version says what it costs: bytes against a full checkpoint, and the time of an answer against the base's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limpet.errors import UsageError
from limpet.home import Home
from limpet.registry.values import VersionRecord
from limpet.registry.versions.costs import COSTS, LATENCY
from limpet.training.evaluation.latency import paired_ratio, time_in_turn
from limpet.training.learning.settings import TrainingSettings


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure latency, for a moment."""
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "0.02")


def learn(home: Home, method: str, **settings: Any) -> VersionRecord:
    chosen = TrainingSettings(method=method, method_settings=settings, epochs=1)
    return home.train("place", chosen, monitor=False).version


@pytest.mark.usefixtures("timed")
def test_a_version_has_every_figure(home: Home) -> None:
    version = learn(home, "lora")
    assert version.cost.keys() == COSTS.keys()
    assert None not in version.cost.values()
    assert version.cost["base_unchanged"] is True
    assert version.cost["bytes"] == version.size
    assert 0 < version.cost["peak_memory_added_bytes"] < version.cost["peak_memory_bytes"]
    assert version.cost["trainable_share"] == version.cost["trainable_parameters"] / home.base.show().parameters


@pytest.mark.usefixtures("timed")
def test_latency_says_how_it_was_measured(home: Home) -> None:
    latency = learn(home, "lora").cost["latency"]
    assert latency.keys() == LATENCY.keys()
    assert latency["requests"] >= 5
    assert (latency["threads"], latency["device"]) == (torch.get_num_threads(), home_device(home))
    # the longest of these texts has ten words and two special tokens, padded to a multiple of 8
    assert 8 <= latency["tokens"] <= 16
    for key in ("milliseconds", "base_milliseconds", "ratio", "merged_milliseconds", "merged_ratio"):
        assert latency[key] > 0


def home_device(home: Home) -> str:
    return home.adapter.show("place").environment.device


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("method", ["prefix", "full", "probe"])
def test_what_can_not_be_merged_has_no_merged_latency(home: Home, method: str) -> None:
    latency = learn(home, method).cost["latency"]
    assert latency["ratio"] > 0
    assert (latency["merged_milliseconds"], latency["merged_ratio"]) == (None, None)
    home.backbone().check_unchanged()


def test_a_full_checkpoint_is_as_large_as_was_computed_beforehand(home: Home) -> None:
    computed = learn(home, "lora").cost["full_checkpoint_bytes"]
    full = learn(home, "full")
    assert full.size == computed == full.cost["full_checkpoint_bytes"] == full.cost["bytes"]


@pytest.mark.usefixtures("timed")
def test_an_adapter_that_was_trained_elsewhere_has_null_for_what_training_took(home: Home, tmp_path: Path) -> None:
    learn(home, "lora")
    folder = home.adapter.export("place@1", tmp_path / "exported")
    (folder / "manifest.json").unlink()
    cost = home.adapter.register("wet", _without_head(folder)).version.cost
    training = {"peak_memory_bytes", "peak_memory_added_bytes", "train_seconds", "examples_per_second"}
    assert {key for key, value in cost.items() if value is None} == training | {"examples_seen", "optimiser_steps"}


def _without_head(folder: Path) -> Path:
    for name in ("head.json", "head.safetensors", "labels.json"):
        (folder / name).unlink()
    return folder


def test_latency_can_be_switched_off(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "0")
    assert learn(home, "lora").cost["latency"] is None


def test_a_budget_that_is_no_number_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "soon")
    with pytest.raises(UsageError, match="LIMPET_LATENCY_SECONDS is 'soon'") as caught:
        learn(home, "lora")
    assert caught.value.hint == "unset LIMPET_LATENCY_SECONDS"


def test_the_same_requests_are_answered_in_turn_and_each_is_first_as_often_as_the_others() -> None:
    asked: list[tuple[str, int]] = []
    passes = [lambda batch: asked.append(("a", int(batch["n"]))), lambda batch: asked.append(("b", int(batch["n"])))]
    requests = [{"n": torch.tensor(index)} for index in range(3)]
    times = time_in_turn(passes, requests, seconds=60, most=4)
    assert asked[2:] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2), ("b", 0), ("a", 0)]
    assert [len(values) for values in times] == [4, 4]


def test_however_long_they_take_a_few_requests_are_answered() -> None:
    times = time_in_turn([lambda batch: None], [{"n": torch.tensor(0)}], seconds=0.0, least=3)
    assert len(times[0]) == 3


def test_the_ratio_is_the_median_of_pairs_and_not_that_of_medians() -> None:
    assert paired_ratio([1.0, 10.0, 100.0], [1.0, 5.0, 10.0]) == 2.0
    assert paired_ratio([9.0, 2.0, 2.0], [1.0, 2.0, 4.0]) == 1.0
