"""Closed, full and broken streams, encodings that lack a letter, words that are no text: all commands end cleanly."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
import pytest

from limpet.cli import cli
from limpet.cli.terminal.standard_streams import StandardStream, guarded
from tests.cli.conftest import Limpet
from tests.cli.test_help import EVERY

VERBS = sorted(name for name, command in EVERY.items() if not isinstance(command, click.Group))

# what answers on the grown home and changes nothing; every other command is asked for what is not there
ANSWERS = {
    "adapter diff": ["place@1", "place@2"],
    "adapter history": ["wet"],
    "adapter list": [],
    "adapter show": ["place@1"],
    "base show": [],
    "db current": [],
    "doctor": [],
    "log": [],
    "methods": [],
    "policy show": [],
    "predict": ["place", "a wave"],
    "stream list": [],
    "stream show": ["home"],
    "task list": [],
    "task show": ["place"],
}


@contextmanager
def opened(kind: str) -> Iterator[TextIO]:
    """A guarded stream that is broken in one way."""
    if kind == "full":
        number = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, number = os.pipe()
        os.close(reader)
    stream = guarded(number, None)
    if kind == "closed":
        raw = stream.buffer.raw  # type: ignore[attr-defined]
        raw.failure = OSError(errno.EBADF, "it is closed")
    try:
        yield stream
    finally:
        stream.flush()
        os.close(number)


@pytest.fixture
def call(grown: Limpet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call a command in this process with broken streams; returns the exit code."""
    monkeypatch.setenv("LIMPET_CACHE", str(grown.cache))
    monkeypatch.chdir(tmp_path)

    def calling(kind: str, *words: str, told: TextIO | None = None) -> int:
        with opened(kind) as broken, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", broken)
            patch.setattr(sys, "stderr", told or broken)
            with pytest.raises(SystemExit) as ended:
                cli.main(["--home", str(grown.home), *words])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return calling


@contextmanager
def told(folder: Path) -> Iterator[tuple[TextIO, Path]]:
    path = folder / "stderr.txt"
    with path.open("w", encoding="utf-8") as file:
        yield file, path


@pytest.mark.parametrize("typed", VERBS)
def test_the_help_of_every_command_survives_broken_streams(typed: str, call: Callable[..., int]) -> None:
    assert call("broken", *typed.split(), "--help") == 0
    assert call("full", *typed.split(), "--help") == 1
    assert call("closed", *typed.split(), "--help") == 1


@pytest.mark.parametrize("typed", sorted(ANSWERS))
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_answers_says_that_its_answer_is_lost(
    typed: str, form: list[str], call: Callable[..., int], tmp_path: Path
) -> None:
    assert typed in VERBS
    words = [*typed.split(), *ANSWERS[typed], *form]
    # a reader that has read enough is no failure
    assert call("broken", *words) == 0
    with told(tmp_path) as (file, path):
        assert call("full", *words, told=file) == 1
    said = path.read_text(encoding="utf-8")
    assert "could not be written to stdout: No space left on device" in said
    assert "unexpected" not in said
    if form:
        assert json.loads(said.splitlines()[-1])["error"]["hint"]


@pytest.mark.parametrize("typed", [name for name in VERBS if name not in ANSWERS])
def test_an_error_keeps_its_exit_code_on_broken_streams(typed: str, call: Callable[..., int]) -> None:
    for kind in ("broken", "full"):
        assert call(kind, *typed.split(), "--no-such-option") == 2


def test_nothing_is_done_where_stdout_is_closed(call: Callable[..., int], grown: Limpet, tmp_path: Path) -> None:
    with told(tmp_path) as (file, path):
        assert call("closed", "adapter", "tag", "place@1", "a=b", told=file) == 1
    assert "stdout is closed" in path.read_text(encoding="utf-8")
    assert grown.ok("adapter", "show", "place@1", "--json").json["tags"] == {}


def test_a_full_disk_behind_stdout_undoes_nothing_and_keeps_the_code_of_an_error(copy: Limpet) -> None:
    def code(*words: str) -> int:
        line = [sys.executable, "-m", "limpet", "--home", str(copy.home), *words]
        with Path("/dev/full").open("w") as full:
            return subprocess.run(line, stdout=full, stderr=full, env=copy.environment, check=False).returncode

    assert code("adapter", "tag", "place@1", "owner=ada") == 1
    assert copy.ok("adapter", "show", "place@1", "--json").json["tags"] == {"owner": "ada"}
    assert code("adapter", "show", "place@99") == 3


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        (">&-", 1, "stdout is closed"),
        ("<&-", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&-", 1, ""),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_closed_streams_of_a_real_process(grown: Limpet, closed: str, code: int, said: str) -> None:
    line = f'"$0" -m limpet --home "$1" task list --json {closed}'
    ended = subprocess.run(
        ["bash", "-c", line, sys.executable, str(grown.home)], capture_output=True, env=grown.environment, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr.decode("utf-8")
    if code == 0:
        assert json.loads(ended.stdout)["schema"] == 1


def test_stdin_that_is_closed_is_an_empty_file(grown: Limpet) -> None:
    line = '"$0" -m limpet --home "$1" predict place --file - <&-'
    ended = subprocess.run(
        ["bash", "-c", line, sys.executable, str(grown.home)], capture_output=True, env=grown.environment, check=False
    )
    assert ended.returncode == 2
    assert b"has no text in it" in ended.stderr


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow), "utf-8"])
def test_an_encoding_that_lacks_a_letter_gets_the_letter_written_out(copy: Limpet, encoding: str) -> None:
    copy.ok("adapter", "note", "place@1", "Käse und 한국 und 🐚")
    environment = copy.environment | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    line = [sys.executable, "-m", "limpet", "--home", str(copy.home), "adapter", "show", "place@1"]
    for form in ([], ["--json"]):
        ended = subprocess.run([*line, *form], capture_output=True, env=environment, check=False)
        assert ended.returncode == 0, ended.stderr
    # JSON reads the written-out letters back as what they were
    assert json.loads(ended.stdout.decode("utf-8" if encoding == "ascii" else encoding))["notes"][0]["text"] == (
        "Käse und 한국 und 🐚"
    )


@pytest.mark.parametrize("words", [["predict", "place", "\udcff"], ["task", "show", "caf\udce9", "--json"]])
def test_a_word_that_is_not_utf_8_is_refused_before_anything_is_done(grown: Limpet, words: list[str]) -> None:
    outcome = grown(*words)
    assert outcome.code == 2
    assert "is not UTF-8" in outcome.stderr
    assert "\\x" in outcome.stderr


@pytest.mark.parametrize("typed", [["trian", "--json"], ["--json", "trian"], ["train", "--nope", "--json"]])
def test_a_mistyped_command_under_json_is_told_as_json(grown: Limpet, typed: list[str]) -> None:
    outcome = grown(*typed)
    assert outcome.code == 2
    assert outcome.error["type"] == "UsageError"


def test_a_text_that_reads_json_is_no_option(grown: Limpet) -> None:
    outcome = grown("task", "show", "plaice", "--", "--json")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")


def test_a_stream_keeps_its_first_failure_and_drops_the_rest() -> None:
    with opened("full") as stream:
        for _ in range(3):
            stream.write("an answer\n")
        raw = stream.buffer.raw  # type: ignore[attr-defined]
        assert isinstance(raw, StandardStream)
        assert raw.failure is not None and raw.failure.errno == errno.ENOSPC


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    line = [sys.executable, "-c", "import sys, time; time.sleep(0.3); print(len(sys.stdin.buffer.read()))"]
    with subprocess.Popen(line, stdin=reader, stdout=subprocess.PIPE) as slow:
        os.close(reader)
        stream = guarded(writer, None)
        stream.write("x" * 1_000_000)
        stream.flush()
        os.close(writer)
        assert slow.communicate()[0].strip() == b"1000000"


def test_an_error_of_a_command_is_told_and_not_that_its_output_is_lost(
    call: Callable[..., int], tmp_path: Path
) -> None:
    with told(tmp_path) as (file, path):
        assert call("full", "adapter", "show", "place@99", told=file) == 3
    assert path.read_text(encoding="utf-8").startswith("error: The task 'place' has no version 99.")
