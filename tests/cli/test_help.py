"""What the program says about itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from limpet.cli import COMMANDS, cli

HEAVY = ("torch", "transformers", "peft", "datasets", "mlflow", "sqlalchemy", "alembic", "rich", "numpy", "yaml")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and verb, with what is typed for it."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for verb, inner in command.commands.items():
                yield f"{name} {verb}", inner


EVERY = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_one_line_help_is_that_of_the_command_itself(name: str) -> None:
    assert (EVERY[name].help or "").partition("\n")[0] == COMMANDS[name]
    assert EVERY[name].name == name


@pytest.mark.parametrize("typed", EVERY)
def test_every_command_and_option_has_help(typed: str) -> None:
    result = CliRunner().invoke(cli, [*typed.split(), "--help"])
    assert result.exit_code == 0
    assert result.stderr == ""
    first = (EVERY[typed].help or "").partition("\n")[0]
    assert first.endswith(".") and first in " ".join(result.stdout.split())
    for option in EVERY[typed].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help and option.opts[0] in result.stdout


@pytest.mark.parametrize("typed", EVERY)
def test_every_command_takes_the_global_options(typed: str) -> None:
    options = {option for parameter in EVERY[typed].params for option in parameter.opts}
    assert {"--home", "--json", "--quiet", "--verbose", "--debug"} <= options


def test_the_top_help_lists_every_command() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["--help"]).stdout.split())
    for name, text in COMMANDS.items():
        assert f"{name} {text}" in shown


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["train", "--help"], ["adapter", "list", "--help"]])
def test_help_imports_nothing_heavy(typed: list[str]) -> None:
    script = (
        "import sys\nfrom limpet.cli import cli\n"
        f"try:\n    cli.main({typed!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('modules:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(done.stdout.rpartition("modules:")[2].split())
    assert not modules & set(HEAVY)
    assert "limpet.cli.commands.report" not in modules


def test_the_module_runs_as_the_console_script_does() -> None:
    done = subprocess.run([sys.executable, "-m", "limpet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("limpet 0.")
    script = "import runpy, sys; sys.argv = ['limpet', 'nonsense']; from limpet.cli import main; main()"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["adpter"])
    assert result.exit_code == 2
    assert result.stderr == "error: There is no command 'adpter'.\nhint: limpet adapter\n"


def test_a_noun_alone_shows_its_verbs_and_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["adapter"])
    assert result.exit_code == 2
    assert "promote" in result.stderr
    assert result.stdout == ""
