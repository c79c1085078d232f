"""How calls fail: exit codes, the three lines for people, the object for programs, never a traceback unasked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.cli.invocation.exit_codes import run
from limpet.errors import LimpetError
from tests.cli.conftest import Limpet
from tests.tiny import change_one_weight, tiny_csv
from tests.warm import Warm


def test_1_a_dataset_that_is_no_task(grown: Limpet, tmp_path: Path) -> None:
    data = tiny_csv(tmp_path / "one.csv", labels=("sea",))
    outcome = grown("task", "add", "one", "--data", f"csv:{data}", "--json")
    assert outcome.code == 1
    assert outcome.error["type"] == "DataError"
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    "typed",
    [
        ["train"],
        ["train", "place", "--nope"],
        ["train", "place", "--epochs", "many"],
        ["train", "place", "--epochs", "0"],
        ["train", "place", "--set", "r"],
        ["train", "place", "--set", "r=1", "--set", "r=2"],
        ["train", "place", "--set", "rank=8"],
        ["train", "place", "--method", "magic"],
        ["train", "place", "--max-forgetting", "0", "--no-monitor"],
        ["train", "place", "--monitor", "audit", "--no-monitor"],
        ["train", "place", "--monitor", "some"],
        ["adapter", "show", "../place"],
        ["adapter", "nope"],
        ["adapter", "show", "place@0"],
        ["adapter", "promote", "place@1", "latest"],
        ["adapter", "list", "--limit", "0"],
        ["adapter", "list", "--where", "1 = 1; drop table"],
        ["task", "add", "x", "--data", "nonsense"],
        ["task", "add", "x", "--data", "csv:a", "--label", "a", "--target", "b"],
        ["report", "--format", "pdf"],
        ["report", "--format", "csv", "--json"],
        ["gate"],
        ["evaluate", "place", "--all"],
        ["predict", "place"],
        ["predict", "place", "text", "--file", "-"],
        ["predict"],
        ["predict", "--file", __file__],
        ["nonsense"],
    ],
)
def test_2_wrong_usage(grown: Limpet, typed: list[str]) -> None:
    outcome = grown("--json", *typed)
    assert outcome.code == 2, outcome.stderr
    assert outcome.error["type"] == "UsageError"
    assert outcome.error["message"] and outcome.error["hint"]


@pytest.mark.parametrize(
    "typed",
    [
        ["task", "show", "plaice"],
        ["train", "plaice"],
        ["adapter", "show", "place@99"],
        ["adapter", "show", "place@staging"],
        ["adapter", "rollback", "place", "staging"],
        ["adapter", "register", "place", "no-folder"],
        ["report", "no-stream"],
        ["stream", "show", "no-stream"],
        ["stream", "run", "no-file.yaml"],
        ["base", "show", "no-base"],
        ["predict", "place", "--file", "no-file.txt"],
        ["task", "add", "x", "--data", "csv:no-file.csv"],
    ],
)
def test_3_not_found(grown: Limpet, typed: list[str]) -> None:
    outcome = grown(*typed, "--json")
    assert outcome.code == 3, outcome.stderr
    assert outcome.error["type"] == "NotFoundError"
    assert outcome.error["hint"]


@pytest.mark.parametrize("typed", [["task", "list"], ["train", "place"], ["verify"], ["db", "current"], ["ui"]])
def test_3_no_home(new: Limpet, typed: list[str]) -> None:
    outcome = new(*typed)
    assert outcome.code == 3
    assert "limpet init" in outcome.stderr
    assert not new.home.exists()


def test_4_conflicts(copy: Limpet, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    data = tiny_csv(tmp_path / "other.csv", seed=9)
    for typed in (
        ["init"],
        ["adapter", "promote", "place@1", "production", "--expect", "place@2"],
        ["adapter", "rollback", "wet", "production"],
        ["adapter", "export", "place@1", tmp_path / "full"],
        ["task", "add", "place", "--data", f"csv:{data}"],
    ):
        outcome = copy(*typed, "--json")
        assert outcome.code == 4, outcome.stderr
        assert outcome.error["type"] == "ConflictError"


def test_5_another_base(new: Limpet, base_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    new.ok("init", "--base", base, "--mlflow", "off")
    new.ok("task", "add", "place", "--data", f"csv:{tiny_csv(tmp_path / 'place.csv')}", "--max-length", 16)
    new.ok("train", "place", "--epochs", 1)
    new.ok("adapter", "export", "place@1", tmp_path / "out")
    change_one_weight(base)
    for typed in (
        ["train", "place", "--seed", 1],
        ["predict", "place", "a wave"],
        ["adapter", "register", "place", tmp_path / "out"],
        ["base", "verify"],
        ["verify"],
    ):
        outcome = new(*typed)
        assert outcome.code == 5, outcome.stderr
        assert outcome.stderr.startswith("error: ")


def test_6_a_crossed_gate_keeps_the_version_and_refuses_its_promotion(copy: Limpet) -> None:
    crossed = copy("train", "wet", "--epochs", 1, "--seed", 7, "--max-forgetting", "-1", "--promote", "staging")
    assert crossed.code == 6
    assert "wet@2" in crossed.stderr
    assert copy("adapter", "promote", "wet@2", "staging").code == 6
    assert copy.ok("adapter", "show", "wet@2", "--json").json["aliases"] == []


def test_130_a_signal_during_training_keeps_a_checkpoint(copy: Limpet, warm: Warm) -> None:
    environment = copy.environment | {"LIMPET_CHECKPOINT_SECONDS": "0.1"}
    words = ("train", "place", "--epochs", 100_000, "--seed", 3)
    process = warm.limpet(*words, "--home", copy.home, env=environment)
    deadline = time.monotonic() + 120
    while not list(copy.home.glob("runs/*/checkpoint.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.endswith("hint: limpet train place --resume\n")
    assert "Traceback" not in stderr
    other = copy("train", "place", "--resume", "--epochs", 2)
    assert other.code == 2
    assert "epochs 100000, not 2" in other.stderr


def test_130_an_interrupted_command_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def waits() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(waits.main, [])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "error: interrupted."


def test_an_unexpected_error_is_one_line_without_debug(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def breaks() -> None:
        raise RuntimeError("two\nlines")

    with pytest.raises(SystemExit) as end:
        run(breaks.main, [])
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: unexpected error, RuntimeError: two lines; --debug shows the traceback.\n"
    )


def test_debug_shows_the_traceback(grown: Limpet) -> None:
    outcome = grown("--debug", "task", "show", "plaice")
    assert outcome.code == 3
    assert "Traceback (most recent call last)" in outcome.stderr
    assert "error: " in outcome.stderr
    assert "Traceback" not in grown("task", "show", "plaice").stderr


def test_debug_and_json_give_the_traceback_inside_the_object(grown: Limpet) -> None:
    error = grown("task", "show", "plaice", "--debug", "--json").error
    assert "Traceback (most recent call last)" in error["traceback"]


def test_an_error_for_people_is_two_lines(grown: Limpet) -> None:
    outcome = grown("adapter", "show", "place@99")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: limpet ")
    assert outcome.stdout == ""


def test_global_options_work_before_and_after_the_command(grown: Limpet) -> None:
    for typed in (
        ["--json", "--home", grown.home, "task", "list"],
        ["task", "--json", "list", "--home", grown.home],
        ["task", "--home", grown.home, "list", "--json"],
    ):
        result = CliRunner().invoke(cli, [str(word) for word in typed])
        assert json.loads(result.stdout)["schema"] == 1, result.stderr


def test_the_home_comes_from_the_environment_or_from_above(
    grown: Limpet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_HOME", str(grown.home))
    assert "place" in CliRunner().invoke(cli, ["task", "list"]).stdout
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "elsewhere"))
    made = CliRunner().invoke(cli, ["init", "--mlflow", "off", "--json"])
    assert json.loads(made.stdout)["home"] == str(tmp_path / "elsewhere")
    monkeypatch.delenv("LIMPET_HOME")
    (tmp_path / "project" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    assert CliRunner().invoke(cli, ["init", "--quiet"]).stderr == ""
    monkeypatch.chdir(tmp_path / "project" / "deep")
    assert CliRunner().invoke(cli, ["task", "list"]).exit_code == 0


def test_a_reader_that_goes_away_is_no_error_message(grown: Limpet) -> None:
    command = [sys.executable, "-m", "limpet", "--home", grown.home, "adapter", "show", "place@1", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=grown.environment) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fails() -> None:
        raise LimpetError("it can't.")

    with pytest.raises(SystemExit):
        run(fails.main, [])
    assert capsys.readouterr().err == "error: it can't.\n"


def test_no_color_is_obeyed_on_a_terminal(grown: Limpet) -> None:
    def on_terminal(environment: dict[str, str]) -> str:
        controller, terminal = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "limpet", "task", "show", "plaice", "--home", str(grown.home)],
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color"} | environment,
        )
        process.wait(timeout=60)
        os.close(terminal)
        shown = os.read(controller, 10_000).decode()
        os.close(controller)
        return shown

    assert "\x1b[" in on_terminal({})
    assert "\x1b[" not in on_terminal({"NO_COLOR": "1"})


def test_an_addition_is_told_before_its_mirror_and_ctrl_c_there_loses_nothing(copy: Limpet, warm: Warm) -> None:
    """A tracking server that takes the question and never answers; the version is registered all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://ana:hunter2@127.0.0.1:{silent.getsockname()[1]}"
        words = ("train", "wet", "--epochs", 1, "--seed", 5, "--home", copy.home)
        process = warm.limpet(*words, env=copy.environment | {"LIMPET_MLFLOW": uri})
        assert process.stdout is not None
        assert process.stdout.readline().startswith("registered wet@2 ")
        # the scores of both tasks now, under a line that is empty and one of names
        assert all(process.stdout.readline() for _ in range(4))
        # it is asked by now
        silent.settimeout(60)
        silent.accept()[0].close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "warning: The MLflow mirror is behind" in said
    assert "hunter2" not in said
    assert copy.ok("adapter", "show", "wet@2", "--json").json["version"] == 2
