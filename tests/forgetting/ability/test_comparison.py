"""A task of the evaluation harness under a version beside the base: by the home, and in a stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.stream.stream_file import parse_stream, read_stream
from limpet.home import Home, init
from limpet.registry.records import evaluations
from limpet.training.learning.settings import TrainingSettings
from tests import tiny
from tests.harness import CHOICES, DOCUMENTS, lm_eval, task_file  # noqa: F401

QUICK = {"epochs": 4, "batch_size": 8, "dtype": "float32", "max_length": 16, "lr": 2e-2}


@pytest.fixture
def decoder(tmp_path: Path) -> Home:
    base = tiny.enliven(tiny.tiny_base(tmp_path / "base", "llama"))
    home = init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(tmp_path / 'place.csv', rows=45)}", max_length=16)
    return home


@pytest.mark.slow
@pytest.mark.usefixtures("lm_eval")
def test_a_version_is_shown_beside_the_base_and_nothing_is_asked_twice(decoder: Home, tmp_path: Path) -> None:
    decoder.train("place", TrainingSettings("lora", epochs=6, learning_rate=3e-2), monitor=False)
    path = task_file(tmp_path, DOCUMENTS)
    found = decoder.evaluate_harness("place@1", path, limit=20)
    assert (found.version, found.metric, found.examples) == ("place@1", "word_perplexity", 20)
    assert found.less_is_better
    assert found.difference == found.active.score - found.base.score != 0
    assert found.interval is not None and found.interval[0] < found.difference < found.interval[1]
    assert (found.base.state, found.active.state) == (None, "place@1")
    assert len(evaluations.predictions(decoder.store, found.active)["predictions"]) == 20
    again = decoder.evaluate_harness("place@1", path, limit=20)
    assert (again.base, again.active) == (found.base, found.active)
    assert decoder.verify(deep=True).problems == ()
    task_file(tmp_path, DOCUMENTS, metadata={"version": 2})
    assert decoder.evaluate_harness("place@1", path, limit=20).base.id != found.base.id


@pytest.mark.slow
@pytest.mark.usefixtures("lm_eval")
def test_a_stream_asks_a_task_file_before_and_after_every_step(decoder: Home, tmp_path: Path) -> None:
    tiny.tiny_csv(tmp_path / "wet.csv", labels=("sea", "rock"), rows=45, seed=1)
    decoder.task.add("wet", f"csv:{tmp_path / 'wet.csv'}", max_length=16)
    (tmp_path / "suite").mkdir()
    file = task_file(tmp_path / "suite", DOCUMENTS)
    task_file(tmp_path / "suite", CHOICES)
    path = tmp_path / "stream.yaml"
    content = {
        "name": "asked",
        "tasks": ["place", "wet"],
        "training": QUICK,
        "arms": [
            {"name": "isolated", "strategy": "isolated", "method": "lora", "set": {"r": 4}},
            {"name": "sequential-full", "strategy": "sequential", "method": "full"},
        ],
        "ability": [
            {"kind": "harness", "file": "suite/documents.yaml", "size": 20},
            {"kind": "harness", "file": "suite/choices.yaml"},
        ],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    report, _ = decoder.stream.run(path)
    isolated, full = report.arms
    documents, choices = isolated.ability
    assert (documents.name, documents.metric, documents.examples) == ("harness on documents", "word_perplexity", 20)
    assert (choices.metric, choices.examples, len(choices.steps)) == ("acc_norm", 24, 2)
    assert documents.identical is True and choices.identical is True and documents.taken_off == documents.before
    assert full.ability[0].steps[-1] > full.ability[0].before
    assert "sequential-full lost general ability by its last task (harness word_perplexity on" in conclusion(report)
    assert "harness:word_perplexity" in render_csv(report) and "harness on choices" in render_html(report)
    # the report needs no task file any more; a changed one is another stream
    file.unlink()
    assert decoder.report("asked").arms[0].ability == report.arms[0].ability
    with pytest.raises(NotFoundError, match="no task file"):
        decoder.stream.run(path)
    task_file(tmp_path / "suite", DOCUMENTS, description="the ")
    with pytest.raises(ConflictError):
        decoder.stream.run(path)


def test_a_stream_keeps_what_a_task_file_says_and_can_be_read_without_it(tmp_path: Path) -> None:
    task_file(tmp_path)
    arms = [{"name": "x", "strategy": "isolated", "method": "lora"}]
    content = {"name": "s", "tasks": ["a"], "arms": arms, "ability": [{"kind": "harness", "file": "choices.yaml"}]}
    (tmp_path / "stream.yaml").write_text(json.dumps(content), encoding="utf-8")
    spec = read_stream(tmp_path / "stream.yaml")
    (tmp_path / "choices.yaml").unlink()
    (kept,), (read,) = parse_stream(json.loads(json.dumps(spec.source))).ability, spec.ability
    assert kept.harness is not None and read.harness is not None
    assert kept.harness.identity == read.harness.identity and kept.harness.folder is None
    with pytest.raises(UsageError, match=r"no saying where 'choices\.yaml' is"):
        parse_stream(content)
    for wrong, said in (({"size": 1}, "size of 2"), ({"template": "x"}, "template"), ({"read": {}}, "'read'")):
        ability = [{"kind": "harness", "file": "choices.yaml", **wrong}]
        with pytest.raises(UsageError, match=said):
            parse_stream(content | {"ability": ability}, tmp_path)


@pytest.mark.slow
def test_an_encoder_s_version_is_refused_before_anything_is_asked(home: Home, tmp_path: Path) -> None:
    home.train("place", TrainingSettings("linear-probe", epochs=1), monitor=False)
    with pytest.raises(UsageError, match="is an encoder"):
        home.evaluate_harness("place@1", task_file(tmp_path))
    with pytest.raises(UsageError, match="has no interval"):
        home.evaluate_harness("place@1", tmp_path / "choices.yaml", limit=1)
