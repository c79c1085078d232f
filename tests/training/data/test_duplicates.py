from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.training.data.duplicates import Shingles, normalise


def jaccard(a: str, b: str) -> float:
    """The definition, word for word, as an oracle."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text) or [text]
        words += [""] * (3 - len(words))
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def test_case_spacing_and_compatible_forms_do_not_matter() -> None:
    assert normalise("  The\n\tCAT  sat ") == normalise("the cat sat")
    assert normalise("\ufb01ne \uff34ext") == normalise("fine text")
    assert normalise("Straße") == normalise("STRASSE")
    assert normalise("cat sat") != normalise("cat, sat")


def test_a_text_with_a_word_changed_is_a_near_duplicate_and_another_text_is_not() -> None:
    words = [f"word{number}" for number in range(40)]
    original, changed = " ".join(words), " ".join([*words[:-1], "other"])
    stranger = " ".join(f"else{number}" for number in range(40))
    assert Shingles([original, changed, stranger]).resembling([1, 2], [0]) == {1}


def test_the_same_words_in_another_order_are_another_text() -> None:
    words = [f"word{number}" for number in range(40)]
    assert Shingles([" ".join(words), " ".join(words[::-1])]).resembling([1], [0]) == set()


@pytest.mark.parametrize(("shared", "near"), [(14, True), (13, False)])
def test_the_limit_is_a_jaccard_index_of_seven_tenths(shared: int, near: bool) -> None:
    # 17 shingles each: 14 shared of 20 in all is 0.7, and 13 of 21 is less
    first = [f"w{number}" for number in range(19)]
    second = [*first[: shared + 2], *(f"x{number}" for number in range(17 - shared))]
    assert (jaccard(" ".join(first), " ".join(second)) >= 0.7) is near
    assert Shingles([" ".join(first), " ".join(second)]).resembling([1], [0]) == ({1} if near else set())


def test_short_texts_and_texts_without_a_word_are_compared_whole() -> None:
    texts = ["yes", "no", "yes indeed", "?!", "!!", "yes!"]
    assert Shingles(texts).resembling(range(1, 6), [0]) == {5}
    assert Shingles(texts).resembling([4], [3]) == set()


def test_nothing_resembles_anything_in_an_empty_list() -> None:
    assert Shingles([]).resembling([], []) == set()


sentence = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12).map(" ".join)


def test_what_more_than_half_of_the_texts_share_is_not_compared_and_counted() -> None:
    shared = " ".join(f"word{number}" for number in range(40))
    texts = [f"{shared} {' '.join(f'own{at}{number}' for number in range(6))}" for at in range(20)]
    texts.append(texts[0].replace("own05", "other"))
    shingles = Shingles(texts)
    assert shingles.shared == 38
    assert shingles.resembling(range(1, 21), [0]) == {20}
    # below twenty texts it may be chance, and a few words are no instruction
    assert Shingles(texts[:19]).shared == 0
    assert (
        Shingles([f"https t co {' '.join(f'own{at}{number}' for number in range(6))}" for at in range(20)]).shared
        == 0
    )


def test_texts_of_nothing_but_what_is_shared_are_compared_whole() -> None:
    shared = " ".join(f"word{number}" for number in range(40))
    texts = [f"{shared} {at}" for at in range(20)]
    assert Shingles([*texts, shared]).resembling([20], range(20)) == set()
    assert Shingles([*texts, shared, f"{shared}!"]).resembling([21], [20]) == {21}


@given(texts=st.lists(sentence, min_size=2, max_size=19))
def test_agrees_with_the_definition_for_every_pair(texts: list[str]) -> None:
    half = len(texts) // 2
    expected = {
        at
        for at in range(half, len(texts))
        if any(jaccard(texts[at], texts[reference]) >= 0.7 for reference in range(half))
    }
    assert Shingles(texts).resembling(range(half, len(texts)), range(half)) == expected


def test_agrees_with_the_definition_on_texts_with_edits() -> None:
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(200)]
    texts = []
    for _ in range(40):
        base = list(generator.choice(words, size=30))
        texts.append(" ".join(base))
        for place in generator.integers(0, 30, size=generator.integers(0, 6)):
            base[place] = "edit"
        texts.append(" ".join(base))
    expected = {
        at for at in range(1, 80, 2) if any(jaccard(texts[at], texts[other]) >= 0.7 for other in range(0, 80, 2))
    }
    assert 5 < len(expected) < 40
    assert Shingles(texts).resembling(range(1, 80, 2), range(0, 80, 2)) == expected
