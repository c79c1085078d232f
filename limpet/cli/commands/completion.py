"""`limpet completion SHELL`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation

__all__ = ["command"]


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@pass_invocation
def command(invocation: Invocation, /, ctx: click.Context, shell: str) -> None:
    """Print the script by which bash, zsh or fish completes commands and the names in a home.

    Names are those of tasks, versions, aliases, streams, bases and methods. Type source <(limpet completion bash) at
    the end of ~/.bashrc, the same with zsh in ~/.zshrc, and in fish: limpet completion fish | source.
    """
    from limpet.cli.invocation.completion import script_of

    script = script_of(shell, ctx.find_root().command)
    if invocation.json:
        from limpet.cli.terminal import output

        content = {"shell": shell, "script": script}
        output.emit(**content)
        return
    click.echo(script, nl=False)
