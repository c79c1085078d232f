"""Token ids that are kept: the same ones, found by all that decides them, and never half a file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from limpet.home import Home
from limpet.training.batching.token_cache import token_ids
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import tiny_base

SETTINGS = TrainingSettings("probe", epochs=1, batch_size=8, dtype="float32")
TEXTS = [f"the wave {'and the tide ' * (number % 5)}" for number in range(40)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base(tmp_path / "base"))


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*")) if cache.exists() else []


def test_the_second_time_nothing_is_tokenised(cache: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [list(row) for row in tokenizer(TEXTS, truncation=True, max_length=8)["input_ids"]]
    assert token_ids(tokenizer, TEXTS, 8) == expected

    def refuse(*texts: Any, **options: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(type(tokenizer), "__call__", refuse)
    assert token_ids(tokenizer, TEXTS, 8) == expected


def test_another_length_text_or_tokenizer_is_kept_apart(cache: Path, tokenizer: Any, tmp_path: Path) -> None:
    token_ids(tokenizer, TEXTS, 8)
    token_ids(tokenizer, TEXTS, 6)
    token_ids(tokenizer, TEXTS[::-1], 8)
    assert len(kept(cache)) == 3
    changed = AutoTokenizer.from_pretrained(tmp_path / "base")
    changed.add_tokens(["anemone"])
    token_ids(changed, TEXTS, 8)
    assert len(kept(cache)) == 4
    # what it was last asked to cut to is no part of a tokenizer
    tokenizer(TEXTS, truncation=True, max_length=4, padding="max_length")
    token_ids(AutoTokenizer.from_pretrained(tmp_path / "base"), TEXTS, 8)
    assert len(kept(cache)) == 4


@pytest.mark.parametrize("harm", [lambda data: data[:-9], lambda data: b"", lambda data: data[:40]])
def test_a_file_that_is_not_whole_is_made_again(cache: Path, tokenizer: Any, harm: Any) -> None:
    expected = token_ids(tokenizer, TEXTS, 8)
    (path,) = kept(cache)
    path.write_bytes(harm(path.read_bytes()))
    assert token_ids(tokenizer, TEXTS, 8) == expected
    assert kept(cache) == [path]
    assert token_ids(tokenizer, TEXTS, 8) == expected


def test_ids_that_were_changed_in_a_file_of_the_right_form_are_made_again(cache: Path, tokenizer: Any) -> None:
    expected = token_ids(tokenizer, TEXTS, 8)
    (path,) = kept(cache)
    content = path.read_bytes()
    for row in {tuple(row) for row in expected}:
        ids = struct.pack(f"<{len(row)}i", *row)
        content = content.replace(ids, bytes(len(ids)))
    assert content != path.read_bytes() and len(content) == path.stat().st_size
    path.write_bytes(content)
    assert token_ids(tokenizer, TEXTS, 8) == expected


def test_a_damaged_cache_changes_no_bit_of_what_is_learned(home: Home, tmp_path: Path) -> None:
    first = home.train("place", SETTINGS).version
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            # the latter half, where the content of each file lies
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    again = Home(home.store).train("place", SETTINGS).version
    assert (again.digest, again.metrics) == (first.digest, first.metrics)


def test_a_cache_that_can_not_be_used_changes_no_bit_of_what_is_learned(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = home.train("place", SETTINGS).version
    monkeypatch.setenv("LIMPET_CACHE", "/proc/limpet")
    again = Home(home.store).train("place", SETTINGS).version
    assert (again.digest, again.metrics) == (first.digest, first.metrics)


def test_a_few_texts_are_not_kept(cache: Path, tokenizer: Any) -> None:
    assert len(token_ids(tokenizer, TEXTS[:3], 8)) == 3
    assert kept(cache) == []
