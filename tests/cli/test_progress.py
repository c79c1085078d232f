"""Progress on a terminal, lines when piped, silence when asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from limpet.cli.terminal.progress import TerminalProgress
from tests.cli.conftest import Limpet


def on_terminal(limpet: Limpet, *words: str) -> tuple[str, str]:
    """Call with a terminal as stderr; return what was drawn there, and stdout."""
    controller, terminal = os.openpty()
    command = [sys.executable, "-m", "limpet", *words, "--home", str(limpet.home)]
    environment = {**limpet.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment)
    os.close(terminal)
    drawn = b""
    while True:
        try:
            part = os.read(controller, 65_536)
        except OSError:
            # the terminal has no writer any more
            break
        if not part:
            break
        drawn += part
    os.close(controller)
    assert process.stdout is not None
    return drawn.decode(), process.stdout.read()


def test_a_terminal_gets_bars_and_stdout_stays_clean(copy: Limpet) -> None:
    drawn, stdout = on_terminal(copy, "evaluate", "place@1")
    assert "evaluate place" in drawn
    assert "27/27" in drawn
    assert stdout.splitlines()[1].startswith("place@1")
    assert "Loading" not in drawn


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_quiet_and_json_draw_nothing(copy: Limpet, option: str) -> None:
    drawn, _ = on_terminal(copy, "evaluate", "place@1", option)
    assert drawn == ""


def test_piped_notes_are_plain_lines_without_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress(silent=False) as progress:
        progress.start("train", 10)
        progress.advance(5, "loss 0.5")
        progress.note("half way [done]")
        progress.finish()
    captured = capsys.readouterr()
    assert captured.err == "half way [done]\n"
    assert captured.out == ""


def test_silence_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress(silent=True) as progress:
        progress.start("train", 10)
        progress.note("half way")
    assert capsys.readouterr().err == ""


def test_training_says_nothing_of_its_libraries(copy: Limpet) -> None:
    command = [
        sys.executable,
        "-m",
        "limpet",
        "train",
        "wet",
        "--epochs",
        "1",
        "--seed",
        "9",
        "--home",
        str(copy.home),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=copy.environment)
    (line,) = done.stderr.splitlines()
    assert line.startswith("products in ")
    assert done.stdout.startswith("registered wet@2 (lora, score 0.")
