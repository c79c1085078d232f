"""Demonstrations: which are chosen, how they are ordered and cut, and what their file may hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import IntegrityError, UsageError
from limpet.home import Home, init
from limpet.training.generation.demonstrations import (
    Demonstration,
    Demonstrations,
    Script,
    check_template,
    choose,
    label_words,
    parse,
    reordered,
    with_random_labels,
    write,
)
from limpet.training.heads.in_context import cut_to_fit
from tests.migrated import with_database
from tests.tiny import tiny_base

LABELS = ("sea", "sky", "rock")
POOL = [Demonstration(f"the {word} of {number}", label) for number in range(9) for label, word in
        (("sea", "wave"), ("sky", "cloud"), ("rock", "stone"))]  # fmt: skip
TOLD = Demonstrations("{text} near {label}", LABELS, ("wave", "cloud", "stone"), 60, tuple(POOL[:6]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base", "llama")))


def test_as_many_are_shown_of_every_label_and_the_seed_decides_which() -> None:
    drawn = choose(POOL, LABELS, 3, seed=0)
    assert Counter(one.label for one in drawn) == {"sea": 3, "sky": 3, "rock": 3}
    assert len(set(drawn)) == 9
    assert drawn == choose(POOL, LABELS, 3, seed=0)
    assert drawn != choose(POOL, LABELS, 3, seed=1)
    with pytest.raises(UsageError, match="has 9 training examples, and 10"):
        choose(POOL, LABELS, 10, seed=0)


def test_another_order_shows_the_same_and_random_labels_the_same_texts() -> None:
    orders = [reordered(POOL, seed) for seed in range(8)]
    assert all(sorted(map(str, order)) == sorted(map(str, POOL)) for order in orders)
    assert len({tuple(order) for order in orders}) == 8
    random = with_random_labels(POOL, LABELS, 0, draw=0)
    assert [one.text for one in random] == [one.text for one in POOL]
    kept = sum(a.label == b.label for a, b in zip(random, POOL, strict=True))
    assert 0 < kept < len(POOL) / 2
    assert {one.label for one in random} == set(LABELS)


def test_labels_stand_for_themselves_unless_a_word_is_given() -> None:
    assert label_words(("money-fx", "on_land"), "") == ("money fx", "on land")
    assert label_words(LABELS, "sea=wave, rock = hard stone") == ("wave", "sky", "hard stone")
    for wrong in "sea", "sea=", "tree=green", "sea=sky":
        with pytest.raises(UsageError):
            label_words(LABELS, wrong)


@pytest.mark.parametrize("wrong", ("{text}", "{label} {text}", "{text} {text} {label}", "{label}", "{text} {label}."))
def test_a_template_has_the_text_once_and_ends_with_the_label(wrong: str) -> None:
    assert check_template("{text} near {label}")
    with pytest.raises(UsageError, match="ends with"):
        check_template(wrong)


def test_the_file_comes_back_as_it_was_and_nothing_else_is_taken_for_one() -> None:
    data = write(TOLD)
    assert parse(data) == TOLD
    content = json.loads(data)
    changes: list[dict[str, object]] = [
        {"schema": 2},
        {"words": ["wave", "cloud"]},
        {"words": ["wave", "wave", "stone"]},
        {"labels": []},
        {"template": "{text}"},
        {"budget": 0},
        {"budget": True},
        {"demonstrations": [{"text": "a", "label": "tree"}]},
        {"demonstrations": [{"text": 1, "label": "sea"}]},
        {"demonstrations": [{"text": "a", "label": "sea", "more": "b"}]},
        {"more": 1},
    ]
    for change in changes:
        wrong = json.dumps(content | change, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        with pytest.raises(IntegrityError, match=r"demonstrations.json can't be used"):
            parse(wrong.encode())
    for wrong_bytes in b"", b"[]x", data.replace(b'{"', b'{ "', 1), b'{"schema":1,"schema":1}':
        with pytest.raises(IntegrityError):
            parse(wrong_bytes)


def test_everything_fits_into_the_budget_and_every_demonstration_has_an_equal_share(home: Home) -> None:
    tokenizer = home.backbone().tokenizer
    long = replace(TOLD, shown=tuple(replace(one, text=one.text + " wave tide salt" * 20) for one in TOLD.shown))
    cut, length = cut_to_fit(tokenizer, long, 16)
    assert length == 16
    script = Script(tokenizer, cut.template, cut.words)
    lengths = {len(script.demonstration(one.text, 0)) for one in cut.shown}
    assert lengths == {(60 - 1 - 16) // 6}
    assert all(one.text == before.text[: len(one.text)] for one, before in zip(cut.shown, long.shown, strict=True))
    assert len(script.beginning(cut)) + 16 + 1 <= 60
    assert len(script.question("wave " * 100, length)) == 16
    # what is asked for a text never takes more than half
    assert cut_to_fit(tokenizer, TOLD, 500)[1] == 24
    with pytest.raises(UsageError, match="6 demonstrations and a text of 8 tokens do not fit into 20"):
        cut_to_fit(tokenizer, replace(TOLD, budget=20), 16)


def test_a_demonstration_is_read_as_the_text_to_be_labelled_is(home: Home) -> None:
    tokenizer = home.backbone().tokenizer
    script = Script(tokenizer, TOLD.template, TOLD.words)
    question = script.question("the old reef", 16)
    assert tokenizer.decode(question) == "the old reef near"
    assert script.demonstration("the old reef", 1)[: len(question) + 1] == [*question, *script.words[1]]
    assert tokenizer.decode(script.words[1]) == "cloud"


def test_words_that_the_base_can_not_tell_apart_are_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="'granite' and 'basalt' of two labels as the same tokens"):
        Script(home.backbone().tokenizer, TOLD.template, ("wave", "granite", "basalt"))
