"""`limpet adapter export` and `import`, from one home to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Limpet


@pytest.fixture
def other(grown: Limpet, tmp_path: Path) -> Limpet:
    """A home on the same base, with no task."""
    limpet = Limpet(tmp_path / "other", grown.cache)
    limpet.ok("init", "--base", grown.home.parent / "base", "--mlflow", "off")
    return limpet


def test_a_version_goes_from_home_to_home_and_predicts_as_before(
    grown: Limpet, other: Limpet, tmp_path: Path
) -> None:
    path = tmp_path / "wet.limpet"
    written = grown.ok("adapter", "export", "wet@1", path, "--json").json
    assert (written["path"], written["files"], written["version"]) == (str(path), None, 1)
    brought = other.ok("adapter", "import", path, "--json").json
    assert (brought["created"], brought["version"]["digest"]) == (True, written["digest"])
    texts = ("a wave of the tide", "stone and sand")
    before = grown.ok("predict", "wet@1", *texts, "--json").json["predictions"]
    assert other.ok("predict", "wet@1", *texts, "--json").json["predictions"] == before
    score = other.ok("evaluate", "wet@1", "--json").json["evaluations"][0]["score"]
    assert score == brought["version"]["metrics"]["score"]
    again = other.ok("adapter", "import", path)
    assert again.stdout.startswith("the same bytes were registered before as wet@1")


def test_an_import_says_that_nothing_was_evaluated(grown: Limpet, other: Limpet, tmp_path: Path) -> None:
    grown.ok("adapter", "export", "place", tmp_path / "place.limpet")
    outcome = other.ok("adapter", "import", tmp_path / "place.limpet")
    assert outcome.stdout.startswith("imported place@1 (lora, ")
    assert outcome.stderr == "it was not evaluated here: limpet evaluate place@1\n"
    assert other("adapter", "import", tmp_path / "place.limpet", "--quiet").stderr == ""


def test_data_stays_here_where_that_is_asked_for(grown: Limpet, other: Limpet, tmp_path: Path) -> None:
    path = tmp_path / "bare.limpet"
    grown.ok("adapter", "export", "wet", path, "--without-data")
    refused = other("adapter", "import", path)
    assert refused.code == 3
    assert "does not bring its data" in refused.stderr
    folder = grown("adapter", "export", "wet", tmp_path / "folder", "--without-data")
    assert folder.code == 2
    assert not (tmp_path / "folder").exists()


def test_a_bundle_that_was_changed_is_refused_with_code_5(grown: Limpet, other: Limpet, tmp_path: Path) -> None:
    path = tmp_path / "wet.limpet"
    grown.ok("adapter", "export", "wet", path)
    path.write_bytes(path.read_bytes().replace(b"0000644", b"0004755", 1))
    outcome = other("adapter", "import", path, "--json")
    assert (outcome.code, outcome.error["type"]) == (5, "IntegrityError")
    assert other.ok("adapter", "list", "--json").json["adapters"] == []
