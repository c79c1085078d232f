"""What an addition does about the earlier tasks: evaluate them, audit them, or nothing; and how that is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from limpet.errors import GateError, IntegrityError, UsageError
from limpet.forgetting.gate.rules import GateRules
from limpet.forgetting.monitor import canary_audit, growth, monitor
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.result_tables import matrix_table
from limpet.forgetting.report.conclusion import conclusion
from limpet.home import Home
from limpet.registry.records import evaluations, streams
from limpet.training.base import backbone as backbones
from limpet.training.evaluation import reference_outputs
from limpet.training.learning.settings import TrainingSettings
from tests.forgetting.monitor.settings import QUICK

FAST = replace(QUICK, epochs=1)
PROBE = TrainingSettings(method="probe", epochs=1, dtype="float32")


def last_cell(home: Home, task: str) -> Any:
    (run,) = streams.arm_runs(home.store, "home")
    step = streams.last_step(home.store, run.id)
    assert step is not None
    return step.row.get(task)


def test_an_audit_answers_no_example_again_and_carries_the_score_forward_marked(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("an earlier task was evaluated")

    learned = evaluations.full(trained.store, "place@1", "place@1")[0]
    monkeypatch.setattr(canary_audit, "evaluate_parts", never)
    added = trained.train("wet", PROBE, monitor="audit")
    assert (added.monitor, added.audited) == ("audit", ("place",))
    cell = last_cell(trained, "place")
    assert (cell.kind, cell.score, cell.predictions_digest) == ("carried", learned.score, learned.predictions_digest)
    # it is no evaluation: nothing is held against it, and it proves nothing
    assert evaluations.full(trained.store, "place@1", "place@1") == (learned,)
    arm = trained.report("home").arms[0]
    assert arm.audited == {(1, 0)}
    assert arm.matrix[1][0] == arm.matrix[0][0] == learned.score
    assert arm.identical_predictions is None
    assert arm.to_json()["audited"] == [[False, False], [True, False]]
    assert trained.verify(deep=True).problems == ()
    table = matrix_table(arm)
    assert table.rows[1][1].endswith("*") and "audited" in table.note
    assert "place was audited and not evaluated again" in conclusion(trained.report("home"))
    assert ",audited,accuracy,2,place,true" in render_csv(trained.report("home")).lower()
    assert trained.status().monitor.audited == ("place",)


def test_a_gate_takes_an_audited_score_as_it_stands_and_says_so_but_not_for_proof_of_identity(trained: Home) -> None:
    trained.train("wet", PROBE, monitor="audit", max_forgetting=0.5)
    report = trained.gate("home", GateRules(max_forgetting=0.0, max_worst=0.0))
    assert all("place was audited, not evaluated again" in verdict.detail for verdict in report.verdicts)
    with pytest.raises(GateError, match="no proof that every prediction is the same"):
        trained.gate("home", GateRules(require_identical=True))


def test_nothing_is_looked_at_where_the_monitor_is_off_and_no_limit_passes_by_it(trained: Home) -> None:
    added = trained.train("wet", PROBE, monitor="off")
    assert (dict(added.row).keys(), added.audited) == ({"wet"}, ())
    assert trained.report("home").arms[0].matrix[1][0] is None
    assert trained.status().monitor.not_evaluated == ("place",)
    assert "place was not evaluated again" in conclusion(trained.report("home"))
    limits = GateRules(max_forgetting=0.5, max_worst=0.5, max_negative_flips=1.0)
    with pytest.raises(GateError, match="place was not evaluated after the last addition"):
        trained.gate("home", limits)
    # an evaluation that is made later is one after the last addition
    trained.evaluate()
    assert trained.report("home").arms[0].matrix[1][0] is not None
    assert not trained.gate("home", limits).crossed


def test_the_mode_is_the_homes_own_where_none_is_asked_for(trained: Home) -> None:
    context = trained._context
    object.__setattr__(context.store, "settings", replace(context.store.settings, monitor="audit"))
    assert trained.train("wet", PROBE).audited == ("place",)
    assert trained.train("wet", replace(PROBE, seed=1), monitor=True).audited == ()
    assert last_cell(trained, "place").kind == "full"
    with pytest.raises(UsageError, match="no mode 'some'"):
        trained.train("wet", PROBE, monitor="some")  # type: ignore[typeddict-item]


def test_rules_that_a_mode_can_not_serve_are_refused_before_anything_is_learned(trained: Home) -> None:
    (trained.path / "limpet.toml").open("a").write("[gate]\nrequire_identical = true\n")
    with pytest.raises(UsageError, match="asks for every earlier prediction"):
        trained.train("wet", PROBE, monitor="audit")
    with pytest.raises(UsageError, match="needs the monitor, which is off"):
        trained.train("wet", PROBE, monitor="off", promote="production")
    assert len(trained.adapter.list("wet").items) == 0


@pytest.mark.parametrize("module", [reference_outputs, monitor])
def test_an_adapter_altered_in_memory_sends_the_audit_through_a_full_evaluation(
    trained: Home, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    real = reference_outputs.active
    mine = len(trained.task.show("place").labels)

    @contextmanager
    def altered(backbone: Any, method: str, state: Any, *, head: Any) -> Iterator[Any]:
        with real(backbone, method, state, head=head) as model:
            if model.head.linear.weight.shape[0] == mine:
                model.head.linear.weight.data.copy_(model.head.linear.weight.data.roll(1, 0))
            yield model

    monkeypatch.setattr(reference_outputs, "active", altered)
    if module is monitor:
        monkeypatch.setattr(monitor, "active", altered)
    added = trained.train("wet", PROBE, monitor="audit")
    assert added.audited == () and last_cell(trained, "place").kind == "full"
    # what every example says decides: an alarm where answers changed, none where the audit alone was disturbed
    assert any("place@1 has an open alarm" in warning for warning in added.warnings) is (module is monitor)
    assert trained.report("home").arms[0].identical_predictions is (module is not monitor)


def test_a_tensor_of_the_base_that_was_corrupted_past_torchs_count_is_found(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = growth.home_row

    def corrupt(store: Any, backbone: Any, new: Any, **mode: Any) -> Any:
        largest = max(backbone.model.parameters(), key=torch.numel)
        largest.data.view(-1).numpy()[1] += 1
        return real(store, backbone, new, **mode)

    monkeypatch.setattr(growth, "home_row", corrupt)
    with pytest.raises(IntegrityError, match="was changed in memory"):
        trained.train("wet", PROBE, monitor="audit")


def test_in_another_environment_one_full_evaluation_is_the_ground_of_later_audits(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backbones, reference_outputs):
        elsewhere = replace(module.current_environment("float32"), torch="99.0")
        monkeypatch.setattr(module, "current_environment", lambda *_, there=elsewhere: there)
    first = trained.train("wet", PROBE, monitor="audit")
    assert first.audited == () and last_cell(trained, "place").kind == "full"
    second = trained.train("wet", replace(PROBE, seed=1), monitor="audit")
    assert "place" in second.audited
