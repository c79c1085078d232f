"""Calls of the command line, in this process, and a home with three versions of two tasks."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from tests.tiny import tiny_csv


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The object on stdout."""
        return json.loads(self.stdout)

    @property
    def error(self) -> Any:
        """The error object on stderr."""
        content = json.loads(self.stderr)
        assert content["schema"] == 1
        return content["error"]


@dataclass(frozen=True)
class Limpet:
    """`limpet` with a home of its own; `limpet("task", "list")` is `limpet --home HOME task list`."""

    home: Path
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process of its own."""
        return {**os.environ, "LIMPET_CACHE": str(self.cache)}

    def __call__(self, *words: object, stdin: str | bytes | None = None) -> Outcome:
        typed = ["--home", str(self.home), *(str(word) for word in words)]
        result = CliRunner().invoke(cli, typed, input=stdin, env={"LIMPET_CACHE": str(self.cache)})
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def ok(self, *words: object, stdin: str | bytes | None = None) -> Outcome:
        """Call, and insist on success."""
        outcome = self(*words, stdin=stdin)
        assert outcome.code == 0, outcome.stderr
        return outcome


@pytest.fixture(scope="session", autouse=True)
def _quiet_libraries() -> None:
    """As in a process of its own, where the command line silences them before they are imported."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture
def new(tmp_path: Path) -> Limpet:
    """A place where no home is yet."""
    return Limpet(tmp_path / "home", tmp_path / "cache")


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Limpet:
    """A home made by the command line, with place@1, wet@1 and place@2; only for tests that read."""
    folder = tmp_path_factory.mktemp("grown")
    limpet = Limpet(folder / "home", folder / "cache")
    shutil.copytree(base_folder, folder / "base")
    limpet.ok("init", "--base", folder / "base", "--mlflow", "off")
    place = tiny_csv(folder / "place.csv")
    wet = tiny_csv(folder / "wet.csv", labels=("sea", "rock"), seed=1)
    limpet.ok("task", "add", "place", "--data", f"csv:{place}", "--max-length", 16)
    limpet.ok("task", "add", "wet", "--data", f"csv:{wet}", "--max-length", 16)
    limpet.ok("train", "place", "--epochs", 1, "--quiet")
    limpet.ok("train", "wet", "--epochs", 1, "--promote", "production")
    limpet.ok("train", "place", "--epochs", 4, "--lr", "1e-2", "--set", "r=4", "--seed", 1)
    return limpet


@pytest.fixture
def copy(grown: Limpet, tmp_path: Path) -> Limpet:
    """A copy of the grown home, to change."""
    shutil.copytree(grown.home, tmp_path / "home")
    return Limpet(tmp_path / "home", grown.cache)
