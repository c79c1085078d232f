"""Splitting: what is removed, what never overlaps, what the digests cover."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import ConflictError, DataError, IntegrityError, LimpetError, UsageError
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import task_types
from limpet.training.batching.examples import Example
from limpet.training.data.build_task import add_task, build_task
from limpet.training.data.duplicates import normalise
from limpet.training.data.stored_splits import read_split
from limpet.training.data.task_request import TaskRequest

Rows = Sequence[tuple[object, object]]
WORDS = [f"w{number}" for number in range(5000)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


def made_up(counts: dict[str, int], start: int = 0) -> list[tuple[str, str]]:
    """Rows of twelve words, none of which occurs twice in the whole data."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        (" ".join(f"w{12 * (start + at) + word}" for word in range(12)), label) for at, label in enumerate(labels)
    ]


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture
def build(tmp_path: Path) -> object:
    def build(
        rows: Rows, evaluation: Rows | None = None, validation: Rows | None = None, **options: object
    ) -> object:
        spec = f"csv:train={write(tmp_path / 'train.csv', rows)}"
        if evaluation is not None:
            spec += f",eval={write(tmp_path / 'eval.csv', evaluation)}"
        if validation is not None:
            spec += f",validation={write(tmp_path / 'validation.csv', validation)}"
        record, files = build_task(TaskRequest("reviews", spec, **options))  # type: ignore[arg-type]
        return record, {name: file.read() for name, file in files.items()}

    return build


def sizes(record: TaskRecord) -> tuple[int, int, int]:
    return tuple(record.split(name).examples for name in ("train", "validation", "evaluation"))  # type: ignore[return-value]


def texts(contents: dict[str, bytes], name: str) -> list[str]:
    return [json.loads(line)["text"] for line in contents[name].splitlines()]


def test_without_an_official_split_thirty_percent_evaluate_and_a_fifth_of_the_rest_validates(build) -> None:
    record, contents = build(made_up({"a": 60, "b": 40}))
    assert sizes(record) == (56, 14, 30)
    assert record.split("evaluation").label_counts == {"a": 18, "b": 12}
    assert record.split("validation").label_counts == {"a": 8, "b": 6}
    assert {name: content.count(b"\n") for name, content in contents.items()} == {
        "train": 56,
        "validation": 14,
        "evaluation": 30,
    }
    assert all(split.digest == digest_bytes(contents[split.name]) for split in record.splits)


def test_an_official_evaluation_split_is_kept_whole(build) -> None:
    evaluation = made_up({"a": 5, "b": 7}, start=300)
    record, contents = build(made_up({"a": 60, "b": 40}), evaluation)
    assert sizes(record) == (80, 20, 12)
    assert sorted(texts(contents, "evaluation")) == sorted(row[0] for row in evaluation)


def test_an_official_validation_split_is_drawn_from(build) -> None:
    validation = made_up({"a": 50, "b": 50}, start=300)
    record, contents = build(made_up({"a": 60, "b": 40}), made_up({"a": 9, "b": 9}, 280), validation, train_size=50)
    assert sizes(record) == (50, 10, 18)
    assert set(texts(contents, "validation")) < {row[0] for row in validation}


@pytest.mark.parametrize(
    ("train_size", "validation"), [(20, 6), (40, 8), (100, 20)], ids=["two a label", "a fifth", "a fifth again"]
)
def test_validation_examples_are_not_counted_in_train_size(build, train_size: int, validation: int) -> None:
    record, _ = build(made_up({"a": 60, "b": 50, "c": 40}), train_size=train_size, eval_size=15)
    assert sizes(record) == (train_size, validation, 15)


def test_validation_has_at_most_500_examples(build) -> None:
    record, _ = build(made_up({"a": 2000, "b": 2000}), eval_size=10)
    assert sizes(record) == (3490, 500, 10)


def test_splits_never_share_a_text(build) -> None:
    _, contents = build(made_up({"a": 60, "b": 40}))
    every = [normalise(text) for name in contents for text in texts(contents, name)]
    assert len(every) == len(set(every)) == 100


def test_every_label_is_in_every_split_where_it_has_enough_examples(build) -> None:
    record, _ = build(made_up({"common": 300, "rare": 4}), train_size=30, eval_size=20)
    assert all(split.label_counts["rare"] >= 1 for split in record.splits)


def test_a_label_with_a_single_example_is_learned_and_its_absence_elsewhere_noted(build) -> None:
    record, _ = build(made_up({"common": 60, "other": 60, "once": 1}))
    assert record.split("train").label_counts["once"] == 1
    assert record.checks["notes"] == [
        "the validation split has no example of the label 'once'",
        "the evaluation split has no example of the label 'once'",
    ]


# duplicates


def test_exact_duplicates_are_counted_and_removed_across_parts_in_favour_of_evaluation(build) -> None:
    rows, evaluation = made_up({"a": 30, "b": 30}), made_up({"a": 5, "b": 5}, 100)
    copies = [(evaluation[0][0].upper() + "  ", "a"), (rows[0][0], "a"), (rows[1][0].replace(" ", "\n"), "a")]
    record, contents = build([*rows, *copies], evaluation)
    assert record.checks["exact_duplicates"] == 3
    assert record.checks["conflicting_labels"] == 0
    assert record.checks["examples_read"] == 73
    assert sum(sizes(record)) == 70
    assert evaluation[0][0] in texts(contents, "evaluation")


def test_a_text_with_two_labels_is_kept_once_and_counted(build) -> None:
    rows = made_up({"a": 30, "b": 30})
    record, _ = build([*rows, (rows[0][0], "b"), (rows[0][0], "b"), (rows[40][0], "a")])
    assert record.checks["exact_duplicates"] == 3
    assert record.checks["conflicting_labels"] == 2
    assert record.checks["conflicts"] == [
        {"text": rows[0][0], "targets": ["a", "b"]},
        {"text": rows[40][0], "targets": ["b", "a"]},
    ]
    assert sum(split.label_counts["a"] for split in record.splits) == 30


def test_near_duplicates_of_evaluation_examples_leave_training_and_are_counted(build) -> None:
    rows, evaluation = made_up({"a": 30, "b": 30}), made_up({"a": 5, "b": 5}, 100)
    near = [(text.replace(text.split()[-1], "changed"), label) for text, label in evaluation[:4]]
    record, contents = build([*rows, *near], evaluation)
    assert record.checks["near_duplicates"] == 4
    assert not {row[0] for row in near} & {*texts(contents, "train"), *texts(contents, "validation")}


def test_no_near_duplicate_pair_stands_across_two_splits(build) -> None:
    rows = made_up({"a": 60, "b": 60})
    near = [(text.replace(text.split()[0], "changed"), label) for text, label in rows[::2]]
    record, contents = build([*rows, *near])

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text)
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    grams = {name: [shingles(text) for text in texts(contents, name)] for name in contents}
    for one, other in (("train", "validation"), ("train", "evaluation"), ("validation", "evaluation")):
        assert all(len(x & y) / len(x | y) < 0.7 for x in grams[one] for y in grams[other])
    assert record.checks["near_duplicates"] > 10
    assert sum(sizes(record)) == 180 - record.checks["near_duplicates"]


INSTRUCTION = " ".join(f"i{number}" for number in range(60))


def test_an_instruction_that_all_texts_begin_with_makes_no_near_duplicates(build) -> None:
    rows = [(f"{INSTRUCTION} {text}", label) for text, label in made_up({"a": 80, "b": 80})]
    record, _ = build(rows)
    assert (sum(sizes(record)), record.checks["near_duplicates"]) == (160, 0)
    (note,) = record.checks["notes"][:1]
    assert note.startswith("58 runs of three words that more than half of the texts share are not compared")


def test_near_duplicates_behind_a_shared_instruction_are_found_all_the_same(build) -> None:
    rows, evaluation = made_up({"a": 30, "b": 30}), made_up({"a": 5, "b": 5}, 100)
    near = [(text.replace(text.split()[-1], "changed"), label) for text, label in evaluation[:4]]
    record, _ = build(
        *([(f"{INSTRUCTION} {text}", label) for text, label in part] for part in ([*rows, *near], evaluation))
    )
    assert record.checks["near_duplicates"] == 4


def test_near_duplicates_can_be_reported_or_kept(build) -> None:
    rows, evaluation = made_up({"a": 30, "b": 30}), made_up({"a": 5, "b": 5}, 100)
    near = [(text.replace(text.split()[-1], "changed"), label) for text, label in evaluation[:4]]
    found = {rule: build([*rows, *near], evaluation, near_duplicates=rule)[0] for rule in ("drop", "report", "keep")}
    assert {rule: record.checks["near_duplicates"] for rule, record in found.items()} == {
        "drop": 4,
        "report": 4,
        "keep": None,
    }
    assert {rule: sum(sizes(record)) for rule, record in found.items()} == {"drop": 70, "report": 74, "keep": 74}
    assert all(record.checks["near_duplicates_rule"] == rule for rule, record in found.items())


def test_near_duplicates_never_empty_a_label_or_a_split(build) -> None:
    evaluation = made_up({"a": 3, "b": 3}, 100)
    copies = [(text.replace(text.split()[-1], "changed"), label) for text, label in evaluation]
    of_b = [row for row in copies if row[1] == "b"]
    record, _ = build([*made_up({"a": 20}), *of_b], evaluation)
    assert record.checks["near_duplicates"] == 0
    assert (
        "3 near duplicates across splits of the label 'b' are kept: without them nothing would be left"
        in (record.checks["notes"])
    )
    assert sum(record.split(name).label_counts["b"] for name in ("train", "validation")) == 3
    # where all resemble each other
    alike = [(f"{' '.join(WORDS[:30])} {at}", "ab"[at % 2]) for at in range(12)]
    assert sum(sizes(build(alike)[0])) == 12


def test_many_near_duplicates_that_are_left_out_are_noted(build) -> None:
    rows = made_up({"a": 20, "b": 20})
    near = [(text.replace(text.split()[0], "changed"), label) for text, label in rows]
    notes = build([*rows, *near])[0].checks["notes"]
    assert any("of 80 examples resemble evaluation or validation examples" in note for note in notes)


# what a reader of scores has to know


def test_a_majority_that_accuracy_hides_is_noted(build) -> None:
    record, _ = build(made_up({"ok": 190, "fraud": 10}))
    assert record.checks["majority_baseline"] == pytest.approx(0.95)
    assert any("95% of the evaluation examples have the label 'ok'" in note for note in record.checks["notes"])
    assert build(made_up({"ok": 190, "fraud": 10}), metric="macro-f1")[0].checks["notes"] == []
    assert build(made_up({"ok": 60, "fraud": 40}))[0].checks["notes"] == []


def test_labels_that_look_alike_and_spaces_around_labels_are_noted(build) -> None:
    rows = [(text, label) for text, label in made_up({"sea": 20, "Sea": 20, " sky": 20})]
    record, _ = build(rows)
    assert record.labels == ("Sea", "sea", "sky")
    notes = record.checks["notes"]
    assert "20 labels had spaces around them, which are left out" in notes
    assert "the labels 'Sea', 'sea' differ only by case: they are learned as 2 labels" in notes


def test_the_order_of_labels_is_that_of_numbers_or_as_asked_for_and_recorded(build) -> None:
    rows = [(text, str(at % 12)) for at, (text, _) in enumerate(made_up({"x": 120}))]
    record, contents = build(rows)
    assert record.labels == tuple(map(str, range(12)))
    assert record.checks["label_order"] == "by number"
    for line in contents["train"].splitlines():
        row = json.loads(line)
        assert dict(rows)[row["text"]] == str(row["label"])
    other = tuple(map(str, reversed(range(12))))
    assert build(rows, labels=other)[0].labels == other
    refused(UsageError, "lacks", build, rows, labels=["0", "1"])
    refused(UsageError, "have no --labels", build, rows, labels=other, type="regression", target_column="label")


@pytest.mark.parametrize("separator", [";", ",", "|"])
def test_the_separator_of_several_labels_is_found_and_noted(build, separator: str) -> None:
    names = ["a", "b", separator.join("ab"), f"a{separator} c", ""]
    rows = [(text, names[at % 5]) for at, (text, _) in enumerate(made_up({"x": 60}))]
    record, _ = build(rows, type="multi-label")
    assert record.labels == ("a", "b", "c")
    noted = [note for note in record.checks["notes"] if "separated by" in note]
    assert len(noted) == (separator != "|")


def test_a_sign_inside_a_label_is_no_separator(build) -> None:
    rows = [(text, ["salt; pepper", "sea"][at % 2]) for at, (text, _) in enumerate(made_up({"x": 60}))]
    assert build(rows, type="multi-label")[0].labels == ("salt; pepper", "sea")


def test_texts_without_content_are_left_out_and_counted(build) -> None:
    record, _ = build([*made_up({"a": 30, "b": 30}), ("", "a"), (" \n ", "b")])
    assert record.checks["empty_texts"] == 2
    assert sum(sizes(record)) == 60


# digests


def test_the_same_data_gives_the_same_digest_and_another_seed_another(build) -> None:
    rows = made_up({"a": 60, "b": 40})
    first, again, other = build(rows)[0], build(rows)[0], build(rows, split_seed=1)[0]
    assert first.data_digest == again.data_digest
    assert len({first.data_digest, other.data_digest}) == 2
    assert other.labels == first.labels


def test_a_digest_known_beforehand(build) -> None:
    digest = "sha256:80f6af529292ee1a4ad5a41f7cadb537bf45667ba967be0010934efd3a383e50"
    # nothing but the data may change it: no machine, no library version, no order of a set
    assert build(made_up({"a": 60, "b": 40}))[0].data_digest == digest


def test_the_digest_covers_metric_and_data_but_not_how_they_were_named(build, tmp_path: Path) -> None:
    rows = made_up({"a": 60, "b": 40})
    first = build(rows)[0]
    assert build(rows, metric="macro-f1")[0].data_digest != first.data_digest
    assert build([(rows[0][0] + " more", "a"), *rows[1:]])[0].data_digest != first.data_digest
    assert build(rows, max_length=7)[0].data_digest == first.data_digest
    moved = write(tmp_path / "moved.csv", rows)
    moved.write_text(moved.read_text().replace("text,label", "body,kind"))
    renamed, _ = build_task(TaskRequest("other", f"csv:{moved}", text_column="body", target_column="kind"))
    assert renamed.data_digest == first.data_digest


def test_the_evaluation_split_does_not_depend_on_train_size(build) -> None:
    rows = made_up({"a": 60, "b": 40})
    small, large = build(rows, train_size=10)[0], build(rows, train_size=40)[0]
    assert small.split("evaluation").digest == large.split("evaluation").digest


def test_lines_are_canonical_json_with_the_label_id(build) -> None:
    rows = [(f'say "{number}" é\u2028 {WORDS[number]}', label) for number, label in enumerate(["b", "a"] * 20)]
    record, contents = build(rows)
    assert record.labels == ("a", "b")
    line = contents["evaluation"].splitlines()[0]
    row = json.loads(line)
    assert line == json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert dict(rows)[row["text"]] == record.labels[row["label"]]


def test_integer_and_truth_labels_become_text_in_sorted_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": row[0], "number": at % 3, "truth": at % 2 == 0} for at, row in enumerate(made_up({"x": 60}))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert build_task(TaskRequest("t", f"jsonl:{path}", target_column="number"))[0].labels == ("0", "1", "2")
    assert build_task(TaskRequest("t", f"jsonl:{path}", target_column="truth"))[0].labels == ("False", "True")


def test_whole_numbers_stored_as_fractions_are_the_same_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": row[0], "label": float(at % 2)} for at, row in enumerate(made_up({"x": 60}))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert build_task(TaskRequest("t", f"jsonl:{path}"))[0].labels == ("0", "1")


# what can't be a task


def refused(kind: type[LimpetError], said: str, build, *arguments: object, **options: object) -> LimpetError:
    with pytest.raises(LimpetError) as caught:
        build(*arguments, **options)
    assert type(caught.value) is kind, caught.value
    assert said in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_single_label_is_refused(build) -> None:
    refused(DataError, "a single label, 'a'", build, made_up({"a": 20}))


def test_a_label_that_only_the_evaluation_split_has_is_refused(build) -> None:
    evaluation = made_up({"a": 3, "c": 3, "d": 3}, 100)
    refused(
        DataError, "Only the evaluation split has the labels 'c', 'd'", build, made_up({"a": 20, "b": 20}), evaluation
    )


def test_a_label_that_only_the_validation_split_has_is_refused(build) -> None:
    rows, evaluation, validation = made_up({"a": 20, "b": 20}), made_up({"a": 3, "b": 3}, 100), made_up({"c": 3}, 200)
    refused(DataError, "Only the validation split has the label 'c'", build, rows, evaluation, validation)


def test_an_empty_split_is_refused_by_name(build, tmp_path: Path) -> None:
    rows = made_up({"a": 20, "b": 20})
    refused(DataError, f"{tmp_path / 'eval.csv'} has no rows", build, rows, [])
    refused(DataError, f"{tmp_path / 'train.csv'} has no rows", build, [])
    refused(DataError, "no example for the evaluation split", build, rows, [("", "a")])
    refused(DataError, "no example for the train split", build, rows, rows)


def test_more_training_examples_than_there_are_is_refused_with_the_number_there_is(build) -> None:
    rows = made_up({"a": 60, "b": 40})
    error = refused(DataError, "asked for, and", build, rows, train_size=80)
    most = int(error.hint.split()[-1])
    assert error.hint.startswith("--train-size") and most < 80
    assert sizes(build(rows, train_size=most)[0])[0] == most


def test_more_evaluation_examples_than_there_are_is_refused_with_the_number_there_is(build) -> None:
    assert (
        refused(
            DataError,
            "13 evaluation examples",
            build,
            made_up({"a": 20, "b": 20}),
            made_up({"a": 6, "b": 6}, 90),
            eval_size=13,
        ).hint
        == "--eval-size 12"
    )
    assert refused(DataError, "40", build, made_up({"a": 20, "b": 20}), eval_size=40).hint == "--eval-size 38"


def test_fewer_training_examples_than_labels_is_refused(build) -> None:
    refused(DataError, "can't show all 3 labels", build, made_up({"a": 20, "b": 20, "c": 20}), train_size=2)


def test_too_few_examples_to_split_is_refused(build) -> None:
    refused(DataError, "evaluation examples were asked for", build, made_up({"a": 1, "b": 1}))
    refused(DataError, "too few examples", build, made_up({"a": 2, "b": 1}))


def test_a_label_for_every_example_is_refused(build) -> None:
    rows = [(text, f"id-{at}") for at, (text, _) in enumerate(made_up({"a": 20}))]
    refused(DataError, "a label of its own", build, rows)


def test_an_example_without_a_label_is_refused_by_row(build) -> None:
    refused(
        DataError, "row 41 has no label in column 'label'", build, [*made_up({"a": 20, "b": 20}), ("some text", "")]
    )


def test_a_text_column_of_numbers_and_a_label_column_of_fractions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{at}", "n": at, "score": at / 7}) + "\n" for at in range(9)))
    of_numbers = TaskRequest("t", f"jsonl:{path}", text_column="n", target_column="text")
    refused(DataError, "column 'n' holds int, not text", build_task, of_numbers)
    error = refused(DataError, "is a fraction", build_task, TaskRequest("t", f"jsonl:{path}", target_column="score"))
    assert f"{path}, row 2, column 'score'" in error.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type": "ranking"}, "the types that work are: classification"),
        ({"type": "nonsense"}, "the types that work are: classification"),
        ({"metric": "f1"}, "accuracy, macro-f1"),
        ({"train_size": 0}, "--train-size is 0"),
        ({"eval_size": -1}, "--eval-size is -1"),
        ({"max_length": 0}, "--max-length is 0"),
        ({"split_seed": -1}, "seeds are 0 or more"),
        ({"near_duplicates": "hide"}, "one of drop, report, keep"),
        ({"overlong": "shorten"}, "one of cut, drop, refuse"),
    ],
)
def test_arguments_out_of_range_are_usage_errors(build, options: dict[str, object], said: str) -> None:
    refused(UsageError, said, build, made_up({"a": 20, "b": 20}), **options)


def test_a_name_off_the_allow_list_is_a_usage_error(tmp_path: Path) -> None:
    spec = f"csv:{write(tmp_path / 'rows.csv', made_up({'a': 20, 'b': 20}))}"
    refused(UsageError, "not a task name", build_task, TaskRequest("../reviews", spec))


def test_every_task_type_names_a_default_among_its_metrics() -> None:
    for kind in task_types.every():
        assert kind.metric(None) == kind.metrics[0].name
        assert all(kind.metric(one.name) == one.name and one.definition for one in kind.metrics)


# kept in a home


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    return f"csv:{write(tmp_path / 'rows.csv', made_up({'a': 60, 'b': 40}))}"


def test_a_task_is_kept_with_its_splits_and_read_back(store: Store, reviews: str) -> None:
    task = add_task(store, TaskRequest("reviews", reviews, train_size=30))
    examples = read_split(store, task, "train")
    assert len(examples) == 30
    assert all(isinstance(example, Example) and task.labels[example.target] in ("a", "b") for example in examples)
    assert Counter(task.labels[example.target] for example in examples) == task.split("train").label_counts


def test_adding_the_same_task_again_returns_the_first(store: Store, reviews: str) -> None:
    assert add_task(store, TaskRequest("reviews", reviews)) == add_task(store, TaskRequest("reviews", reviews))


def test_a_conflict_leaves_nothing_behind(store: Store, reviews: str) -> None:
    add_task(store, TaskRequest("reviews", reviews))
    kept = set(store.blobs.digests())
    with pytest.raises(ConflictError):
        add_task(store, TaskRequest("reviews", reviews, split_seed=1))
    assert set(store.blobs.digests()) == kept


def test_another_definition_or_other_data_under_the_name_is_a_conflict(store: Store, reviews: str) -> None:
    add_task(store, TaskRequest("reviews", reviews))
    with pytest.raises(ConflictError):
        add_task(store, TaskRequest("reviews", reviews, train_size=30))
    path = Path(reviews.removeprefix("csv:"))
    path.write_text(path.read_text().replace("w0 ", "w00 ", 1))
    with pytest.raises(ConflictError):
        add_task(store, TaskRequest("reviews", reviews))


def test_a_changed_split_is_found_when_it_is_read(store: Store, reviews: str) -> None:
    task = add_task(store, TaskRequest("reviews", reviews))
    blob = store.blobs.path(task.split("train").digest)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b'"label":0', b'"label":1', 1))
    with pytest.raises(IntegrityError):
        read_split(store, task, "train")


def test_reading_a_split_of_a_type_that_does_not_work_is_a_usage_error(store: Store, reviews: str) -> None:
    task = add_task(store, TaskRequest("reviews", reviews))
    other = replace(task, definition=replace(task.definition, type="ranking"))
    with pytest.raises(UsageError, match="classification"):
        read_split(store, other, "train")
