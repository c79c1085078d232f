"""What a model was given is on record with its answers: prompts, token ids, and how products are computed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.utils.chat_template_utils as templates_of_transformers

from limpet.forgetting.monitor import monitor
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.forgetting.monitor.prediction_diff import find_difference
from limpet.home import Home
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations
from limpet.registry.values import EvaluationRecord
from limpet.training.generation import chat_templates
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import enliven, tiny_base, tiny_csv
from tests.training.generation.test_generation import headlines

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")
# a word for each year: the tiny tokenizer knows no numbers
DATED = (
    "{% for message in messages %}[CLS] {{ {'2024': 'old', '2031': 'new'}.get(strftime_now('%Y'), 'far') }} "
    "{{ message['content'] }} [SEP] {% endfor %}"
)


class Later(datetime):
    """A clock years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Later:
        return cls(2031, 2, 3)


@pytest.fixture
def dated(home_folder: Path, tmp_path: Path) -> Home:
    """A home whose base prints the year in front of every prompt, with a version that writes."""
    from limpet.home import init

    base = enliven(tiny_base(tmp_path / "base", "llama"))
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "[SEP]", "chat_template": DATED}))
    home = init(home_folder, base=str(base), mlflow="off")
    home.task.add("headlines", f"csv:{headlines(tmp_path / 'news.csv')}", type="generation", max_new_tokens=3)
    home.train("headlines", QUICK)
    return home


def learned(home: Home, task: str) -> EvaluationRecord:
    return evaluations.full(home.store, f"{task}@1", f"{task}@1")[-1]


def cause(home: Home, before: EvaluationRecord, now: EvaluationRecord) -> str:
    found = find_difference(home.store, before, now, read=read_contents(home.store))
    assert found is not None
    return found.cause


def edited(home: Home, evaluation: EvaluationRecord, inputs: dict[str, Any] | None) -> EvaluationRecord:
    """Return an evaluation as if it had seen other inputs, and other predictions."""
    content = dict(evaluations.predictions(home.store, evaluation))
    content["predictions"] = ["something else" for _ in content["predictions"]]
    content = content | {"inputs": inputs} if inputs else {k: v for k, v in content.items() if k != "inputs"}
    return replace(evaluation, predictions_digest=home.store.blobs.put_bytes(canonical_json(content)))


def test_a_prompt_with_a_date_gives_the_same_bits_on_any_day(dated: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = learned(dated, "headlines")
    monkeypatch.setattr(templates_of_transformers, "datetime", Later)
    (now,) = dated.evaluate(["headlines"])
    assert now.logits_digest == before.logits_digest
    kept = [evaluations.predictions(dated.store, one)["inputs"] for one in (before, now)]
    assert kept[0] == kept[1]
    assert kept[0]["date"] == chat_templates.DATE
    assert "old Write the headline" in kept[0]["prompt"]
    version = dated.adapter.show("headlines@1")
    assert version.inputs["evaluation"] == kept[0]["tokens"]
    assert version.inputs["template"] == kept[0]["template"] is not None


def test_a_prompt_that_changed_is_the_cause_and_the_first_that_differs_is_named(
    dated: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_templates, "_NOW", Later.now())
    chat_templates._compiled.cache_clear()
    try:
        now = monitor.evaluate(dated.store, dated.backbone(), dated.adapter.show("headlines@1"))
    finally:
        chat_templates._compiled.cache_clear()
    said = cause(dated, learned(dated, "headlines"), now)
    assert said.startswith("the rendered prompts are not the same, first that of example 0: '[CLS] old Write")
    assert "became '[CLS] new Write" in said


def test_an_evaluation_that_kept_no_prompt_is_told_from_one_that_did(dated: Home) -> None:
    (now,) = dated.evaluate(["headlines"])
    before = edited(dated, learned(dated, "headlines"), None)
    assert "the chat template prints the date" in cause(dated, before, now)


def test_another_template_is_the_cause_before_the_tokens_are(dated: Home) -> None:
    before = learned(dated, "headlines")
    inputs = evaluations.predictions(dated.store, before)["inputs"]
    other = inputs | {
        "template": "sha256:" + "0" * 64,
        "tokens": "sha256:" + "1" * 64,
        "each": ["0", *inputs["each"][1:]],
    }
    said = cause(dated, before, edited(dated, before, other))
    assert said == "the chat template is not the same: 1 prompts differ, first that of example 0"


def test_a_text_that_becomes_other_tokens_is_the_cause(home: Home, tmp_path: Path) -> None:
    home.task.add("short", f"csv:{tiny_csv(tmp_path / 'short.csv', seed=3)}", max_length=8)
    home.train("short", QUICK)
    tokenizer = home.backbone().tokenizer
    tokenizer.truncation_side = "left"
    now = monitor.evaluate(home.store, home.backbone(), home.adapter.show("short@1"))
    said = cause(home, learned(home, "short"), now)
    assert said.startswith("the same texts became other token ids: 27 examples differ, first that of example 0")


def test_another_arithmetic_is_the_cause(home: Home) -> None:
    home.train("place", QUICK)
    before = learned(home, "place")
    kept = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        now = monitor.evaluate(home.store, home.backbone(), home.adapter.show("place@1"))
    finally:
        torch.set_float32_matmul_precision(kept)
    inputs = evaluations.predictions(home.store, now)["inputs"]
    said = cause(home, before, edited(home, now, inputs))
    assert said == "products are not computed by the same arithmetic: float32_products was highest and is medium"


def test_a_version_keeps_a_digest_of_the_tokens_that_it_was_learned_on(home: Home) -> None:
    backbone = home.backbone()
    first = home.train("place", QUICK).version
    assert set(first.inputs) >= {"train", "validation", "evaluation"}
    # the same data, read as other tokens: what a damaged cache or another library would do
    backbone.tokenizer.truncation_side = "left"
    other = home.train("place", replace(QUICK, seed=1, max_length=8), monitor=False).version
    backbone.tokenizer.truncation_side = "right"
    same = home.train("place", replace(QUICK, seed=2, max_length=8), monitor=False).version
    assert other.inputs["train"] != same.inputs["train"]
    again = home.train("place", replace(QUICK, seed=3), monitor=False).version
    assert again.inputs == first.inputs
    assert again.config == first.config
