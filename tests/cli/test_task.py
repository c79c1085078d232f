"""`limpet task add|show`: what is said of a task's data."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Limpet
from tests.tiny import FILLER, TOPICS


def rows(folder: Path) -> str:
    """Sixty texts with three labels; four of them are longer than 16 tokens."""
    path = folder / "rows.jsonl"
    lines = []
    for at in range(60):
        words = list(TOPICS.values())[at % 3]
        text = [words[at % 6], words[(at // 3) % 6], FILLER[at % 7], str(at)] * (6 if at < 4 else 1)
        lines.append({"text": " ".join(text), "label": ["10", "9", "1.0"][at % 3]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"jsonl:{path}"


def test_add_and_show_say_order_cut_and_majority_baseline(copy: Limpet, tmp_path: Path) -> None:
    added = copy.ok("task", "add", "said", "--data", rows(tmp_path), "--max-length", 16, "--json").json
    assert added["labels"] == ["1.0", "9", "10"]
    assert added["checks"]["label_order"] == "by number"
    assert set(added["cut"]) == {"train", "validation", "evaluation"}
    assert sum(split["texts"] for split in added["cut"].values()) == 4
    assert max(split["texts_by"] for split in added["cut"].values()) > 0
    assert 0.3 < added["majority_baseline"] < 0.4
    assert copy.ok("task", "show", "said", "--json").json == added
    shown = copy.ok("task", "show", "said").stdout
    lines = [line.split(maxsplit=1) for line in shown.splitlines() if line.startswith(("labels", "majority"))]
    assert lines[0] == ["majority", f"baseline  {added['majority_baseline']:.4f}"]
    assert lines[1] == ["labels", "1.0, 9, 10"]
    assert "are cut at 16 tokens" in shown


def test_the_order_of_labels_can_be_asked_for(copy: Limpet, tmp_path: Path) -> None:
    added = copy.ok("task", "add", "asked", "--data", rows(tmp_path), "--labels", "9, 1.0,10", "--json").json
    assert added["labels"] == ["9", "1.0", "10"]
    outcome = copy("task", "add", "other", "--data", rows(tmp_path), "--labels", "9,10", "--json")
    assert outcome.code == 2
    assert "lacks '1.0'" in outcome.error["message"]


def test_near_duplicates_and_overlong_texts_are_treated_as_asked_for(copy: Limpet, tmp_path: Path) -> None:
    options = ("--near-duplicates", "keep", "--overlong", "drop", "--max-length", 16)
    added = copy.ok("task", "add", "kept", "--data", rows(tmp_path), *options, "--json").json
    assert added["checks"]["near_duplicates"] is None
    assert added["checks"]["overlong_dropped"] == 4
    outcome = copy("task", "add", "strict", "--data", rows(tmp_path), "--overlong", "refuse", "--max-length", 16)
    assert outcome.code == 1
    assert "4 texts are longer than 16 tokens" in outcome.stderr
    assert copy("task", "add", "strict", "--data", rows(tmp_path), "--overlong", "shorten").code == 2


def test_what_was_left_out_is_said_in_sentences_and_labels_are_counted_in_each_split(
    copy: Limpet, tmp_path: Path
) -> None:
    path = tmp_path / "mail.jsonl"
    lines = [{"text": f"text {at} of its own", "label": ["billing", "technical"][at % 2]} for at in range(40)]
    lines += [lines[0] | {"label": "technical"}, {"text": "", "label": "billing"}]
    lines += [{"text": f"another kind {at}", "label": "techincal"} for at in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = copy.ok("task", "add", "mail", "--data", f"jsonl:{path}").stdout
    assert "rows               46 examples were read: 44 of them are in the splits\n" in shown
    assert "1 example was left out because there is no text\n" in shown
    assert "1 text has different labels in different rows" in shown
    assert "the label 'techincal' (4 examples) may be 'technical' misspelt (20 examples)" in shown
    table = [line.split() for line in shown.partition("\n\nlabel ")[2].splitlines()]
    assert table[0] == ["train", "validation", "evaluation"]
    assert {row[0] for row in table[1:]} == {"billing", "technical", "techincal"}
    assert sum(int(count) for row in table[1:] for count in row[1:]) == 44
    content = copy.ok("task", "show", "mail", "--json").json
    assert content["checks"]["exact_duplicates"] == 1
    assert len(content["left_out"]) == 5
    assert content["left_out"][-1] == "'text 0 of its own' has 'billing', 'technical'"
    assert len(content["label_notes"]) == 2
