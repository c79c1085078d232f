"""`limpet predict TASK --file` with a table: what is read as one, where the answers go, and what is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet

ROWS = "id,text,note\n7,a wave,x\n8,,y\n9,old iron ore,z\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def labels_of(grown: Limpet, *texts: str) -> list[str]:
    return [one["label"] for one in grown.ok("predict", "place", *texts, "--json").json["predictions"]]


def test_a_table_leads_to_a_table_with_the_version_on_record(grown: Limpet, rows: Path) -> None:
    out = rows.with_name("answers.csv")
    outcome = grown.ok("predict", "place", "--file", rows, "--text", "text", "--out", out)
    version = grown.ok("adapter", "show", "place", "--json").json
    assert "place@2" in outcome.stdout and version["digest"] in outcome.stdout
    assert "1 row has no answer: empty" in outcome.stderr and "row 2" in outcome.stderr
    wave, ore = labels_of(grown, "a wave", "old iron ore")
    assert out.read_text(encoding="utf-8") == (
        f"id,text,note,prediction\n7,a wave,x,{wave}\n8,,y,\n9,old iron ore,z,{ore}\n"
    )
    record = json.loads(out.with_name("answers.csv.limpet.json").read_text(encoding="utf-8"))
    assert (record["job"]["version"], record["job"]["digest"]) == (2, version["digest"])
    again = grown.ok("predict", "place", "--file", rows, "--text", "text", "--out", out, "--json").json
    assert (again["already"], again["rows"], again["answered"], again["unanswered"]) == (True, 3, 2, {"empty": 1})
    assert (again["task"], again["version"], again["digest"]) == ("place", 2, version["digest"])
    other = grown("predict", "place@1", "--file", rows, "--out", out, "--json")
    assert other.code == 4 and "place@2" in other.error["message"]


def test_without_out_a_table_goes_to_stdout_in_its_own_format(grown: Limpet, rows: Path) -> None:
    outcome = grown.ok("predict", "place@1", "--file", rows)
    assert outcome.stdout.startswith("id,text,note,prediction\n7,a wave,x,")
    assert "place@1 answered" in outcome.stderr
    content = grown.ok("predict", "place@1", "--file", rows, "--json").json
    assert content["version"] == 1
    assert [row["prediction"] for row in content["answers"]] == [
        row["prediction"] or None for row in csv.DictReader(outcome.stdout.splitlines())
    ]


@pytest.mark.parametrize("name", ["rows.txt", "rows", "-"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_what_looks_like_a_table_is_read_as_one_whatever_it_is_called(
    grown: Limpet, tmp_path: Path, name: str, separator: str
) -> None:
    content = ROWS.replace(",", separator)
    (tmp_path / name).write_text(content, encoding="utf-8")
    file = name if name == "-" else tmp_path / name
    outcome = grown.ok("predict", "place", "--file", file, "--json", stdin=content)
    assert [row["id"] for row in outcome.json["answers"]] == ["7", "8", "9"]


def test_json_lines_without_a_suffix_are_a_table(grown: Limpet) -> None:
    outcome = grown.ok("predict", "place", "--file", "-", stdin='{"id": 1, "text": "a wave"}\n')
    assert list(json.loads(outcome.stdout)) == ["id", "text", "prediction"]


PROSE = "Well, I saw a wave\nOld, and far, and near\na star, no moon\n"


def test_lines_of_prose_are_lines(grown: Limpet, tmp_path: Path) -> None:
    answers = grown.ok("predict", "place", "--file", "-", "--json", stdin=PROSE).json["predictions"]
    assert [one["text"] for one in answers] == PROSE.splitlines()
    (tmp_path / "texts.txt").write_text(f"{PROSE}\na wave\n", encoding="utf-8")
    grown.ok("predict", "place", "--file", tmp_path / "texts.txt", "--out", tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [*PROSE.splitlines(), "", "a wave"]


def test_a_table_whose_texts_are_not_known_is_refused_with_both_ways_out(grown: Limpet) -> None:
    content = "key,wording\n1,a wave\n"
    outcome = grown("predict", "place", "--file", "-", "--json", stdin=content)
    assert outcome.code == 1 and "'key', 'wording'" in outcome.error["message"]
    assert "--text COL" in outcome.error["hint"] and "--text -" in outcome.error["hint"]
    lines = grown.ok("predict", "place", "--file", "-", "--text", "-", "--json", stdin=content).json["answers"]
    assert [row["text"] for row in lines] == ["key,wording", "1,a wave"]


def test_texts_that_are_typed_have_probabilities_too(grown: Limpet) -> None:
    labels = grown.ok("adapter", "show", "place", "--json").json["labels"]
    outcome = grown.ok("predict", "place", "a wave", "--probabilities")
    assert outcome.stdout.splitlines()[0].split() == ["prediction", *(f"probability_{one}" for one in labels), "text"]
    (row,) = grown.ok("predict", "place", "a wave", "--probabilities", "--json").json["answers"]
    assert sum(row[f"probability_{label}"] for label in labels) == pytest.approx(1, abs=1e-5)
    (row,) = grown.ok("predict", "place", "a wave", "--threshold", "0.999999", "--json").json["answers"]
    assert row["prediction"] is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["place", "a wave", "--out", "a.csv"], 2),
        (["--file", "rows.jsonl", "--out", "a.csv"], 2),
        (["place", "a wave", "--threshold", "1.5"], 2),
        (["place", "a wave", "--batch", "0"], 2),
        (["place", "--file", "nowhere.csv", "--out", "a.csv"], 3),
        (["wet@9", "--file", "nowhere.csv"], 3),
    ],
)
def test_what_can_not_be_done_is_said_with_its_exit_code(grown: Limpet, words: list[str], code: int) -> None:
    outcome = grown("predict", *words, "--json")
    assert outcome.code == code
    assert outcome.error["hint"]
