"""Faults that evidence must not survive, each planted on purpose: they are found, and their cause is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from limpet.errors import GateError, IntegrityError, NotFoundError, UsageError
from limpet.forgetting.gate.rules import GateRules
from limpet.forgetting.metrics.matrix import ScoreMatrix
from limpet.forgetting.monitor import monitor
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.forgetting.monitor.prediction_diff import Difference, find_difference
from limpet.forgetting.report.conclusion import conclusion
from limpet.home import Home
from limpet.registry.database.schema import EvaluationRow
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, streams
from limpet.registry.values import EvaluationDraft, EvaluationRecord
from tests.forgetting.monitor.settings import QUICK

Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def learned(home: Home) -> EvaluationRecord:
    return evaluations.full(home.store, "place@1", "place@1")[-1]


def difference(home: Home, before: EvaluationRecord, now: EvaluationRecord) -> Difference:
    found = find_difference(home.store, before, now, read=read_contents(home.store))
    assert found is not None
    return found


def test_nothing_differs_where_nothing_was_changed(trained: Home) -> None:
    (again,) = trained.evaluate(["place"])
    assert find_difference(trained.store, learned(trained), again, read=read_contents(trained.store)) is None


def test_a_head_shared_by_mistake(trained: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    other = trained.train("place", replace(QUICK, seed=1), monitor=False).version
    real = monitor.version_files
    mistaken = {file.name: file for file in other.files}

    def shared(store: Any, backbone: Any, version: Any) -> Mapping[str, Path]:
        own = dict(real(store, backbone, version))
        own["head.safetensors"] = store.blobs.path(mistaken["head.safetensors"].digest)
        return own

    monkeypatch.setattr(monitor, "version_files", shared)
    now = monitor.evaluate(trained.store, trained.backbone(), trained.adapter.show("place@1"))
    found = difference(trained, learned(trained), now)
    assert "the head on it was another one" in found.cause


def test_a_head_shared_by_mistake_crosses_the_gate_and_is_named_in_the_report(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = monitor.active

    @contextmanager
    def shared(backbone: Any, method: str, state: Any, *, head: Any) -> Iterator[Any]:
        with real(backbone, method, state, head=head) as model:
            if model.head.linear.weight.shape[0] == 3:
                model.head.linear.weight.data.copy_(model.head.linear.weight.data.roll(1, 0))
            yield model

    monkeypatch.setattr(monitor, "active", shared)
    trained.train("wet", QUICK)
    grown = trained.report("home")
    assert grown.arms[0].identical_predictions is False
    (found,) = grown.arms[0].differences
    assert found.task == "place" and found.example is not None and "head" in found.cause
    assert "does not answer as it did" in conclusion(grown)
    with pytest.raises(GateError, match="the head on it was another one"):
        trained.gate("home", GateRules(require_identical=True))


def test_a_buffer_of_the_base_that_drifts_is_named(trained: Home) -> None:
    model = trained.backbone().model
    name = next(name for name, _ in model.named_buffers())
    dict(model.named_buffers())[name].add_(1)
    with pytest.raises(IntegrityError, match=f"the buffer {name} differs"):
        trained.train("wet", QUICK)


def test_a_buffer_that_drifts_between_two_evaluations_is_the_likely_cause(trained: Home) -> None:
    before = learned(trained)
    model = trained.backbone().model
    dict(model.named_buffers())[next(name for name, _ in model.named_buffers())].add_(1)
    now = monitor.evaluate(trained.store, trained.backbone(), trained.adapter.show("place@1"))
    kept = [evaluations.predictions(trained.store, one)["loaded"] for one in (before, now)]
    assert [part for part in kept[0] if kept[0][part] != kept[1][part]] == ["buffers"]
    if found := find_difference(trained.store, before, now, read=read_contents(trained.store)):
        assert "a buffer of the model had drifted" in found.cause


def with_data(home: Home, change: Change) -> EvaluationRecord:
    """Keep an evaluation as if the evaluation split had been changed before it."""
    before = learned(home)
    rows = [json.loads(line) for line in home.store.blobs.read(before.data_digest).splitlines()]
    rows = change(rows)
    digest = home.store.blobs.put_bytes(b"".join(canonical_json(row) + b"\n" for row in rows))
    content = dict(evaluations.predictions(home.store, before))
    content["targets"] = [row["label"] for row in rows]
    content["predictions"] = [(answer + 1) % 3 for answer in content["predictions"][: len(rows)]]
    return evaluations.add(
        home.store,
        EvaluationDraft(
            version="place@1",
            state="place@1",
            kind="full",
            split="evaluation",
            metric=before.metric,
            score=0.5,
            examples=len(rows),
            predictions_digest=home.store.blobs.put_bytes(canonical_json(content)),
            logits_digest=before.logits_digest,
            plan_digest=before.plan_digest,
            data_digest=digest,
            base_digest=before.base_digest,
            environment=before.environment,
            seconds=0.0,
        ),
    )


def edited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows[4]["text"] += " indeed"
    return rows


def permuted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    labels = [row["label"] for row in rows]
    return [{**row, "label": label} for row, label in zip(rows, labels[1:] + labels[:1], strict=True)]


def dropped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows[:7] + rows[8:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited, "the text of example 4 was changed, and 0 others"),
        (permuted, "labels were permuted among examples"),
        (dropped, "27 examples became 26, from example 7 on"),
    ],
)
def test_data_that_are_not_the_same(trained: Home, change: Change, said: str) -> None:
    found = difference(trained, learned(trained), with_data(trained, change))
    assert "the evaluation data are not the same" in found.cause
    assert said in found.cause


def test_labels_permuted_in_the_record_alone(trained: Home) -> None:
    before, (now,) = learned(trained), trained.evaluate(["place"])
    content = dict(evaluations.predictions(trained.store, now))
    content["targets"] = content["targets"][1:] + content["targets"][:1]
    digest = trained.store.blobs.put_bytes(canonical_json(content))
    # as somebody with the database could
    with trained.store.database.writer.begin() as connection:
        connection.execute(update(EvaluationRow).where(EvaluationRow.id == now.id).values(predictions_digest=digest))
    changed = evaluations.get(trained.store, now.id)
    assert changed is not None
    assert "labels were permuted among examples" in difference(trained, before, changed).cause
    assert any("accuracy is recorded as" in problem.detail for problem in trained.verify(deep=True).problems)


def test_an_evaluation_split_that_was_changed_on_disk_is_not_read(trained: Home) -> None:
    path = trained.store.blobs.path(learned(trained).data_digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"old", b"odd", 1))
    with pytest.raises(IntegrityError):
        trained.evaluate(["place"])


def test_a_library_version_changed_in_the_record(trained: Home) -> None:
    before, (now,) = learned(trained), trained.evaluate(["place"])
    content = dict(evaluations.predictions(trained.store, now))
    content["predictions"] = [(answer + 1) % 3 for answer in content["predictions"]]
    elsewhere = evaluations.add(
        trained.store,
        EvaluationDraft(
            version="place@1",
            state="place@1",
            kind="full",
            split="evaluation",
            metric=now.metric,
            score=0.0,
            examples=now.examples,
            predictions_digest=trained.store.blobs.put_bytes(canonical_json(content)),
            logits_digest=now.logits_digest,
            plan_digest=now.plan_digest,
            data_digest=now.data_digest,
            base_digest=now.base_digest,
            environment=replace(now.environment, torch="1.0", threads=64),
            seconds=0.0,
        ),
    )
    cause = difference(trained, before, elsewhere).cause
    assert cause.startswith("the library versions are not the same: torch was")
    assert "is 1.0" in cause and "threads" in cause


def test_a_zero_can_not_stand_for_a_cell_that_was_not_evaluated(trained: Home) -> None:
    run = streams.arm_runs(trained.store, "home")[0]
    trained.train("wet", QUICK)
    with pytest.raises(NotFoundError, match="no evaluation 0"):
        streams.add_step(trained.store, run.id, None, version="wet@1", base_unchanged=True, row={"wet": 0})
    with pytest.raises(UsageError):
        ScoreMatrix.of(("a", "b"), [[0.9, float("nan")]])
    (step, _) = streams.steps(trained.store, run.id)
    with trained.store.database.writer.begin() as connection:
        chosen = update(EvaluationRow).where(EvaluationRow.id == step.row["place"].id)
        connection.execute(chosen.values(score=0.0))
    with pytest.raises(IntegrityError, match="recorded as 0"):
        trained.report("home")


@pytest.mark.parametrize("field", ["version", "state", "base_digest", "plan_digest"])
def test_what_was_evaluated_instead_is_named(trained: Home, field: str) -> None:
    before, (now,) = learned(trained), trained.evaluate(["place"])
    content = dict(evaluations.predictions(trained.store, now))
    content["predictions"] = [(answer + 1) % 3 for answer in content["predictions"]]
    digest = trained.store.blobs.put_bytes(canonical_json(content))
    changed = replace(now, predictions_digest=digest, **{field: "place@9" if "digest" not in field else "sha256:9"})
    said = {"version": "the head is that of place@9", "state": "those of place@9", "base_digest": "the base was"}
    assert said.get(field, "the batch plan is not the same") in difference(trained, before, changed).cause
