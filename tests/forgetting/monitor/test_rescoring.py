"""After labels were corrected: what was answered is held against what is right now, and no model is asked again."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from limpet.errors import IntegrityError
from limpet.forgetting.monitor import rescoring
from limpet.forgetting.monitor.replacement import reference_evaluation
from limpet.home import Home
from limpet.home.context import HomeContext
from limpet.registry.records import evaluations, tasks
from limpet.registry.values import EvaluationDraft, EvaluationRecord
from limpet.training.data.revise_task import plain_rows
from tests.forgetting.monitor.settings import QUICK
from tests.forgetting.monitor.test_alarms import ALL, another_head
from tests.forgetting.monitor.test_audit import forge

Row = tuple[str, str]


def write(path: Path, rows: list[Row]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return f"csv:{path}"


def rows_of(home: Home, split: str = "evaluation") -> list[Row]:
    task = tasks.get(home.store, "place")
    return [(str(text), str(target)) for text, target in plain_rows(home.store, task, task.split(split))]


def answers(home: Home, evaluation: EvaluationRecord) -> list[str]:
    """What was answered, by the names of the labels that an evaluation's data have."""
    known = tasks.revisions(home.store, "place")
    labels = next(
        task.labels for task in known if evaluation.data_digest in {part.digest for part in task.evaluation_parts}
    )
    return [labels[answer] for answer in evaluations.predictions(home.store, evaluation)["predictions"]]


def wrong(home: Home, number: int) -> list[Row]:
    """Rows that place@1 answers rightly, each under a label that is another."""
    evaluation = reference_evaluation(
        home.store, "place@1", tasks.get(home.store, "place").split("evaluation").digest
    )
    assert evaluation is not None
    pairs = zip(rows_of(home), answers(home, evaluation), strict=True)
    other = {"sea": "sky", "sky": "rock", "rock": "sea"}
    return [(text, other[label]) for (text, label), answer in pairs if label == answer][:number]


@pytest.fixture
def without_base(trained: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home, in which nobody may load the base."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the base was asked for")

    monkeypatch.setattr(HomeContext, "backbone", refuse)
    return trained


def newest(home: Home) -> EvaluationRecord:
    return evaluations.of_version(home.store, "place@1")[-1]


def test_kept_answers_are_scored_anew_under_corrected_labels(without_base: Home, tmp_path: Path) -> None:
    home = without_base
    (before,) = evaluations.of_version(home.store, "place@1")
    corrected = wrong(home, 2)
    task = home.task.revise("place", write(tmp_path / "corrected.csv", corrected))
    first, anew = evaluations.of_version(home.store, "place@1")
    assert first == before
    assert (anew.rescored_from, anew.data_digest) == (before.id, task.split("evaluation").digest)
    assert anew.score == pytest.approx(before.score - 2 / before.examples)
    assert answers(home, anew) == answers(home, before)
    kept = evaluations.predictions(home.store, anew)
    assert [task.labels[target] for target in kept["targets"]] == [label for _, label in rows_of(home)]
    assert kept["rescored_from"] == before.id
    assert (anew.seconds, anew.environment, anew.base_digest) == (
        before.seconds,
        before.environment,
        before.base_digest,
    )
    assert reference_evaluation(home.store, "place@1", before.data_digest) == before


def test_kept_answers_are_scored_anew_under_another_label_map(without_base: Home, tmp_path: Path) -> None:
    home = without_base
    (before,) = evaluations.of_version(home.store, "place@1")
    said = answers(home, before)
    moved = [(text, "wood") for text, _ in wrong(home, 1)]
    rows = [*moved, *((f"the big old wing of {word}", "wood") for word in ("storm", "clay", "tide"))]
    order = ["wood", "sky", "sea", "rock"]
    home.task.revise("place", write(tmp_path / "wood.csv", rows), labels=order, eval_size=0)
    anew = newest(home)
    assert answers(home, anew) == said
    assert anew.score == pytest.approx(before.score - 1 / before.examples)
    # a label that nobody gives any more has no place in the map, and an answer of it is never right
    gone = [(text, "sky") for split in ("train", "validation", "evaluation") for text, label in rows_of(home, split)
            if label == "sea"]  # fmt: skip
    task = home.task.revise("place", write(tmp_path / "gone.csv", gone))
    assert task.labels == ("wood", "sky", "rock")
    right = [label == answer for (_, label), answer in zip(rows_of(home), said, strict=True)]
    assert newest(home).score == pytest.approx(sum(right) / len(right))
    assert newest(home).rescored_from == anew.id


def test_a_report_of_the_home_has_the_corrected_scores(trained: Home, tmp_path: Path) -> None:
    trained.train("wet", QUICK)
    before = reference_evaluation(trained.store, "place@1")
    assert before is not None
    trained.task.revise("place", write(tmp_path / "corrected.csv", wrong(trained, 3)))
    report = trained.report("home")
    (arm,) = report.arms
    at = [task.name for task in report.tasks].index("place")
    column = [row[at] for row in arm.matrix]
    assert column[-1] == pytest.approx(before.score - 3 / before.examples)
    # each step is held against what is right now, so that a correction is no forgetting
    assert len({value for value in column if value is not None}) == 1
    assert report.tasks[at].data_digest == tasks.get(trained.store, "place").data_digest


def test_what_was_interrupted_is_finished_by_the_same_command(
    without_base: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = without_base
    again = EvaluationDraft(**{**_fields(newest(home)), "state": "place@1"})
    evaluations.add(home.store, again)
    spec = write(tmp_path / "corrected.csv", wrong(home, 2))
    real, calls = evaluations.add, iter([True])

    def interrupted(*arguments: object) -> EvaluationRecord:
        if next(calls, False):
            return real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rescoring.evaluations, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            home.task.revise("place", spec)
    half = [evaluation.rescored_from for evaluation in evaluations.of_version(home.store, "place@1")]
    task = home.task.revise("place", spec)
    whole = [evaluation.rescored_from for evaluation in evaluations.of_version(home.store, "place@1")]
    assert (half, whole) == ([None, None, 1], [None, None, 1, 2])
    assert task.revision == 2
    home.task.revise("place", spec)
    assert len(evaluations.of_version(home.store, "place@1")) == 4


def _fields(evaluation: EvaluationRecord) -> dict[str, object]:
    from dataclasses import fields

    names = {field.name for field in fields(EvaluationDraft)}
    return {field.name: getattr(evaluation, field.name) for field in fields(evaluation) if field.name in names}


class Notes:
    """Progress of which only the notes are kept."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, description: str, total: int) -> None:
        pass

    def advance(self, done: int, detail: str = "") -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.said.append(text)


def test_answers_that_are_missing_are_named_and_the_revision_is_made_all_the_same(
    without_base: Home, tmp_path: Path
) -> None:
    home, told = without_base, Notes()
    spec = write(tmp_path / "corrected.csv", wrong(home, 2))
    home.store.blobs.path(newest(home).predictions_digest).unlink()
    task = home.task.revise("place", spec, progress=told)
    assert task.revision == 2
    assert [note for note in told.said if "evaluation 1 of place@1 is not scored anew" in note]


@pytest.fixture
def corrected(trained: Home, tmp_path: Path) -> Iterator[Home]:
    """The home after a correction of two evaluation rows."""
    trained.task.revise("place", write(tmp_path / "corrected.csv", wrong(trained, 2)))
    yield trained


def test_a_version_that_answers_as_before_raises_no_alarm_after_a_correction(corrected: Home) -> None:
    (now,) = corrected.evaluate(["place"])
    reference = reference_evaluation(corrected.store, "place@1", now.data_digest)
    assert reference is not None and reference.rescored_from == 1
    assert now.score == reference.score
    assert corrected.verify(deep=True).problems == ()


def test_a_version_that_drifted_is_found_after_a_correction(corrected: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_head(monkeypatch), pytest.raises(IntegrityError, match="place@1 has an open alarm"):
        corrected.evaluate(["place"])


def test_what_was_accepted_is_the_reference_after_a_correction_too(
    trained: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_head(monkeypatch):
        with pytest.raises(IntegrityError):
            trained.evaluate(["place"])
        accepted = trained.accept("place@1", "the head was replaced")
        trained.task.revise("place", write(tmp_path / "corrected.csv", wrong(trained, 2)))
        (now,) = trained.evaluate(["place"])
    reference = reference_evaluation(trained.store, "place@1", now.data_digest)
    assert reference is not None and reference.rescored_from == accepted.id


def test_audits_go_on_after_a_correction(corrected: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (audited,) = corrected.evaluate(["place"], audit=True, drift=0.2, confidence=0.9)
    assert audited.kind == "audit"
    whole = evaluations.get(corrected.store, evaluations.predictions(corrected.store, audited)["audit_of"])
    assert whole is not None and whole.rescored_from == 1
    forge(corrected, whole, 0)
    with pytest.raises(IntegrityError):
        corrected.evaluate(["place"], audit=True, **ALL)
