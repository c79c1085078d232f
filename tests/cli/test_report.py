"""Streams typed, their reports in every format, the gate, and the demo."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from tests.cli.conftest import Limpet

STREAM = """
name: two
tasks: [place, wet]
training: {epochs: 1}
arms:
  - {name: isolated, strategy: isolated, method: lora}
  - {name: shared, strategy: sequential, method: lora, set: {lr: 5e-2}}
"""


@pytest.fixture(scope="module")
def streamed(grown: Limpet, tmp_path_factory: pytest.TempPathFactory) -> Limpet:
    folder = tmp_path_factory.mktemp("streamed")
    shutil.copytree(grown.home, folder / "home")
    limpet = Limpet(folder / "home", grown.cache)
    (folder / "two.yaml").write_text(STREAM, encoding="utf-8")
    outcome = limpet.ok("stream", "run", folder / "two.yaml")
    assert "isolated (seed 0) learned place@" in outcome.stderr
    assert "two on " in outcome.stdout
    return limpet


def test_a_finished_stream_runs_again_at_once_and_quietly(streamed: Limpet) -> None:
    again = streamed.ok("stream", "run", streamed.home.parent / "two.yaml", "--json")
    assert again.json == streamed.ok("report", "two", "--json").json
    assert again.stderr == ""


def test_the_report_has_the_promised_form(streamed: Limpet) -> None:
    report = streamed.ok("report", "--json").json
    assert (report["schema"], report["stream"]) == (1, "two")
    assert report["base"]["unchanged"] is True
    isolated, shared = report["arms"]
    assert isolated["matrix"][0][1] is None
    assert isolated["metrics"]["bwt_gem"] == 0.0
    assert isolated["identical_predictions"] is True
    assert len(shared["versions"]) == 2
    assert report["comparisons"][0]["a"] == "isolated"


def test_streams_are_listed_and_shown(streamed: Limpet) -> None:
    names = [stream["name"] for stream in streamed.ok("stream", "list", "--json").json["streams"]]
    assert names == ["home", "two"]
    assert "two" in streamed.ok("stream", "list").stdout
    assert streamed.ok("stream", "show", "two", "--json").json["tasks"] == ["place", "wet"]
    assert "strategy: sequential" in streamed.ok("stream", "show", "two").stdout


def test_every_format_goes_to_stdout_or_a_file(
    streamed: Limpet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ("table", "json", "csv", "markdown"):
        shown = streamed.ok("report", "two", "--format", form).stdout
        written = streamed.ok("report", "two", "--format", form, "--out", tmp_path / form)
        assert written.stdout == f"{tmp_path / form}\n"
        assert (tmp_path / form).read_text(encoding="utf-8").rstrip("\n") == shown.rstrip("\n")
    assert next(csv.reader(io.StringIO((tmp_path / "csv").read_text())))[0] == "stream"
    assert (tmp_path / "markdown").read_text().startswith("# two")
    monkeypatch.chdir(tmp_path)
    assert streamed.ok("report", "two", "--format", "html").stdout == "limpet-report-two.html\n"
    assert (tmp_path / "limpet-report-two.html").read_text().lstrip().lower().startswith("<!doctype html")
    said = streamed.ok("report", "two", "--json", "--out", tmp_path / "again.json").json
    assert said == {"schema": 1, "stream": "two", "path": str(tmp_path / "again.json")}
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "json").read_text())


def test_a_report_that_can_not_be_written_says_why(streamed: Limpet, tmp_path: Path) -> None:
    outcome = streamed("report", "--format", "csv", "--out", tmp_path / "nowhere" / "report.csv")
    assert outcome.code == 1
    assert "can't be written" in outcome.stderr


def test_the_gate_passes_isolated_arms_and_is_crossed_by_a_limit_below(streamed: Limpet) -> None:
    passed = streamed.ok("gate", "two", "--max-forgetting", 0, "--max-worst", 0, "--require-identical")
    assert passed.stdout.endswith("\ntwo passes the gate\n")
    assert passed.stdout.count("kept") == 3
    crossed = streamed("gate", "two", "--max-worst", "-0.5", "--json")
    assert crossed.code == 6
    assert crossed.error["type"] == "GateError"


@pytest.mark.slow
@pytest.mark.sample
def test_the_demo_runs_and_goes_on_and_says_what_to_type_next(
    base_folder: Path, session_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the real corpora and the real stream file, on a base that learns them in seconds
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base_folder, tmp_path / "base")
    limpet = Limpet(Path("limpet-demo") / ".limpet", session_cache)
    limpet.ok("init", "--base", tmp_path / "base", "--mlflow", "off")
    first = CliRunner().invoke(cli, ["demo"])
    assert first.exit_code == 0, first.stderr
    assert "- isolated forgot nothing" in first.stdout
    assert "report: limpet-demo/report.html, limpet-demo/report.json" in first.stdout
    assert "ui --home limpet-demo/.limpet" in first.stdout
    report = json.loads((tmp_path / "limpet-demo" / "report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["isolated", "sequential-full", "sequential-shared"]
    second = limpet.ok("demo", "--json")
    assert second.json == report
