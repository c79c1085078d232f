"""`limpet status`: one screen of a home."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Limpet
from tests.tiny import tiny_csv


def kinds(limpet: Limpet) -> dict[str, str]:
    return {due["kind"]: due["hint"] for due in limpet.ok("status", "--json").json["due"]}


def test_it_shows_what_serves_each_task_and_the_newest_versions_first(grown: Limpet) -> None:
    status = grown.ok("status", "--json").json
    assert status["base"]["digest"] == grown.ok("base", "show", "--json").json["digest"]
    assert {task["task"]: (task["version"], task["promoted"]) for task in status["tasks"]} == {
        "place": ("place@2", False),
        "wet": ("wet@1", True),
    }
    assert [version["version"] for version in status["additions"]] == ["place@2", "wet@1", "place@1"]
    assert status["due"] == []
    shown = grown.ok("status").stdout
    assert str(grown.home) in shown and "wet@1" in shown and "promoted" in shown
    assert shown.endswith("nothing is due\n")


def test_what_is_due_has_a_command_to_type(copy: Limpet, tmp_path: Path) -> None:
    copy.ok("task", "add", "hill", "--data", tiny_csv(tmp_path / "hill.csv"), "--max-length", 16)
    run = copy.home / "runs" / "0" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps({"task": "place"}), encoding="utf-8")
    settings = copy.home / "limpet.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('mlflow = "off"', ""), encoding="utf-8")
    assert kinds(copy) == {
        "run": "limpet train place --resume",
        "task": "limpet train hill",
        "mirror": "limpet ui --sync",
    }
    shown = copy.ok("status").stdout
    assert "hill was never learned" in shown
    assert "place@1, wet@1, place@2 are not in the MLflow mirror yet" in shown


def test_a_revision_that_is_newer_than_what_serves_is_due(copy: Limpet, tmp_path: Path) -> None:
    copy.ok("task", "revise", "wet", "--data", tiny_csv(tmp_path / "more.csv", labels=("sea", "rock"), seed=5))
    assert kinds(copy) == {"revision": "limpet train wet --from wet@1"}
    assert "wet@r2 is newer than what serves: wet@1 was learned on wet@r1" in copy.ok("status").stdout


def test_a_home_of_nothing_has_a_status(new: Limpet) -> None:
    new.ok("init", "--mlflow", "off")
    assert "sample:minilm (not fetched yet)" in new.ok("status").stdout


def test_it_imports_no_library_of_models(grown: Limpet) -> None:
    script = (
        "import sys\nfrom limpet.cli import cli\n"
        f"try:\n    cli.main(['status', '--home', {str(grown.home)!r}])\nexcept SystemExit as end:\n"
        "    assert not end.code\n"
        "print('modules:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(done.stdout.rpartition("modules:")[2].split())
    assert not modules & {"torch", "transformers", "peft", "datasets", "mlflow", "numpy", "scipy"}
