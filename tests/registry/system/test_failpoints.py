"""The failpoints themselves: off unless asked for, and each of them known by name."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import limpet
from limpet.errors import UsageError
from limpet.registry.system.failpoints import FAILPOINTS, VARIABLE, reach
from tests.registry.homes import add_version, stock

PACKAGE = Path(limpet.__file__).parent


def test_without_the_variable_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in FAILPOINTS:
        reach(name)


@pytest.mark.parametrize("setting", ["register.stord", "register.stored:two", ":1"])
def test_a_misspelt_failpoint_is_an_error_and_no_silent_pass(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    with pytest.raises(UsageError, match="no failpoint"):
        reach("register.stored")


def test_every_failpoint_stands_in_the_code_and_every_one_in_the_code_is_listed() -> None:
    source = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    reached = set(re.findall(r'reach\("([a-z.-]+)"\)', source))
    for operation in re.findall(r'(?:database\.write\(|recording\(store, )"([a-z-]+)"', source):
        reached |= {f"{operation}.{place}" for place in ("begun", "written", "committed")}
    assert reached == set(FAILPOINTS)


def test_a_command_dies_at_the_place_that_the_environment_names(tmp_path: Path) -> None:
    home = stock(tmp_path / "home")
    add_version(home)
    command = [sys.executable, "-m", "limpet", "adapter", "promote", "news@1", "live", "--home", str(home.path)]
    environment = {**os.environ, VARIABLE: "promote.written"}
    died = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
