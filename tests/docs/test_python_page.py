"""The page of Python does what it says: its blocks run, one after the other, as in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import GUIDES, blocks


def test_the_blocks_of_the_python_page_run_in_their_order(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"LIMPET_BASE": str(base_folder), "LIMPET_MLFLOW": "off", "LIMPET_CACHE": "cache"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LIMPET_HOME", raising=False)
    names: dict[str, object] = {}
    blocks_of_python = [block.text for block in blocks(GUIDES / "python.md") if block.info == "python"]
    for text in blocks_of_python:
        exec(compile(text, "python.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert len(blocks_of_python) == 4
    assert printed[0].startswith("<TaskRecord team@r1: classification, 2 labels, train ")
    assert printed[1].startswith("<Trained team@1: team ")
    assert all(line.split()[0] in {"billing", "delivery"} for line in printed[2:4])
    assert printed[4].startswith("home.predict takes a list of texts for 'texts', not 'Where is my box?'")
