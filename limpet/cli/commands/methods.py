"""`limpet methods`."""

from __future__ import annotations

import click

from limpet.cli.options.command import Command
from limpet.cli.options.invocation import Invocation, pass_invocation

__all__ = ["command"]


@click.command("methods", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> None:
    """The capability table of all methods, and what works on this base."""
    from limpet.cli.terminal import output

    with invocation.progress() as progress:
        methods = invocation.open().methods(progress)
    if invocation.json:
        output.emit(methods=methods, cursor=None)
        return
    words = {True: "yes", False: "no", None: None}
    rows = [
        (
            method.name,
            method.reason or words[method.works],
            method.nearest,
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
