"""The ids of labels: heads made elsewhere are read by them, so their order is never a matter of chance."""

from __future__ import annotations

import pytest

from limpet.errors import UsageError
from limpet.training.data.label_order import look_alikes, order_labels


def test_numbers_stand_in_their_order() -> None:
    assert order_labels({str(number) for number in range(12)}) == (tuple(map(str, range(12))), "by number")
    assert order_labels({"10", "-2", "1.5", "9", "+3"})[0] == ("-2", "1.5", "+3", "9", "10")


def test_names_stand_in_the_alphabet_and_so_do_numbers_among_names() -> None:
    assert order_labels({"sky", "sea"}) == (("sea", "sky"), "alphabetical")
    assert order_labels({"10", "9", "none"}) == (("10", "9", "none"), "alphabetical")


def test_class_names_keep_the_order_of_the_data() -> None:
    assert order_labels({"neg", "pos", "mixed"}, ("pos", "neg", "unused", "mixed")) == (
        ("pos", "neg", "mixed"),
        "the data's own",
    )
    assert order_labels({"a", "other"}, ("b", "a")) == (("a", "other"), "alphabetical")


def test_the_order_that_is_asked_for_goes_first() -> None:
    assert order_labels({"0", "1", "2"}, ("0", "1", "2"), ["2", "0", "1"]) == (("2", "0", "1"), "as given")


@pytest.mark.parametrize(
    ("given", "said"),
    [(["a", "b", "a"], "twice 'a'"), (["a", "b", "c"], "no example has, 'c'"), (["a"], "lacks 'b'")],
)
def test_an_order_that_has_not_each_label_once_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        order_labels({"a", "b"}, (), given)
    assert caught.value.hint == "--labels a,b"


@pytest.mark.parametrize(
    ("labels", "difference"),
    [
        ({"Sea", "sea"}, "case"),
        ({"not good", "not  good"}, "spaces"),
        ({"caf\u00e9", "cafe\u0301"}, "Unicode form"),
        ({"1", "1.0", "01"}, "the way a number is written"),
        ({"Not good", "not  good"}, "case, spaces or form"),
    ],
)
def test_labels_that_look_alike_are_noted_with_their_difference(labels: set[str], difference: str) -> None:
    (note,) = look_alikes({*labels, "other", "2"})
    assert f"differ only by {difference}: they are learned as {len(labels)} labels" in note
    assert all(repr(label) in note for label in labels)


def test_labels_that_differ_are_not_noted() -> None:
    assert look_alikes({"1", "10", "-1", "sea", "see", "C", "C++"}) == []
