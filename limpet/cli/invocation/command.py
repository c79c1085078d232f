"""Commands and groups that take the global options, before as well as after the command's name."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.invocation.suggestions import Suggesting

__all__ = ["Command", "GlobalOptions", "Noun"]

_FLAGS = {
    "json": "Print one JSON object.",
    "quiet": "No progress and no notes.",
    "verbose": "Let libraries log.",
    "debug": "Show the traceback of an error.",
}


def _keep(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value and parameter.name:
        setattr(ctx.ensure_object(Invocation), parameter.name, value)


def _options() -> list[click.Parameter]:
    home = click.Option(
        ["--home"],
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The home, or the folder above its .limpet/; by default LIMPET_HOME, else the nearest .limpet/ upward.",
        expose_value=False,
        is_eager=True,
        callback=_keep,
    )
    flags = [
        click.Option([f"--{name}"], is_flag=True, help=text, expose_value=False, is_eager=True, callback=_keep)
        for name, text in _FLAGS.items()
    ]
    return [home, *flags]


def _complete(parameters: list[click.Parameter]) -> None:
    """Let parameters be completed by what they stand for, in all commands alike; click asks each by this method."""
    from limpet.cli.invocation.completion import complete_parameter

    for parameter in parameters:
        # words that a choice names are known without a home
        if not isinstance(parameter.type, click.Choice):
            parameter.shell_complete = partial(complete_parameter, parameter)  # type: ignore[method-assign]


class GlobalOptions(click.Command):
    """Adds the global options, and shows them in the help apart from the command's own."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        if "_LIMPET_COMPLETE" in os.environ:
            _complete(self.params)
        self.params.extend(_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones."""
        shared = {"home", *_FLAGS}
        records = [
            (parameter.name in shared, record)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
        ]
        for title, is_shared in (("Options", False), ("Everywhere", True)):
            if rows := [record for where, record in records if where is is_shared]:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Command(GlobalOptions):
    """A command with the global options."""


class Noun(GlobalOptions, Suggesting):
    """A group of verbs, such as `limpet adapter`, with the global options."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order they were written."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every verb with the first line of its help, in full."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(verb)) for name, verb in self.commands.items()])


def _first_line(command: click.Command) -> str:
    return (command.help or "").partition("\n")[0]
