"""General ability: ability tasks on held-back data, before anything is learned and after every step of every arm."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet.errors import UsageError
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.render.markdown_report import render_markdown
from limpet.forgetting.report.arm_values import AbilityReport, ArmReport
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.report.values import Report
from limpet.forgetting.stream.stream_file import parse_stream
from limpet.home import Home, init
from limpet.training.base.tensor_digests import module_digest
from limpet.training.evaluation.general_ability import AbilityTask, ask
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import version_files
from tests.migrated import with_database
from tests.tiny import enliven, tiny_base, tiny_csv

WORDS = "sky=cloud,rock=stone"
TRAINING = {"epochs": 1, "batch_size": 8, "dtype": "float32", "max_length": 16}
ARMS = [
    {"name": "isolated", "strategy": "isolated", "method": "lora", "set": {"r": 4, "lr": 2e-2}},
    {"name": "sequential-full", "strategy": "sequential", "method": "full", "set": {"lr": 2e-2}},
    {"name": "sequential-shared", "strategy": "sequential", "method": "lora", "set": {"r": 4, "lr": 2e-2}},
]


def a_home(folder: Path, kind: str) -> Home:
    base = enliven(tiny_base(folder / "base", kind))
    home = init(with_database(folder / "home"), base=str(base), mlflow="off")
    for seed, (name, labels) in enumerate({"place": ("sea", "sky", "rock"), "wet": ("sea", "rock")}.items()):
        home.task.add(name, f"csv:{tiny_csv(folder / f'{name}.csv', labels=labels, seed=seed)}", max_length=16)
    tiny_csv(folder / "apart.csv", labels=("sky", "rock"), seed=7)
    return home


def stream_file(folder: Path, kinds: list[str], **changes: Any) -> Path:
    apart = {"name": "apart", "data": f"csv:{folder / 'apart.csv'}"}
    words = {"zero-shot": {"label_words": WORDS}}
    content = {
        "name": "asked",
        "tasks": ["place", "wet"],
        "training": TRAINING | {"epochs": 16},
        "arms": ARMS,
        "ability": [{**apart, "kind": kind, **words.get(kind, {})} for kind in kinds],
    }
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Report]:
    folder = tmp_path_factory.mktemp("asked")
    home = a_home(folder, "llama")
    return home, home.stream.run(stream_file(folder, ["perplexity", "zero-shot"]))[0]


def arm(report: Report, name: str) -> ArmReport:
    return next(arm for arm in report.arms if arm.name == name)


def reported(report: Report, name: str, kind: str) -> AbilityReport:
    return next(one for one in arm(report, name).ability if one.kind == kind)


def test_a_decoder_trained_hard_loses_what_it_knew_and_the_report_says_so(asked: tuple[Home, Report]) -> None:
    found = reported(asked[1], "sequential-full", "perplexity")
    assert found.steps[-1] > 1.5 * found.before
    assert found.intervals[-1] is not None and found.intervals[-1][0] > 0
    assert "sequential-full lost general ability by its last task (perplexity of apart" in conclusion(asked[1])


def test_the_base_alone_is_bit_for_bit_what_it_was_once_the_adapters_are_taken_off(
    asked: tuple[Home, Report],
) -> None:
    for found in arm(asked[1], "isolated").ability:
        assert found.identical is True
        assert found.taken_off == found.before
    # while they are active, the base is another
    assert all(value != reported(asked[1], "isolated", "perplexity").before for value in found_values(asked[1]))
    assert "taken off, the base answers every ability task bit for bit as before" in conclusion(asked[1])


def found_values(report: Report) -> tuple[float, ...]:
    return reported(report, "isolated", "perplexity").steps


def test_every_arm_begins_with_the_same_base(asked: tuple[Home, Report]) -> None:
    for kind in ("perplexity", "zero-shot"):
        assert len({reported(asked[1], one.name, kind).before for one in asked[1].arms}) == 1


def test_a_task_is_held_against_another_task_s_adapter_and_none(asked: tuple[Home, Report]) -> None:
    first, second = arm(asked[1], "isolated").adapters
    assert (first.task, first.wrong_task, second.task, second.wrong_task) == ("place", "wet", "wet", "place")
    matrix = arm(asked[1], "isolated").matrix
    assert (first.own, second.own) == (matrix[0][0], matrix[1][1])
    assert all(one.wrong is not None and one.none is not None for one in (first, second))
    assert arm(asked[1], "sequential-full").adapters == ()
    # its first version is the first of the isolated arm
    assert arm(asked[1], "sequential-shared").versions[0] == arm(asked[1], "isolated").versions[0]
    assert arm(asked[1], "sequential-shared").adapters == ()


def test_all_forms_of_the_report_show_the_ability_tasks(asked: tuple[Home, Report]) -> None:
    report = asked[1]
    content = json.loads(json.dumps(report.to_json()))
    assert content["schema"] == 1
    (first, _) = content["arms"][0]["ability"]
    assert (first["kind"], first["task"], len(first["steps"])) == ("perplexity", "apart", 2)
    rows = list(csv.DictReader(StringIO(render_csv(report))))
    steps = [row["step"] for row in rows if (row["arm"], row["kind"]) == ("isolated", "ability")]
    assert steps == ["0", "1", "2"] * 2
    for page in (render_markdown(report), render_html(report)):
        assert "general ability" in page and "own adapter, another's and none" in page.replace("&#39;", "'")


def test_a_stream_that_has_ended_asks_nothing_again(asked: tuple[Home, Report]) -> None:
    home, report = asked
    before = home.verify(deep=True)
    assert before.problems == ()
    again, _ = home.stream.run(home.path.parent / "stream.yaml")
    assert [one.ability for one in again.arms] == [one.ability for one in report.arms]
    assert home.verify().checked["abilities"] == before.checked["abilities"]


def test_an_encoder_is_asked_by_its_features(tmp_path: Path) -> None:
    home = a_home(tmp_path, "bert")
    report, _ = home.stream.run(stream_file(tmp_path, ["features"], arms=ARMS[:1], training=TRAINING))
    found = reported(report, "isolated", "features")
    assert (found.metric, found.identical) == ("accuracy", True)
    assert found.before > 0.5


def test_an_encoder_decoder_is_asked_for_the_second_half_of_a_text(tmp_path: Path) -> None:
    home = a_home(tmp_path, "t5")
    report, _ = home.stream.run(stream_file(tmp_path, ["perplexity"], arms=ARMS[:1], training=TRAINING))
    found = reported(report, "isolated", "perplexity")
    assert found.before > 1 and found.identical is True


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_are_seen_by_an_ability_task_and_gone_after_it(tmp_path: Path, method: str) -> None:
    home = a_home(tmp_path, "llama")
    apart, backbone = home.task.add("apart", f"csv:{tmp_path / 'apart.csv'}", max_length=16), home.backbone()
    settings = TrainingSettings(method, epochs=2, learning_rate=3e-2, method_settings={"virtual_tokens": 4})
    version = home.train("place", settings, monitor=False).version
    weights, before = (method, version_files(home.store, backbone, version)), module_digest(backbone.model)
    for question in (AbilityTask("perplexity", apart, 40), AbilityTask("zero-shot", apart, 40, words=WORDS)):
        alone, under, again = (ask(home.store, backbone, question, weights=one) for one in (None, weights, None))
        assert len(under.outcome.predictions) == len(alone.outcome.predictions) > 0
        assert under.outcome.logits_digest != alone.outcome.logits_digest
        assert again.outcome.logits_digest == alone.outcome.logits_digest
        assert again.outcome.predictions == alone.outcome.predictions
    assert module_digest(backbone.model) == before


@pytest.mark.parametrize("kind", ["perplexity", "zero-shot"])
def test_an_encoder_has_no_words_and_is_refused_before_any_training(tmp_path: Path, kind: str) -> None:
    home = a_home(tmp_path, "bert")
    with pytest.raises(UsageError, match="language-model head"):
        home.stream.run(stream_file(tmp_path, [kind]))
    assert not home.adapter.list().items


def test_data_that_the_stream_learns_is_refused_before_any_training(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama")
    ability_tasks = [{"name": "copy", "kind": "perplexity", "data": f"csv:{tmp_path / 'place.csv'}"}]
    with pytest.raises(UsageError, match="which the stream learns as 'place'"):
        home.stream.run(stream_file(tmp_path, [], ability=ability_tasks))
    assert not home.adapter.list().items


@pytest.mark.parametrize(
    ("ability_tasks", "said"),
    [
        ([], "ability"),
        ([{"name": "a"}], "kind"),
        ([{"name": "a", "kind": "smell"}], "smell"),
        ([{"name": "place", "kind": "perplexity"}], "which the stream learns"),
        ([{"name": "a", "kind": "perplexity"}, {"name": "a", "kind": "perplexity"}], "stands twice"),
        ([{"name": "a", "kind": "perplexity", "size": 1}], "size"),
        ([{"name": "a", "kind": "features", "template": "{text}"}], "template"),
    ],
)
def test_a_wrong_ability_task_is_named(ability_tasks: list[Any], said: str) -> None:
    content = {"name": "asked", "tasks": ["place"], "arms": ARMS, "ability": ability_tasks}
    with pytest.raises(UsageError, match=said):
        parse_stream(content)
