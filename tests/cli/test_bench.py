"""`limpet bench methods`: a table, JSON, files, and errors that lose nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet


def test_a_benchmark_is_a_table_and_files(copy: Limpet, tmp_path: Path) -> None:
    outs = [tmp_path / f"bench.{form}" for form in ("png", "svg", "html", "json")]
    wanted = [word for path in outs for word in ("--out", path)]
    said = copy.ok("bench", "methods", "place", "--methods", "ia3,probe", "--epochs", 1, *wanted)
    assert "accuracy" in said.stdout and "ia3" in said.stdout and "probe" in said.stdout
    assert "probe (2 of 2)" in said.stderr
    assert said.stdout.splitlines()[-4:] == [str(path) for path in outs]
    assert outs[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in outs[1].read_bytes()
    assert "data:image/svg+xml" in outs[2].read_text(encoding="utf-8")
    assert [row["method"] for row in json.loads(outs[3].read_text())["methods"]] == ["ia3", "probe"]
    # what was there is served as before
    assert copy.ok("adapter", "list", "--json").json["adapters"][0]["version"] == 2


def test_settings_of_methods_reach_them_and_json_has_every_run(copy: Limpet) -> None:
    words = ("--methods", "lora,peft:loha", "--seeds", "3", "--epochs", 1, "--quiet")
    settings = ("--set", "lora:r=2", "--set", "lora:lr=0.01", "--set", "peft:loha:r=4")
    found = copy.ok("bench", "methods", "place", *words, *settings, "--register", "--json").json
    lora, loha = (row["runs"][0] for row in found["methods"])
    assert (lora["config"]["method"]["r"], lora["config"]["training"]["learning_rate"]) == (2, 0.01)
    assert loha["config"]["method"]["r"] == 4
    assert (lora["seed"], lora["version"], loha["version"]) == (3, "place@3", "place@4")
    assert copy.ok("adapter", "show", "place@latest", "--json").json["version"] == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 3, "There is no task 'nowhere'"),
        (("place", "--methods", "loar"), 2, "There is no method 'loar'"),
        (("place", "--seeds", "one"), 2, "--seeds takes whole numbers"),
        (("place", "--set", "r=8"), 2, "--set takes METHOD:KEY=VALUE, not 'r=8'"),
        (("place", "--set", "lora:r"), 2, "--set takes METHOD:KEY=VALUE"),
        (("place", "--out", "bench.pdf"), 2, "bench.pdf ends in none of .png, .svg, .html, .json"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_before_anything_is_learned(
    grown: Limpet, words: tuple[str, ...], code: int, said: str
) -> None:
    outcome = grown("bench", "methods", *words)
    assert outcome.code == code
    assert said in outcome.stderr and "hint: " in outcome.stderr
