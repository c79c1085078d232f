"""What a training will take is measured on the first layers of its base, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import UsageError
from limpet.home import Home, init
from limpet.training.base.pretrained import depth, shortened
from limpet.training.learning.estimation.first_layers import PHASES, measure
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import KINDS, tiny_base, tiny_config
from tests.tiny_home import tiny_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("estimate")
    return tiny_home(folder, tiny_base(folder / "base", "llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_of_any_architecture_is_cut_to_its_first_layers(kind: str) -> None:
    whole = tiny_config(kind)
    part = shortened(whole, 1)
    assert depth(part) * 2 == depth(whole)
    model = transformers.AutoModel.from_config(part)
    smaller = {name for name, _ in model.named_parameters()}
    every = {name for name, _ in transformers.AutoModel.from_config(whole).named_parameters()}
    # an ALBERT's layers share their weights
    assert smaller < every or (kind == "albert" and smaller == every)


@pytest.mark.parametrize("method", ["lora", "probe", "full"])
def test_a_few_steps_tell_what_all_take_and_leave_nothing(home: Home, method: str) -> None:
    before = sorted(path for path in home.path.rglob("*") if path.is_file())
    settings = TrainingSettings(method, epochs=5)
    measured = measure(home.path, "place", settings, layers=1)
    assert all(
        measured[name]["before"] + measured[name]["added"] > 0 and measured[name]["seconds"] > 0 for name in PHASES
    )
    assert measured["epochs"] == 5
    assert sorted(path for path in home.path.rglob("*") if path.is_file()) == before
    assert not home.adapter.list().items


def test_what_makes_no_sense_is_refused_before_anything_is_measured(home: Home) -> None:
    for option in (["--resume"], ["--processes", "2"]):
        done = CliRunner().invoke(cli, ["--home", str(home.path), "train", "place", "--estimate", *option])
        assert done.exit_code == 2
        assert "An estimate is of one process" in done.stderr
    with pytest.raises(UsageError, match="no_such"):
        home.estimate("place", TrainingSettings("no_such"))


@pytest.mark.slow
def test_the_estimate_is_near_what_it_then_takes(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{number} words " + "and so on " * (number % 40), "completion": f"it is {number}"}
        for number in range(120)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    home = init(tmp_path / "home", base="sample:smollm2", mlflow="off")
    options = {"train_size": 64, "eval_size": 16, "max_new_tokens": 8, "metric": "exact-match"}
    home.task.add("rows", f"jsonl:{data}", type="generation", near_duplicates="keep", **options)
    arguments = ["train", "rows", "--epochs", "1", "--batch-size", "8"]
    command = [sys.executable, "-m", "limpet", "--home", str(home.path), *arguments, "--json"]

    def answer(*more: str) -> dict[str, object]:
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True, env=os.environ)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    told = answer("--estimate")
    took = answer()["version"]["cost"]["peak_memory_bytes"]  # type: ignore[index]
    assert told["layers"] == 30
    assert told["measured_layers"] == [2, 6]
    assert 0.85 < told["phases"]["train"]["bytes"] / took < 1.15  # type: ignore[index]
