"""The tables of methods in the documentation are what the kept results of the benchmark amount to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import limpet

ROOT = Path(limpet.__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "methods.jsonl"


def tables(results: Path) -> list[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "methods.py"), "table", "--results", str(results)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in printed.splitlines() if line.startswith("|")]


def test_the_documented_tables_are_those_of_the_results() -> None:
    lines = tables(RESULTS)
    documented = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    assert [line for line in lines if line not in documented] == []


def test_results_in_another_dtype_change_no_table(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    learned = next(row for row in rows if (row["key"]["kind"], row["key"]["arm"]) == ("learn", "full"))
    other = learned | {"accuracy": 0.0, "key": learned["key"] | {"dtype": "float32"}}
    kept = tmp_path / "methods.jsonl"
    kept.write_text(json.dumps(learned) + "\n", encoding="utf-8")
    before = tables(kept)
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(other) + "\n")
    after = tables(kept)
    assert len(before) > 2
    assert after[: len(before)] == before
    assert len(after) > len(before)
