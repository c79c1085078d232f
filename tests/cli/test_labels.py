"""`limpet task show --examples`, `task rows` and `adapter show --errors`: what a version learned, and gets wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.cli.conftest import Limpet


def test_examples_are_the_first_rows_of_each_label(grown: Limpet) -> None:
    found = grown.ok("task", "show", "place", "--examples", "--limit", 2, "--json").json["examples"]
    assert [one["label"] for one in found] == ["rock", "rock", "sea", "sea", "sky", "sky"]
    assert all(one["text"] for one in found)
    shown = grown.ok("task", "show", "place", "--examples").stdout.splitlines()
    assert shown[0].split() == ["label", "row", "text"]
    assert len(shown) == 10
    assert grown("task", "show", "place", "--examples", "--suspects").code == 2
    assert grown("task", "show", "place", "--limit", 2).code == 2


def test_suspects_are_shown_with_what_the_probe_says(grown: Limpet) -> None:
    found = grown.ok("task", "show", "wet", "--suspects", "--json").json
    assert found["task"] == "wet"
    assert found["found"] >= len(found["suspects"])
    said = grown.ok("task", "show", "wet", "--suspects", "--limit", 1).stdout
    assert said.startswith("A probe on the features of the base answers ")


def test_the_rows_of_a_version_make_the_task_again(copy: Limpet, tmp_path: Path) -> None:
    lines = copy.ok("task", "rows", "place@1").stdout.splitlines()
    shown = copy.ok("adapter", "show", "place@1", "--json").json["learned_on"]
    assert len(lines) == shown["splits"]["train"]["examples"]
    assert (shown["task"], shown["revision"]) == ("place", 1)
    assert set(json.loads(lines[0])) == {"row", "text", "label"}
    parts = []
    for split in ("train", "eval", "validation"):
        path = tmp_path / f"{split}.csv"
        name = "evaluation" if split == "eval" else split
        copy.ok("task", "rows", "place@1", "--split", name, "--out", path)
        parts.append(f"{split}={path}")
    assert next(csv.reader((tmp_path / "train.csv").open())) == ["row", "text", "label"]
    again = copy.ok("task", "add", "again", "--data", f"csv:{','.join(parts)}", "--json").json
    counts = {split["name"]: split["label_counts"] for split in again["splits"]}
    # validation examples are drawn anew, a fifth of the training examples
    for split in ("train", "evaluation"):
        assert counts[split] == shown["splits"][split]["label_counts"]
    assert again["checks"]["exact_duplicates"] == 0


def test_rows_are_paged_and_a_split_that_is_not_there_is_named_with_those_that_are(grown: Limpet) -> None:
    page = grown.ok("task", "rows", "place@1", "--limit", 5, "--json").json
    following = grown.ok("task", "rows", "place@1", "--limit", 5, "--cursor", page["cursor"], "--json").json
    assert [row["row"] for row in page["rows"] + following["rows"]] == list(range(1, 11))
    assert grown.ok("task", "rows", "place@1", "--json").json["cursor"] is None
    outcome = grown("task", "rows", "place@1", "--split", "test", "--json")
    assert outcome.code == 3
    assert "train, validation, evaluation" in outcome.error["message"]


def test_what_a_version_gets_wrong_agrees_with_its_score(grown: Limpet) -> None:
    errors = grown.ok("adapter", "show", "place@1", "--errors", "--limit", 100, "--json").json
    score = grown.ok("adapter", "show", "place@1", "--json").json["metrics"]["score"]
    assert errors["score"] == score
    assert errors["task"] == "place@r1"
    assert len(errors["wrong"]) == errors["wrong_examples"] == round((1 - score) * errors["examples"]) > 0
    assert sum(errors["matrix"][at][at] for at in range(3)) == errors["examples"] - errors["wrong_examples"]
    assert sum(confusion["examples"] for confusion in errors["confusions"]) == errors["wrong_examples"]
    assert [sum(row) for row in errors["matrix"]] == [label["examples"] for label in errors["labels"]]
    rows = grown.ok("task", "rows", "place@1", "--split", "evaluation", "--json").json["rows"]
    for wrong in errors["wrong"]:
        row = rows[wrong["row"] - 1]
        assert (row["text"], row["label"]) == (wrong["text"], wrong["target"])
        assert wrong["predicted"] != wrong["target"]


def test_errors_are_shown_label_by_label_and_example_by_example(grown: Limpet) -> None:
    shown = grown.ok("adapter", "show", "place@1", "--errors", "--limit", 1).stdout
    assert "evaluation examples of place@r1 wrongly (accuracy 0." in shown
    tables = [part.splitlines() for part in shown.split("\n\n")[1:]]
    assert tables[0][0].split() == ["label", "examples", "predicted", "precision", "recall", "F1"]
    assert tables[1][0].startswith("right, down; predicted, across")
    assert tables[2][0].split() == ["row", "right", "predicted", "text"]
    assert "learned on" in grown.ok("adapter", "show", "place@1").stdout


def test_the_rows_of_a_removed_task_are_said_to_be_gone_and_leave_no_file_and_its_errors_stay(
    copy: Limpet, tmp_path: Path
) -> None:
    copy.ok("task", "remove", "place", "--reason", "merged", "--yes")
    copy.ok("gc", "--yes", "--grace", "0s")
    outcome = copy("task", "rows", "place@1", "--out", tmp_path / "rows.csv", "--json")
    assert outcome.code == 3
    assert "merged" in outcome.error["message"]
    assert not (tmp_path / "rows.csv").exists()
    errors = copy.ok("adapter", "show", "place@1", "--errors", "--json").json
    assert errors["wrong_examples"] == len(errors["wrong"]) or len(errors["wrong"]) == 10
    assert {wrong["text"] for wrong in errors["wrong"]} == {None}
