"""What people read, and the lists that programs read."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.registry.store import open_store
from limpet.registry.versions import deletion
from tests.cli.conftest import Limpet


def test_lists_are_paged_newest_first(grown: Limpet) -> None:
    first = grown.ok("adapter", "list", "--limit", 2, "--json").json
    second = grown.ok("adapter", "list", "--limit", 2, "--cursor", first["cursor"], "--json").json
    found = [(item["task"], item["version"]) for page in (first, second) for item in page["adapters"]]
    assert found == [("place", 2), ("wet", 1), ("place", 1)]
    assert second["cursor"] is None
    assert "--cursor" in grown.ok("adapter", "list", "--limit", 2).stderr


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--task", "place"], ["place@2", "place@1"]),
        (["--alias", "production"], ["wet@1"]),
        (["--alias", "latest"], ["place@2", "wet@1"]),
        (["--method", "full"], []),
        (["--where", "seed = 1 and score >= 0"], ["place@2"]),
    ],
)
def test_lists_are_filtered(grown: Limpet, filters: list[str], expected: list[str]) -> None:
    lines = grown.ok("adapter", "list", *filters).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["version", *expected]


def test_lists_are_sorted_and_paged_in_that_order(grown: Limpet) -> None:
    smallest = [f"{item['task']}@{item['version']}" for item in _sorted(grown, "size", None)[0]]
    first, cursor = _sorted(grown, "-size", None)
    second, end = _sorted(grown, "-size", cursor)
    assert [f"{item['task']}@{item['version']}" for item in first + second] == smallest[::-1]
    assert end is None
    refused = grown("adapter", "list", "--cursor", cursor)
    assert refused.code == 2
    assert "is not a cursor of this list" in refused.stderr


def _sorted(limpet: Limpet, sort: str, cursor: str | None) -> tuple[list[dict[str, object]], str | None]:
    more = ["--cursor", cursor] if cursor else []
    limit = 3 if sort == "size" else 2
    page = limpet.ok("adapter", "list", "--sort", sort, "--limit", limit, *more, "--json").json
    return page["adapters"], page["cursor"]


def test_deleted_versions_are_listed_with_the_reason_when_asked_for(copy: Limpet) -> None:
    with_deleted = copy.ok("adapter", "list", "--deleted")
    assert "deleted because" in with_deleted.stdout
    deletion.delete(open_store(copy.home), "place@1", "superseded")
    assert "place@1" not in copy.ok("adapter", "list").stdout
    line = next(line for line in copy.ok("adapter", "list", "--deleted").stdout.splitlines() if "place@1" in line)
    assert line.rstrip().endswith("superseded")
    assert "superseded" in copy.ok("adapter", "show", "place@1").stdout
    assert copy.ok("adapter", "show", "place@1", "--json").json["deleted"]["reason"] == "superseded"


def test_tables_have_short_digests_and_show_has_whole_ones(grown: Limpet) -> None:
    digest = grown.ok("adapter", "show", "wet", "--json").json["digest"]
    listed = grown.ok("adapter", "list").stdout
    assert digest.removeprefix("sha256:")[:12] in listed
    assert digest not in listed
    assert digest in grown.ok("adapter", "show", "wet").stdout


def test_show_of_a_task_has_its_splits_and_its_labels_in_each(grown: Limpet) -> None:
    fields, splits, labels = grown.ok("task", "show", "wet").stdout.split("\n\n")
    assert "rock, sea" in fields
    assert [line.split()[:2] for line in splits.splitlines()[1:]] == [
        ["train", "50"],
        ["validation", "13"],
        ["evaluation", "27"],
    ]
    header, *rows = [line.split() for line in labels.splitlines()]
    assert header == ["label", "train", "validation", "evaluation"]
    assert [row[0] for row in rows] == ["rock", "sea"]
    assert [sum(int(row[at]) for row in rows) for at in (1, 2, 3)] == [50, 13, 27]


def test_methods_say_what_works_here(grown: Limpet) -> None:
    methods = {method["name"]: method for method in grown.ok("methods", "--json").json["methods"]}
    assert methods["lora"]["works"] is True
    assert methods["full"]["trains_base_copy"] is True
    assert "lora" in grown.ok("methods").stdout


def test_history_of_a_task_without_moves_is_empty(grown: Limpet) -> None:
    assert grown.ok("adapter", "history", "place", "--json").json["events"] == []
    assert len(grown.ok("adapter", "history", "wet", "production").stdout.splitlines()) == 2


def test_evaluate_takes_named_versions_or_all_current_ones(copy: Limpet) -> None:
    everything = copy.ok("evaluate", "--json").json["evaluations"]
    assert [record["version"] for record in everything] == ["wet@1", "place@2"]
    named = copy.ok("evaluate", "place@1").stdout.splitlines()
    assert [line.split()[0] for line in named] == ["version", "place@1"]


def test_predict_reads_one_text_a_line(grown: Limpet, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\xef\xbb\xbfa wave\r\n\r\n  \nold [red]iron[/red]\n")
    from_file = grown.ok("predict", "place", "--file", file, "--json").json["predictions"]
    assert [answer["text"] for answer in from_file] == ["a wave", "old [red]iron[/red]"]
    from_stdin = grown.ok("predict", "place", "--file", "-", "--json", stdin=file.read_bytes()).json
    assert from_stdin["predictions"] == from_file
    assert "old [red]iron[/red]" in grown.ok("predict", "place", "--file", file).stdout


def test_predict_refuses_what_is_no_text(grown: Limpet, tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes("grün".encode("latin-1"))
    outcome = grown("predict", "place", "--file", tmp_path / "latin1.txt")
    assert outcome.code == 2
    assert "byte 0xfc at offset 2" in outcome.stderr
    (tmp_path / "empty.txt").touch()
    assert grown("predict", "place", "--file", tmp_path / "empty.txt").code == 2
    assert grown("predict", "place", "--file", tmp_path).code == 2


def test_db_shows_the_schema(grown: Limpet) -> None:
    current = grown.ok("db", "current", "--json").json
    assert current["revision"] == current["head"]
    revisions = grown.ok("db", "history", "--json").json["revisions"]
    assert revisions[-1]["revision"] == current["head"]
    assert all(revision["applied"] for revision in revisions)
    upgraded = grown.ok("db", "upgrade", "--json").json
    assert upgraded == {"schema": 1, "revision": current["head"], "before": current["head"], "backup": None}
    assert "already" in grown.ok("db", "upgrade").stdout
    assert current["head"] in grown.ok("db", "current").stdout
    assert current["head"] in grown.ok("db", "history").stdout


def test_two_versions_are_told_apart(grown: Limpet) -> None:
    found = grown.ok("adapter", "diff", "place@1", "place@2", "--json").json
    assert (found["a"], found["b"]) == ("place@1", "place@2")
    fields = {field["name"]: (field["a"], field["b"]) for field in found["fields"]}
    assert fields["config.method.r"] == (8, 4)
    assert fields["seed"] == (0, 1)
    assert {tensor["name"] for tensor in found["tensors"]} == {"head: bias", "head: weight"}
    assert all(0 <= one["inputs"] <= 1 for one in found["overlaps"])
    shown = grown.ok("adapter", "diff", "place@1", "place@2").stdout
    assert "config.method.r" in shown
    assert "input overlap" in shown
    assert grown.ok("adapter", "diff", "place@1", "wet@1", "--json").json["reshaped"] == [
        "head: bias",
        "head: weight",
    ]


def test_methods_with_a_name_says_what_set_takes(grown: Limpet) -> None:
    lines = grown.ok("methods", "lora").stdout.splitlines()
    assert lines[0].startswith("lora: low-rank update")
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["setting", "type", "default"],
        ["r", "int", "8"],
        ["alpha", "int", "16"],
    ]
    method = grown.ok("methods", "bottleneck", "--json").json["method"]
    assert method["name"] == "bottleneck"
    assert method["settings"][0] == {
        "name": "placement",
        "type": "one of houlsby, pfeiffer",
        "default": "houlsby",
        "meaning": "after attention and after the feed-forward block, or after the latter alone",
    }
    assert "has no settings" in grown.ok("methods", "full").stdout


def test_methods_with_a_name_that_there_is_not_says_the_nearest(grown: Limpet) -> None:
    outcome = grown("methods", "lorra", "--json")
    assert outcome.code == 3
    assert "Did you mean lora?" in outcome.error["message"]
