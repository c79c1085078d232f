"""Types of task on their real path: from rows to a version that answers, is reported, verified, and travels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import DataError, LimpetError, UsageError
from limpet.home import Home, init
from limpet.registry.formats.task_documents import FORMS, head_problem, outputs_problem, row_problem
from limpet.registry.records import tasks
from limpet.training import task_types
from limpet.training.batching.examples import Example
from limpet.training.data.build_task import add_task, build_task
from limpet.training.data.stored_splits import read_split
from limpet.training.data.task_request import TaskRequest
from limpet.training.learning.settings import TrainingSettings
from limpet.training.task_types import task_type
from tests.migrated import with_database
from tests.tiny import TOPICS, tiny_base
from tests.training.typed_data import write_rows

NEW = ("regression", "multi-label", "token-classification")
QUICK = TrainingSettings(epochs=4, batch_size=8, learning_rate=1e-2, dtype="float32")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def grown(tmp_path: Path) -> Home:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    for kind in NEW:
        home.task.add(kind, write_rows(tmp_path / f"{kind}.jsonl", kind), type=kind)
    return home


def check_errors(home: Home, kind: str, version: str) -> None:
    """What a version gets wrong: the rows of the evaluation split, with other answers than their targets."""
    errors = home.adapter.errors(version)
    rows = list(home.task.rows(version, "evaluation"))
    assert errors.score == home.adapter.show(version).metrics["score"]
    assert errors.examples == len(rows)
    assert errors.wrong
    for wrong in errors.wrong:
        row = rows[wrong.row - 1]
        assert (row.text, row.target) == (wrong.text, wrong.target) != (wrong.text, wrong.predicted)
    assert [label.label for label in errors.labels] == ([] if kind == "regression" else sorted(TOPICS))
    tagged = kind == "token-classification"
    assert sum(map(sum, errors.matrix)) == (sum(len(row.text) for row in rows) if tagged else 0)
    if kind == "regression":
        misses = [abs(wrong.predicted - wrong.target) for wrong in errors.wrong]
        assert misses == sorted(misses, reverse=True)


def test_each_type_is_learned_reported_verified_and_travels(grown: Home, tmp_path: Path) -> None:
    for kind in NEW:
        version = grown.train(kind, QUICK).version
        assert version.metrics["score"] == version.metrics[task_type(kind).default_metric]
        assert grown.evaluate([version.reference])[0].score == version.metrics["score"]
        check_errors(grown, kind, version.reference)
    report = grown.report()
    arm = report.arms[0]
    assert [task.definition for task in report.tasks] == [task_type(kind).metrics[0].definition for kind in NEW]
    # none of these metrics knows right and wrong, and nothing forgot anything
    assert arm.identical_predictions is True
    assert arm.negative_flip_rate == (None, None)
    assert set(arm.intervals) >= {f"score:{kind}" for kind in NEW}
    for kind in NEW:
        low, high = arm.intervals[f"score:{kind}"]
        assert low <= grown.adapter.show(kind).metrics["score"] <= high
    assert not grown.verify(deep=True, probe=True).problems
    other = init(with_database(tmp_path / "other"), base=str(tmp_path / "base"), mlflow="off")
    for kind in NEW:
        bundle = grown.adapter.export(f"{kind}@1", tmp_path / f"{kind}.limpet")
        assert other.adapter.import_bundle(bundle)[1]
        texts = ["the big wave and a cloud", "old clay"]
        assert other.predict(kind, texts) == grown.predict(kind, texts)


@pytest.mark.parametrize(
    ("base", "method"),
    [
        ("bert", "prompt"),
        ("bert", "probe"),
        ("gpt2", "prefix"),
        ("gpt2", "bottleneck"),
        ("t5", "lora"),
        ("bart", "prompt"),
    ],
)
def test_words_are_tagged_by_every_kind_of_method(base: str, method: str, tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base", base)), mlflow="off")
    home.task.add("tags", write_rows(tmp_path / "rows.jsonl", "token-classification", rows=40), type=NEW[2])
    version = home.train("tags", TrainingSettings(method, epochs=1, batch_size=8, dtype="float32")).version
    (answer,) = home.predict("tags", ["a wave under nothing known"])
    assert answer.words == ("a", "wave", "under", "nothing", "known")
    assert set(answer.tags) <= set(version.labels) and len(answer.tags) == 5


def test_words_beyond_the_longest_text_are_outside_and_counted(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    home.task.add(
        "tags",
        write_rows(tmp_path / "rows.jsonl", NEW[2], rows=40),
        type=NEW[2],
        max_length=8,
        metric="token-accuracy",
    )
    version = home.train("tags", TrainingSettings("probe", epochs=1, dtype="float32")).version
    # eight tokens with two of the frame leave six of ten words
    assert version.metrics["unseen_words"] == 4 * home.task.show("tags").split("evaluation").examples
    (answer,) = home.predict("tags", ["wave " * 10])
    assert len(answer.tags) == 10
    assert answer.tags[6:] == ("O",) * 4
    assert answer.probabilities[6:] == (None,) * 4
    assert None not in answer.probabilities[:6]


def test_a_method_that_can_not_learn_a_type_names_the_nearest_that_can(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base", "gpt2")), mlflow="off")
    home.task.add("depth", write_rows(tmp_path / "rows.jsonl", "regression", rows=40), type="regression")
    with pytest.raises(UsageError, match="can't learn task 'depth' of type 'regression'") as refused:
        home.train("depth", TrainingSettings("icl"))
    assert refused.value.hint.startswith("--method ")


@pytest.mark.parametrize("kind", ["classification", *NEW])
def test_the_registry_knows_the_form_of_each_type(kind: str, tmp_path: Path) -> None:
    record, splits = build_task(TaskRequest("t", write_rows(tmp_path / "rows.jsonl", kind), type=kind))
    rows = [json.loads(line) for line in splits["train"]]
    assert {row_problem(kind, row, record.labels) for row in rows} == {""}
    key = FORMS[kind].key
    for wrong in (None, True, -1, ["nowhere"], "1", len(record.labels) + 0.5 if kind != "regression" else "x"):
        assert row_problem(kind, rows[0] | {key: wrong}, record.labels)
    assert row_problem(kind, rows[0] | {"more": 1}, record.labels)
    assert head_problem(kind, {"type": "another", "labels": len(record.labels)}, record.labels)
    assert head_problem(kind, {"type": kind, "labels": len(record.labels) + 1}, record.labels)
    assert not head_problem(kind, {"type": kind, "labels": len(record.labels)}, record.labels)
    assert outputs_problem(kind, [[0.0] * 7], record.labels)


# data


def _add(store: Any, path: Path, kind: str, rows: list[dict[str, Any]], **options: Any) -> Any:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return build_task(TaskRequest("t", f"jsonl:{path}", type=kind, **options))


def test_words_and_tags_may_stand_in_a_csv_with_blanks_between_them(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "tags"])
        writer.writerows([f"w{at} meets Ada{at}", "O O B-PER"] for at in range(20))
    task = add_task(home.store, TaskRequest("names", f"csv:{path}", type="token-classification"))
    assert task.labels == ("B-PER", "O")
    example = read_split(home.store, task, "train")[0]
    assert isinstance(example.text, tuple) and len(example.text) == 3
    assert example.target == ("O", "O", "B-PER")
    # tags are counted by word
    assert task.split("train").label_counts == {
        "B-PER": task.split("train").examples,
        "O": 2 * task.split("train").examples,
    }


def test_labels_may_stand_in_a_csv_with_bars_between_them_or_not_at_all(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cells = ["b|a", "a", "", "b"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        writer.writerows([f"w{at} x{at} y{at} z{at}", cells[at % 4]] for at in range(40))
    task = add_task(home.store, TaskRequest("marks", f"csv:{path}", type="multi-label"))
    assert task.labels == ("a", "b")
    found = {example.target for name in ("train", "evaluation") for example in read_split(home.store, task, name)}
    assert found == {(0, 1), (0,), (), (1,)}


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("regression", {"text": "a b", "target": "many"}, "'many' is not a number"),
        ("regression", {"text": "a b", "target": "inf"}, "is not finite"),
        ("multi-label", {"text": "a b", "labels": ["x", 1.5]}, "is a fraction"),
        ("token-classification", {"text": ["a", "b"], "tags": ["O"]}, "1 tags for 2 words"),
        ("token-classification", {"text": ["a", " "], "tags": ["O", "O"]}, "has an empty word"),
        ("token-classification", {"text": ["a", "b"], "tags": ["O", ""]}, "A tag is empty"),
    ],
)
def test_a_target_of_another_form_is_refused_with_its_row(kind: str, row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as refused:
        _add(None, tmp_path / "rows.jsonl", kind, [row])
    assert "row 1" in refused.value.message
    assert refused.value.hint


def test_targets_that_are_all_the_same_can_not_be_learned(tmp_path: Path) -> None:
    rows = [{"text": f"w{at} x{at} y{at}", "target": 3} for at in range(20)]
    with pytest.raises(DataError, match=r"Every training example has the target 3\.0"):
        _add(None, tmp_path / "rows.jsonl", "regression", rows)


def test_texts_given_twice_with_other_targets_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"w{at} x{at} y{at}", "target": at} for at in range(20)]
    task, _ = _add(None, tmp_path / "rows.jsonl", "regression", [*rows, {"text": "w0 x0 y0", "target": 7.5}])
    assert task.checks["exact_duplicates"] == task.checks["conflicting_labels"] == 1
    assert task.labels == ()


# predictions


def test_numbers_are_predicted_in_the_unit_of_the_targets(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    home.task.add("depth", write_rows(tmp_path / "rows.jsonl", "regression"), type="regression", metric="neg-rmse")
    version = home.train("depth", TrainingSettings("probe", epochs=2, dtype="float32")).version
    # the targets are 100 and 110; a head on standardised numbers would be off by a hundred
    assert -15 < version.metrics["neg-rmse"] < 0
    assert all(90 < answer.value < 120 for answer in home.predict("depth", ["wave", "cloud"]))


def test_no_two_metrics_of_one_name_differ_and_every_one_is_defined() -> None:
    found: dict[str, Any] = {}
    for kind in task_types.every():
        for one in kind.metrics:
            assert found.setdefault(one.name, one) is one
            assert one.definition and (one.counts is None) == (one.combine is None) == (one.whole is not None)


def test_a_text_of_no_words_is_refused(grown: Home) -> None:
    with pytest.raises(LimpetError):
        task_type("token-classification").read_input("  ")
    assert task_type("token-classification").example({"text": ["a"], "tags": ["O"]}) == Example(("a",), ("O",))
    assert tasks.get(grown.store, "multi-label").labels == ("rock", "sea", "sky")
