"""`limpet adapter delete|tag|note`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.confirm import confirm, destructive
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.sanitize import plain
from limpet.errors import UsageError

__all__ = ["delete", "note", "tag"]


@click.command(cls=Command)
@click.argument("version")
@click.option("--reason", required=True, metavar="TEXT", help="Why: it is kept with what is left of the version.")
@destructive
@pass_invocation
def delete(invocation: Invocation, version: str, reason: str, *, dry_run: bool, yes: bool) -> None:
    """Delete a version, TASK@3; its files go at a later limpet gc.

    Its number stays taken, and its record stays for the evidence that names it.
    """
    from limpet.cli.terminal import output

    adapter = invocation.open().adapter
    # refused before anybody is asked
    record = adapter.delete(version, reason, dry_run=True)
    if not dry_run:
        confirm(f"Delete {record.reference} for good?", yes)
        record = adapter.delete(version, reason)
    if invocation.json:
        output.emit(dry_run=dry_run, **output.to_json(record))
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {record.reference} ({output.size(record.size)})")


@click.command(cls=Command)
@click.argument("version")
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--remove", multiple=True, metavar="NAME", help="Take a tag away; repeatable.")
@pass_invocation
def tag(invocation: Invocation, version: str, pairs: tuple[str, ...], *, remove: tuple[str, ...]) -> None:
    """Set tags of a version or take them away, and show all it has."""
    from limpet.cli.terminal import output

    adapter = invocation.open().adapter
    record = adapter.show(version)
    ref = record.reference
    tags = adapter.tag(ref, _parse(pairs), remove) if pairs or remove else adapter.tags(ref)
    if invocation.json:
        output.emit(task=record.task, version=record.number, tags=tags)
    elif tags:
        output.fields_table(tags.items())


@click.command(cls=Command)
@click.argument("version")
@click.argument("text")
@pass_invocation
def note(invocation: Invocation, version: str, text: str) -> None:
    """Leave a note on a version, for everyone and for good."""
    from limpet.cli.terminal import output

    left = invocation.open().adapter.note(version, text)
    if invocation.json:
        output.emit(version=version, note=left)
    else:
        click.echo(f"{plain(left.actor)} left a note on {version}")


def _parse(pairs: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"A tag is NAME=VALUE, not {pair!r}.", "limpet adapter tag TASK@V owner=ana")
        if name in tags:
            raise UsageError(f"The tag {name!r} stands twice.", f"give one value to {name}")
        tags[name] = value
    return tags
