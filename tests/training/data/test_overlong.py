"""What is longer than the limits: counted at add and at train, with the tokenizer of the base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limpet.errors import DataError, UsageError
from limpet.home import Home, init, open_home
from limpet.registry.database.migrate import upgrade
from limpet.registry.values import TaskRecord
from limpet.training.base.pretrained import load_tokenizer
from limpet.training.data.build_task import build_task
from limpet.training.data.overlong import LONGEST_ANSWER, positions_of, room_for, usual_length
from limpet.training.data.task_request import TaskRequest
from tests.migrated import with_database
from tests.registry.database.released import RELEASED, lay_home
from tests.tiny import TOPICS, tiny_base

WORDS = [word for words in TOPICS.values() for word in words]
NOTHING = {"texts": 0, "texts_by": 0, "targets": 0, "targets_by": 0}


def spec(folder: Path, long: int = 4, rows: int = 40) -> str:
    """Texts of 5 words, and `long` of them of 20; every word is one token."""
    lines = []
    for at in range(rows):
        count = 20 if at < long else 5
        words = [WORDS[(at * 7 + step * (at % 5 + 1)) % len(WORDS)] for step in range(count)]
        lines.append({"text": " ".join(words), "label": "ab"[at % 2], "headline": " ".join(words[: count - 1])})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"jsonl:{path}"


@pytest.fixture
def home(tmp_path: Path, base_folder: Path) -> Home:
    return init(with_database(tmp_path / "home"), base=str(base_folder), mlflow="off")


def total(found: Mapping[str, Mapping[str, int]], what: str) -> int:
    return sum(split[what] for split in found.values())


def test_what_is_cut_is_counted_in_each_split_and_said(home: Home, tmp_path: Path) -> None:
    checks = home.task.add("rows", spec(tmp_path), max_length=16, near_duplicates="keep").checks
    assert total(checks["cut"], "texts") == 4
    # 20 words and two special tokens
    assert max(split["texts_by"] for split in checks["cut"].values()) == 22 - 16
    assert any("are cut at 16 tokens; the longest has 22" in note for note in checks["notes"])


def test_where_all_fits_nothing_is_said(home: Home, tmp_path: Path) -> None:
    checks = home.task.add("rows", spec(tmp_path), max_length=22, near_duplicates="keep").checks
    assert checks["cut"] == dict.fromkeys(("train", "validation", "evaluation"), NOTHING)
    assert checks["notes"] == []


def test_training_counts_what_its_own_limit_cuts_and_records_it(home: Home, tmp_path: Path) -> None:
    from limpet.training.learning.settings import TrainingSettings

    home.task.add("rows", spec(tmp_path), max_length=22, near_duplicates="keep")
    trained = home.train("rows", TrainingSettings("probe", epochs=1, max_length=10))
    assert total(trained.version.metrics["cut"], "texts") == 4
    assert any("are cut at 10 tokens; the longest has 22" in warning for warning in trained.warnings)
    whole = home.train("rows", TrainingSettings("probe", epochs=1))
    assert total(whole.version.metrics["cut"], "texts") == 0
    assert not any("cut" in warning for warning in whole.warnings)


def test_a_text_longer_than_the_positions_of_the_base_is_cut_there_and_counted(home: Home, tmp_path: Path) -> None:
    from limpet.training.learning.settings import TrainingSettings

    path = tmp_path / "long.jsonl"
    lines = [{"text": " ".join([WORDS[at % 18]] * (600 + at)), "label": "ab"[at % 2]} for at in range(12)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    home.task.add("long", f"jsonl:{path}", max_length=2000, near_duplicates="keep")
    version = home.train("long", TrainingSettings("probe", epochs=1)).version
    places = home.backbone().model.config.max_position_embeddings
    assert version.config["max_length"] == places // 8 * 8
    assert total(version.metrics["cut"], "texts") == 12


def test_overlong_examples_are_dropped_or_refused_where_that_is_asked(home: Home, tmp_path: Path) -> None:
    dropped = home.task.add("rows", spec(tmp_path), max_length=16, overlong="drop", near_duplicates="keep")
    assert dropped.checks["overlong_dropped"] == 4
    assert dropped.checks["overlong_rule"] == "drop"
    assert sum(split.examples for split in dropped.splits) == 36
    assert total(dropped.checks["cut"], "texts") == 0
    with pytest.raises(DataError, match="4 texts are longer than 16 tokens, by 6 at most"):
        home.task.add("more", spec(tmp_path), max_length=16, overlong="refuse")
    assert home.task.add("fits", spec(tmp_path), max_length=22, overlong="refuse").checks["overlong_rule"] == "refuse"


def test_without_the_base_nothing_is_counted(tmp_path: Path) -> None:
    record, _ = build_task(TaskRequest("rows", spec(tmp_path), near_duplicates="keep"))
    assert record.checks["cut"] is None
    with pytest.raises(UsageError, match="not on this machine yet"):
        build_task(TaskRequest("rows", spec(tmp_path), overlong="drop"))


def test_the_longest_answer_is_what_the_targets_need(tmp_path: Path, base_folder: Path) -> None:
    tokenizer = load_tokenizer(base_folder)

    def asked_for(data: str, max_new_tokens: int | None = None) -> TaskRecord:
        request = TaskRequest(
            "write",
            data,
            type="generation",
            text_column="text",
            near_duplicates="keep",
            max_new_tokens=max_new_tokens,
        )
        return build_task(request, tokenizer=tokenizer)[0]

    short = asked_for(spec(tmp_path, long=0))
    assert short.definition.options["max_new_tokens"] == 32
    path = tmp_path / "long.jsonl"
    rows = [
        {"text": f"{WORDS[at % 18]} {at}", "headline": " ".join([WORDS[at % 18]] * (40 + at))} for at in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    long = asked_for(f"jsonl:{path}")
    assert long.definition.options["max_new_tokens"] == 64
    assert total(long.checks["cut"], "targets") == 0
    asked = asked_for(f"jsonl:{path}", max_new_tokens=50)
    assert total(asked.checks["cut"], "targets") == 9
    assert any("longer than the longest answer, by 9 tokens at most" in note for note in asked.checks["notes"])
    assert room_for(10_000, 32) == LONGEST_ANSWER


def test_the_same_command_gives_the_same_task_when_the_base_has_come(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a base that another test has fetched would be the home's own
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    init(with_database(tmp_path / "home"), mlflow="off")
    home = open_home(tmp_path / "home", base=str(base_folder))
    path = tmp_path / "long.jsonl"
    rows = [
        {"text": f"{WORDS[at % 18]} {at}", "headline": " ".join([WORDS[at % 18]] * (40 + at))} for at in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = home.task.add("write", f"jsonl:{path}", type="generation")
    assert first.checks["cut"] is None
    assert home.task.cut("write") is None
    home.base.add(str(base_folder))
    assert home.task.add("write", f"jsonl:{path}", type="generation") == first
    # what could not be counted then is counted now
    counted = home.task.cut("write")
    assert counted is not None
    assert total(counted, "targets") == 20


@pytest.mark.parametrize("revision", RELEASED)
def test_tasks_of_released_homes_show_what_can_be_known_without_their_base(tmp_path: Path, revision: str) -> None:
    (tmp_path / "home").mkdir()
    upgrade(lay_home(revision, tmp_path / "home"))
    home = open_home(tmp_path / "home")
    for task in home.task.list():
        assert home.task.cut(task.name) is None
        assert 0 <= (home.task.majority_baseline(task.name) or 0) <= 1


def test_a_tokenizer_that_can_not_be_read_is_for_training_to_complain_of(tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    (tmp_path / "base" / "tokenizer.json").write_text("{")
    assert home.task.add("rows", spec(tmp_path)).checks["cut"] is None


@pytest.mark.parametrize(
    ("lengths", "positions", "expected"),
    [
        ([20] * 100, None, 128),
        ([20] * 100, 64, 64),
        ([20] * 95 + [300] * 5, None, 304),
        # one text in two hundred is not what most texts are like
        ([130] * 199 + [900], None, 136),
        ([3000] * 100, None, 1024),
        ([3000] * 100, 512, 512),
        ([3000] * 100, 500, 496),
    ],
)
def test_the_longest_text_is_by_default_what_nearly_all_fit_in(
    lengths: list[int], positions: int | None, expected: int
) -> None:
    assert usual_length(np.array(lengths, np.int32), positions) == expected


def test_a_default_length_is_recorded_and_stays(tmp_path: Path, base_folder: Path) -> None:
    tokenizer = load_tokenizer(base_folder)
    positions = positions_of(tokenizer)
    assert positions == json.loads((base_folder / "config.json").read_bytes())["max_position_embeddings"]
    rows = [{"text": " ".join([WORDS[at % 18]] * (positions + at)), "label": "ab"[at % 2]} for at in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = TaskRequest("rows", f"jsonl:{path}", near_duplicates="keep")
    record, _ = build_task(request, tokenizer=tokenizer)
    assert record.definition.max_length == positions // 8 * 8
    assert record.checks["max_length_fits"] == {"share": 0.0, "of": 20, "longest": positions + 21}
    assert build_task(replace(request, max_length=9), tokenizer=tokenizer)[0].definition.max_length == 9
    earlier = replace(record, definition=replace(record.definition, max_length=77))
    assert build_task(request, recorded=earlier, tokenizer=tokenizer)[0].definition.max_length == 77
    assert build_task(request)[0].definition.max_length == 128
