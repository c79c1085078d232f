"""Near duplicates among very many texts: candidates by MinHash, compared exactly."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from limpet.training.data import duplicates
from limpet.training.data.build_task import build_task
from limpet.training.data.duplicates import MinHashes, Shingles, shingles_of
from limpet.training.data.reading import table_writer
from limpet.training.data.task_request import TaskRequest


def altered(count: int, seed: int = 0) -> list[str]:
    """Pairs of texts, the second of each with some words changed, none to nearly all."""
    chance = random.Random(seed)
    texts = []
    for number in range(count):
        words = [f"w{chance.randrange(5000)}" for _ in range(chance.randint(4, 60))]
        other = [word if chance.random() > number / count / 4 else f"x{chance.randrange(5000)}" for word in words]
        texts += [" ".join(words), " ".join(other)]
    return texts


def test_finds_what_an_exact_comparison_finds() -> None:
    texts = altered(1500)
    pool, references = range(1, len(texts), 2), range(0, len(texts), 2)
    exact = Shingles(texts).resembling(pool, references)
    found = MinHashes(texts).resembling(pool, references)
    assert found <= exact
    # one in 6,500 of the least alike may be missed
    assert len(exact) > 400 and len(found) >= len(exact) - 1


def test_what_most_texts_share_is_not_compared() -> None:
    shared = " ".join(f"instruction{number}" for number in range(30))
    texts = [f"{shared} {' '.join(f'own{at}-{number}' for number in range(4))}" for at in range(40)]
    assert MinHashes(texts).shared == Shingles(texts).shared > 0
    assert MinHashes(texts).resembling(range(20), range(20, 40)) == set()
    assert MinHashes([*texts, shared, f"{shared}!"]).resembling([41], [40]) == {41}


def test_many_texts_and_long_ones_are_not_compared_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(shingles_of(["a", "b"], 2), Shingles)
    assert isinstance(shingles_of(["a", "b"], 1 << 30), MinHashes)
    monkeypatch.setattr(duplicates, "_MOST_TEXTS", 1)
    assert isinstance(shingles_of(["a", "b"], 2), MinHashes)


def test_values_of_one_hash_function_agree_as_often_as_texts_do() -> None:
    texts = [" ".join(f"w{word}" for word in range(start, start + 42)) for start in (0, 10)]
    bands = MinHashes([*texts] * 2)._bands
    assert (bands[:, 0] == bands[:, 2]).all()
    # 30 of 50 shingles are shared, so that a band agrees with a probability of 0.6 ** 4
    pairs = [
        MinHashes([" ".join(f"{n}-{word}" for word in range(s, s + 42)) for s in (0, 10)])._bands for n in range(40)
    ]
    agreeing = np.mean([band[:, 0] == band[:, 1] for band in pairs])
    assert agreeing == pytest.approx(0.6**4, abs=0.05)


def test_a_task_of_many_rows_is_the_same_as_one_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": text, "label": f"l{at % 3}"} for at, text in enumerate(altered(300))]
    rows += [{"text": rows[0]["text"].upper(), "label": "l1"}, {"text": " ", "label": "l1"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few, _ = build_task(TaskRequest("t", str(path)))
    monkeypatch.setattr(table_writer, "_ROWS", 7)
    monkeypatch.setattr(duplicates, "_MOST_TEXTS", 1)
    many, _ = build_task(TaskRequest("t", str(path)))
    assert few.checks["near_duplicates"] > 20 and few.checks["conflicts"]
    assert (many.data_digest, many.checks) == (few.data_digest, few.checks)
