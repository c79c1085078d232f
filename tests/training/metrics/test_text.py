"""Scores of written texts: worked by hand, those of the definitions' authors, and the same in every script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_chrf

from limpet.errors import UsageError
from limpet.training.metrics.text import (
    chrf,
    exact_match,
    former_exact_match,
    former_rouge_l,
    former_token_f1,
    rouge_l,
    token_f1,
    words,
)
from limpet.training.task_types import metric, score, task_type

SCRIPTS = {
    "Korean": ("긍정적인 감상", "배송 지연 불만"),
    "Chinese": ("我想退款", "应用程序崩溃"),
    "Japanese": ("配達が遅い", "アプリが落ちる"),
    "Thai": ("สินค้ามาช้า", "แอปล่ม"),
    "Hindi": ("हिन्दी में शीर्षक", "वापसी कैसे करें"),
    "Arabic": ("أين طلبي", "تطبيق معطل"),
    "Hebrew": ("איפה ההזמנה", "האפליקציה קורסת"),
    "Greek": ("πού είναι η παραγγελία", "η εφαρμογή κολλάει"),
    "Cyrillic": ("где мой заказ", "приложение падает"),
    "accents": ("où est ma commande", "l'été à Besançon"),
    "signs alone": ("👍", "?!"),
}
ENGLISH = st.lists(st.sampled_from(["police", "killed", "the", "gunman", "a-b", "5.", "It's"]), max_size=12)


@pytest.mark.parametrize("measure", [rouge_l, chrf, token_f1, exact_match])
@pytest.mark.parametrize("script", SCRIPTS)
def test_equal_texts_score_1_and_texts_without_anything_in_common_0_in_every_script(measure, script: str) -> None:
    one, other = SCRIPTS[script]
    assert measure(one, one) == pytest.approx(1.0)
    assert measure(one, other) < 0.5
    assert measure(one, "") == 0


@pytest.mark.parametrize("script", ["Korean", "Chinese", "Japanese", "Thai", "Hindi", "Arabic"])
def test_half_of_a_text_scores_in_between_in_every_script(script: str) -> None:
    one, other = SCRIPTS[script]
    assert 0.3 < rouge_l(f"{one} {other}", one) < 1.0
    assert 0.3 < chrf(f"{one} {other}", one) < 1.0


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # the example of Lin 2004
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        ("Police killed!", "police killed the gunman", 2 * 1 * 0.5 / 1.5),
        ("", "police", 0.0),
        ("나는 학교에 간다", "나는 집에 간다", 2 / 3),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(
    prediction: str, target: str, expected: float
) -> None:
    assert rouge_l(prediction, target) == pytest.approx(expected)


@given(ENGLISH.map(" ".join), ENGLISH.map(" ".join))
def test_rouge_l_of_english_is_that_of_rouge_score(prediction: str, target: str) -> None:
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(target, prediction)["rougeL"].fmeasure
    assert former_rouge_l(prediction, target) == expected
    if words(prediction) and words(target):
        assert rouge_l(prediction, target) == expected


def test_words_of_a_script_without_spaces_are_its_characters() -> None:
    assert words("我想退款") == ["我", "想", "退", "款"]
    assert words("हिन्दी में, API-Fehler №5") == ["हिन्दी", "में", "api", "fehler", "5"]


def test_another_form_of_the_same_characters_is_the_same() -> None:
    assert exact_match("cafe\u0301", "caf\u00e9")
    assert rouge_l("cafe\u0301", "caf\u00e9") == 1.0


def test_chrf_is_that_of_sacrebleu() -> None:
    expected = sentence_chrf("the cat sat", ["the cat sat on the mat"]).score / 100
    assert chrf("the cat sat", "the cat sat on the mat") == pytest.approx(expected)
    assert score("chrf", ["the cat sat", "a"], ["the cat sat on the mat", "a"]) == pytest.approx((expected + 1) / 2)


def test_exact_match_looks_past_case_punctuation_and_articles() -> None:
    assert exact_match("The  Denver Broncos.", "denver broncos")
    assert exact_match("«Привет, мир!»", "привет мир")
    assert exact_match("答えは「東京」。", "答えは東京")
    assert not exact_match("Denver", "denver broncos")
    # an article is a word of its own
    assert not exact_match("theatre", "atre")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-12.5", "125"),
        ("-12.5", "12.5"),
        ("12.5", "125"),
        ("\u22125", "5"),
        ("+5", "5"),
        (".5", "5"),
        ("-.5", ".5"),
        ("10:30", "1030"),
        ("1/2", "12"),
        ("3-4", "34"),
        ("5%", "5"),
        ("x > 5", "x < 5"),
        ('{"a":-1}', '{"a":1}'),
        ("A", ""),
        ("A", "B"),
    ],
)
def test_answers_that_mean_something_else_are_no_match(one: str, other: str) -> None:
    assert not exact_match(one, other)
    assert exact_match(one, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("The answer is -12.5.", "answer is -12.5"), ("(5)", "5"), ("covid-19", "COVID19"), ("\u22125", "-5")],
)
def test_what_stands_around_a_number_does_not_matter(one: str, other: str) -> None:
    assert exact_match(one, other)


def test_token_f1_is_that_of_squad() -> None:
    assert token_f1("the denver broncos", "Denver Broncos!") == 1.0
    # one word in common, precision 1/2, recall 1/3
    assert token_f1("blue cat", "red cat sat") == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    # a word counts as often as it is in both
    assert token_f1("cat cat cat", "cat cat dog") == pytest.approx(2 / 3)
    assert token_f1("", "cat") == 0.0


def test_a_definition_that_changed_has_a_name_of_its_own_and_the_former_keeps_its_scores() -> None:
    former = {"rouge-l": former_rouge_l, "exact-match": former_exact_match, "token-f1": former_token_f1}
    for name, measure in former.items():
        for pair in (("-12.5", "125"), ("긍정적인 감상", "긍정적인 감상"), ("the cat", "a cat")):
            assert score(name, [pair[0]], [pair[1]]) == float(measure(*pair))
    assert score("exact-match", ["-12.5"], ["125"]) == 1.0
    assert score("rouge-l", ["긍정적인 감상"], ["긍정적인 감상"]) == 0.0
    assert metric("exact-match").definition != metric("exact-match-v2").definition


def test_a_new_task_is_scored_by_the_newest_definition_of_a_name() -> None:
    generation = task_type("generation")
    assert generation.metric("rouge-l") == generation.metric("rouge-l-v2") == generation.metric(None) == "rouge-l-v2"
    with pytest.raises(UsageError, match="chrf"):
        generation.metric("rouge")
