"""The command line: `limpet NOUN VERB`, thin over `limpet.home`.

Nothing heavier than click is imported here, so that `limpet --help` answers at once; a command's module is
imported when the command is typed.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from limpet.cli.invocation.command import GlobalOptions
from limpet.cli.invocation.exit_codes import run
from limpet.cli.invocation.invocation import Invocation
from limpet.cli.invocation.suggestions import Suggesting
from limpet.cli.terminal.standard_streams import prepare
from limpet.loading import keep_what_is_loaded, leave_it_loaded

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = {
    "init": "Make a home, the place where limpet keeps its registry.",
    "status": "Show a home at a glance: base, what serves each task, the last additions, and what is due.",
    "base": "The frozen pretrained model, known by its fingerprint.",
    "task": "Datasets with their type, labels, metric and splits.",
    "train": "Learn a task, register the version and evaluate every earlier task again.",
    "adapter": "The versions of tasks, and the aliases that point at them.",
    "evaluate": "Evaluate versions on their evaluation splits, or one on other data or another form of its base.",
    "stream": "Sequential task training: several arms, several seeds.",
    "report": "Show who forgot what: matrices, metrics, comparisons and cost.",
    "gate": "Hold a stream against rules; exit code 6 where one is crossed.",
    "predict": "Answer texts, or the rows of a file, with a version of a task.",
    "methods": "The capability table of all methods, and what works on this base.",
    "bench": "Comparisons on one task: methods against what they cost.",
    "study": "Measure what a result depends on; nothing is registered.",
    "ui": "Bring the MLflow dashboard of this home up to date, and serve it on 127.0.0.1 until Ctrl-C.",
    "policy": "The rules of the home: protected aliases, and which versions retention keeps.",
    "log": "Show who did what in this home, newest first.",
    "du": "Show what a home takes on disk by kind, what gc would free, and what the cache takes.",
    "gc": "Show what nothing needs any more; remove it with --yes.",
    "verify": "Read every byte of the home again and name what is wrong.",
    "doctor": "Look at the machine and the home, and say what to type where something is wrong.",
    "completion": "Print the script by which bash, zsh or fish completes commands and the names in a home.",
    "demo": "Learn four real tasks by three arms, and show who forgot what.",
    "db": "The schema of the home's database.",
}
"""Every command with its one line of help; each is the attribute `command` of the module of its name."""


class _Cli(GlobalOptions, Suggesting):
    """The root: knows all commands by name, and imports the one that is typed."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        if "_LIMPET_COMPLETE" in os.environ:
            from limpet.cli.invocation.completion import use_quick_shells

            use_quick_shells()
        return run(super().main, args, *more, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"limpet.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"limpet {version('limpet')}")
        ctx.exit()


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show limpet's version.",
)
@click.pass_obj
def cli(_: Invocation) -> None:
    """Grow one frozen model task by task, and prove that it forgets nothing."""


def main() -> None:
    """Run the console script `limpet`; the process ends with it."""
    prepare()
    keep_what_is_loaded()
    leave_it_loaded(partial(cli.main, prog_name="limpet"))
