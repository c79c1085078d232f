"""A task whose data change: versions from before and after answer the same rows, and the gate looks at all."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from limpet.errors import GateError, UsageError
from limpet.forgetting.gate.parse import parse_rules
from limpet.forgetting.gate.verdicts import check_replacement
from limpet.forgetting.monitor.audit import audit
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.home import Home
from limpet.registry.records import evaluations, streams, tasks
from limpet.registry.verification.verify import verify
from limpet.registry.versions import resolve
from tests.forgetting.monitor.settings import QUICK
from tests.tiny import tiny_csv

WARM = replace(QUICK, epochs=1)


def more_rows(home: Home, folder: Path, *, renamed: str = "", labels: tuple[str, ...] = ("sky", "wood")) -> str:
    """Write all rows of `place` again, the label `rock` called otherwise if so asked, and new ones behind them."""
    old, new = Path(home.task.show("place@r1").definition.data.removeprefix("csv:")), folder / "new.csv"
    with old.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    kinds = {"sky": "sky", "wood": "rock", "rock": "rock", "sea": "sea"}
    tiny_csv(new, labels=tuple(kinds[label] for label in labels), rows=40, seed=7)
    with new.open(encoding="utf-8", newline="") as file:
        added = list(csv.reader(file))[1:]
    rows = [[text, renamed if renamed and label == "rock" else label] for text, label in rows]
    rows += [[text, labels[at % len(labels)]] for at, (text, _) in enumerate(added)]
    path = folder / "revised.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


@pytest.fixture
def revised(trained: Home, tmp_path: Path) -> Home:
    """A home that has learned `place`, whose second revision has rows more, a corrected label and a new one."""
    trained.task.revise("place", more_rows(trained, tmp_path, renamed="stone"))
    return trained


def test_a_version_from_before_is_scored_by_what_is_right_now_without_the_base(revised: Home) -> None:
    before, after = tasks.revisions(revised.store, "place")
    first, anew = evaluations.of_version(revised.store, "place@1")
    assert (first.rescored_from, anew.rescored_from) == (None, first.id)
    assert anew.data_digest == after.split("evaluation").digest != before.split("evaluation").digest
    # what it called rock is called otherwise now, so that it can't be right there
    rock = before.split("evaluation").label_counts["rock"]
    known = evaluations.predictions(revised.store, first)
    right = sum(
        a == b and before.labels[b] != "rock" for a, b in zip(known["predictions"], known["targets"], strict=True)
    )
    assert rock
    assert anew.score == right / first.examples
    assert (anew.logits_digest, anew.plan_digest) == (first.logits_digest, first.plan_digest)
    assert verify(revised.store, deep=True) == ()


def test_a_warm_version_is_compared_with_the_one_before_on_old_and_new_rows(revised: Home) -> None:
    revised.adapter.promote("place@1", "production")
    trained = revised.train("place", QUICK, start_from="place@1", promote="production")
    version, replaced = trained.version, trained.replaced
    assert version.labels == ("sea", "sky", "stone", "wood")
    assert tasks.of_version(revised.store, version).revision == 2
    scores = version.metrics["scores"]
    assert version.metrics["score"] == scores["all"]
    assert replaced is not None
    old, new = replaced.parts
    assert (old.rows, new.rows) == ("old", "new")
    assert (old.new_score, new.new_score, replaced.new_score) == (scores["old"], scores["new"], scores["all"])
    sizes = [part.examples for part in revised.task.show("place").evaluation_parts]
    assert [old.examples, new.examples, replaced.examples] == [*sizes, sum(sizes)]
    assert set(old.lost_examples) | {at + sizes[0] for at in new.lost_examples} == set(replaced.lost_examples)
    errors = revised.adapter.errors("place@2")
    assert (errors.task, errors.examples, errors.score) == ("place@r2", sum(sizes), scores["all"])
    report = revised.report("home")
    # one column, one measure: both rows by the labels of now, on the rows that there always were
    first, second = (row[0] for row in report.arms[0].matrix)
    assert (first, second) == (old.old_score, old.new_score)
    (described,) = report.tasks
    counts = revised.task.show("place").split("evaluation").label_counts
    assert described.eval_examples == old.examples
    assert described.majority_baseline == pytest.approx(max(counts.values()) / old.examples, abs=0.2)


def test_a_comparison_of_before_stays_on_the_rows_that_both_answered(trained: Home, tmp_path: Path) -> None:
    trained.adapter.promote("place@1", "production")
    second = trained.train("place", replace(WARM, seed=3), start_from="place@1", promote="production", mirror=False)
    assert second.replaced is not None
    trained.task.revise("place", more_rows(trained, tmp_path))
    (entry,) = trained.report("home").replaced
    assert (entry.old_score, entry.new_score) == (second.replaced.old_score, second.replaced.new_score)
    assert "not evaluated on all the data that the task has now" in entry.reason
    assert "only rows that both answered are compared" in entry.sentence()
    trained.evaluate(["place@1"])
    trained.evaluate(["place@2"])
    (entry,) = trained.report("home").replaced
    assert entry.reason == ""
    assert [part.rows for part in entry.parts] == ["old", "new"]


def test_a_version_that_is_bad_on_new_rows_has_no_better_score_for_the_gate(trained: Home, tmp_path: Path) -> None:
    # texts about the sky that are said to be about the sea, all of them for evaluation
    text = tiny_csv(tmp_path / "sky.csv", labels=("sky",), rows=30, seed=7).read_text().replace(",sky", ",sea")
    (tmp_path / "sea.csv").write_text(text)
    trained.task.revise("place", str(tmp_path / "sea.csv"), train_size=0, eval_size=29)
    version = trained.train("place", QUICK, mirror=False).version
    score, old = version.metrics["score"], version.metrics["scores"]["old"]
    assert score < old
    with pytest.raises(GateError, match="the score of place@2"):
        trained.gate("home", parse_rules({"min_score": (score + old) / 2}, "here"))
    trained.gate("home", parse_rules({"min_score": score}, "here"))


def test_what_a_version_was_asked_and_did_not_see_is_recorded_of_every_part(trained: Home) -> None:
    def rows(first: int, words: int) -> list[dict[str, list[str]]]:
        return [
            {"words": ["wave", f"{at}", *["the"] * words], "tags": ["SEA", "O", *["O"] * words]}
            for at in range(first, first + 12)
        ]

    trained.task.add("tags", rows(0, 2), type="token-classification", max_length=8, near_duplicates="keep")
    before = trained.train("tags", WARM, mirror=False).version
    trained.task.revise("tags", rows(50, 20))
    after = trained.train("tags", WARM, mirror=False).version
    assert "unseen_words" not in before.metrics
    assert after.metrics["unseen_words"] > 0
    assert {"evaluation", "evaluation-r2"} <= set(after.inputs)
    assert after.inputs["evaluation"] == before.inputs["evaluation"] != after.inputs["evaluation-r2"]


def test_after_corrections_alone_no_rows_are_new(revised: Home, tmp_path: Path) -> None:
    revised.adapter.promote("place@1", "production")
    revised.train("place", WARM, start_from="place@1", promote="production", mirror=False)
    text = Path(revised.task.show("place").definition.data.removeprefix("csv:")).read_text()
    (tmp_path / "corrected.csv").write_text(text.replace(",wood", ",forest"))
    revised.task.revise("place", str(tmp_path / "corrected.csv"))
    third = revised.train("place", WARM, start_from="place@2", mirror=False)
    assert third.replaced is not None
    assert third.replaced.parts == ()
    assert third.replaced.examples == sum(part.examples for part in revised.task.show("place").evaluation_parts)
    assert "scores" not in third.version.metrics
    # beside the one from before the second revision, its rows are still the new ones
    beside_first = revised.adapter.promote("place@1", "canary", reason="as it was")
    assert beside_first.replaced is None
    moved = revised.adapter.promote("place@3", "canary")
    assert moved.replaced is not None
    assert [part.rows for part in moved.replaced.parts] == ["old", "new"]


@pytest.mark.parametrize("rows", ["old", "new"])
def test_what_is_lost_on_some_rows_is_not_thinned_out_by_the_others(rows: str) -> None:
    lost = Replacement("place", "place@1", "place@2", "accuracy", change=0.1, negative_flip_rate=0.02)
    parts = (replace(lost, rows="old", negative_flip_rate=0.0), replace(lost, rows="new", negative_flip_rate=0.0))
    lost = replace(lost, parts=tuple(replace(p, negative_flip_rate=0.08) if p.rows == rows else p for p in parts))
    strict, mild = (parse_rules({"max_negative_flips": limit}, "here") for limit in (0.05, 0.1))
    crossed = [verdict for verdict in check_replacement(lost, strict) if verdict.crossed]
    assert [verdict.rule for verdict in crossed] == ["replaced-flips"]
    assert f"on the {rows} rows is 0.0800" in crossed[0].detail
    assert not any(verdict.crossed for verdict in check_replacement(lost, mild))


def test_every_part_is_evaluated_again_and_held_against_its_own_reference(revised: Home) -> None:
    revised.train("place", WARM, start_from="place@1", mirror=False)
    first, second = revised.evaluate(["place@2"])
    assert [first.split, second.split] == ["evaluation", "evaluation-r2"]
    backbone = revised.backbone()
    assert audit(revised.store, backbone, resolve(revised.store, "place@2")).kind == "audit"
    # a version from before is asked about new rows too, which it was never evaluated on
    assert [record.split for record in revised.evaluate(["place@1"])] == ["evaluation", "evaluation-r2"]
    assert audit(revised.store, backbone, resolve(revised.store, "place@1")).kind == "audit"


def test_another_task_keeps_its_column_while_one_is_revised(revised: Home) -> None:
    revised.train("wet", WARM, mirror=False)
    revised.train("place", WARM, start_from="place@1", mirror=False)
    report = revised.report("home")
    assert report.arms[0].tasks == ("place", "wet")
    assert report.arms[0].identical_predictions is False
    assert [row[1] for row in report.arms[0].matrix[1:]] == [report.arms[0].matrix[1][1]] * 2


def test_an_older_revision_can_be_learned(revised: Home) -> None:
    version = revised.train("place@r1", WARM, mirror=False).version
    assert version.labels == tasks.get(revised.store, "place@r1").labels
    assert tasks.of_version(revised.store, version).revision == 1
    assert "scores" not in version.metrics


def test_a_version_is_evaluated_on_rows_that_somebody_brings(revised: Home, tmp_path: Path) -> None:
    data = revised.task.show("place").definition.data
    found = revised.evaluate_elsewhere("place@1", data=data)
    task = tasks.get(revised.store, "place@r1")
    assert found.trained_on == task.split("train").examples
    renamed = sum(
        split.label_counts["stone"] + split.label_counts["wood"] for split in revised.task.show("place").splits
    )
    assert found.unknown == renamed
    assert found.evaluation.kind == "elsewhere"
    # it stands in no matrix, and no version is held against it
    assert found.evaluation not in evaluations.of_version(revised.store, "place@1")
    assert verify(revised.store, deep=True) == ()


def test_a_version_is_evaluated_on_another_task_that_shares_labels(trained: Home, tmp_path: Path) -> None:
    found = trained.evaluate_elsewhere("place@1", task="wet")
    assert found.source == {"task": "wet@r1"}
    assert found.evaluation.examples == trained.task.show("wet").split("evaluation").examples
    assert found.unknown == 0
    with pytest.raises(UsageError, match="of 'place' itself"):
        trained.evaluate_elsewhere("place@1", task="place")
    trained.task.add(
        "other", str(tiny_csv(tmp_path / "other.csv", labels=("sky", "rock"), seed=3)), labels=["rock", "sky"]
    )
    assert trained.evaluate_elsewhere("place@1", task="other").unknown == 0


def test_rows_that_another_tasks_training_has_seen_are_told(trained: Home, tmp_path: Path) -> None:
    same = str(tmp_path / "same.csv")
    Path(same).write_text(Path(trained.task.show("place").definition.data.removeprefix("csv:")).read_text())
    # another draw: some of what is evaluated here was trained on there
    trained.task.add("again", same, split_seed=5, max_length=16)
    done = trained.train("again", WARM, start_from="place@1", mirror=False)
    seen = done.version.metrics["seen_before"]
    assert seen["from"] == "place@1"
    assert 0 < seen["examples"] <= trained.task.show("again").split("evaluation").examples
    assert any("were trained on" in warning for warning in done.warnings)


def test_a_label_that_goes_raises_no_alarm_where_the_evaluation_rows_stay(trained: Home, tmp_path: Path) -> None:
    train = tiny_csv(tmp_path / "train.csv", labels=("rock", "sea", "sky"))
    text = train.read_text().replace(",sea", ",aqua").replace(",rock", ",bay").replace(",sky", ",wood")
    train.write_text(text)
    held_out = tiny_csv(tmp_path / "held_out.csv", labels=("sky",), rows=30, seed=8)
    # texts about the sky that are said to be about water: what is answered is the last label of three
    held_out.write_text(held_out.read_text().replace(",sky", ",aqua"))
    trained.task.add("last", f"train={train},eval={held_out}", max_length=16)
    version = trained.train("last", QUICK, mirror=False).version
    kept = evaluations.predictions(trained.store, evaluations.of_version(trained.store, version.reference)[0])
    assert 2 in kept["predictions"]
    before = trained.task.show("last")
    (tmp_path / "revised.csv").write_text(text.replace(",bay", ",aqua"))
    after = trained.task.revise("last", str(tmp_path / "revised.csv"))
    assert (before.labels, after.labels) == (("aqua", "bay", "wood"), ("aqua", "wood"))
    assert after.split("evaluation").digest == before.split("evaluation").digest
    (record,) = trained.evaluate([version.reference])
    assert 1 in evaluations.predictions(trained.store, record)["predictions"]
    assert trained.adapter.alarm(version.reference) is None


def test_a_stream_goes_on_with_the_revisions_that_it_began_with(trained: Home, tmp_path: Path) -> None:
    arm = {"name": "isolated", "strategy": "isolated", "method": "lora", "set": {"r": 4}}
    stream = {"name": "two", "tasks": ["place", "wet"], "training": {"epochs": 1, "max_length": 16}, "arms": [arm]}
    path = tmp_path / "stream.yaml"
    path.write_text(yaml.safe_dump(stream))
    before, _ = trained.stream.run(path)
    trained.task.revise("place", more_rows(trained, tmp_path))
    again, _ = trained.stream.run(path)
    assert again.tasks == before.tasks
    assert again.arms[0].matrix == before.arms[0].matrix
    path.write_text(yaml.safe_dump(stream | {"name": "newer"}))
    newer, _ = trained.stream.run(path)
    assert newer.tasks[0].data_digest == trained.task.show("place").data_digest != before.tasks[0].data_digest
    path.write_text(yaml.safe_dump(stream | {"name": "older", "tasks": ["place@r1", "wet"]}))
    older, _ = trained.stream.run(path)
    assert older.tasks[0].data_digest == before.tasks[0].data_digest
    assert [stream.tasks for stream in streams.list_all(trained.store) if stream.name == "older"] == [
        ("place", "wet")
    ]
