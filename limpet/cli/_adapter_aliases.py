"""`limpet adapter history|promote|rollback`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from limpet.registry.values import AliasEvent

__all__ = ["history", "promote", "rollback"]


@click.command(cls=Command)
@click.argument("task")
@click.argument("alias", required=False)
@pass_invocation
def history(invocation: Invocation, task: str, alias: str | None) -> None:
    """Show every move of a task's aliases, or of one, oldest first."""
    _show_events(invocation, invocation.open().adapter.history(task, alias))


@click.command(cls=Command)
@click.argument("version")
@click.argument("alias")
@click.option(
    "--expect", metavar="TASK@V|none", help="Move only if the alias stands here now; exit code 4 otherwise."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@pass_invocation
def promote(invocation: Invocation, version: str, alias: str, expect: str | None, reason: str) -> None:
    """Move an alias to a version."""
    _show_event(invocation, invocation.open().adapter.promote(version, alias, expect=expect, reason=reason))


@click.command(cls=Command)
@click.argument("task")
@click.argument("alias")
@click.option("--expect", metavar="TASK@V", help="Move only if the alias stands here now; exit code 4 otherwise.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@pass_invocation
def rollback(invocation: Invocation, task: str, alias: str, expect: str | None, reason: str) -> None:
    """Move an alias back to the version before."""
    _show_event(invocation, invocation.open().adapter.rollback(task, alias, expect=expect, reason=reason))


def _show_event(invocation: Invocation, event: AliasEvent) -> None:
    from limpet.cli import _output

    if invocation.json:
        _output.emit(**_output.to_json(event))
        return
    before = f" (was {event.task}@{event.from_number})" if event.from_number is not None else ""
    click.echo(f"{event.task}@{event.alias} is {event.task}@{event.to_number}{before}")


def _show_events(invocation: Invocation, events: Sequence[AliasEvent]) -> None:
    from limpet.cli import _output

    if invocation.json:
        _output.emit(events=events, cursor=None)
        return
    rows = [
        (
            event.created_at[:19].replace("T", " "),
            f"{event.task}@{event.alias}",
            event.action,
            None if event.from_number is None else f"{event.task}@{event.from_number}",
            f"{event.task}@{event.to_number}",
            event.actor,
            event.reason,
        )
        for event in events
    ]
    _output.table(("when (UTC)", "alias", "action", "from", "to", "who", "why"), rows)
