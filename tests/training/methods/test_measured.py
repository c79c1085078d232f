"""The tables of methods in the documentation are what the kept results of the benchmark amount to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import limpet

ROOT = Path(limpet.__file__).parents[1]


def test_the_documented_tables_are_those_of_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "methods.py"), "table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    documented = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    assert [line for line in lines if line not in documented] == []
