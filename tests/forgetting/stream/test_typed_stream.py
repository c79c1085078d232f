"""Tasks of different types in one stream: arms that share weights, metrics of each type, and the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet.errors import GateError, UsageError
from limpet.forgetting.gate.rules import GateRules, TaskRules
from limpet.forgetting.render.csv_report import render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.render.markdown_report import render_markdown
from limpet.forgetting.report.conclusion import conclusion
from limpet.forgetting.report.values import Report
from limpet.home import Home, init
from tests.migrated import with_database
from tests.tiny import tiny_base
from tests.training.typed_data import write_rows

KINDS = ("regression", "multi-label", "token-classification", "classification")
ARMS = (
    {"name": "isolated", "strategy": "isolated", "method": "lora", "sweep": {"lr": [1e-2, 2e-2]}},
    {"name": "shared", "strategy": "sequential", "method": "lora"},
    {"name": "replay", "strategy": "replay", "method": "lora", "set": {"buffer": 8}},
    {"name": "ewc", "strategy": "ewc", "method": "full"},
    {"name": "joint", "strategy": "joint", "method": "lora"},
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Report]:
    folder = tmp_path_factory.mktemp("typed")
    home = a_home(folder)
    return home, home.stream.run(folder / "stream.yaml")[0]


def a_home(folder: Path, **changes: Any) -> Home:
    """A home, and beside it a stream file with a task of each type."""
    home = init(with_database(folder / "home"), base=str(tiny_base(folder / "base")), mlflow="off")
    tasks: list[dict[str, Any]] = [
        {"name": kind, "data": write_rows(folder / f"{kind}.jsonl", kind, rows=40), "type": kind} for kind in KINDS
    ]
    content = {
        "name": "typed",
        "tasks": tasks,
        "training": {"epochs": 1, "batch_size": 8, "dtype": "float32", "lr": 1e-2},
        "arms": list(ARMS),
    }
    (folder / "stream.yaml").write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return home


def test_every_arm_has_a_whole_triangle_of_each_types_own_scores(grown: tuple[Home, Report]) -> None:
    home, report = grown
    assert [arm.name for arm in report.arms] == [one["name"] for one in ARMS]
    for arm in report.arms:
        assert [sum(score is not None for score in row) for row in arm.matrix] == [1, 2, 3, 4]
        for place, kind in enumerate(KINDS):
            assert arm.matrix[place][place] == home.adapter.show(arm.versions[place].reference).metrics["score"]
            assert report.tasks[place].metric == home.task.show(kind).definition.metric


def test_isolated_adapters_of_any_type_answer_as_they_did(grown: tuple[Home, Report]) -> None:
    arms = {arm.name: arm for arm in grown[1].arms}
    assert arms["isolated"].identical_predictions is True
    assert all(entry.change == 0 for entry in arms["isolated"].mcnemar)
    assert arms["shared"].identical_predictions is False


def test_scores_of_unlike_tasks_are_averaged_nowhere(grown: tuple[Home, Report]) -> None:
    report = grown[1]
    content = json.loads(json.dumps(report.to_json()))
    for arm in content["arms"]:
        assert set(arm["metrics"].values()) == {None}
        assert arm["reason"].startswith("no common unit: regression is scored by pearson, multi-label is scored by")
        assert set(arm["intervals"]) <= {f"score:{kind}" for kind in KINDS}
    assert content["seeds"] == [] and content["over_orders"] == []
    assert not {entry["metric"] for entry in content["comparisons"]} & {"average_accuracy", "bwt_gem"}
    said = conclusion(report)
    assert "no common unit" in said and "Right after learning" not in said and "isolated forgot nothing" in said
    assert "Nothing is averaged over tasks where there is no common unit: regression" in render_markdown(report)
    table = render_csv(report)
    assert "reason,metrics,,,no common unit" in table.replace('"', "")
    for page in (render_html(report), render_markdown(report)):
        assert "no common unit" in page


def test_a_sweep_over_unlike_tasks_is_decided_by_mean_rank(grown: tuple[Home, Report]) -> None:
    report = grown[1]
    arm = report.arms[0]
    ranks = [candidate["mean_rank"] for candidate in arm.sweep]
    assert sum(ranks) == pytest.approx(3) and arm.chosen == arm.sweep[ranks.index(min(ranks))]["settings"]
    assert all(one["mean"] is None and "no common unit" in one["reason"] for one in arm.sweep)
    assert f"rank {min(ranks):.2f}" in render_markdown(report)
    assert "by the mean over tasks of a candidate's rank" in render_markdown(report)


def test_joint_training_on_unlike_tasks_keeps_every_tasks_validation_score(grown: tuple[Home, Report]) -> None:
    home, report = grown
    last = next(arm for arm in report.arms if arm.name == "joint").versions[-1]
    (epoch,) = home.adapter.show(last.reference).metrics["history"]
    assert {f"validation/{kind}" for kind in KINDS} < set(epoch)
    assert epoch["validation"] == epoch[f"validation/{KINDS[-1]}"]


def test_the_gate_holds_every_type_against_its_limits(grown: tuple[Home, Report]) -> None:
    home, report = grown
    kept = GateRules(max_forgetting=0.0, max_worst=0.0, require_identical=True)
    assert home.gate("typed", kept).stream == "typed"
    reached = report.arms[0].matrix[-1][KINDS.index("multi-label")]
    assert reached is not None
    with pytest.raises(GateError, match="multi-label"):
        home.gate("typed", GateRules(tasks={"multi-label": TaskRules(min_score=reached + 0.01)}))


def test_class_means_are_refused_for_other_types_before_anything_is_learned(tmp_path: Path) -> None:
    home = a_home(tmp_path, arms=[*ARMS, {"name": "frozen", "strategy": "frozen"}])
    with pytest.raises(UsageError, match="can't answer task 'regression' of type 'regression'") as refused:
        home.stream.run(tmp_path / "stream.yaml")
    assert "strategy: frozen" in refused.value.hint
    assert home.adapter.list().items == ()
