"""`limpet du`, and that the page of the home tells of every file that limpet puts there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from limpet.registry.cleanup.usage import FILES, kind_of
from limpet.registry.database.migrate import upgrade
from tests.cli.conftest import Limpet
from tests.registry.database.released import RELEASED, lay_home

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "home.md"


def told_of() -> set[str]:
    """The names in the first column of the page's table of files."""
    section = PAGE.read_text(encoding="utf-8").partition("## The files of a home")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name.rstrip("/") for cell in cells for name in re.findall("`([^`]+)`", cell)}


def test_the_page_of_the_home_tells_of_every_file_that_limpet_puts_there() -> None:
    known = {re.sub(r"\*\.backup$", "<revision>-<time>.backup", name) for name in FILES}
    # half a copy of an upgrade that died, which the next one takes away, and the journal of the mirror's SQLite
    known -= {".limpet.db.*.backup.*", "mlflow.db-journal"}
    assert told_of() == known | {"blobs"}


def test_du_counts_every_byte_of_a_home_once(copy: Limpet) -> None:
    (copy.home / "notes.txt").write_text("mine", encoding="utf-8")
    # two versions of a task have the same labels.json
    assert copy.ok("du", "--json").json["shared"]["count"] > 0
    copy.ok("adapter", "delete", "place@1", "--reason", "old", "--yes")
    measured = copy.ok("du", "--json").json
    on_disk = [path for path in copy.home.rglob("*") if path.is_file() and path.name != "limpet-home.json"]
    assert measured["bytes"] == sum(path.stat().st_size for path in on_disk)
    assert sum(kind["count"] for kind in measured["kinds"].values()) == len(on_disk)
    assert measured["kinds"]["files of others"] == {"count": 1, "bytes": 4}
    assert measured["kinds"]["adapters"]["bytes"] > 0
    waiting = measured["gc"]["waiting"]
    assert measured["kinds"]["needed by nothing"] == waiting and waiting["bytes"] > 0
    # nothing is taken away by looking
    assert copy.ok("du", "--json").json == measured
    shown = copy.ok("du").stdout
    assert "wait for its grace period" in shown and "limpet gc --cache" in shown
    copy.ok("gc", "--grace", 0, "--yes")
    after = copy.ok("du", "--json").json
    assert "needed by nothing" not in after["kinds"]
    assert after["gc"]["waiting"] == {"count": 0, "bytes": 0}


@pytest.mark.slow
def test_a_home_that_has_gone_through_everything_has_no_file_that_du_does_not_know(
    copy: Limpet, tmp_path: Path
) -> None:
    settings = copy.home / "limpet.toml"
    settings.write_text(re.sub('mlflow = "off"\n', "", settings.read_text(encoding="utf-8")), encoding="utf-8")
    copy.ok("train", "wet", "--epochs", 1, "--seed", 7, "--quiet")
    copy.ok("bench", "methods", "wet", "--methods", "lora", "--epochs", 1, "--quiet")
    copy.ok("adapter", "delete", "place@1", "--reason", "old", "--yes")
    copy.ok("gc", "--grace", 0, "--yes")
    for revision in RELEASED:
        folder = tmp_path / revision
        folder.mkdir()
        database = lay_home(revision, folder)
        upgrade(database)
        database.close()
        assert {kind_of(path.name) for path in folder.iterdir()} >= {"backups of the database"}
    names = [path.name for home in (copy.home, *(tmp_path / name for name in RELEASED)) for path in home.iterdir()]
    assert {"mlflow.db", "mirror.lock", "bench", "limpet.db.gc-lock"} <= set(names)
    assert [name for name in names if kind_of(name) == "files of others"] == []
