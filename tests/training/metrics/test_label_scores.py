"""Each label's precision, recall and F1, against hand-made counts."""

from __future__ import annotations

import pytest

from limpet.training.metrics.label_scores import LabelScore, confusions, entity_scores, label_scores

RIGHT = ["a", "a", "a", "b", "b", "c"]
SAID = ["a", "b", "a", "b", "a", "a"]


def test_one_label_of_each_example() -> None:
    scores = label_scores(["a", "b", "c", "never"], [{label} for label in SAID], [{label} for label in RIGHT])
    assert scores == (
        LabelScore("a", 3, 4, precision=2 / 4, recall=2 / 3, f1=pytest.approx(4 / 7)),
        LabelScore("b", 2, 2, precision=1 / 2, recall=1 / 2, f1=1 / 2),
        LabelScore("c", 1, 0, precision=None, recall=0.0, f1=0.0),
        LabelScore("never", 0, 0, precision=None, recall=None, f1=None),
    )


def test_several_labels_of_an_example_count_one_by_one() -> None:
    a, b = label_scores(["a", "b"], [{"a", "b"}, set()], [{"a"}, {"b"}])
    assert (a.precision, a.recall, a.f1) == (1.0, 1.0, 1.0)
    assert (b.examples, b.predicted, b.precision, b.recall) == (1, 1, 0.0, 0.0)


def test_entities_count_by_their_type_and_only_where_they_are_whole() -> None:
    right = [["B-PER", "I-PER", "O", "B-LOC"]]
    said = [["B-PER", "O", "O", "B-LOC"]]
    loc, per = entity_scores(said, right)
    assert (loc.label, loc.examples, loc.f1) == ("LOC", 1, 1.0)
    assert (per.label, per.examples, per.predicted, per.precision, per.recall) == ("PER", 1, 1, 0.0, 0.0)


def test_a_row_of_confusions_says_what_a_label_was_taken_for() -> None:
    assert confusions(["a", "b", "c"], SAID, RIGHT) == ((2, 1, 0), (1, 1, 0), (1, 0, 0))
