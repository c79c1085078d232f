"""What an arm cost: its own figures, and those of full fine-tuning beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limpet.forgetting.render.provenance_tables import definition_table
from limpet.forgetting.render.result_tables import cost_table, efficiency_table
from limpet.forgetting.report.arm_cost import arm_cost
from limpet.forgetting.report.build import build_report
from limpet.forgetting.report.values import Report
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.versions.costs import COMPARED, COSTS
from tests.forgetting.grown_home import add_base, add_task, add_version, grow


def costing(version: VersionRecord, number: int = 1, method: str = "lora", **cost: Any) -> VersionRecord:
    return replace(version, number=number, method=method, cost=cost)


@pytest.fixture
def version(store: Store, tmp_path: Path) -> VersionRecord:
    base = add_base(store)
    add_task(store, "bbc-news")
    return add_version(store, "bbc-news", base, tmp_path, 0)


def test_bytes_are_held_against_a_full_checkpoint_of_each_task(version: VersionRecord) -> None:
    made = [costing(version, full_checkpoint_bytes=100 * version.size), costing(version, full_checkpoint_bytes=None)]
    assert arm_cost(made[:1]).full_checkpoint_bytes == 100 * version.size
    assert arm_cost(made[:1]).bytes_share == 0.01
    assert arm_cost(made).bytes_share is None


def test_latency_is_the_median_of_the_steps_that_have_one(version: VersionRecord) -> None:
    latencies = ({"ratio": 1.1, "milliseconds": 11.0}, None, {"ratio": 1.3}, {"ratio": 1.2, "merged_ratio": 1.0})
    cost = arm_cost([costing(version, latency=latency) for latency in latencies])
    assert (cost.latency_ratio, cost.latency_milliseconds, cost.merged_latency_ratio) == (1.2, 11.0, 1.0)
    assert cost.base_latency_milliseconds is None


def test_against_full_is_the_mean_over_the_tasks_and_unknown_where_one_task_has_none(version: VersionRecord) -> None:
    made = [costing(version, train_seconds=2.0), costing(version, train_seconds=3.0)]
    fully = [costing(version, method="full", train_seconds=4.0), costing(version, method="full", train_seconds=2.0)]
    assert arm_cost(made, fully).against_full == {**dict.fromkeys(COMPARED), "train_seconds": 1.0}
    assert arm_cost(made, [fully[0], None]).against_full == dict.fromkeys(COMPARED)
    assert arm_cost(made).against_full == dict.fromkeys(COMPARED)


def test_the_base_is_unchanged_if_every_step_found_it_so(version: VersionRecord) -> None:
    same, unknown = costing(version, base_unchanged=True), costing(version)
    assert arm_cost([same, same]).base_unchanged is True
    assert arm_cost([same, unknown]).base_unchanged is None
    assert arm_cost([]).base_unchanged is None


@pytest.fixture
def grown(store: Store, tmp_path: Path) -> Report:
    grow(store, tmp_path, steps=2)
    return build_report(store, "four-topics")


def test_a_stream_with_a_fully_fine_tuned_arm_holds_the_others_against_it(grown: Report) -> None:
    isolated = grown.arms[0].cost
    assert isolated.against_full == {**dict.fromkeys(COMPARED, 1.0), "peak_memory_added_bytes": None}
    (first, *_) = efficiency_table(grown).rows
    assert first == ("isolated", "-", "1.00x", "1.00x", "1.00x", "-", "-", "-")


def test_a_stream_without_one_takes_that_of_the_home(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=2, arms={"isolated": ("isolated", "lora")})
    alone = build_report(store, "four-topics")
    assert alone.arms[0].cost.against_full == dict.fromkeys(COMPARED)
    assert efficiency_table(alone).rows == ()
    base = add_base(store)
    for task in alone.tasks[:2]:
        add_version(store, task.name, base, tmp_path, 9, method="full", role="baseline")
    held = build_report(store, "four-topics").arms[0].cost.against_full
    assert held["train_seconds"] == 1.0


def test_added_latency_and_size_are_shown_in_percent(grown: Report) -> None:
    cost = replace(grown.arms[0].cost, bytes_share=0.0149, latency_ratio=1.154, merged_latency_ratio=0.998)
    changed = replace(grown, arms=(replace(grown.arms[0], cost=cost),))
    (row,) = efficiency_table(changed).rows
    assert (row[1], row[6], row[7]) == ("1.49%", "+15 %", "+0 %")
    assert len(cost_table(changed).rows) == 1


def test_every_figure_has_its_definition_in_the_report() -> None:
    assert set(COSTS) <= {key for key, _ in definition_table().rows}
