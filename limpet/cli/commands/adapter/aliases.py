"""`limpet adapter history|promote|rollback|unpromote`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.aliases import alias_line
from limpet.cli.terminal.sanitize import plain
from limpet.errors import GateError

if TYPE_CHECKING:
    from limpet.home import Move
    from limpet.registry.values import AliasEvent, Page

__all__ = ["history", "promote", "rollback", "unpromote"]

_ACCEPT = click.option(
    "--accept", is_flag=True, help="What is lost is known: cross the gate's rules on purpose. Needs --reason."
)


@click.command(cls=Command)
@click.argument("task")
@click.argument("alias", required=False)
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="Moves on a page.")
@click.option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@pass_invocation
def history(invocation: Invocation, task: str, alias: str | None, *, limit: int, cursor: str | None) -> None:
    """Show the moves of a task's aliases, or of one, oldest first."""
    _show_events(invocation, invocation.open().adapter.history(task, alias, limit, cursor=cursor))


@click.command(cls=Command)
@click.argument("version")
@click.argument("alias")
@click.option(
    "--expect", metavar="TASK@V|none", help="Move only if the alias stands here now; exit code 4 otherwise."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@_ACCEPT
@pass_invocation
def promote(
    invocation: Invocation, /, version: str, alias: str, *, expect: str | None, reason: str, accept: bool
) -> None:
    """Move an alias to a version.

    It is held against the version that the alias stands at, by the rules of [gate] in limpet.toml; exit code 6 where
    one is crossed.
    """
    adapter = invocation.open().adapter
    with _showing_refused(invocation), invocation.progress() as progress:
        move = adapter.promote(version, alias, expect=expect, reason=reason, accept=accept, progress=progress)
    _show_move(invocation, move)


@click.command(cls=Command)
@click.argument("task")
@click.argument("alias")
@click.option("--expect", metavar="TASK@V", help="Move only if the alias stands here now; exit code 4 otherwise.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@_ACCEPT
@pass_invocation
def rollback(
    invocation: Invocation, /, task: str, alias: str, *, expect: str | None, reason: str, accept: bool
) -> None:
    """Move an alias back to the version before.

    It is judged as adapter promote is; exit code 6 where a rule is crossed.
    """
    adapter = invocation.open().adapter
    with _showing_refused(invocation), invocation.progress() as progress:
        move = adapter.rollback(task, alias, expect=expect, reason=reason, accept=accept, progress=progress)
    _show_move(invocation, move)


@click.command(cls=Command)
@click.argument("task")
@click.argument("alias")
@click.option("--expect", metavar="TASK@V", help="Only if the alias stands here now; exit code 4 otherwise.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the history.")
@pass_invocation
def unpromote(invocation: Invocation, task: str, alias: str, *, expect: str | None, reason: str) -> None:
    """Take an alias off: it is not set from then on.

    adapter rollback sets it again. Without production, the newest adapter answers for the task.
    """
    move = invocation.open().adapter.unpromote(task, alias, reason=reason, expect=expect)
    _show_move(invocation, move)


@contextmanager
def _showing_refused(invocation: Invocation) -> Iterator[None]:
    """Show both scores also where the gate refuses the move."""
    from limpet.cli.terminal import output
    from limpet.home import Refused

    try:
        yield
    except GateError as error:
        if isinstance(refused := error.outcome, Refused):
            if invocation.json:
                replaced = None if refused.replaced is None else refused.replaced.to_json()
                output.emit(**output.to_json(refused) | {"replaced": replaced, "moved": False})
            elif refused.replaced:
                click.echo(plain(refused.replaced.sentence()))
        raise


def _show_move(invocation: Invocation, move: Move) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        replaced = None if move.replaced is None else move.replaced.to_json()
        output.emit(**output.to_json(move) | {"replaced": replaced})
        return
    click.echo(alias_line(move, move.moved))
    if move.to_number is None:
        click.echo(_without_alias(move))
    if move.replaced:
        click.echo(plain(move.replaced.sentence()))
    output.warn(move.warnings)


def _without_alias(move: Move) -> str:
    """Say what a task's bare name means after an alias was taken off."""
    if move.answers is None:
        return f"nothing answers for {move.task} now"
    return f"{move.answers} answers for {move.task} now"


def _show_events(invocation: Invocation, page: Page[AliasEvent]) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(events=page.items, cursor=page.cursor)
        return
    rows = [
        (
            event.created_at[:19].replace("T", " "),
            f"{event.task}@{event.alias}",
            event.action,
            None if event.from_number is None else f"{event.task}@{event.from_number}",
            None if event.to_number is None else f"{event.task}@{event.to_number}",
            event.actor,
            event.reason,
        )
        for event in page.items
    ]
    output.table(("when (UTC)", "alias", "action", "from", "to", "who", "why"), rows)
    if page.cursor:
        click.echo(f"more: --cursor {page.cursor}", err=True)
