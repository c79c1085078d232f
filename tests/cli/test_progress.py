"""Progress on a terminal, lines when piped, silence when asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from limpet.cli.terminal.progress import TerminalProgress
from tests.cli.conftest import Limpet
from tests.warm import Warm


def on_terminal(warm: Warm, limpet: Limpet, *words: str) -> tuple[str, str]:
    """Call with a terminal as stderr; return what was drawn there, and stdout."""
    controller, terminal = os.openpty()
    environment = {**limpet.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = warm.limpet(*words, "--home", limpet.home, env=environment, stderr=terminal)
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
    stdout, _ = process.communicate()
    return drawn.decode(), stdout


def test_a_terminal_gets_bars_and_stdout_stays_clean(copy: Limpet, warm: Warm) -> None:
    drawn, stdout = on_terminal(warm, copy, "evaluate", "place@1")
    assert "evaluate place" in drawn
    assert "27/27" in drawn
    assert stdout.splitlines()[1].startswith("place@1")
    assert "Loading" not in drawn


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_quiet_and_json_draw_nothing(copy: Limpet, warm: Warm, option: str) -> None:
    drawn, _ = on_terminal(warm, copy, "evaluate", "place@1", option)
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
    # a process that starts cold, as a user's does: the libraries are imported, and load weights, in it
    words = ["train", "wet", "--epochs", "1", "--seed", "9", "--home", str(copy.home)]
    command = [sys.executable, "-m", "limpet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=copy.environment)
    first, last = done.stderr.splitlines()
    assert first.startswith("products in ")
    assert last.startswith("took ")
    assert done.stdout.startswith("registered wet@2 (lora, score 0.")
