"""An alarm stays: no check that passes later takes it away, and nothing that a check wrote is checked against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.errors import ConflictError, IntegrityError, UsageError
from limpet.forgetting.gate.rules import GateRules
from limpet.forgetting.monitor import monitor
from limpet.forgetting.monitor.drift import hold_against_reference
from limpet.forgetting.monitor.kept_predictions import read_contents
from limpet.forgetting.monitor.replacement import reference_evaluation
from limpet.forgetting.report.conclusion import conclusion
from limpet.home import Home
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import alarms, evaluations
from limpet.registry.values import EvaluationDraft
from limpet.training.base.backbone import Backbone
from tests.forgetting.monitor.settings import QUICK

ALL = {"drift": 1 / 27, "confidence": 0.999999}


@contextmanager
def another_head(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every version with three labels answer by another head than its own."""
    real = monitor.active

    @contextmanager
    def rolled(backbone: Any, method: str, state: Any, *, head: Any) -> Iterator[Any]:
        with real(backbone, method, state, head=head) as model:
            if model.head.linear.weight.shape[0] == 3:
                model.head.linear.weight.data.copy_(model.head.linear.weight.data.roll(1, 0))
            yield model

    with patch.context() as inner:
        inner.setattr(monitor, "active", rolled)
        yield


def run(home: Home, *typed: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [*typed, "--home", str(home.path)])
    return result.exit_code, result.stdout, result.stderr


def raise_alarm(home: Home) -> None:
    (evaluation,) = evaluations.full(home.store, "place@1", "place@1")
    detail = "place@1 no longer answers as on 2026-01-01. place: the head on it was another one."
    alarms.sound(home.store, "place@1", evaluation=evaluation.id, reference=evaluation.id, detail=detail)


@pytest.mark.parametrize("audit", [True, False])
def test_a_drift_is_found_every_time_and_stays_after_it_has_gone(
    trained: Home, monkeypatch: pytest.MonkeyPatch, audit: bool
) -> None:
    options: dict[str, Any] = {"audit": True, **ALL} if audit else {}
    reference = reference_evaluation(trained.store, "place@1")
    with another_head(monkeypatch):
        for _ in range(2):
            with pytest.raises(IntegrityError, match="the head on it was another one") as found:
                trained.evaluate(["place"], **options)
            assert found.value.exit_code == 5
    # mended: it answers as recorded again, and the alarm is still there to be explained
    with pytest.raises(IntegrityError, match="place@1 has an open alarm"):
        trained.evaluate(["place"], **options)
    assert reference_evaluation(trained.store, "place@1") == reference


def test_an_alarm_of_one_version_hides_none_of_another(trained: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.train("place", replace(QUICK, seed=1))
    with another_head(monkeypatch), pytest.raises(IntegrityError) as found:
        trained.evaluate(["place@1", "place@2"])
    assert "place@1 has an open alarm" in found.value.message
    assert "place@2 has an open alarm" in found.value.message


def test_the_monitor_raises_an_alarm_after_an_addition(trained: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_head(monkeypatch):
        added = trained.train("wet", QUICK)
    (warning,) = added.warnings
    assert "place@1 has an open alarm" in warning and "the head on it was another one" in warning
    assert [alarm.version for alarm in alarms.open_alarms(trained.store)] == ["place@1"]


def test_everything_that_speaks_of_the_version_speaks_of_its_alarm(trained: Home) -> None:
    raise_alarm(trained)
    trained.train("wet", QUICK)
    for typed in (
        ("evaluate", "place", "--audit"),
        ("evaluate", "place"),
        ("verify",),
        ("gate", "home", "--max-forgetting", "0"),
        ("adapter", "promote", "place@1", "production"),
    ):
        code, said, error = run(trained, *typed)
        assert (code, "place@1 has an open alarm" in said + error) == (5, True), typed
    assert trained.adapter.show("place").aliases == ()
    assert "place@1 has an open alarm" in conclusion(trained.report("home"))
    (alarm,) = json.loads(run(trained, "report", "home", "--json")[1])["alarms"]
    assert alarm["version"] == "place@1"
    assert "place@1 has an open alarm" in run(trained, "adapter", "show", "place@1")[1]
    assert json.loads(run(trained, "adapter", "show", "place@1", "--json")[1])["alarm"] == alarm
    assert run(trained, "evaluate", "wet", "--audit")[0] == 0


def test_an_alarm_ends_by_a_recorded_act_with_a_reason(trained: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConflictError, match="no open alarm"):
        trained.accept("place@1", "nothing happened")
    before = reference_evaluation(trained.store, "place@1")
    with another_head(monkeypatch):
        with pytest.raises(IntegrityError):
            trained.evaluate(["place"])
        assert run(trained, "evaluate", "place@1", "--accept")[0] == 2
        with pytest.raises(UsageError):
            trained.accept("place@1", " ")
        code, said, _ = run(trained, "evaluate", "place@1", "--accept", "--reason", "the head was replaced", "--json")
        assert code == 0
        (accepted,) = json.loads(said)["evaluations"]
        # what was accepted is what the version is held against
        assert trained.evaluate(["place"], audit=True, **ALL)[0].kind == "audit"
    reference = reference_evaluation(trained.store, "place@1")
    assert reference is not None and before is not None
    assert (reference.id, reference.id == before.id) == (accepted["id"], False)
    with pytest.raises(IntegrityError, match="no longer answers as on"):
        trained.evaluate(["place"])
    events = [(event.action, event.detail.get("reason")) for event in trained.log("place@1").items]
    assert [event for event in events if event[0] in ("alarm", "accept")] == [
        ("alarm", None),
        ("accept", "the head was replaced"),
        ("alarm", None),
    ]


def test_answers_of_another_environment_are_no_reference_and_an_alarm_only_beyond_chance(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Backbone.environment
    monkeypatch.setattr(Backbone, "environment", lambda base, dtype: replace(real(base, dtype), torch="99.0"))
    first = reference_evaluation(trained.store, "place@1")
    # the same answers: nothing to say, in full each time, for no evaluation made elsewhere becomes the reference
    assert [trained.evaluate(["place"], audit=True)[0].kind for _ in range(2)] == ["full", "full"]
    assert reference_evaluation(trained.store, "place@1") == first
    with another_head(monkeypatch), pytest.raises(IntegrityError, match="place@1 has an open alarm"):
        trained.evaluate(["place"], audit=True)


@pytest.mark.parametrize(("wrong", "alarmed"), [(1, False), (12, True)])
def test_answers_lost_elsewhere_are_counted_and_an_alarm_beyond_chance(
    trained: Home, wrong: int, alarmed: bool
) -> None:
    before = reference_evaluation(trained.store, "place@1")
    assert before is not None
    content = evaluations.predictions(trained.store, before)
    right = [
        n for n, pair in enumerate(zip(content["predictions"], content["targets"], strict=True)) if len({*pair}) == 1
    ]
    for place in right[:wrong]:
        content["predictions"][place] = (content["predictions"][place] + 1) % 3
    kept = {field.name: getattr(before, field.name) for field in fields(before)} | {
        "predictions_digest": trained.store.blobs.put_bytes(canonical_json(content)),
        "score": before.score - wrong / before.examples,
        "environment": replace(before.environment, torch="99.0"),
    }
    for name in ("id", "task", "created_at"):
        kept.pop(name)
    now = evaluations.add(trained.store, EvaluationDraft(**kept))
    note = hold_against_reference(trained.store, now, read_contents(trained.store))
    assert ("the loss is within chance: no alarm" in note, "torch was" in note) == (not alarmed, not alarmed)
    assert bool(alarms.open_alarms(trained.store)) is alarmed


def test_an_alarm_of_a_deleted_version_troubles_nobody(trained: Home) -> None:
    trained.train("place", replace(QUICK, seed=1))
    (evaluation, *_) = evaluations.full(trained.store, "place@1", "place@1")
    alarms.sound(trained.store, "place@1", evaluation=evaluation.id, reference=evaluation.id, detail="it differs")
    assert [problem.kind for problem in trained.verify().problems] == ["alarm"]
    trained.adapter.delete("place@1", "it no longer answers as it did")
    assert trained.verify().problems == ()
    assert trained.gate("home", GateRules(require_identical=True)).alarms == ()
