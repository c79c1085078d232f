"""Audits: samples sized to find a drift, never taken for evaluations, and what is said when one finds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import hypergeom
from sqlalchemy import update

from limpet.errors import IntegrityError, UsageError
from limpet.forgetting.monitor import audit as audits
from limpet.forgetting.monitor.audit import sample_size
from limpet.home import Home
from limpet.registry import versions
from limpet.registry.database.schema import EvaluationRow
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, streams
from limpet.registry.values import EvaluationRecord
from limpet.training.base.backbone import Backbone


@pytest.mark.parametrize("examples", [1, 27, 200, 500, 2189])
@pytest.mark.parametrize(("drift", "confidence"), [(0.01, 0.99), (0.05, 0.9), (1.0, 0.5)])
def test_the_sample_is_the_smallest_that_misses_the_drift_seldom_enough(
    examples: int, drift: float, confidence: float
) -> None:
    size = sample_size(examples, drift, confidence)
    changed = max(1, -(-round(drift * examples * 1e6) // 10**6))
    missed = hypergeom(examples, changed, size).pmf(0)
    assert missed <= 1 - confidence + 1e-12
    assert size == examples or hypergeom(examples, changed, size - 1).pmf(0) > 1 - confidence


def test_a_sample_is_smaller_than_what_it_stands_for_where_there_are_many_examples() -> None:
    assert sample_size(2189) < 450
    assert sample_size(20) == 20


@pytest.mark.parametrize(("drift", "confidence"), [(0, 0.99), (1.5, 0.99), (0.01, 1), (0.01, -0.1)])
def test_what_no_sample_can_promise_is_refused(drift: float, confidence: float) -> None:
    with pytest.raises(UsageError):
        sample_size(100, drift, confidence)


def change(home: Home, evaluation: EvaluationRecord, **columns: object) -> None:
    """Change the record of an evaluation, as somebody with the database could."""
    with home.store.database.writer.begin() as connection:
        connection.execute(update(EvaluationRow).where(EvaluationRow.id == evaluation.id).values(**columns))


def forge(home: Home, evaluation: EvaluationRecord, place: int) -> int:
    """Record another answer for one example than the one that was given; return what it says now."""
    content = evaluations.predictions(home.store, evaluation)
    content["predictions"][place] = (content["predictions"][place] + 1) % 3
    change(home, evaluation, predictions_digest=home.store.blobs.put_bytes(canonical_json(content)))
    return int(content["predictions"][place])


def test_an_audit_re_checks_a_sample_and_is_no_evaluation(trained: Home) -> None:
    (audited,) = trained.evaluate(["place"], audit=True, drift=0.2, confidence=0.9)
    assert audited.kind == "audit"
    assert audited.examples == sample_size(27, 0.2, 0.9) < 27
    kept = evaluations.predictions(trained.store, audited)
    whole = evaluations.get(trained.store, kept["audit_of"])
    assert whole is not None and whole.kind == "full"
    answers = evaluations.predictions(trained.store, whole)["predictions"]
    assert kept["predictions"] == [answers[place] for place in kept["examples"]]
    full = evaluations.full(trained.store, "place@1", "place@1")
    assert audited.id not in {one.id for one in full}
    assert trained.verify(deep=True).problems == ()


def test_another_sample_is_drawn_every_time(trained: Home) -> None:
    samples = [trained.evaluate(["place"], audit=True, drift=0.2, confidence=0.9)[0] for _ in range(4)]
    assert len({str(evaluations.predictions(trained.store, one)["examples"]) for one in samples}) > 1


def test_an_audit_stands_in_no_matrix(trained: Home) -> None:
    (audited,) = trained.evaluate(["place"], audit=True)
    run = streams.arm_runs(trained.store, "home")[0]
    with pytest.raises(UsageError, match="audit"):
        streams.add_step(
            trained.store, run.id, None, version="place@1", base_unchanged=True, row={"place": audited.id}
        )


def test_what_was_evaluated_in_another_environment_is_evaluated_in_full(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Backbone.environment
    monkeypatch.setattr(Backbone, "environment", lambda base, dtype: replace(real(base, dtype), torch="99.0"))
    assert trained.evaluate(["place"], audit=True)[0].kind == "full"


def test_a_version_on_another_base_or_data_is_not_sampled(trained: Home) -> None:
    (evaluation,) = evaluations.full(trained.store, "place@1", "place@1")
    change(trained, evaluation, data_digest="sha256:" + "0" * 64)
    assert trained.evaluate(["place"], audit=True)[0].kind == "full"


def test_an_answer_that_changed_is_named_with_the_likely_cause(trained: Home) -> None:
    (evaluation,) = evaluations.full(trained.store, "place@1", "place@1")
    said = forge(trained, evaluation, 5)
    with pytest.raises(IntegrityError) as found:
        # every example, so that the one is among them
        trained.evaluate(["place"], audit=True, drift=1 / 27, confidence=0.999999)
    assert f"example 5 was answered {said}" in found.value.message
    assert "nothing that is recorded differs" in found.value.message
    assert found.value.exit_code == 5
    # the full evaluation that decided is kept, and is no reference
    assert len(evaluations.full(trained.store, "place@1", "place@1")) == 2
    with pytest.raises(IntegrityError, match=f"example 5 was answered {said}"):
        trained.evaluate(["place"], audit=True, drift=1 / 27, confidence=0.999999)


def test_a_difference_that_the_full_evaluation_does_not_see_was_the_batch_s(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audits.monitor.evaluate_sample

    def another_answer(*arguments: object, **named: object) -> EvaluationRecord:
        record = real(*arguments, **named)  # type: ignore[arg-type]
        forge(trained, record, 0)
        found = evaluations.get(trained.store, record.id)
        assert found is not None
        return found

    monkeypatch.setattr(audits.monitor, "evaluate_sample", another_answer)
    assert trained.evaluate(["place"], audit=True)[0].kind == "full"


def test_the_command_line_says_what_was_audited(trained: Home, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from limpet.cli import cli

    typed = ["evaluate", "--audit", "--json", "--home", str(trained.path)]
    result = CliRunner().invoke(cli, [*typed, "--drift", "0.2", "--confidence", "0.9"])
    assert result.exit_code == 0, result.stderr
    (audited,) = json.loads(result.stdout)["evaluations"]
    assert (audited["kind"], audited["version"]) == ("audit", "place@1")
    alone = CliRunner().invoke(cli, ["evaluate", "--drift", "0.2", "--home", str(trained.path)])
    assert alone.exit_code == 2
    (evaluation,) = evaluations.full(trained.store, "place@1", "place@1")
    forge(trained, evaluation, 5)
    assert CliRunner().invoke(cli, [*typed, "--drift", "0.03"]).exit_code == 5
    assert versions.resolve(trained.store, "place").reference == "place@1"
