"""Generation: what is learned, what is written, and that a batch changes nothing."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import UsageError
from limpet.forgetting.monitor.monitor import Part, measure
from limpet.home import Home, init
from limpet.training.batching.examples import Example
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import Answering, version_files
from tests.migrated import with_database
from tests.tiny import TOPICS, enliven, tiny_base
from tests.warm import Warm

METHODS = ("lora", "full", "partial", "bottleneck", "prefix", "prompt", "p-tuning", "ia3", "peft:vera")
EOS = 3


def headlines(path: Path, rows: int = 60) -> Path:
    """Texts of one topic each; the headline is two words of it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "headline"])
        for index in range(rows):
            words = list(TOPICS.values())[index % 3]
            body = [words[(index + step) % 6] for step in range(4)] + ["old", "new", "far"][: index % 4]
            writer.writerow([" ".join([*body, str(index)]), f"{words[0]} {words[1]}"])
    return path


def a_home(folder: Path, kind: str, lively: bool = False, **options: Any) -> Home:
    base = tiny_base(folder / "base", kind)
    tokenizer = (enliven(base) if lively else base) / "tokenizer_config.json"
    # a tokenizer of a decoder says what ends a text
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"eos_token": "[SEP]"}))
    home = init(with_database(folder / "home"), base=str(folder / "base"), mlflow="off")
    home.task.add(
        "headlines", f"csv:{headlines(folder / 'news.csv')}", type="generation", max_new_tokens=6, **options
    )
    return home


def learn(home: Home, method: str, epochs: int = 1, **more: Any) -> str:
    settings = TrainingSettings(method, epochs=epochs, batch_size=8, dtype="float32", **more)
    return home.train("headlines", settings).version.reference


@pytest.mark.parametrize("kind", ("llama", "gpt2", "t5"))
def test_what_was_shown_is_written(tmp_path: Path, kind: str) -> None:
    home = a_home(tmp_path, kind)
    task = home.task.show("headlines")
    assert (task.definition.text_column, task.definition.target_column) == ("body", "headline")
    assert task.definition.options["prompt"] == "Write the headline of the following text.\n\n{text}"
    version = home.adapter.show(learn(home, "full", epochs=25, learning_rate=3e-3))
    assert version.metrics["rouge-l-v2"] == version.metrics["score"] > 0.6
    errors = home.adapter.errors("headlines")
    assert errors.labels == errors.matrix == ()
    assert all(wrong.predicted != wrong.target and wrong.text for wrong in errors.wrong)
    assert errors.score == version.metrics["score"]
    (answer,) = home.predict("headlines", ["wave tide salt reef 60"])
    assert answer.answer == "wave tide"
    typed = ["predict", "headlines", "wave tide salt reef 60", "--home", str(home.path)]
    shown = CliRunner().invoke(cli, typed)
    assert shown.stdout == "wave tide\n", shown.stderr
    said = json.loads(CliRunner().invoke(cli, [*typed, "--json"]).stdout)
    assert said["predictions"] == [{"text": "wave tide salt reef 60", "answer": "wave tide"}]


AGAIN = """
import json, sys
from limpet.home import open_home
home = open_home(sys.argv[1])
texts, references = json.loads(sys.argv[2]), sys.argv[3:]
print(json.dumps({one: [answer.answer for answer in home.predict(one, texts)] for one in references}))
"""
TEXTS = ["wave tide salt reef 7", "cloud wind", "old stone sand cliff ore iron clay far 3", "moon"]


@pytest.mark.parametrize(
    "some",
    [
        pytest.param(("lora", "full", "prefix"), id="some"),
        pytest.param(METHODS, id="all", marks=pytest.mark.slow),
    ],
)
def test_every_method_writes_alone_as_in_a_batch_and_the_same_in_a_new_process(
    tmp_path: Path, warm: Warm, some: tuple[str, ...]
) -> None:
    home = a_home(tmp_path, "llama", lively=True)
    written = {}
    for method in some:
        settings = {"virtual_tokens": 4} if method in ("prefix", "prompt", "p-tuning") else {}
        reference = learn(home, method, method_settings=settings)
        written[reference] = [one.answer for one in home.predict(reference, TEXTS)]
        assert [home.predict(reference, [text])[0].answer for text in TEXTS] == written[reference], method
        assert home.adapter.show(reference).labels == ()
    assert len({answer for answers in written.values() for answer in answers}) > len(some)
    printed = warm.python("-c", AGAIN, home.path, json.dumps(TEXTS), *written)
    assert json.loads(printed.splitlines()[-1]) == written


def test_a_copy_is_validated_with_the_words_that_it_has_just_learned(tmp_path: Path) -> None:
    home = a_home(tmp_path, "gpt2", lively=True, metric="neg-perplexity")
    settings = TrainingSettings("full", epochs=3, batch_size=8, dtype="bfloat16", learning_rate=1e-2)
    version = home.train("headlines", settings).version
    # in the dtype of the training, whatever this processor's own evaluations are in
    task, backbone = home.task.show("headlines"), replace(home.backbone(), evaluation_dtype="bfloat16")
    files = version_files(home.store, backbone, version)
    length = int(version.config["max_length"])
    answering = Answering("full", files, files, length)
    again = measure(home.store, backbone, task, answering=answering, part=Part("validation"))
    assert version.metrics["validation_neg-perplexity"] == pytest.approx(again.score, abs=1e-6)
    with pytest.raises(UsageError, match="no answers that could be wrong"):
        home.adapter.errors(version.reference)
    assert version.metrics["history"][-1]["validation"] > version.metrics["history"][0]["validation"]


def test_features_alone_can_not_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'linear-probe' can't learn task 'headlines' of type 'generation'"):
        learn(a_home(tmp_path, "llama"), "probe")


def test_an_encoder_can_not_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an encoder"):
        learn(a_home(tmp_path, "bert"), "lora")


@pytest.fixture
def head_and_model(tmp_path: Path) -> tuple[Any, Any, Any]:
    from limpet.training.model.head_files import build_head
    from limpet.training.model.task_model import TaskModel

    home = a_home(tmp_path, "llama")
    backbone = home.backbone()
    head = build_head(home.task.show("headlines"), backbone.record, [])
    head.bind_base(backbone)
    return head, TaskModel(backbone.model, head, frozenset()), backbone


def test_the_loss_is_that_of_the_target_and_its_end_alone(head_and_model: tuple[Any, Any, Any]) -> None:
    head, model, backbone = head_and_model
    examples = [Example("wave tide salt", "old reef"), Example("moon", "new star far")]
    encoded = head.encode(backbone.tokenizer, examples, 32, learning=True)
    batch = encoded.batch([0, 1])
    targets = batch.pop("targets")
    assert [[token for token in row if token >= 0][-1] for row in targets.tolist()] == [EOS, EOS]
    with torch.no_grad():
        loss = head.loss(model(**batch), targets)
        words = backbone.language_head()
        found = []
        for ids, row in zip(encoded.ids, targets.tolist(), strict=True):
            wanted = [token for token in row if token >= 0]
            hidden = backbone.model(torch.tensor([ids])).last_hidden_state[0]
            logits = words(hidden, backbone.model.get_input_embeddings().weight).log_softmax(-1)
            start = len(ids) - len(wanted)
            found += [-float(logits[start + at - 1, token]) for at, token in enumerate(wanted)]
    assert len(found) == 3 + 4
    assert float(loss) == pytest.approx(sum(found) / len(found), abs=1e-5)


def test_a_text_too_long_is_cut_and_the_target_never(head_and_model: tuple[Any, Any, Any]) -> None:
    head, _, backbone = head_and_model
    target = " ".join(["old reef"] * 20)
    encoded = head.encode(backbone.tokenizer, [Example("wave " * 100, target)], 48, learning=True)
    # 64 positions: the target's 41 tokens stay, and the text makes room
    assert len(encoded.ids[0]) == 64
    tokens = backbone.tokenizer.convert_ids_to_tokens(encoded.ids[0])
    assert tokens[-41:] == [*target.split(), "[SEP]"]
    assert tokens[: 64 - 41].count("of") == 1
    with pytest.raises(UsageError, match="leaves no room for a prompt"):
        head.encode(backbone.tokenizer, [Example("wave", "old " * 70)], 48, learning=True)


def test_perplexity_is_that_of_the_targets(tmp_path: Path) -> None:
    home = a_home(tmp_path, "gpt2", metric="neg-perplexity")
    version = home.adapter.show(learn(home, "lora"))
    backbone, words = home.backbone(), home.backbone().language_head()
    from limpet.training.data.stored_splits import read_split
    from limpet.training.model.task_model import active, version_files

    total, count = 0.0, 0
    files = version_files(home.store, backbone, version)
    with active(backbone, "lora", files, head=files) as model, torch.no_grad():
        for example in read_split(home.store, home.task.show("headlines"), "evaluation"):
            encoded = model.head.encode(backbone.tokenizer, [example], 128, learning=True)
            (ids,), wanted = encoded.ids, encoded.batch([0])["targets"][0].tolist()
            hidden = model.module(input_ids=torch.tensor([ids])).last_hidden_state[0]
            logits = words(hidden, backbone.model.get_input_embeddings().weight).log_softmax(-1)
            start = len(ids) - len(wanted)
            total += sum(float(logits[start + at - 1, token]) for at, token in enumerate(wanted))
            count += len(wanted)
    assert version.metrics["neg-perplexity"] == pytest.approx(-torch.tensor(-total / count).exp().item(), rel=1e-4)
    assert version.metrics["neg-perplexity"] < -1
    assert home.predict("headlines", ["wave"])[0].answer is not None


def test_options_belong_to_generation(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama", prompt="near {text} old")
    definition = home.task.show("headlines").definition
    assert definition.options == {"prompt": "near {text} old", "max_new_tokens": 6}
    for option, text in ("prompt", "{text}"), ("system", "near"), ("chat_template", "{{ messages }}"):
        named = f"Tasks of type 'classification' have no --{option.replace('_', '-')}"
        more: dict[str, Any] = {option: text}
        with pytest.raises(UsageError, match=named):
            home.task.add("x", f"csv:{tmp_path / 'news.csv'}", target_column="headline", text_column="body", **more)
    with pytest.raises(UsageError, match="--max-new-tokens is 0"):
        home.task.add("y", f"csv:{tmp_path / 'news.csv'}", type="generation", max_new_tokens=0)


def test_a_version_is_verified_and_goes_to_another_home(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama")
    reference = learn(home, "lora", epochs=2)
    answers = [one.answer for one in home.predict("headlines", TEXTS)]
    assert not home.verify(deep=True, probe=True).problems
    home.adapter.export(reference, tmp_path / "one.limpet")
    other = init(with_database(tmp_path / "other"), base=str(tmp_path / "base"), mlflow="off")
    other.adapter.import_bundle(tmp_path / "one.limpet")
    assert [one.answer for one in other.predict("headlines", TEXTS)] == answers
    assert other.task.show("headlines").definition.options == home.task.show("headlines").definition.options


def test_what_writes_by_the_bases_own_head_is_not_exported_merged(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama")
    reference = learn(home, "lora")
    with pytest.raises(UsageError, match="the base's own language-model head") as refused:
        home.adapter.export(reference, tmp_path / "merged", merged=True)
    assert refused.value.hint == f"limpet adapter export {reference} FOLDER"
    assert not (tmp_path / "merged").exists()


def test_answers_that_are_no_json_are_counted_and_told(tmp_path: Path) -> None:
    home = init(tmp_path / "home", base=str(tiny_base(tmp_path / "llama", "llama")), mlflow="off")
    rows = [{"text": f"old {at}", "target": json.dumps({"at": at})} for at in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = f"jsonl:{tmp_path / 'rows.jsonl'}"
    task = home.task.add("fields", data, type="generation", metric="json-f1", max_length=32, max_new_tokens=2)
    trained = home.train("fields", TrainingSettings(epochs=1))
    count = task.split("evaluation").examples
    # the words that a tiny base knows are no JSON
    assert trained.version.metrics["unreadable_answers"] == count
    assert f"{count} evaluation answers are no JSON, and score 0" in trained.warnings
    assert trained.version.metrics["json-f1"] == 0
