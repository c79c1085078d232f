"""`limpet methods`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.names import shown_method

__all__ = ["command"]


@click.command("methods", cls=Command)
@click.argument("name", metavar="[NAME]", required=False)
@pass_invocation
def command(invocation: Invocation, name: str | None) -> None:
    """The capability table of all methods, and what works on this base.

    With NAME, what --set takes for that method: type, default and meaning of each setting.
    """
    if name is None:
        _all_methods(invocation)
    else:
        _one_method(invocation, name)


def _one_method(invocation: Invocation, name: str) -> None:
    from limpet.cli.terminal import output

    invocation.note_renamed(name)
    method = invocation.open().method(name)
    if invocation.json:
        output.emit(method=method)
        return
    click.echo(f"{shown_method(method.name)}: {method.summary}; lr {method.learning_rate:g}")
    if not method.settings:
        click.echo("It has no settings.")
        return
    click.echo()
    rows = [(setting.name, setting.type, _shown(setting.default), setting.meaning) for setting in method.settings]
    output.table(("setting", "type", "default", "meaning"), rows)


def _shown(default: object) -> str:
    """Return a default as `--set` would take it."""
    if default is None or isinstance(default, bool):
        return str(default).lower()
    return str(default)


def _all_methods(invocation: Invocation) -> None:
    from limpet.cli.terminal import output

    with invocation.progress() as progress:
        methods = invocation.open().methods(progress)
    if invocation.json:
        output.emit(methods=methods, cursor=None)
        return
    words = {True: "yes", False: "no", None: None}
    rows = [
        (
            shown_method(method.name),
            method.reason or words[method.works],
            method.nearest and shown_method(method.nearest),
            method.task_types,
            f"{method.learning_rate:g}",
            words[method.mergeable],
            words[method.mixed_batches],
            words[method.servable],
            words[method.quantised_base],
            words[method.trains_base_copy],
            method.summary,
        )
        for method in methods
    ]
    columns = ("method", "works here", "instead", "task types", "lr", "mergeable", "mixed batches")
    output.table((*columns, "servable", "quantised base", "copies the base", "what it is"), rows)
