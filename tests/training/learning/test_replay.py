"""Learning a revision from the version before: which old rows come again, and what the first step begins with."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from limpet.cli import cli
from limpet.errors import UsageError
from limpet.home import Home, open_home
from limpet.registry.records import tasks
from limpet.training.data.replayed_rows import Replayed, ReplayTerms, replay_rows
from limpet.training.data.revise_task import plain_rows
from limpet.training.learning.objectives import Replay
from limpet.training.learning.runs.run_folder import Start
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.task_model import version_files
from tests.tiny_home import tiny_home
from tests.training.typed_data import SPECS, write_rows

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")
NOWHERE = replace(QUICK, learning_rate=1e-12)
"""Steps so small that no weight changes: what is answered afterwards is what the first step began with."""
Row = tuple[str, str]
NEW = [
    (f"the {word} of a {other}", "word") for word in ("far", "near", "old", "new") for other in ("big", "the", "in")
]


@pytest.fixture(scope="module")
def grown_once(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """A home with place@1, and place at r2, with three corrected training rows and a new label; not to be changed."""
    folder = tmp_path_factory.mktemp("grown-once")
    home = tiny_home(folder, base_folder)
    home.train("place", QUICK, monitor=False)
    home.train("wet", QUICK, monitor=False)
    home.task.revise("place", table(folder / "more.csv", [*corrections(home), *NEW]))
    home.store.database.close()
    return home.path


@pytest.fixture
def grown(grown_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of that home."""
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    return open_home(shutil.copytree(grown_once, tmp_path / "home"))


def table(path: Path, rows: list[Row]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return f"csv:{path}"


def rows_of(home: Home, task: str, split: str) -> list[Row]:
    record = tasks.get(home.store, task)
    return [(str(text), str(target)) for text, target in plain_rows(home.store, record, record.split(split))]


def corrections(home: Home) -> list[Row]:
    wrong = {"sea": "sky", "sky": "rock", "rock": "sea"}
    return [(text, wrong[label]) for text, label in rows_of(home, "place@r1", "train")[:3]]


def run_of(
    home: Home, replay: int | None, *, start: str | None = "place@1", task: str = "place", seed: int = 0
) -> TrainingRun:
    settings = replace(QUICK, replay=replay, seed=seed)
    begin = None if start is None else Start.from_version(home.store, home.backbone(), start)
    return TrainingRun(home.store, home.backbone(), tasks.get(home.store, task), settings, begin)


def replayed(home: Home, replay: int, *, epochs: int = 1, seed: int = 0, start: str = "place@r1") -> Replayed:
    task, before = (tasks.get(home.store, name) for name in ("place", start))
    return replay_rows(home.store, task, before, terms=ReplayTerms(replay, epochs, seed))


def learned(home: Home, replay: int, *, epochs: int = 1, seed: int = 0, start: str = "place@r1") -> list[Row]:
    """The rows that a run learns, with the names of their labels."""
    labels = tasks.get(home.store, "place").labels
    examples = replayed(home, replay, epochs=epochs, seed=seed, start=start).examples
    return [(str(example.text), labels[example.target]) for example in examples]


def test_new_and_corrected_rows_always_come_and_old_ones_as_many_as_are_asked_for(grown: Home) -> None:
    before, now = (rows_of(grown, task, "train") for task in ("place@r1", "place@r2"))
    fresh = [row for row in now if row not in before]
    assert len(fresh) == 3 + sum(label == "word" for _, label in now)
    assert learned(grown, 0) == fresh
    for number in (1, 7, 20):
        rows = learned(grown, number)
        assert [row for row in rows if row not in before] == fresh
        assert len(rows) == len(fresh) + number
        # in the order of the training split
        assert rows == [row for row in now if row in rows]
    assert learned(grown, len(before) - 3) == learned(grown, 10_000) == now


def test_old_rows_are_drawn_by_the_seed_in_proportion_to_their_labels(grown: Home) -> None:
    before = set(rows_of(grown, "place@r1", "train"))
    rows = learned(grown, 15)
    assert rows == learned(grown, 15) != learned(grown, 15, seed=1)
    kept = Counter(label for _, label in rows_of(grown, "place", "train") if label != "word")
    drawn = Counter(label for _, label in filter(before.__contains__, rows))
    assert all(abs(drawn[label] - 15 * kept[label] / kept.total()) <= 1.5 for label in kept)


def test_every_epoch_has_other_old_rows_until_all_have_come(grown: Home) -> None:
    rows = replayed(grown, 15, epochs=4)
    assert rows.old < 4 * 15 and len(rows.order) == rows.old and len(rows.examples) == rows.old + rows.new
    replay = Replay(rows.order, rows.replayed)
    epochs = [replay.drawn(epoch) for epoch in range(4)]
    assert {len(set(epoch)) for epoch in epochs} == {15}
    every = [place for epoch in epochs for place in epoch]
    assert set(every[: rows.old]) == set(every) and len(set(every)) == rows.old
    # where not all of them can come, the others are not even encoded
    few = replayed(grown, 5, epochs=3)
    assert (len(few.order), len(few.examples)) == (15, 15 + few.new)


def test_what_is_old_is_what_the_version_to_begin_with_was_learned_on(grown: Home, tmp_path: Path) -> None:
    second = rows_of(grown, "place", "train")
    grown.task.revise("place", table(tmp_path / "one.csv", [("a reef in the old wind", "sea")]))
    first = set(rows_of(grown, "place@r1", "train"))
    assert learned(grown, 0, start="place@r1") == [
        row for row in rows_of(grown, "place", "train") if row not in first
    ]
    assert learned(grown, 0, start="place@r2") == [("a reef in the old wind", "sea")]
    grown.train("place", replace(QUICK, replay=0), start_from="place@1", monitor=False)
    assert grown.adapter.show("place@2").cost["examples_seen"] == len(second) - len(first) + 3 + 1
    # that version was learned on the newest revision, of which it did not see every row again
    with pytest.raises(UsageError, match="no training row that is new or corrected since place@2"):
        grown.train("place", replace(QUICK, replay=0), start_from="place@2", monitor=False)


def test_a_replay_is_recorded_and_what_has_none_is_recorded_as_it_was(grown: Home) -> None:
    assert "replay" not in QUICK.recorded()
    assert TrainingSettings.from_record(QUICK.recorded()) == QUICK
    some = replace(QUICK, replay=0)
    assert TrainingSettings.from_record(some.recorded()) == some
    assert run_of(grown, 0).config["training"]["replay"] == 0
    plain, whole = run_of(grown, None, start=None), run_of(grown, None)
    assert plain.config == whole.config
    assert set(plain.config["training"]) == {
        "epochs", "learning_rate", "batch_size", "dtype", "max_seconds", "weight_decay"
    }  # fmt: skip
    assert len({run.folder for run in (plain, whole, run_of(grown, 0), run_of(grown, 5))}) == 4


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--replay", "5"], "training begins with none"),
        (["--replay", "all"], "training begins with none"),
        (["--from", "wet@1", "--replay", "5"], "training begins with wet@1"),
        (["--from", "wet@1", "--replay", "all"], "training begins with wet@1"),
        (["--from", "place@1", "--replay", "-1"], "a number of rows, or all"),
        (["--from", "place@1", "--replay", "some"], "a number of rows, or all"),
    ],
)
def test_a_replay_that_makes_no_sense_is_refused(grown: Home, typed: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, ["train", "place", *typed, "--home", str(grown.path)])
    assert result.exit_code == 2
    assert says in result.stderr
    assert "--replay" in result.stderr


def test_nothing_to_learn_is_refused(grown: Home) -> None:
    result = CliRunner().invoke(cli, ["train", "wet", "--from", "wet@1", "--replay", "0", "--home", str(grown.path)])
    assert result.exit_code == 2
    assert (
        "'wet' has no training row that is new or corrected since wet@1, and none is to be replayed" in result.stderr
    )


def test_a_warm_start_begins_with_the_old_answers(grown: Home) -> None:
    trained = grown.train("place", replace(NOWHERE, replay=4, epochs=2), start_from="place@1", monitor=False)
    assert trained.version.parent == "place@1"
    assert trained.version.labels == ("rock", "sea", "sky", "word")
    assert_same_tensors(files(grown, "place@1"), files(grown, "place@2"), head_rows=3)
    assert trained.version.cost["examples_seen"] == 2 * len(learned(grown, 4))


def test_a_head_alone_is_learned_from_replayed_rows_too(grown: Home) -> None:
    alone = replace(QUICK, method="linear-probe")
    grown.train("place@r1", alone, monitor=False)
    trained = grown.train("place", replace(alone, replay=4, epochs=3), start_from="place@2", monitor=False)
    assert trained.version.cost["examples_seen"] == 3 * len(learned(grown, 4))


@pytest.mark.parametrize("kind", sorted(set(SPECS) - {"classification"}))
def test_other_types_begin_warm_too(grown: Home, tmp_path: Path, kind: str) -> None:
    grown.task.add("typed", write_rows(tmp_path / "typed.jsonl", kind, rows=30), type=kind, max_length=16)
    first = grown.train("typed", QUICK, monitor=False).version
    more = write_rows(tmp_path / "more.jsonl", kind, rows=12, seed=1)
    if kind != "regression":
        path = tmp_path / "more.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace("sea", "isle"), encoding="utf-8")
    grown.task.revise("typed", more)
    second = grown.train("typed", replace(NOWHERE, replay=4), start_from="typed@1", monitor=False).version
    assert second.labels[: len(first.labels)] == first.labels
    assert len(second.labels) > len(first.labels) or kind == "regression"
    rows = len(first.labels) or 1
    assert_same_tensors(files(grown, "typed@1"), files(grown, "typed@2"), head_rows=rows)
    assert second.cost["examples_seen"] < tasks.get(grown.store, "typed").split("train").examples


def files(home: Home, version: str) -> Mapping[str, Path]:
    return version_files(home.store, home.backbone(), home.adapter.show(version))


def assert_same_tensors(before: Mapping[str, Path], now: Mapping[str, Path], *, head_rows: int) -> None:
    """The adapter is the same; the head is in its first rows."""
    for name, path in before.items():
        if path.suffix == ".safetensors":
            old, new = load_file(path), load_file(now[name])
            assert old.keys() == new.keys()
            for key, tensor in old.items():
                grown = new[key][:head_rows] if name.startswith("head") else new[key]
                torch.testing.assert_close(grown, tensor, rtol=0, atol=1e-9)
