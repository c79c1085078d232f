"""States of 8 bits: a quarter of the memory, nearly the same steps, and the same bits after an interruption."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from limpet.errors import InterruptedRunError, UnavailableError
from limpet.home import Home, init
from limpet.training.base.holding.library import bitsandbytes
from limpet.training.learning.learn import learn
from limpet.training.learning.optimization.optimizers import kept_state, new_optimizer, restore_state
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from tests import tiny
from tests.training.learning.test_learn import QUICK, StopAt, contents

EIGHT_BITS = "adamw-8bit"


@pytest.fixture
def _no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    bitsandbytes.cache_clear()
    yield
    bitsandbytes.cache_clear()


@pytest.mark.usefixtures("_no_library")
def test_a_training_without_the_library_of_its_optimizer_is_refused_with_its_extra() -> None:
    with pytest.raises(UnavailableError, match="adamw-8bit needs the package bitsandbytes") as caught:
        TrainingSettings(optimizer=EIGHT_BITS)
    assert caught.value.hint == "pip install 'limpet[quantised]'"


@pytest.fixture(scope="module")
def home(library: None, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """On a base some of whose matrices have 4,096 numbers or more, and some fewer."""
    folder = tmp_path_factory.mktemp("optimizers")
    base = tiny.enliven(tiny.tiny_base(folder / "base", "llama", hidden=64))
    home = init(folder / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(folder / 'place.csv')}", max_length=16)
    return home


def run_of(home: Home, method: str, **settings: object) -> TrainingRun:
    settings_of_run = replace(QUICK, method=method, **settings)
    return TrainingRun(home.store, home.backbone(), home.task.show("place"), settings_of_run)


def steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def new(name: str) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(size, generator=generator)) for size in ((256, 64), (64, 63))]
    groups = [{"params": [parameter], "weight_decay": 0.01} for parameter in parameters]
    return new_optimizer(name, groups, learning_rate=1e-3, fused=False), parameters


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_states_of_large_parameters_take_a_quarter_and_steps_are_nearly_the_same() -> None:
    taken, learned = [], []
    for name in ("adamw", EIGHT_BITS):
        optimizer, parameters = new(name)
        steps(optimizer, parameters, range(20))
        state = [kept_state(optimizer.state[parameter]) for parameter in parameters]
        taken.append([sum(t.nbytes for t in kept.values() if t.dim()) for kept in state])
        learned.append([parameter.detach().clone() for parameter in parameters])
    assert taken[1][0] / taken[0][0] == pytest.approx(0.25, abs=0.01)
    assert taken[1][1] == taken[0][1]
    begun = [parameter.detach() for parameter in new("adamw")[1]]
    for usual, short, start in zip(*learned, begun, strict=True):
        assert 0 <= float((usual - short).norm() / (usual - start).norm()) < 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_a_restored_state_takes_the_very_same_steps() -> None:
    optimizer, parameters = new(EIGHT_BITS)
    steps(optimizer, parameters, range(3))
    kept = [kept_state(optimizer.state[parameter]) for parameter in parameters]
    again, copies = new(EIGHT_BITS)
    for parameter, copy, state in zip(parameters, copies, kept, strict=True):
        copy.data.copy_(parameter.data)
        restore_state(again, copy, {key: tensor.clone() for key, tensor in state.items()})
    steps(optimizer, parameters, range(3, 6))
    steps(again, copies, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(parameters, copies, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"), [("lora", {"r": 32, "dropout": 0.1}), ("full", {})], ids=["lora", "full"]
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    home: Home, tmp_path: Path, method: str, settings: dict[str, object]
) -> None:
    run = run_of(home, method, method_settings=settings, optimizer=EIGHT_BITS)
    whole = learn(run)
    assert whole.draft.config["training"]["optimizer"] == EIGHT_BITS
    kept = contents(whole)
    (run.folder / "staged").rename(tmp_path / "undisturbed")
    with pytest.raises(InterruptedRunError):
        learn(replace(run, progress=StopAt(13)))
    assert contents(learn(run, resume=True)) == kept
    usual = learn(run_of(home, method, method_settings=settings))
    assert contents(usual) != kept
