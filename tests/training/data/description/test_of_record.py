"""What is said of a task's data in sentences: what was left out of it, and what is the matter with its labels."""

from __future__ import annotations

from limpet.registry.values import SplitRecord, TaskDefinition, TaskRecord
from limpet.training.data.description.label_notes import label_notes
from limpet.training.data.description.removed import left_out, not_drawn


def record(train: dict[str, int], checks: dict[str, object] | None = None, **definition: str) -> TaskRecord:
    """A task with these training examples, and as many of each label for validation and evaluation."""
    usual = {"type": "classification", "metric": "accuracy"} | definition
    return TaskRecord(
        definition=TaskDefinition(
            "mail", usual["type"], "csv:x", "text", "label", usual["metric"], None, None, 0, 128
        ),
        labels=tuple(train),
        splits=tuple(
            SplitRecord(name, f"sha256:{name}", sum(train.values()), train)
            for name in ("train", "validation", "evaluation")
        ),
        data_digest="sha256:",
        checks=checks or {},
        created_at="",
    )


def test_every_reason_that_took_examples_away_is_a_sentence_and_the_rest_was_not_drawn() -> None:
    counts = {
        "examples_read": 100,
        "empty_texts": 1,
        "exact_duplicates": 20,
        "conflicting_labels": 3,
        "near_duplicates": 6,
        "near_duplicates_rule": "drop",
        "overlong_dropped": 4,
    }
    task = record({"a": 10, "b": 10}, counts)
    assert not_drawn(task) == 9
    read, *reasons = left_out(task)
    assert read == "100 examples were read: 60 of them are in the splits"
    assert [reason.split(" ", 1)[0] for reason in reasons] == ["1", "20", "4", "3", "6", "9"]
    assert reasons[0] == "1 example was left out because there is no text"
    assert "same text" in reasons[1]
    assert "longer than the limits" in reasons[2]
    assert reasons[3].startswith("3 texts have different labels in different rows")
    assert "6 examples were left out because of near duplicates" in reasons[4]
    assert reasons[5] == "9 examples were not drawn, because the splits are to be smaller than the data"


def test_texts_with_different_labels_are_named_and_a_strange_record_is_not_read() -> None:
    conflicts = [{"text": f"{at} {'word ' * 40}", "targets": ["a", "b"]} for at in range(5)]
    counts = {"examples_read": 65, "exact_duplicates": 5, "conflicting_labels": 5, "conflicts": conflicts}
    named = left_out(record({"a": 10, "b": 10}, counts))[3:]
    assert len(named) == 3
    assert named[0].startswith("'0 word word")
    assert named[0].endswith("...' has 'a', 'b'")
    strange = {"examples_read": 65, "conflicting_labels": 5, "conflicts": [7, {"text": "x"}], "exact_duplicates": "5"}
    assert len(left_out(record({"a": 10, "b": 10}, strange))) == 3


def test_near_duplicates_that_are_only_reported_are_not_counted_as_left_out() -> None:
    task = record({"a": 10, "b": 10}, {"examples_read": 60, "near_duplicates": 2, "near_duplicates_rule": "report"})
    assert left_out(task) == [
        "60 examples were read: all of them are in the splits",
        "2 examples of other splits are kept although near duplicates stand among the evaluation or validation "
        "examples",
    ]


def test_nothing_is_said_where_nothing_was_counted() -> None:
    assert left_out(record({"a": 1}, {"notes": []})) == []
    assert label_notes(record({})) == []


def test_misspelt_rare_and_outweighed_labels_are_noted() -> None:
    misspelt, rare, outweighed = label_notes(record({"technical": 50, "techincal": 2, "billing": 30}))
    assert misspelt == (
        "the label 'techincal' (6 examples) may be 'technical' misspelt (150 examples): they are learned as "
        "two labels"
    )
    assert rare.startswith("1 label has fewer than 5 training examples")
    assert rare.endswith("'techincal' (2)")
    assert outweighed.startswith("the label 'technical' has 25 times as many training examples as 'techincal'")
    assert "--metric macro-f1" in outweighed


def test_labels_of_like_number_are_not_noted_and_macro_f1_is_not_advised_to_who_has_it() -> None:
    assert label_notes(record({"a": 5, "b": 40})) == []
    (note,) = label_notes(record({"a": 5, "b": 60}, metric="macro-f1"))
    assert "--metric" not in note
