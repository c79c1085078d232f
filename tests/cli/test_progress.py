"""Progress on a terminal, lines when piped, silence when asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from limpet.cli.terminal.progress import TerminalProgress
from tests.cli.conftest import Limpet
from tests.warm import Process, Warm


def cold(
    *words: object, env: dict[str, str], stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start `limpet WORDS` as a user does, where nothing is imported yet."""
    command = [sys.executable, "-m", "limpet", *(str(word) for word in words)]
    return subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr, text=True)


def on_terminal(
    start: Callable[..., Process | subprocess.Popen[str]], limpet: Limpet, *words: str
) -> tuple[str, str]:
    """Call with a terminal as stderr; return what was drawn there, and stdout."""
    controller, terminal = os.openpty()
    environment = {**limpet.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = start(*words, "--home", limpet.home, env=environment, stderr=terminal)
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


def test_a_terminal_gets_bars_and_stdout_stays_clean(copy: Limpet) -> None:
    # a process that starts cold: its libraries are imported, and load weights, while a terminal looks on
    drawn, stdout = on_terminal(cold, copy, "evaluate", "place@1")
    assert "evaluate place" in drawn
    assert "27/27" in drawn
    assert stdout.splitlines()[1].startswith("place@1")
    assert "Loading" not in drawn


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_quiet_and_json_draw_nothing(copy: Limpet, warm: Warm, option: str) -> None:
    drawn, _ = on_terminal(warm.limpet, copy, "evaluate", "place@1", option)
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
    process = cold("train", "wet", "--epochs", 1, "--seed", 9, "--home", copy.home, env=copy.environment)
    stdout, stderr = process.communicate()
    (line,) = stderr.splitlines()
    assert line.startswith("products in ")
    assert stdout.startswith("registered wet@2 (lora, score 0.")
