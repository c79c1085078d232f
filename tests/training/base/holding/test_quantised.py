"""A base in few bits: a base of its own, the same after every use, and read alike by every method it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.home import Home, init
from limpet.registry.values import BaseRecord
from limpet.training.base import locate
from limpet.training.base.holding.quantised import QuantisedLinear
from limpet.training.base.holding.recipes import check_library
from tests import tiny
from tests.training.learning.test_learn import QUICK

# the library makes every import of peft longer, so that what needs it is installed for these tests alone
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("library")]
WORDS = ("nf4", "int8")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


@pytest.fixture(scope="module")
def folder(library: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.enliven(tiny.tiny_base(tmp_path_factory.mktemp("quantised") / "base", "llama"))


@pytest.fixture(scope="module", params=WORDS)
def home(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = init(tmp_path_factory.mktemp("home") / "h", base=str(folder), quantize=request.param, mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(home.path.parent / 'place.csv', rows=45)}", max_length=16)
    return home


def layers(model: nn.Module) -> list[QuantisedLinear]:
    return [layer for layer in model.modules() if isinstance(layer, QuantisedLinear)]


def test_a_quantised_base_is_a_base_of_its_own_whose_files_are_the_same(home: Home, folder: Path) -> None:
    record = home.base.show()
    whole = locate.describe(locate.resolve(str(folder)))
    assert record.digest != whole.digest
    assert (record.weights_digest, record.config_digest) == (whole.weights_digest, whole.config_digest)
    assert str(record.location["recipe"]["library"]).startswith("bitsandbytes ")
    assert home.base.verify() == record
    assert len(layers(home.backbone().model)) == 14


def test_what_is_written_out_is_near_to_what_was_stored(home: Home, folder: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    near = home.backbone().model.get_submodule("layers.0.self_attn.q_proj").written_out(torch.float32)
    error = float((near - stored).norm() / stored.norm())
    assert error < (0.25 if home.base.show().name.endswith("nf4") else 0.02)


def test_it_is_trained_on_evaluated_and_the_same_afterwards(home: Home) -> None:
    version = home.train("place", replace(QUICK, epochs=1, checkpointing=True), monitor=False).version
    assert version.base_digest == home.base.show().digest
    home.backbone().check_unchanged()
    layer = layers(home.backbone().model)[3]
    name = next(iter(dict(layer.named_buffers())))
    kept = layer.get_buffer(name).clone()
    with torch.no_grad():
        layer.get_buffer(name).view(-1)[0] += 1
        with pytest.raises(IntegrityError, match="was changed in memory"):
            home.backbone().check_unchanged()
        layer.get_buffer(name).copy_(kept)
    home.backbone().check_unchanged()


@pytest.mark.parametrize("method", ["full", "partial", "peft:hra"])
def test_methods_that_read_or_train_the_bases_weights_are_refused(home: Home, method: str) -> None:
    with pytest.raises(UsageError, match="which are quantised"):
        home.train("place", replace(QUICK, method=method), monitor=False)


def test_dora_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="DoRA reads"):
        home.train("place", replace(QUICK, method_settings={"dora": True}), monitor=False)


def test_an_adapter_answers_on_no_other_base_than_its_own(home: Home, folder: Path, tmp_path: Path) -> None:
    version = home.train("place", replace(QUICK, epochs=1), monitor=False).version
    bundle = tmp_path / "place.limpet"
    home.adapter.export(version.reference, bundle)
    plain = init(tmp_path / "plain", base=str(folder), mlflow="off")
    with pytest.raises(NotFoundError) as caught:
        plain.adapter.import_bundle(bundle)
    word = home.base.show().name.rpartition("#")[2]
    assert caught.value.hint == f"limpet base add PATH#{word}, where PATH is a copy of 'base'"


def test_an_adapter_is_compared_on_the_base_that_is_not_quantised_when_that_is_asked_for(
    home: Home, folder: Path
) -> None:
    version = home.train("place", replace(QUICK, epochs=1), monitor=False).version
    found = home.compare_bases(version.reference, str(folder))
    assert (found.own.base_digest, found.own.score) == (version.base_digest, version.metrics["score"])
    assert found.other.base_digest == locate.describe(locate.resolve(str(folder))).digest
    assert found.differing is not None and len(found.answers) == min(found.differing, 20)
    # in the other direction: learned on the base as it is stored, compared in few bits
    plain = init(home.path.parent / f"plain-{version.number}", base=str(folder), mlflow="off")
    plain.task.add("place", f"csv:{home.path.parent / 'place.csv'}", max_length=16)
    learned = plain.train("place", replace(QUICK, epochs=1), monitor=False).version
    there = plain.compare_bases(learned.reference, home.base.show().name)
    assert (there.own.score, there.other.base_digest) == (learned.metrics["score"], version.base_digest)
    assert home.evaluate([version.reference])[0].base_digest == version.base_digest


def test_another_version_of_the_library_makes_another_base(home: Home) -> None:
    record = home.base.show()
    recipe = {**record.location["recipe"], "library": "bitsandbytes 0.1.0"}
    other = BaseRecord(**{**vars(record), "location": {**record.location, "recipe": recipe}})
    with pytest.raises(IntegrityError) as caught:
        check_library(other)
    assert caught.value.hint == "pip install bitsandbytes==0.1.0"


def test_the_library_says_nothing_on_stderr() -> None:
    code = "from limpet.training.methods import lora; from peft import LoraConfig; import peft.tuners.lora"
    seen = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=seen)
    assert "gemm_4bit" not in done.stderr


def test_every_command_of_the_guide_runs_on_a_stand_in() -> None:
    script = Path(__file__).parents[4] / "benchmarks" / "one_gpu.py"
    done = subprocess.run(
        [sys.executable, str(script), "--layers", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "limpet train support --epochs 1" in done.stdout
