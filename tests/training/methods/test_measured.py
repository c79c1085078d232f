"""The tables of methods in the documentation are what the kept results of the benchmark amount to."""

from __future__ import annotations

import json
from pathlib import Path

import limpet
from tests.warm import Warm

ROOT = Path(limpet.__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "methods.jsonl"


def tables(warm: Warm, results: Path) -> list[str]:
    printed = warm.python(ROOT / "benchmarks" / "methods.py", "table", "--results", results)
    return [line for line in printed.splitlines() if line.startswith("|")]


def test_the_documented_tables_are_those_of_the_results(warm: Warm) -> None:
    lines = tables(warm, RESULTS)
    documented = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    assert [line for line in lines if line not in documented] == []


def test_results_in_another_dtype_change_no_table(tmp_path: Path, warm: Warm) -> None:
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    learned = next(row for row in rows if (row["key"]["kind"], row["key"]["arm"]) == ("learn", "full"))
    other = learned | {"accuracy": 0.0, "key": learned["key"] | {"dtype": "float32"}}
    kept = tmp_path / "methods.jsonl"
    kept.write_text(json.dumps(learned) + "\n", encoding="utf-8")
    before = tables(warm, kept)
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(other) + "\n")
    after = tables(warm, kept)
    assert len(before) > 2
    assert after[: len(before)] == before
    assert len(after) > len(before)
