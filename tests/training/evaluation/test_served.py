"""What is served is what was measured; where it is not, the version says on which examples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.forgetting.monitor import monitor
from limpet.forgetting.report.conclusion import conclusion
from limpet.home import Home, init
from limpet.registry.records import evaluations
from limpet.registry.values import EvaluationRecord
from limpet.training import methods
from limpet.training.batching.inference import run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.predict_split import AttachedModel, predict_split
from limpet.training.evaluation.served import Agreement, OtherAnswer, agreement, serve
from limpet.training.learning.settings import TrainingSettings
from limpet.training.merging.merge import merged
from limpet.training.model.task_model import active, version_files
from tests.tiny import enliven, tiny_base
from tests.training.generation.test_generation import headlines
from tests.training.typed_data import SPECS, write_rows

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")


@pytest.fixture
def measured_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dtype that evaluations are computed in."""
    dtype: str = request.param
    monkeypatch.setenv("LIMPET_EVALUATION_DTYPE", dtype)
    return dtype


in_float32 = pytest.mark.parametrize("measured_in", ["float32"], indirect=True)
in_bfloat16 = pytest.mark.parametrize("measured_in", ["bfloat16"], indirect=True)


def reopened(home: Home) -> Home:
    """The same home, with the settings of the environment as it is now."""
    from limpet.home import open_home

    return open_home(home.path)


def evaluation_of(home: Home, reference: str) -> tuple[EvaluationRecord, dict[str, Any]]:
    """The evaluation that a version was registered with, and what was predicted."""
    record = evaluations.full(home.store, reference, reference)[-1]
    return record, evaluations.predictions(home.store, record)


@in_float32
@pytest.mark.parametrize("method", ["lora", "ia3", "bottleneck", "prefix", "partial", "full", "probe"])
def test_in_float32_the_measured_answers_are_the_served_ones_bit_by_bit(
    home: Home, measured_in: str, method: str
) -> None:
    home = reopened(home)
    version = home.train("place", replace(QUICK, method=method), monitor=False).version
    assert version.metrics["served_agreement"] == 1
    backbone, files = home.backbone(), version_files(home.store, home.backbone(), version)
    assert backbone.evaluation_dtype == "float32"
    examples = read_split(home.store, home.task.show("place"), "evaluation")
    with active(backbone, method, files, head=files) as model:
        texts = model.encode(backbone.tokenizer, examples, 16)
        attached = AttachedModel(backbone, methods.get(method), model)
        measured = predict_split(attached, texts)
        served = serve(attached, texts)
    assert measured.logits_digest == served.logits_digest == evaluation_of(home, "place@1")[0].logits_digest


@in_bfloat16
@pytest.mark.parametrize("kind", sorted(SPECS))
def test_the_agreement_is_that_of_what_predict_answers(
    home: Home, tmp_path: Path, measured_in: str, kind: str
) -> None:
    home = reopened(home)
    home.task.add("typed", write_rows(tmp_path / "rows.jsonl", kind), type=kind, max_length=16)
    version = home.train("typed", QUICK, monitor=False).version
    record, content = evaluation_of(home, "typed@1")
    assert (record.environment.dtype, content["served"]["dtype"]) == ("bfloat16", "float32")
    backbone, files = home.backbone(), version_files(home.store, home.backbone(), version)
    examples = read_split(home.store, home.task.show("typed"), "evaluation")
    with active(backbone, version.method, files, head=files) as model:
        attached = AttachedModel(backbone, methods.get(version.method), model)
        served = serve(attached, model.encode(backbone.tokenizer, examples, 16)).predictions
        # as they come back from JSON
        pairs = zip(content["predictions"], json.loads(json.dumps(served)), strict=True)
        same = [model.head.same_answer(before, now) for before, now in pairs]
    assert version.metrics["served_agreement"] == pytest.approx(sum(same) / len(same))
    assert [one["example"] for one in content["served"]["differing"]] == [at for at, ok in enumerate(same) if not ok]


def test_an_answer_that_is_served_otherwise_is_named(home: Home) -> None:
    version = home.train("place", QUICK, monitor=False).version
    backbone = replace(home.backbone(), evaluation_dtype="bfloat16")
    files = version_files(home.store, backbone, version)
    examples = read_split(home.store, home.task.show("place"), "evaluation")
    with active(backbone, version.method, files, head=files) as model:
        texts = model.encode(backbone.tokenizer, examples, 16)
        attached = AttachedModel(backbone, methods.get(version.method), model)
        outcome = serve(attached, texts)
        planted = list(outcome.predictions)
        planted[5] = (planted[5] + 1) % 3
        other = replace(outcome, predictions=tuple(planted))
        found = agreement(attached, texts, outcome=other)
        assert found == Agreement(27, (OtherAnswer(5, planted[5], outcome.predictions[5]),))
        assert found.share == pytest.approx(26 / 27)
        assert agreement(attached, texts, outcome=outcome) == Agreement(27, ())


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_written_answer_is_written_again_only_where_it_may_differ(
    tmp_path: Path, home_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base = enliven(tiny_base(tmp_path / "base", kind))
    config = base / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": "[SEP]"}))
    home = init(home_folder, base=str(base), mlflow="off")
    home.task.add("headlines", f"csv:{headlines(tmp_path / 'news.csv')}", type="generation", max_new_tokens=6)
    version = home.train("headlines", QUICK, monitor=False).version
    backbone = replace(home.backbone(), evaluation_dtype="bfloat16")
    files = version_files(home.store, backbone, version)
    examples = read_split(home.store, home.task.show("headlines"), "evaluation")
    with active(backbone, version.method, files, head=files) as model:
        texts = model.encode(backbone.tokenizer, examples, 128)
        attached = AttachedModel(backbone, methods.get(version.method), model)
        outcome = serve(attached, texts)
        written: list[int] = []
        planted, rows = list(outcome.predictions), list(outcome.rows)
        rows[3] = rows[3].clone()
        rows[3][-1] = 7 if int(rows[3][-1]) != 7 else 8
        planted[3] = "something else"

        def counted(some: Any) -> Any:
            written.append(len(some.ids))
            return serve(attached, some)

        again = model.head.served(
            counted, model, texts, measured=replace(outcome, rows=tuple(rows), predictions=tuple(planted))
        )
    assert again == list(outcome.predictions)
    assert written == [1]
    # some answers end and some are as long as they may be, or the check is of one kind of answer only
    assert len({len(row) for row in outcome.rows}) > 1 or kind == "t5"


@in_float32
def test_every_way_an_answer_goes_out_gives_the_measured_one(home: Home, measured_in: str) -> None:
    home = reopened(home)
    for task in ("place", "wet"):
        home.train(task, replace(QUICK, epochs=3, learning_rate=5e-3), monitor=False)
    asked, wanted = [], []
    for task in ("place", "wet"):
        labels = home.task.show(task).labels
        texts = [str(one.text) for one in read_split(home.store, home.task.show(task), "evaluation")]
        measured = [labels[label] for label in evaluation_of(home, f"{task}@1")[1]["predictions"]]
        assert [answer.label for answer in home.predict(task, texts)] == measured
        assert [answer.label for text in texts[:5] for answer in home.predict(task, [text])] == measured[:5]
        asked += [(task, text) for text in texts]
        wanted += measured
        backbone, files = home.backbone(), version_files(home.store, home.backbone(), home.adapter.show(task))
        with merged(backbone, "lora", files, head=files) as model:
            encoded = model.encode(backbone.tokenizer, read_split(home.store, home.task.show(task), "evaluation"), 16)
            assert [labels[label] for label in run_batches(model, encoded, backbone.device).predictions] == measured
    # both tasks mixed in one request, in slots
    order = sorted(range(len(asked)), key=lambda at: asked[at][1])
    served = home.serve().predict([asked[at] for at in order])
    assert [one.answer.label for one in served] == [wanted[at] for at in order]


def test_the_report_and_the_version_say_where_another_answer_is_served(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Agreement(27, tuple(OtherAnswer(at, 0, 1) for at in range(12)))
    monkeypatch.setattr(monitor, "agreement", lambda *_, **__: found)
    home.train("place", QUICK)
    report = home.report("home")
    assert "the served answers are the measured ones for place@1 on 55.6% of the examples" in conclusion(report)
    assert report.to_json()["arms"][0]["served_agreement"] == [found.share]
    shown = CliRunner().invoke(cli, ["adapter", "show", "place@1", "--home", str(home.path)]).stdout
    assert "example 0 was measured as 0 and is served as 1" in shown
    assert "and 2 more: --json has them all" in shown
    said = json.loads(
        CliRunner().invoke(cli, ["adapter", "show", "place@1", "--json", "--home", str(home.path)]).stdout
    )
    assert said["metrics"]["served_agreement"] == said["served"]["agreement"] == found.share
    assert len(said["served"]["differing"]) == 12
