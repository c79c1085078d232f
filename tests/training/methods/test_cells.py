"""Every method on every architecture: what is claimed was tried, and what works comes back the same anywhere.

The quick tests try what has a name of its own on every architecture, and all of peft's on one; the slow ones try all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import limpet
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.model.method_compatibility import Compatibility, load_again, tiny_model, try_method
from tests.tiny import KINDS, tiny_base
from tests.training.methods.table import as_text, load_tiny


@dataclass(frozen=True)
class Cells:
    """What came of trying: the models, still in memory, and the attempts by architecture and method."""

    folder: Path
    models: dict[str, Any]
    attempts: dict[str, dict[str, Compatibility]]
    all: bool


@pytest.fixture(scope="module", params=["sample", pytest.param("all", marks=pytest.mark.slow)])
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Try methods on every architecture; one model of each serves all methods, one after the other."""
    folder = tmp_path_factory.mktemp("cells")
    every = request.param == "all"
    models, attempts = {}, {}
    for kind in KINDS:
        models[kind] = load_tiny(tiny_base(folder / kind / "base", kind))
        names = [name for name in methods.names() if every or kind == "bert" or ":" not in name]
        attempts[kind] = {name: _try(models[kind], name, folder / kind) for name in names}
    return Cells(folder, models, attempts, every)


def _try(model: Any, name: str, folder: Path) -> Compatibility:
    files = folder / name.replace(":", "=")
    files.mkdir()
    made = try_method(model, methods.get(name), files)
    if made.logits is not None:
        save_file({"logits": made.logits}, files.with_suffix(".answer"))
    return made


def test_the_table_says_what_trying_finds(cells: Cells) -> None:
    found = {
        kind: {name: made.reason for name, made in by_method.items()} for kind, by_method in cells.attempts.items()
    }
    said = methods.TABLE.read_text(encoding="utf-8")
    if not cells.all:
        tried = json.loads(said)
        said = as_text({kind: {name: tried[kind].get(name) for name in names} for kind, names in found.items()})
    assert as_text(found) == said, "python -m tests.training.methods.table"


@pytest.mark.slow
def test_what_works_gives_the_same_answers_in_a_new_process(cells: Cells) -> None:
    root = Path(limpet.__file__).parents[1]
    command = [sys.executable, "-m", "tests.training.methods.reload", str(cells.folder)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["different"] == []
    assert said["loaded"] == sum(not made.reason for tried in cells.attempts.values() for made in tried.values())
    assert said["loaded"] > (400 if cells.all else 130)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_what_was_learned_afterwards_changes_no_answer(cells: Cells, kind: str) -> None:
    """All methods were trained on one model in turn; each is loaded again, after all the others."""
    model = cells.models[kind]
    before = module_digest(model)
    works = {name: made.logits for name, made in cells.attempts[kind].items() if made.logits is not None}
    for name, logits in reversed(works.items()):
        files = (cells.folder / kind / name.replace(":", "=")).iterdir()
        assert torch.equal(load_again(model, methods.get(name), {path.name: path for path in files}), logits), name
    assert module_digest(model) == before
    answers = [tuple(logits.flatten().tolist()) for logits in works.values()]
    assert len(set(answers)) == len(answers), "two methods gave one answer: one of them did nothing"


def test_the_methods_of_the_field_work_wherever_they_can(cells: Cells) -> None:
    everywhere = ("lora", "bottleneck", "prompt", "p-tuning", "ia3", "full", "probe")
    for kind, tried in cells.attempts.items():
        assert not [name for name in everywhere if tried[name].reason], kind
    past = [kind for kind, tried in cells.attempts.items() if not tried["prefix"].reason]
    assert past == ["bert", "roberta", "electra", "gpt2", "llama", "qwen2", "opt"]


def test_every_obstacle_has_a_way_around_it(cells: Cells) -> None:
    for kind, tried in cells.attempts.items():
        for name, made in tried.items():
            if made.reason:
                assert any(not tried[other].reason for other in methods.get(name).alternatives), f"{name} on {kind}"


def test_a_twin_has_the_architecture_and_little_else(cells: Cells) -> None:
    config = cells.models["qwen2"].config
    small = tiny_model(config)
    assert small.config.model_type == "qwen2"
    assert len(small.layers) == 2
    assert config.vocab_size == cells.models["qwen2"].config.vocab_size != small.config.vocab_size


def test_a_method_that_leaves_a_mark_does_not_work(cells: Cells, tmp_path: Path) -> None:
    model = load_tiny(cells.folder / "bert" / "base")

    class Marking(type(methods.get("lora"))):  # type: ignore[misc]
        def detach(self, module: Any) -> None:
            super().detach(module)
            with torch.no_grad():
                model.embeddings.word_embeddings.weight[0, 0] += 1

    assert try_method(model, Marking(), tmp_path).reason == "it leaves the base changed"
