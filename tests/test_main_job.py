"""The main job on the real base and real corpora: two tasks, two arms, what is kept, what plain peft makes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from limpet.forgetting.render.csv_report import render_csv as to_csv
from limpet.forgetting.render.html_report import render_html as to_html
from limpet.forgetting.render.markdown_report import render_markdown as to_markdown
from limpet.home import Home, init, open_home
from limpet.registry.cache import cache_folder
from limpet.training.base.locate import locate
from tests.tiny import change_one_weight
from tests.training.methods.test_lora import PLAIN
from tests.warm import Warm

TEXT = "The striker scored twice in the last minutes of the match."
STREAM = {
    "name": "small",
    "tasks": [
        {"name": "bbc-news", "data": "sample:bbc-news", "train_size": 64, "eval_size": 40},
        {"name": "election-tweets", "data": "sample:election-tweets", "train_size": 64, "eval_size": 40},
    ],
    "training": {"epochs": 2, "max_length": 32},
    "arms": [
        {"name": "isolated", "strategy": "isolated", "method": "lora", "set": {"lr": 5e-3}},
        {"name": "sequential-full", "strategy": "sequential", "method": "full", "set": {"lr": 1e-4}},
    ],
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the small stream was run; its wheels are fetched once on a machine."""
    folder = tmp_path_factory.mktemp("main-job")
    (folder / "stream.yaml").write_text(yaml.safe_dump(STREAM), encoding="utf-8")
    home = init(folder / "home", mlflow="off")
    home.stream.run(folder / "stream.yaml")
    return home


@pytest.mark.sample
def test_isolated_adapters_learn_real_tasks_and_forget_nothing(grown: Home) -> None:
    report = grown.report("small").to_json()
    isolated, sequential = report["arms"]
    assert isolated["metrics"]["bwt_gem"] == 0.0
    assert isolated["identical_predictions"] is True
    assert isolated["metrics"]["learning_accuracy"] > 0.6
    assert sequential["identical_predictions"] is False
    assert report["base"]["unchanged"] is True
    assert isolated["cost"]["trainable_share"] < 0.04
    assert isolated["versions"] == ["bbc-news@1", "election-tweets@1"]


@pytest.mark.sample
def test_the_report_has_every_field_of_the_contract(grown: Home) -> None:
    report = grown.report("small").to_json()
    assert {"schema", "stream", "base", "tasks", "arms", "comparisons"} <= report.keys()
    assert set(report["tasks"][0]) >= {"name", "metric", "eval_examples", "data_digest"}
    fields = {"name", "strategy", "method", "seed", "task_identity", "matrix", "metrics", "intervals"}
    fields |= {"identical_predictions", "negative_flip_rate", "cost", "versions"}
    cost = {"trainable_parameters", "trainable_share", "bytes_per_task", "train_seconds", "examples_per_second"}
    for arm in report["arms"]:
        assert fields <= arm.keys()
        assert cost | {"peak_memory_bytes"} <= arm["cost"].keys()
        assert arm["matrix"][0][1] is None
    assert {"a", "b", "metric", "difference", "interval", "p_value"} <= report["comparisons"][0].keys()
    json.dumps(report, allow_nan=False)


@pytest.mark.sample
def test_no_form_of_the_report_tells_where_files_lie_on_this_machine(grown: Home) -> None:
    report = grown.report("small")
    for text in (json.dumps(report.to_json()), *(render(report) for render in (to_html, to_markdown, to_csv))):
        for folder in (grown.store.path, cache_folder(), Path(sys.prefix), Path.home()):
            assert f"{folder.resolve()}/" not in text


@pytest.mark.sample
def test_plain_peft_on_the_real_base_gives_the_logits_of_predict(grown: Home, warm: Warm, tmp_path: Path) -> None:
    folder = grown.adapter.export("bbc-news", tmp_path / "out")
    base = locate(grown.base.show())
    printed = warm.python("-c", PLAIN, base, folder, TEXT)
    (answer,) = grown.predict("bbc-news", [TEXT])
    torch.testing.assert_close(torch.tensor(answer.logits), torch.tensor(json.loads(printed)), rtol=0, atol=1e-5)
    assert answer.label == "sports"


@pytest.mark.sample
def test_the_real_base_with_one_weight_changed_is_unpacked_again(
    grown: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = cache_folder() / "wheels"
    # a cache of its own, whose wheels are the same files: its base is unpacked anew, and then changed
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "wheels").symlink_to(wheels)
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    home = open_home(grown.path)
    (expected,) = home.predict("bbc-news", [TEXT])
    for name in ("predict", "verify"):
        change_one_weight(locate(home.base.show()))
        home = open_home(grown.path)
        if name == "verify":
            home.base.verify()
        assert home.predict("bbc-news", [TEXT]) == (expected,)
