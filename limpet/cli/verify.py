"""`limpet verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.errors import IntegrityError

if TYPE_CHECKING:
    from limpet.registry.verify import Problem

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
        raise IntegrityError(f"{count} not as recorded.", _hint(problems))


def _hint(problems: tuple[Problem, ...]) -> str:
    if all(problem.kind in ("orphan", "stray") for problem in problems):
        return "nothing recorded is harmed: a command that was cut off or refused left these files behind"
    return "restore the named files from a backup"
