"""`limpet adapter show` says what a version cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.cli.terminal.cost import cost_lines
from limpet.registry.versions.costs import COMPARED, COSTS
from tests.cli.conftest import Limpet


def test_show_has_every_figure_null_where_it_is_not_known(grown: Limpet) -> None:
    cost = grown.ok("adapter", "show", "place@1", "--json").json["cost"]
    assert set(COSTS) | {"bytes_share", "against_full"} == cost.keys()
    assert cost["latency"] is None
    assert cost["against_full"] == {"version": None, **dict.fromkeys(COMPARED)}
    assert cost["bytes_share"] > 0
    text = grown.ok("adapter", "show", "place@1").stdout
    assert "of a full checkpoint" in text
    assert [line for line in text.splitlines() if line.startswith("against full")] == ["against full     -"]


def test_show_holds_a_version_against_the_fully_fine_tuned_one(copy: Limpet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "0.02")
    copy.ok("train", "place", "--method", "full", "--epochs", 1, "--no-monitor", "--quiet")
    copy.ok("train", "place", "--method", "lora", "--epochs", 1, "--seed", 5, "--no-monitor", "--quiet")
    cost = copy.ok("adapter", "show", "place", "--json").json["cost"]
    assert cost["against_full"]["version"] == "place@3"
    assert cost["against_full"]["train_seconds"] > 0
    text = copy.ok("adapter", "show", "place").stdout
    assert "place@3: training seconds" in text
    assert " ms (" in text and "merged " in text and "the base alone " in text


def test_a_report_shows_the_cost(copy: Limpet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "0.02")
    copy.ok("train", "wet", "--epochs", 1, "--seed", 7, "--quiet")
    copy.ok("train", "place", "--epochs", 1, "--seed", 7, "--quiet")
    for form in ("table", "markdown"):
        out = tmp_path / form
        copy.ok("report", "home", "--format", form, "--out", out)
        text = " ".join(out.read_text(encoding="utf-8").split())
        assert "efficiency" in text
    (arm,) = copy.ok("report", "home", "--json").json["arms"]
    assert arm["cost"]["latency_ratio"] > 0
    assert arm["cost"]["base_unchanged"] is True
    csv = copy.ok("report", "home", "--format", "csv").stdout
    assert "cost,latency_ratio," in csv and "cost,against_full:train_seconds," in csv


def test_what_is_not_known_of_an_imported_version_is_left_out() -> None:
    cost = {**dict.fromkeys(COSTS), "bytes_share": None, "against_full": {"version": None, **dict.fromkeys(COMPARED)}}
    assert {value for _, value in cost_lines(cost)} == {None}
    partly = dict(cost_lines(cost | {"latency": {"milliseconds": 2.0}, "bytes": 5}))
    assert (partly["latency"], partly["size"]) == ("2.00 ms", "5 B")
