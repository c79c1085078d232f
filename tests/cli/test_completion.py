"""Words that a shell completes, asked of bash itself, and of the program as zsh and fish ask it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet

# as an interactive bash splits words, at signs and colons among the breaks
_ASK = r"""
source <(limpet completion bash)
COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
while IFS= read -r line; do
    COMP_LINE="$line" COMP_POINT=${#line}
    _limpet_completion limpet
    printf '%s\n' "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the PATH that has `limpet`."""
    folder = tmp_path_factory.mktemp("bin")
    path = folder / "limpet"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m limpet "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return folder


def bash(program: Path, home: Path, *lines: str) -> list[list[str]]:
    """Return what bash offers at the end of each line."""
    environment = os.environ | {"PATH": f"{program}:{os.environ['PATH']}", "LIMPET_HOME": str(home)}
    typed = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["bash", "-c", _ASK], input=typed, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [line.split(" ") if line else [] for line in done.stdout.splitlines()]


def test_bash_completes_commands_and_what_a_home_has_names_for(grown: Limpet, program: Path) -> None:
    offered = bash(
        program,
        grown.home,
        "limpet sta",
        "limpet adapter pro",
        "limpet train ",
        "limpet adapter show pl",
        "limpet adapter show wet@",
        "limpet adapter show wet@pro",
        "limpet train place --method lo",
        "limpet task add x --data sample:bb",
        "limpet report --format js",
        "limpet adapter rollback wet ",
    )
    # behind an at sign or a colon, bash adds to what is there
    assert offered == [
        ["status"],
        ["promote"],
        ["place", "wet"],
        ["place", "place@2", "place@1", "place@latest"],
        ["1", "production", "latest"],
        ["production"],
        ["lora"],
        ["bbc-news"],
        ["json"],
        ["production"],
    ]


def test_where_nothing_can_be_known_nothing_is_said_and_nothing_is_made(program: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "limpet.toml").write_text("", encoding="utf-8")
    lines = ("limpet train ", "limpet nonsense x", "limpet train 'open", "limpet stream show ")
    assert bash(program, broken, *lines) == [[]] * len(lines)
    (broken / "limpet.db").write_bytes(b"no database at all" * 100)
    assert bash(program, broken, "limpet train ") == [[]]
    assert bash(program, tmp_path / "nowhere", "limpet train ") == [[]]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["broken", "limpet.db", "limpet.toml"]


@pytest.mark.parametrize(
    ("shell", "typed", "answer"),
    [("zsh", {"COMP_CWORD": "2"}, "plain\nplace\n_\n"), ("fish", {"COMP_CWORD": "pla"}, "plain,place")],
)
def test_zsh_and_fish_are_answered_in_their_form(
    grown: Limpet, shell: str, typed: dict[str, str], answer: str
) -> None:
    environment = {"_LIMPET_COMPLETE": f"{shell}_complete", "COMP_WORDS": "limpet train pla", **typed}
    command = [sys.executable, "-m", "limpet"]
    env = os.environ | environment | {"LIMPET_HOME": str(grown.home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(answer.rstrip())
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_can_read(new: Limpet, shell: str) -> None:
    script = new.ok("completion", shell).stdout
    assert "_limpet_completion" in script
    assert new.ok("completion", shell, "--json").json["script"] == script
    if (path := shutil.which(shell)) is not None:
        subprocess.run([path, "-n"], input=script, text=True, check=True)


def test_a_completion_imports_no_library(grown: Limpet) -> None:
    script = (
        "import sys\nfrom limpet.cli import cli\n"
        "try:\n    cli.main([], prog_name='limpet')\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('modules:', *sys.modules)"
    )
    typed = {"_LIMPET_COMPLETE": "bash_complete", "COMP_WORDS": "limpet adapter show pl"}
    env = os.environ | typed | {"LIMPET_HOME": str(grown.home)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    offered, _, modules = done.stdout.partition("modules:")
    assert "plain,place@2" in offered
    assert not set(modules.split()) & {"torch", "transformers", "sqlalchemy", "alembic", "numpy", "rich", "yaml"}
