"""`limpet task rename` and `limpet task remove`, as they are typed, in a home that has grown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import limpet as package
from limpet.errors import NotFoundError
from tests.cli.conftest import Limpet


def test_a_renamed_task_is_trained_answered_and_reported_under_its_new_name(copy: Limpet) -> None:
    before = copy.ok("report", "home", "--json").json
    assert copy.ok("task", "rename", "place", "spot").stdout == "place is called spot now\n"
    after = copy.ok("report", "home", "--json").json
    assert [task["name"] for task in after["tasks"]] == ["spot", "wet"]
    assert [arm["matrix"] for arm in after["arms"]] == [arm["matrix"] for arm in before["arms"]]
    refused = copy("predict", "place", "a wave")
    assert (refused.code, "The task 'place' is called 'spot' now." in refused.stderr) == (3, True)
    copy.ok("train", "spot", "--epochs", 1, "--seed", 2, "--quiet")
    assert copy.ok("adapter", "show", "spot@3", "--json").json["task"] == "spot"
    grown = copy.ok("report", "home", "--json").json
    assert [task["name"] for task in grown["tasks"]] == ["spot", "wet"]
    shown = copy.ok("log", "--subject", "place", "--json").json["events"]
    assert [event["action"] for event in shown] == ["task rename", "task add"]
    assert copy.ok("verify", "--deep", "--json").json["problems"] == []


def test_a_warm_server_answers_under_the_new_name_alone(copy: Limpet) -> None:
    home = package.open(copy.home)
    server = home.serve()
    before = server.predict([("place@2", "a wave"), ("place@2", "a reef")])
    home.task.rename("place", "spot")
    after = server.predict([("spot@2", "a wave"), ("spot@2", "a reef")])
    assert [served.answer for served in after] == [served.answer for served in before]
    assert {served.version for served in after} == {"spot@2"}
    with pytest.raises(NotFoundError, match="is called 'spot' now"):
        server.predict([("place@2", "a wave")])


def test_a_task_that_something_outside_the_database_names_is_neither_renamed_nor_removed(copy: Limpet) -> None:
    settings = copy.home / "limpet.toml"
    written = settings.read_text()
    settings.write_text(f"{written}\n[gate.tasks.place]\nmax_forgetting = 0.1\n")
    for words in (("rename", "place", "spot"), ("remove", "place", "--reason", "old", "--yes")):
        refused = copy("task", *words, "--json")
        assert (refused.code, refused.error["type"]) == (4, "ConflictError")
        assert "[gate.tasks.place]" in refused.error["message"]
    settings.write_text(written)
    run = copy.home / "runs" / "0123"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"task": "place", "settings": {}, "parent": None}))
    for words in (("rename", "place", "spot"), ("remove", "place", "--reason", "old", "--yes")):
        refused = copy("task", *words)
        assert (refused.code, "hint: limpet train place --resume" in refused.stderr) == (4, True)
    shutil.rmtree(run)
    assert copy.ok("task", "rename", "place", "spot", "--json").json == {
        "schema": 1,
        "task": "spot",
        "former": "place",
    }


def test_a_task_is_removed_and_the_report_of_the_home_opens_also_after_its_rows_went(
    copy: Limpet, tmp_path: Path
) -> None:
    refused = copy("task", "remove", "wet", "--reason", "handed over", "--yes")
    assert (refused.code, "wet@production at version 1" in refused.stderr) == (4, True)
    assert "hint: limpet adapter unpromote wet production --reason TEXT" in refused.stderr
    copy.ok("adapter", "unpromote", "wet", "production", "--reason", "handed over")
    words = ("task", "remove", "wet", "--reason", "handed over")
    assert copy(*words).code == 2
    looked = copy.ok(*words, "--dry-run", "--json").json
    assert (looked["dry_run"], looked["versions"]) == (True, ["wet@1"])
    assert copy.ok(*words, "--yes").stdout.startswith("removed wet and deleted wet@1 (")
    copy.ok("gc", "--grace", "0", "--yes")
    report = copy.ok("report", "home", "--json").json
    assert [task["name"] for task in report["tasks"]] == ["place"]
    assert report["removed"]["wet"]["reason"] == "handed over"
    page = copy.ok("report", "home", "--format", "html", "--out", tmp_path / "report.html")
    assert page.code == 0 and "The task wet was removed on" in (tmp_path / "report.html").read_text()
    assert [task["name"] for task in copy.ok("task", "list", "--json").json["tasks"]] == ["place"]
    shown = copy("task", "show", "wet")
    assert (shown.code, "was removed by" in shown.stderr, "handed over" in shown.stderr) == (3, True, True)
    assert copy.ok("adapter", "show", "wet@1", "--json").json["deleted"]["reason"] == "handed over"
    assert copy.ok("verify", "--deep", "--json").json["problems"] == []
    assert "wet" not in {task["task"] for task in copy.ok("status", "--json").json["tasks"]}
