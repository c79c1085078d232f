"""`limpet verify`."""

from __future__ import annotations

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.errors import IntegrityError

__all__ = ["command"]


@click.command("verify", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> None:
    """Read every byte of the home again and name what is wrong.

    Exit code 5 where anything is.
    """
    from limpet.cli import _output

    problems = invocation.open().verify()
    if invocation.json:
        _output.emit(problems=problems)
    elif problems:
        _output.table(("problem", "where", "what"), [(p.kind, p.where, p.detail) for p in problems])
    else:
        click.echo("everything is as it was recorded")
    if problems:
        count = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
        raise IntegrityError(f"{count} not as recorded.", "restore the named files from a backup")
