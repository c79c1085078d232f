"""`limpet verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import IntegrityError

if TYPE_CHECKING:
    from limpet.registry.findings import Finding

__all__ = ["command"]


@click.command("verify", cls=Command)
@click.option(
    "--deep", is_flag=True, help="Also check what the bytes say: database, tensors, configurations, predictions."
)
@click.option("--probe", is_flag=True, help="Also let every version answer its probe again, and compare the logits.")
@pass_invocation
def command(invocation: Invocation, deep: bool, probe: bool) -> None:
    """Read every byte of the home again and name what is wrong.

    Exit code 5 where anything is.
    """
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        found = home.verify(deep=deep, probe=probe, progress=progress)
        for note in found.notes:
            progress.note(note)
    if invocation.json:
        output.emit(problems=found.problems, checked=found.checked, log_head=found.log_head)
    elif found.problems:
        output.table(("problem", "where", "what"), [(p.kind, p.where, p.detail) for p in found.problems])
    else:
        click.echo("everything is as it was recorded")
    if found.problems:
        count = "1 thing is" if len(found.problems) == 1 else f"{len(found.problems)} things are"
        raise IntegrityError(f"{count} not as recorded.", _hint(found.problems))


_OF_ROWS = frozenset({"row", "trigger", "log", "alias", "number", "manifest"})


def _hint(problems: tuple[Finding, ...]) -> str:
    from limpet.registry.findings import HARMLESS

    kinds = {problem.kind for problem in problems}
    if kinds <= HARMLESS:
        return "nothing recorded is harmed, a process that died has left files behind: limpet gc"
    if kinds == {"alarm"}:
        return f"limpet evaluate {problems[0].where} --accept --reason TEXT, once it is known why"
    if kinds == {"probe"}:
        return "compare the environments: limpet doctor; then restore the library, dtype or base that was recorded"
    if kinds <= _OF_ROWS:
        return "somebody changed the database past limpet: compare it with a backup; limpet log shows what was done"
    return "restore the named files from a backup"
