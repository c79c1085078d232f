"""`limpet task revise|diff|show --revisions`, `train --replay` and `evaluate --data|--task`, as people type them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet
from tests.tiny import tiny_csv


def place(copy: Limpet) -> Path:
    return Path(copy.ok("task", "show", "place", "--json").json["data"].removeprefix("csv:"))


def revised_csv(copy: Limpet, folder: Path) -> Path:
    """The rows of `place` again with one label corrected, and ten new rows with a new label."""
    with place(copy).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    text, label = rows[1]
    rows[1] = [text, "sky" if label != "sky" else "sea"]
    rows += [[f"{word} pebble new", "wood"] for word in ("old", "far", "near", "big", "in", "of", "the", "a", "and")]
    path = folder / "march.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_revision_is_made_shown_and_compared(copy: Limpet, tmp_path: Path) -> None:
    before = copy.ok("task", "show", "place", "--json").json
    path = revised_csv(copy, tmp_path)
    made = copy.ok("task", "revise", "place", "--data", path, "--json").json
    assert (made["revision"], made["previous"]) == (2, before["data_digest"])
    assert made["labels"] == [*before["labels"], "wood"]
    counts = made["checks"]["revision"]
    assert sum(counts["corrected"].values()) == 1
    assert sum(counts["added"].values()) == 9
    assert copy.ok("task", "show", "place@r1", "--json").json["data_digest"] == before["data_digest"]
    difference = copy.ok("task", "diff", "place@r1", "place@r2", "--json").json
    assert difference["labels_added"] == ["wood"]
    assert [row["split_before"] for row in difference["corrected"]] == [
        split for split, number in counts["corrected"].items() if number
    ]
    assert sum(map(len, difference["added"].values())) == 9
    assert difference["removed"] == {}
    shown = copy.ok("task", "diff", "place@r1", "place@r2").stdout
    assert "1 corrected, 9 added" in shown
    listed = copy.ok("task", "show", "place", "--revisions", "--json").json
    assert [revision["versions"] for revision in listed["revisions"]] == [["place@1", "place@2"], []]
    assert copy.ok("task", "show", "place", "--revisions").stdout.count("march.csv") == 1


def test_the_same_data_again_change_nothing_and_say_so(copy: Limpet, tmp_path: Path) -> None:
    path = revised_csv(copy, tmp_path)
    copy.ok("task", "revise", "place", "--data", path)
    again = copy.ok("task", "revise", "place", "--data", path)
    assert "these data change nothing: place@r2 stays as it is" in again.stderr
    assert len(copy.ok("task", "show", "place", "--revisions", "--json").json["revisions"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("task", "revise", "nowhere", "--data", "x.csv"), 3, "There is no task 'nowhere'"),
        (("task", "revise", "place@r1", "--data", "x.csv"), 2, "not a task name"),
        (("task", "revise", "place", "--data", "nowhere.csv"), 3, "nowhere.csv"),
        (("task", "diff", "place@r1", "place@r9"), 3, "no revision 9 here, but r1"),
        (("task", "diff", "place@r1", "place@r1"), 2, "does not differ from itself"),
        (("task", "diff", "place@1", "place@r1"), 2, "names no revision"),
        (("task", "show", "place@r4"), 3, "no revision 4"),
        (("train", "place", "--replay", "10"), 2, "training begins with none"),
        (("train", "place", "--from", "wet@1", "--replay", "10"), 2, "training begins with wet@1"),
        (("train", "place", "--from", "place@1", "--replay", "some"), 2, "--replay takes a number of rows, or all"),
        (("train", "place", "--from", "place@1", "--replay", "0"), 2, "no training row that is new or corrected"),
        (("train", "wet", "--from", "production"), 3, "did you mean wet@production?"),
        (("train", "wet", "--from", "wet@9"), 3, "has no version 9"),
        (("evaluate", "place@1", "--data", "nowhere.csv"), 3, "nowhere.csv"),
        (("evaluate", "place@1", "--task", "nowhere"), 3, "There is no task 'nowhere'"),
        (("evaluate", "place@1", "--task", "place"), 2, "a version of 'place' itself"),
        (("evaluate", "place@1", "wet@1", "--task", "wet"), 2, "One version at a time"),
        (("evaluate", "place@1", "--text", "body"), 2, "columns of --data"),
    ],
)
def test_what_makes_no_sense_is_refused_and_loses_nothing(
    copy: Limpet, words: tuple[str, ...], code: int, said: str
) -> None:
    outcome = copy(*words)
    assert (outcome.code, said in outcome.stderr) == (code, True), outcome.stderr
    assert "hint:" in outcome.stderr
    assert len(copy.ok("task", "show", "place", "--revisions", "--json").json["revisions"]) == 1


def test_data_without_the_tasks_columns_are_refused_with_those_that_there_are(copy: Limpet, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("body,kind\na wave,sea\n")
    outcome = copy("task", "revise", "place", "--data", path)
    assert outcome.code == 1
    assert "body" in outcome.stderr
    copy.ok("task", "revise", "place", "--data", path, "--text", "body", "--label", "kind")


def test_a_label_that_only_evaluation_rows_have_is_an_error_that_names_one(copy: Limpet, tmp_path: Path) -> None:
    train = {row["text"] for row in _rows(copy) if row["split"] != "evaluation"}
    path = tmp_path / "renamed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(
            [row["text"], "stone"] for row in _rows(copy) if row["text"] in train and row["is"] == "rock"
        )
    outcome = copy("task", "revise", "place", "--data", path)
    assert outcome.code == 1
    assert "No training row has the label 'rock'" in outcome.stderr


def _rows(copy: Limpet) -> list[dict[str, str]]:
    """The rows of `place` with their splits: an empty difference has them all as added."""
    empty = copy.home.parent / "one.csv"
    if not empty.exists():
        tiny_csv(empty, rows=12, seed=99)
        copy.ok("task", "add", "apart", "--data", empty)
    added = copy.ok("task", "diff", "apart", "place", "--json").json["added"]
    return [{"text": text, "is": label, "split": split} for split, rows in added.items() for text, label in rows]


def test_a_version_is_evaluated_on_a_file_with_what_there_is_to_know(copy: Limpet, tmp_path: Path) -> None:
    path = revised_csv(copy, tmp_path)
    found = copy.ok("evaluate", "place@1", "--data", path, "--json").json
    assert found["evaluation"]["kind"] == "elsewhere"
    assert found["source"] == {"data": f"csv:{path}"}
    assert (found["unknown"], found["trained_on"] > 0) == (9, True)
    shown = copy.ok("evaluate", "place@1", "--data", path).stdout
    assert "9 rows have a label that it does not know" in shown


def test_corrections_alone_are_taken_where_no_new_row_is_wanted(copy: Limpet, tmp_path: Path) -> None:
    path = revised_csv(copy, tmp_path)
    sizes = ("--train-size", 0, "--eval-size", 0)
    counts = copy.ok("task", "revise", "place", "--data", path, *sizes, "--json").json["checks"]["revision"]
    assert (sum(counts["corrected"].values()), sum(counts["added"].values())) == (1, 0)


def test_rows_that_were_not_drawn_before_are_said_to_count_as_new(copy: Limpet, tmp_path: Path) -> None:
    path = tiny_csv(tmp_path / "many.csv", rows=120, seed=4)
    copy.ok("task", "add", "small", "--data", path, "--train-size", 30, "--eval-size", 20)
    revised = copy.ok("task", "revise", "small", "--data", path)
    assert "rows not drawn then count as new" in revised.stdout


def test_a_correction_that_is_taken_back_is_a_revision_too(copy: Limpet, tmp_path: Path) -> None:
    with place(copy).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    (text, label), path = rows[1], tmp_path / "one.csv"
    other = "sky" if label != "sky" else "sea"
    digests = []
    for correct in (other, label, other):
        path.write_text(f"text,label\n{text},{correct}\n")
        digests.append(copy.ok("task", "revise", "place", "--data", path, "--json").json["data_digest"])
    listed = copy.ok("task", "show", "place", "--revisions", "--json").json["revisions"]
    assert [revision["revision"] for revision in listed] == [1, 2, 3, 4]
    assert [revision["data_digest"] for revision in listed] == [digests[1], *digests]
    assert digests[0] == digests[2] != digests[1]
    assert copy.ok("evaluate", "place@2", "--json").json["evaluations"][0]["metric"] == "accuracy"
    copy.ok("verify", "--deep")
