"""`limpet task rename|remove`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.confirm import confirm, destructive
from limpet.cli.invocation.invocation import Invocation, pass_invocation

__all__ = ["remove", "rename"]


@click.command(cls=Command)
@click.argument("old")
@click.argument("new")
@pass_invocation
def rename(invocation: Invocation, old: str, new: str) -> None:
    """Give a task another name; OLD stays its own, so that it never means another task.

    Versions keep their digests, and aliases, evaluations and the log follow.
    """
    from limpet.cli.terminal import output

    record = invocation.open().task.rename(old, new)
    if invocation.json:
        output.emit(task=record.name, former=old)
    else:
        click.echo(f"{old} is called {record.name} now")


@click.command(cls=Command)
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why: it is kept with what is left of the task.")
@destructive
@pass_invocation
def remove(invocation: Invocation, name: str, reason: str, *, dry_run: bool, yes: bool) -> None:
    """Remove a task with all its versions; their files go at a later limpet gc.

    Its name stays taken, and its evaluations stay for the reports that name it.
    """
    from limpet.cli.terminal import output

    task = invocation.open().task
    # refused before anybody is asked
    gone = task.remove(name, reason, dry_run=True)
    if not dry_run:
        count = len(gone.versions)
        confirm(f"Remove {name} with {count} {'version' if count == 1 else 'versions'} for good?", yes)
        gone = task.remove(name, reason)
    if invocation.json:
        output.emit(dry_run=dry_run, **output.to_json(gone))
        return
    deleted = f" and deleted {', '.join(gone.versions)}" if gone.versions else ""
    would = f" and delete {', '.join(gone.versions)}" if gone.versions else ""
    sizes = f" ({output.size(gone.size)})" if gone.versions else ""
    click.echo(f"would remove {name}{would}{sizes}" if dry_run else f"removed {name}{deleted}{sizes}")
