"""Predictions for rows that name their versions themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet

ROWS = [("place@1", "a wave"), ("wet", "old iron ore"), ("place@2", "a far star"), ("place@1", "salt")]


def test_rows_of_many_tasks_are_answered_in_their_order(grown: Limpet, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"task": task, "text": text}) for task, text in ROWS]
    path.write_text("\n".join([*lines[:2], "", *lines[2:]]), encoding="utf-8")
    answers = grown.ok("predict", "--file", path, "--json").json["answers"]
    assert [(one["version"], one["answer"]["text"]) for one in answers] == [
        ("place@1", "a wave"),
        ("wet@1", "old iron ore"),
        ("place@2", "a far star"),
        ("place@1", "salt"),
    ]
    for answer, (task, text) in zip(answers, ROWS, strict=True):
        (alone,) = grown.ok("predict", task, text, "--json").json["predictions"]
        assert answer["answer"]["label"] == alone["label"]
        assert answer["answer"]["logits"] == pytest.approx(alone["logits"], abs=1e-5)
    table = grown.ok("predict", "--file", "-", stdin="\n".join(lines)).stdout.splitlines()
    assert table[0].split() == ["version", "label", "probability", "text"]
    assert [line.split()[0] for line in table[1:]] == [answer["version"] for answer in answers]


@pytest.mark.parametrize("line", ["a wave", "[]", '{"task": "place"}', '{"task": 1, "text": "a"}', '"place"'])
def test_a_line_without_task_and_text_is_named(grown: Limpet, line: str) -> None:
    outcome = grown("predict", "--file", "-", "--json", stdin=f'{{"task": "place", "text": "a"}}\n{line}\n')
    assert outcome.code == 2
    assert repr(line) in outcome.error["message"]


INSIDE = "\x0b\x0c\x1c\x85\u2028\u2029"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_a_file_are_texts_whatever_stands_inside_them(grown: Limpet, tmp_path: Path, end: str) -> None:
    texts = ["a wave", *(f"old{mark}iron ore" for mark in INSIDE), "a far star"]
    path = tmp_path / "texts.txt"
    path.write_bytes("".join(f"{text}{end}" for text in texts).encode())
    answers = grown.ok("predict", "place", "--file", path, "--json").json["predictions"]
    assert [one["text"] for one in answers] == texts


def test_a_json_line_may_hold_a_raw_line_separator(grown: Limpet) -> None:
    line = json.dumps({"task": "place", "text": "a\u2028wave"}, ensure_ascii=False)
    (answer,) = grown.ok("predict", "--file", "-", "--json", stdin=f"{line}\n").json["answers"]
    assert answer["answer"]["text"] == "a\u2028wave"


def test_empty_lines_that_are_skipped_are_counted(grown: Limpet) -> None:
    outcome = grown.ok("predict", "place", "--file", "-", stdin="a wave\n\n  \nold iron ore\n")
    assert "-: 2 empty lines skipped" in outcome.stderr


def test_a_file_in_another_encoding_is_answered_with_the_way_to_utf_8(grown: Limpet, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("a wave at the café\n".encode("utf-16"))
    outcome = grown("predict", "place", "--file", path, "--json")
    assert outcome.code == 2
    assert "is UTF-16" in outcome.error["message"]
    assert outcome.error["hint"].startswith(f"iconv -f UTF-16 -t UTF-8 {path}")
