"""Data SPECs as people type them: a path alone says its kind, and what is no data leads to what is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limpet.errors import DataError, UsageError
from limpet.home import Home
from limpet.training.data.reading.data_spec import complete
from limpet.training.data.task_request import TaskRequest
from limpet.training.task_types import task_type
from tests.tiny import tiny_csv


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("data.csv", "csv"),
        ("./x.jsonl", "jsonl"),
        ("~/x.ndjson", "jsonl"),
        ("x.json", "jsonl"),
        ("/data/X.PARQUET", "parquet"),
        ("sheet.tsv", "csv"),
        ("train=a.csv,eval=b,c.csv", "csv"),
        ("train=a.parquet,eval=b.parquet,validation=c.parquet", "parquet"),
    ],
)
def test_a_path_alone_has_the_kind_that_its_name_ends_in(typed: str, kind: str) -> None:
    assert complete(typed) == f"{kind}:{typed}"


def test_a_spec_that_names_its_kind_stays_as_it_is() -> None:
    for spec in ("csv:notes.txt", "jsonl:train=a,eval=b", "hub:org/name:config@main", "sample:bbc-news"):
        assert complete(spec) == spec


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("bbc-new", "--data sample:bbc-news"),
        ("org/name", "--data hub:org/name"),
        ("cvs:team.csv", "--data csv:team.csv"),
        ("json:team.json", "--data jsonl:team.json"),
        ("csv:", "--data csv:train.csv"),
        ("train=a.csv,eval=b.jsonl", "--data csv:train.csv"),
        ("eval=b.csv", "--data train=a.csv,eval=b.csv"),
    ],
)
def test_what_names_no_data_leads_to_what_was_meant(typed: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        complete(typed)
    assert refused.value.hint == hint


def test_a_file_whose_kind_can_not_be_told_is_asked_for_its_kind(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("text,label\n", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        complete(str(tmp_path / "data"))
    assert refused.value.hint.startswith(f"--data csv:{tmp_path}")


def test_a_task_is_the_same_one_however_its_path_was_typed(home: Home, tmp_path: Path) -> None:
    path = tiny_csv(tmp_path / "more.csv")
    task = home.task.add("more", str(path), max_length=16)
    assert task.definition.data == f"csv:{path}"
    assert home.task.add("more", f"csv:{path}", max_length=16) == task


def test_words_and_their_tags_are_found_by_their_names(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "names.jsonl"
    rows = [
        {"tokens": ["Ada", "met", f"word{number}"], "text": f"Ada met word{number}.", "ner_tags": ["B", "O", "O"]}
        for number in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    definition = home.task.add("names", str(path), type="token-classification", near_duplicates="keep").definition
    assert (definition.text_column, definition.target_column) == ("tokens", "ner_tags")
    with pytest.raises(DataError) as refused:
        home.task.add("wrong", str(path), text_column="tokens", target_column="text")
    assert refused.value.hint.startswith("--type token-classification")


def test_words_without_a_text_lead_to_token_classification(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text('{"words": ["a"], "tags": ["O"]}\n', encoding="utf-8")
    with pytest.raises(DataError) as refused:
        home.task.add("wrong", str(path))
    assert refused.value.hint.startswith("--type token-classification")


def test_lists_of_labels_lead_to_multi_label(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    path.write_text('{"text": "a wave", "labels": ["sea", "wet"]}\n', encoding="utf-8")
    with pytest.raises(DataError, match="list of labels") as refused:
        home.task.add("marks", str(path))
    assert refused.value.hint == "--type multi-label"


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        ("classification", "f1", "macro-f1"),
        ("classification", "f1_macro", "macro-f1"),
        ("classification", "acc", "accuracy"),
        ("multi-label", "f1", "micro-f1"),
        ("token-classification", "F1", "entity-f1"),
        ("regression", "rmse", "neg-rmse"),
        ("generation", "perplexity", "neg-perplexity"),
        ("generation", "bleu", "rouge-l-v2"),
    ],
)
def test_a_metric_that_is_none_leads_to_the_nearest(kind: str, typed: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        task_type(kind).metric(typed)
    assert refused.value.hint == f"--metric {meant}"


@pytest.mark.parametrize(("typed", "meant"), [("ner", "token-classification"), ("multilabel", "multi-label")])
def test_a_type_that_is_none_leads_to_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        TaskRequest("names", "data.csv", type=typed).check()
    assert refused.value.hint == f"--type {meant}"
