"""Scores of written texts: worked by hand, and those of the definitions' authors."""

from __future__ import annotations

import pytest

from limpet.training.text_metrics import exact_match, rouge_l, token_f1


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # the example of Lin 2004
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        ("Police killed!", "police killed the gunman", 2 * 1 * 0.5 / 1.5),
        ("", "police", 0.0),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(
    prediction: str, target: str, score: float
) -> None:
    assert rouge_l(prediction, target) == pytest.approx(score)


def test_exact_match_looks_past_case_punctuation_and_articles() -> None:
    assert exact_match("The  Denver Broncos.", "denver broncos")
    assert not exact_match("Denver", "denver broncos")
    # an article is a word of its own
    assert not exact_match("theatre", "atre")


def test_token_f1_is_that_of_squad() -> None:
    assert token_f1("the denver broncos", "Denver Broncos!") == 1.0
    # one word in common, precision 1/2, recall 1/3
    assert token_f1("blue cat", "red cat sat") == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    # a word counts as often as it is in both
    assert token_f1("cat cat cat", "cat cat dog") == pytest.approx(2 / 3)
    assert token_f1("", "cat") == 0.0
    assert token_f1("the", "a") == 1.0
